//! Backups of a real database: exact under load, and refused with the reason whenever anything about them is off.

#[path = "../../storage/tests/support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use age::x25519::Identity;
use ops::DatabaseName;
use ops::backup::target::{Folder, Target as _};
use ops::backup::{
    BackupId, Bounds, Catalog, Error, Fate, Identities, Kind, Mode, Order, Place, Programs, Recipients, Refusal,
    Retention, Sought, Source, Standing, check, create, prune, rekey, verify,
};
use ops::drill::probe::Writer;
use ops::drill::{Targets, Verdict, restore_under_writes};
use residency::{Jurisdiction, Policy, Region, presets};
use storage::admin;
use support::Cluster;
use tempfile::TempDir;
use time::OffsetDateTime;
use tlog::{KeyKind, SigningKey};

const CANARY: &str = "Grünstraße 7, Köln";

struct Scene {
    cluster: Cluster,
    database: String,
    folder: TempDir,
    keys: [Identity; 2],
    source: Source,
}

impl Scene {
    /// A region with a thousand records, and a folder for its backups.
    async fn new() -> Self {
        let cluster = Cluster::shared();
        let database = cluster.unused("backed_up");
        let owner = cluster.dsn(&database).into();
        admin::create_database_if_absent(&cluster.dsn("postgres").into(), &database).await.expect("a database");
        let (region, law) = (Region::new("eu-central").expect("a region"), Jurisdiction::new("eu").expect("a law"));
        admin::migrate_region(&owner, &region, &law, "log.example/eu-central", &|_| ()).await.expect("migrated");
        cluster.sql(
            &database,
            &format!(
                "INSERT INTO domicile.records (region, subject, collection, key, version, body, updated_at) \
                 SELECT 'eu-central', 's' || n, 'address', 'home', 1, jsonb_build_object('street', '{CANARY}', 'n', n), now() \
                 FROM generate_series(1, 1000) AS n"
            ),
        );
        let folder = tempfile::tempdir().expect("a folder");
        let keys = [Identity::generate(), Identity::generate()];
        let texts: Vec<String> = keys.iter().map(|key| key.to_public().to_string()).collect();
        let policy = Policy::parse(presets::SHIPPED_POLICY, presets::JURISDICTIONS, presets::LOCATIONS);
        let policy = policy.expect("the shipped policy");
        let source = Source {
            database: DatabaseName::Region(region),
            jurisdiction: law.clone(),
            owner_dsn: owner,
            scratch_dsn: cluster.dsn("postgres").into(),
            target: Arc::new(Folder::at(folder.path())),
            place: Place::prove(&policy, &law, "aws/eu-central-1", &[]).expect("Frankfurt is in the EU"),
            recipients: Recipients::parse(&texts).expect("two recipients"),
            key: SigningKey::new("eu-central.backup.example", KeyKind::Log, &[7; 32]).expect("a key"),
            programs: Programs::find(None).expect("PostgreSQL's programs"),
            bounds: Bounds::default(),
            clock: now,
        };
        Self { cluster, database, folder, keys, source }
    }

    async fn back_up(&self, verify_inline: bool) -> BackupId {
        let order = Order { kind: Kind::Manual, release: "test".into(), verify_inline };
        create(&self.source, &order, &|_, _| ()).await.expect("a backup").id
    }

    fn identities(&self) -> Identities {
        identities(&self.keys[0])
    }

    fn file(&self, id: &BackupId, name: &str) -> PathBuf {
        self.folder.path().join("eu-central").join(id.as_str()).join(name)
    }

    /// The name of the refusal that verifying from the encrypted file comes to.
    async fn refusal(&self) -> Option<&'static str> {
        match verify(&self.source, None, &self.identities(), &|_, _| ()).await {
            Ok(verified) => verified.refusal.map(|refusal| refusal.name()),
            Err(Error::Refused(refusal)) => Some(refusal.name()),
            Err(error) => panic!("{error}"),
        }
    }

    /// The scratch databases of this backup that are still there.
    fn scratch(&self, id: &BackupId) -> Vec<String> {
        let id = id.as_str().to_ascii_lowercase().replace('-', "_");
        self.cluster.sql("postgres", &format!("SELECT datname FROM pg_database WHERE strpos(datname, '{id}') > 0"))
    }
}

#[expect(clippy::disallowed_methods, reason = "the tests' front door for time")]
fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn tomorrow() -> OffsetDateTime {
    now() + time::Duration::days(1)
}

fn identities(key: &Identity) -> Identities {
    Identities::parse(&key.to_string()).expect("an identity")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_write_load_restores_to_identical_counts_and_sums() {
    let scene = Scene::new().await;
    let ended = AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut batches = 0;
            while !ended.load(Ordering::Relaxed) {
                let sql = format!(
                    "INSERT INTO domicile.records (region, subject, collection, key, version, body, updated_at) \
                     SELECT 'eu-central', 'w{batches}-' || n, 'c', 'k', 1, '{{}}', now() FROM generate_series(1, 50) AS n; \
                     UPDATE domicile.records SET version = version + 1, body = '{{\"changed\": {batches}}}' \
                     WHERE subject = 's{}'",
                    batches % 1000 + 1
                );
                scene.cluster.sql(&scene.database, &sql);
                batches += 1;
            }
            batches
        });
        let runtime = tokio::runtime::Handle::current();
        let work = async {
            let id = scene.back_up(true).await;
            (id, scene.refusal().await)
        };
        let (id, refusal) = tokio::task::block_in_place(|| runtime.block_on(work));
        ended.store(true, Ordering::Relaxed);
        let batches: u64 = writer.join().expect("the writer ends");
        assert_eq!(refusal, None, "restored from the encrypted file, every count and sum is the same");
        (id, batches)
    });
    let (id, batches) = written;
    assert!(batches > 1, "the writing went on meanwhile");
    let catalog = Catalog::read(&scene.source).await.expect("a catalogue");
    let backup = catalog.backups.iter().find(|backup| backup.id == id).expect("it is listed");
    let manifest = backup.manifest.as_ref().expect("it is believed");
    let live: u64 =
        scene.cluster.sql(&scene.database, "SELECT count(*) FROM domicile.records")[0].parse().expect("a number");
    let records = manifest.tables.iter().find(|table| table.name == "domicile.records_eu-central").expect("the table");
    assert!(
        records.rows >= 1000 && records.rows < live,
        "{} of {live}: it is older than what is there now",
        records.rows
    );
    assert_eq!(backup.standing(), Standing::Verified);
    let modes: Vec<Mode> = backup.verdicts.iter().map(|verdict| verdict.mode).collect();
    assert_eq!(modes, [Mode::Inline, Mode::FromCipher]);
    assert_eq!(manifest.log.as_ref().map(|log| (log.size, log.origin.as_str())), Some((0, "log.example/eu-central")));
    assert!(manifest.migrations.len() >= 5 && !manifest.server.lsn.is_empty() && manifest.server.timeline >= 1);
    // Nothing of a row rests there in the clear.
    for entry in std::fs::read_dir(scene.file(&id, "").as_path()).expect("its folder") {
        let bytes = std::fs::read(entry.expect("an entry").path()).expect("a file");
        assert!(!bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes()));
    }
    assert_eq!(scene.scratch(&id), [] as [String; 0], "no scratch database is left");
}

#[tokio::test]
async fn one_flipped_byte_anywhere_is_refused_and_nothing_of_it_stays() {
    let scene = Scene::new().await;
    let id = scene.back_up(false).await;
    let dump = scene.file(&id, "dump.age");
    let whole = std::fs::read(&dump).expect("the dump");
    for at in [0, 60, whole.len() / 3, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        std::fs::write(&dump, damaged).expect("it is written");
        assert_eq!(scene.refusal().await, Some("cipher_hash"), "byte {at} of {}", whole.len());
        let catalog = Catalog::read(&scene.source).await.expect("a catalogue");
        assert_eq!(catalog.backups[0].standing(), Standing::Refused, "the verdict is kept beside it");
        for verdict in std::fs::read_dir(scene.file(&id, "").as_path()).expect("its folder").flatten() {
            if verdict.file_name().to_string_lossy().starts_with("verdict-") {
                std::fs::remove_file(verdict.path()).expect("it is removed");
            }
        }
    }
    std::fs::write(&dump, &whole).expect("it is written");
    assert_eq!(scene.refusal().await, None, "whole again, it is good");
    assert_eq!(scene.scratch(&id), [] as [String; 0], "no scratch database is left");
}

#[tokio::test]
async fn a_truncated_file_is_refused_before_anybody_believes_it() {
    let scene = Scene::new().await;
    let id = scene.back_up(false).await;
    let dump = scene.file(&id, "dump.age");
    let whole = std::fs::read(&dump).expect("the dump");
    for bytes in [whole.len() - 1, whole.len() / 2, 10, 0] {
        std::fs::write(&dump, &whole[..bytes]).expect("it is written");
        let chosen = verify(&scene.source, Some(&id), &scene.identities(), &|_, _| ()).await.expect("a verdict");
        assert_eq!(chosen.refusal.map(|refusal| refusal.name()), Some("size"), "{bytes} bytes");
        let error = verify(&scene.source, None, &scene.identities(), &|_, _| ()).await.expect_err("it is not chosen");
        assert!(matches!(error, Error::NoBackup), "{error}");
    }
}

#[tokio::test]
async fn a_missing_recipient_is_refused_and_rekeying_mends_it() {
    let mut scene = Scene::new().await;
    let id = scene.back_up(true).await;
    let newcomer = Identity::generate();
    let error = verify(&scene.source, None, &identities(&newcomer), &|_, _| ()).await.expect_err("a stranger");
    assert!(matches!(error, Error::Refused(Refusal::NotForThisIdentity)), "{error}");
    // The first key is lost; the newcomer is to open backups instead.
    let texts = [scene.keys[1].to_public().to_string(), newcomer.to_public().to_string()];
    scene.source.recipients = Recipients::parse(&texts).expect("two recipients");
    let error = verify(&scene.source, None, &identities(&scene.keys[1]), &|_, _| ()).await.expect_err("it is missing");
    assert!(matches!(error, Error::Refused(Refusal::MissingRecipient { .. })), "{error}");
    rekey(&scene.source, &id, &identities(&scene.keys[1]), &|_, _| ()).await.expect("encrypted anew");
    assert!(!scene.file(&id, "dump.age").exists(), "the old file is gone");
    let catalog = Catalog::read(&scene.source).await.expect("a catalogue");
    assert_eq!(catalog.backups[0].standing(), Standing::Unverified, "old verdicts do not carry over");
    let verified = verify(&scene.source, None, &identities(&newcomer), &|_, _| ()).await.expect("it opens");
    assert_eq!(verified.refusal, None);
    let error = verify(&scene.source, None, &identities(&scene.keys[0]), &|_, _| ()).await.expect_err("the lost key");
    assert!(matches!(error, Error::Refused(Refusal::NotForThisIdentity)), "{error}");
}

#[tokio::test]
async fn a_changed_manifest_and_another_keys_signature_are_refused() {
    let scene = Scene::new().await;
    let id = scene.back_up(false).await;
    let manifest = scene.file(&id, "manifest.note");
    let signed = std::fs::read_to_string(&manifest).expect("the manifest");
    // A row fewer, and nobody would miss it.
    let changed = signed.replacen("\"rows\":1000", "\"rows\":999", 1);
    assert_ne!(changed, signed);
    std::fs::write(&manifest, changed).expect("it is written");
    let named = verify(&scene.source, Some(&id), &scene.identities(), &|_, _| ()).await.expect_err("it is refused");
    assert!(matches!(named, Error::Refused(Refusal::Changed { .. })), "{named}");
    // Signed by somebody else, under another name and under our name.
    for name in ["mallory.example", "eu-central.backup.example"] {
        let mallory = SigningKey::new(name, KeyKind::Log, &[8; 32]).expect("a key");
        let text = signed.split_once("\n\n").expect("a note").0;
        let mut note = tlog::Note::new(format!("{text}\n")).expect("a note");
        let signature = mallory.sign(note.text(), 0);
        note.add(signature);
        std::fs::write(&manifest, note.to_string()).expect("it is written");
        let named = verify(&scene.source, Some(&id), &scene.identities(), &|_, _| ()).await.expect_err("it is refused");
        assert!(matches!(named, Error::Refused(Refusal::OtherKey { .. })), "{name}: {named}");
    }
    // A genuine manifest under another backup's name.
    let other = scene.back_up(false).await;
    std::fs::write(scene.file(&other, "manifest.note"), &signed).expect("it is written");
    let named = verify(&scene.source, Some(&other), &scene.identities(), &|_, _| ()).await.expect_err("it is refused");
    assert!(matches!(named, Error::Refused(Refusal::Mistaken { .. })), "{named}");
}

#[tokio::test]
async fn another_regions_database_or_place_is_refused_before_anything_is_written() {
    let mut scene = Scene::new().await;
    let order = Order { kind: Kind::Manual, release: "test".into(), verify_inline: false };
    let (uk, here) = (Jurisdiction::new("uk").expect("a law"), scene.source.database.clone());
    scene.source.jurisdiction = uk;
    let error = create(&scene.source, &order, &|_, _| ()).await.expect_err("the place is proven for the EU");
    assert!(matches!(error, Error::Refused(Refusal::OutsideJurisdiction { .. })), "{error}");
    scene.source.jurisdiction = Jurisdiction::new("eu").expect("a law");
    scene.source.database = DatabaseName::Region(Region::new("eu-north").expect("a region"));
    let error = create(&scene.source, &order, &|_, _| ()).await.expect_err("the database is another region's");
    assert!(matches!(error, Error::Refused(Refusal::OtherDatabase { .. })), "{error}");
    scene.source.database = here;
    assert_eq!(std::fs::read_dir(scene.folder.path()).expect("the folder").count(), 0);
}

#[tokio::test]
async fn a_backup_that_is_cut_short_was_never_there_and_the_next_one_tidies_up() {
    let scene = Scene::new().await;
    let order = Order { kind: Kind::Manual, release: "test".into(), verify_inline: true };
    for ms in [0, 20, 60, 120, 200, 300] {
        let cut = std::time::Duration::from_millis(ms);
        let done = tokio::time::timeout(cut, create(&scene.source, &order, &|_, _| ())).await.is_ok();
        let catalog = Catalog::read(&scene.source).await.expect("a catalogue");
        // Whatever is listed is whole.
        assert!(catalog.backups.iter().all(|backup| backup.standing() != Standing::Refused), "cut after {ms} ms");
        if done {
            break;
        }
    }
    // What kill -9 leaves: half a file, a whole file without a manifest.
    let stray = BackupId::new(now());
    std::fs::create_dir_all(scene.file(&stray, "")).expect("a folder");
    std::fs::write(scene.file(&stray, "dump.age"), b"whole and never published").expect("a file");
    let half = BackupId::new(now());
    std::fs::create_dir_all(scene.file(&half, "")).expect("a folder");
    std::fs::write(scene.file(&half, "dump.age.part"), b"half").expect("a file");
    // The lock of the run that was cut short ends with its connection, a moment later.
    support::eventually("the lock is free", async || {
        !matches!(create(&scene.source, &order, &|_, _| ()).await, Err(Error::Busy))
    })
    .await;
    assert!(!scene.file(&stray, "").exists() && !scene.file(&half, "").exists());
    assert_eq!(scene.refusal().await, None);
}

#[tokio::test]
async fn pruning_keeps_the_proven_and_removes_the_rest() {
    let scene = Scene::new().await;
    let (first, second) = (scene.back_up(true).await, scene.back_up(true).await);
    let unproven = scene.back_up(false).await;
    let none = Retention { last: 0, daily: 0, weekly: 0, monthly: 0, age_days_max: 1 };
    let in_a_year = now() + time::Duration::days(365);
    let planned = prune(&scene.source, &none, in_a_year, true).await.expect("a plan");
    assert_eq!(planned.removed, 0);
    let fate = |id: &BackupId| planned.fates.iter().find(|(one, _)| one == id).map(|(_, fate)| *fate);
    assert_eq!(fate(&unproven), Some(Fate::TooOld));
    assert!([&first, &second].iter().all(|id| fate(id).is_some_and(Fate::stays)));
    prune(&scene.source, &none, in_a_year, false).await.expect("pruned");
    let left: Vec<BackupId> =
        Catalog::read(&scene.source).await.expect("a catalogue").backups.into_iter().map(|one| one.id).collect();
    // Of two of one second either may be named first.
    assert!(left == [first.clone(), second.clone()] || left == [second, first], "{left:?}");
    assert!(!scene.file(&unproven, "").exists());
}

#[tokio::test]
async fn no_error_repeats_a_connection_string_a_key_or_a_row() {
    let mut scene = Scene::new().await;
    scene.back_up(false).await;
    let mut said = String::new();
    let wrong = "postgres://anna:geheim-und-lang@127.0.0.1:1/nowhere";
    let order = Order { kind: Kind::Manual, release: "test".into(), verify_inline: true };
    let working = std::mem::replace(&mut scene.source.owner_dsn, wrong.into());
    let error = create(&scene.source, &order, &|_, _| ()).await.expect_err("nobody is there");
    said.push_str(&format!("{error} {error:?}"));
    scene.source.owner_dsn = working;
    scene.source.scratch_dsn = wrong.into();
    let error = verify(&scene.source, None, &scene.identities(), &|_, _| ()).await.expect_err("nobody is there");
    said.push_str(&format!("{error} {error:?}"));
    let key = scene.keys[0].to_string();
    for secret in ["geheim-und-lang", secrecy::ExposeSecret::expose_secret(&key), CANARY] {
        assert!(!said.contains(secret), "{said}");
    }
}

/// Writes as a gateway would commit, and can acknowledge what it did not write.
struct Committing {
    cluster: Cluster,
    database: String,
    lies_about: Option<u64>,
}

impl Writer for Committing {
    async fn write(&self, seq: u64) -> bool {
        if self.lies_about != Some(seq) {
            let row = format!("'eu-central', 'prober', 'drill', 'run-{seq}', 1, '{{}}', now()");
            self.cluster.sql(&self.database, &format!("INSERT INTO domicile.records VALUES ({row})"));
        }
        true
    }

    async fn read(&self, _seq: u64) -> Option<bool> {
        None
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_made_under_writes_has_all_that_was_acknowledged_before_it_and_a_lie_is_found() {
    let scene = Scene::new().await;
    let sought = Sought { subject: "prober".into(), collection: "drill".into(), prefix: "run-".into() };
    let targets = Targets::new(std::time::Duration::from_secs(600), std::time::Duration::from_secs(600));
    for lies_about in [None, Some(7)] {
        scene.cluster.sql(&scene.database, "DELETE FROM domicile.records WHERE subject = 'prober'");
        let writer = Committing { cluster: scene.cluster.clone(), database: scene.database.clone(), lies_about };
        let probe = (writer, &sought);
        let done = restore_under_writes(&scene.source, &scene.identities(), targets, "test", &|_, _| (), probe).await;
        let (report, trace) = done.expect("it can be tried");
        let measured = &report.measured;
        assert_eq!(measured.lost, Some(u64::from(lies_about.is_some())), "{}", report.markdown());
        assert!(measured.acknowledged.is_some_and(|count| count >= 50), "{measured:?}");
        assert!(measured.rto_ms.is_some() && measured.rpo_ms.is_some() && measured.rows > Some(1_000), "{measured:?}");
        assert!(trace.acknowledged.len() as u64 > measured.acknowledged.unwrap_or(0), "writes went on meanwhile");
        assert_eq!(report.verdict, if lies_about.is_some() { Verdict::Fail } else { Verdict::Pass });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_is_tried_by_writing_and_nothing_of_it_stays() {
    let scene = Scene::new().await;
    let target = Folder::at(scene.folder.path());
    target.put("check/eu-central/20200101T000000Z-00000000", b"of a check that was killed").await.expect("written");
    check(&scene.source).await.expect("it can be used");
    assert_eq!(target.list("check").await.expect("listed"), []);
    let blocked = scene.folder.path().join("a-file");
    std::fs::write(&blocked, "").expect("written");
    let source = Source { target: Arc::new(Folder::at(blocked)), ..scene.source.clone() };
    let error = check(&source).await.expect_err("it is no folder");
    assert!(ops::backup::fix(&error).contains("folder"), "{error}: {}", ops::backup::fix(&error));
}

#[tokio::test]
async fn a_backup_of_tomorrow_proves_nothing_and_is_restored_by_its_name_only() {
    let mut scene = Scene::new().await;
    let before = scene.back_up(true).await;
    scene.source.clock = tomorrow;
    let ahead = scene.back_up(true).await;
    scene.source.clock = now;
    let catalog = Catalog::read(&scene.source).await.expect("a catalogue");
    let standings: Vec<Standing> = catalog.backups.iter().map(|one| one.standing()).collect();
    assert_eq!(standings, [Standing::Verified, Standing::Ahead]);
    assert_eq!(catalog.choose(None).expect("one is believed").0, &before);
    assert_eq!(catalog.choose(Some(&ahead)).expect("it is meant").0, &ahead);
    let latest = now() + time::Duration::minutes(5);
    assert!(catalog.taken_at().is_some_and(|at| at < latest) && catalog.verified_at().is_some_and(|at| at < latest));
    scene.source.clock = tomorrow;
    let catalog = Catalog::read(&scene.source).await.expect("a catalogue");
    assert_eq!(catalog.choose(None).expect("its time has come").0, &ahead);
}
