//! Restoring: beside what serves, closed until what happened since has been replayed, and honest about what was lost.

#[path = "../../storage/tests/support/mod.rs"]
mod support;

use std::sync::Arc;

use age::x25519::Identity;
use ops::DatabaseName;
use ops::backup::restore::{Opening, open, plan, restore};
use ops::backup::target::Folder;
use ops::backup::{Bounds, Error, Identities, Kind, Order, Place, Programs, Recipients, Refusal, Source, create};
use residency::{Jurisdiction, Policy, Region, SubjectId, presets};
use secrecy::SecretString;
use storage::admin;
use storage::{AuditReads, Limits, Pepper, Peppers, RegionSettings, RegionStore};
use support::Cluster;
use tempfile::TempDir;
use time::OffsetDateTime;
use tlog::{Frontier, KeyKind, SigningKey, leaf_hash};

const ORIGIN: &str = "log.example/eu-central";

struct Scene {
    cluster: Cluster,
    database: String,
    directory: String,
    peppers: Peppers,
    key: Identity,
    source: Source,
    _folder: TempDir,
}

impl Scene {
    /// A region with three subjects at home, and the directory that has their pins.
    async fn new() -> Self {
        let cluster = Cluster::shared();
        let (database, directory) = (cluster.unused("restored_from"), cluster.unused("pins"));
        for name in [&database, &directory] {
            admin::create_database_if_absent(&cluster.dsn("postgres").into(), name).await.expect("a database");
        }
        let owner: SecretString = cluster.dsn(&database).into();
        let (region, law) = (Region::new("eu-central").expect("a region"), Jurisdiction::new("eu").expect("a law"));
        admin::migrate_region(&owner, &region, &law, ORIGIN, &|_| ()).await.expect("migrated");
        admin::migrate_directory(&cluster.dsn(&directory).into(), &|_| ()).await.expect("migrated");
        let folder = tempfile::tempdir().expect("a folder");
        let (key, other) = (Identity::generate(), Identity::generate());
        let texts = [key.to_public().to_string(), other.to_public().to_string()];
        let policy = Policy::parse(presets::SHIPPED_POLICY, presets::JURISDICTIONS, presets::LOCATIONS);
        let place = Place::prove(&policy.expect("the shipped policy"), &law, "aws/eu-central-1", &[]);
        let source = Source {
            database: DatabaseName::Region(region),
            jurisdiction: law,
            owner_dsn: owner,
            scratch_dsn: cluster.dsn("postgres").into(),
            target: Arc::new(Folder::at(folder.path())),
            place: place.expect("Frankfurt is in the EU"),
            recipients: Recipients::parse(&texts).expect("two recipients"),
            key: SigningKey::new("eu-central.backup.example", KeyKind::Log, &[7; 32]).expect("a key"),
            programs: Programs::find(None).expect("PostgreSQL's programs"),
            bounds: Bounds::default(),
            clock: now,
        };
        let pepper = Pepper::new(1, &[9; 32]).expect("a pepper");
        let peppers = Peppers::new(pepper, Vec::new());
        let scene = Self { cluster, database, directory, peppers, key, source, _folder: folder };
        for subject in ["anna", "bert", "cleo"] {
            scene.arrive(subject);
        }
        scene
    }

    fn digest(&self, subject: &str) -> String {
        hex::encode(self.peppers.digest(&SubjectId::new(subject).expect("a subject")).bytes)
    }

    fn arrive(&self, subject: &str) {
        let digest = self.digest(subject);
        self.cluster.sql(
            &self.database,
            &format!(
                "INSERT INTO domicile.subjects (subject, digest, key_id, state, epoch, secret, registered_at) \
                 VALUES ('{subject}', '\\x{digest}', 1, 'active', 1, sha256('{subject}'), now()); \
                 INSERT INTO domicile.records (region, subject, collection, key, version, body, updated_at) \
                 VALUES ('eu-central', '{subject}', 'address', 'home', 1, '{{\"of\": \"{subject}\"}}', now()); \
                 INSERT INTO domicile.details (seq, subject, nonce, sealed) \
                 SELECT count(*), '{subject}', decode(repeat('00', 12), 'hex'), 'sealed' FROM domicile.details"
            ),
        );
        self.cluster.sql(
            &self.directory,
            &format!(
                "INSERT INTO domicile.pins (subject_digest, key_id, region, epoch, state) \
                 VALUES ('\\x{digest}', 1, 'eu-central', 1, 'active')"
            ),
        );
    }

    /// Leaves `from` to before `to`, as a committer would write them; gives the root.
    fn grow_log(&self, to: u64) -> [u8; 32] {
        let mut frontier = Frontier::new();
        let mut rows = Vec::new();
        for seq in 0..to {
            let line = format!("{{\"entry\":{seq}}}");
            let hash = leaf_hash(line.as_bytes());
            frontier.push(hash);
            rows.push(format!("({seq}, '\\x{}', '{line}')", hex::encode(hash)));
        }
        self.cluster.sql(
            &self.database,
            &format!(
                "INSERT INTO domicile.leaves (seq, hash, line) VALUES {} ON CONFLICT DO NOTHING; \
                 UPDATE domicile.head SET size = {to}, frontier = '\\x{}'",
                rows.join(", "),
                hex::encode(frontier.to_bytes())
            ),
        );
        frontier.root()
    }

    async fn back_up(&self) {
        let order = Order { kind: Kind::Manual, release: "test".into(), verify_inline: false };
        create(&self.source, &order, &|_, _| ()).await.expect("a backup");
    }

    /// Restores the newest backup into a database of this test's own.
    async fn restore(&self) -> String {
        let name = self.cluster.unused("restored");
        let plan = plan(&self.source, None, Some(&name)).await.expect("a plan");
        assert!(!self.exists(&name), "a plan changes nothing");
        let identities = Identities::parse(&self.key.to_string()).expect("an identity");
        restore(&self.source, &plan, &identities, &|_, _| ()).await.expect("restored");
        name
    }

    fn exists(&self, name: &str) -> bool {
        !self.cluster.sql("postgres", &format!("SELECT 1 FROM pg_database WHERE datname = '{name}'")).is_empty()
    }

    /// What a gateway says of a database; `Ok` when it would serve it.
    async fn served(&self, database: &str, origin: &str) -> Result<(), String> {
        let store = RegionStore::open(RegionSettings {
            region: Region::new("eu-central").expect("a region"),
            jurisdiction: Jurisdiction::new("eu").expect("a law"),
            dsn: self.cluster.dsn(database).into(),
            log_origin: origin.into(),
            audit_reads: AuditReads::Durable,
            keeps_details: false,
            gateway: leaf::GatewayId::new("gateway-1", 1).expect("a gateway"),
            peppers: self.peppers.clone(),
            reader_connections: 1,
            committer_connections: 1,
            limits: Limits::default(),
        });
        let because = |error: &dyn std::error::Error| error.source().map(ToString::to_string).unwrap_or_default();
        let verified = store.verify().await.map(drop).map_err(|error| format!("{error}: {}", because(&error)));
        store.shutdown().await;
        verified
    }

    fn subjects(&self, database: &str) -> Vec<String> {
        self.cluster.sql(database, "SELECT subject || ' ' || state FROM domicile.subjects ORDER BY 1")
    }

    fn records(&self, database: &str) -> Vec<String> {
        self.cluster.sql(database, "SELECT subject FROM domicile.records ORDER BY 1")
    }

    fn details(&self, database: &str) -> Vec<String> {
        self.cluster.sql(database, "SELECT subject FROM domicile.details ORDER BY 1")
    }
}

/// What opening is told, all of it harmless.
fn opening<'a>(scene: &'a Scene, database: &'a str, directory: &'a SecretString) -> Opening<'a> {
    Opening {
        database,
        directory_dsn: directory,
        peppers: &scene.peppers,
        signed: None,
        seen: None,
        relayed: None,
        unsigned_margin: 600,
        log_origin: None,
        login: None,
        actor: "test",
    }
}

#[expect(clippy::disallowed_methods, reason = "the tests' front door for time")]
fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn refusal<T>(outcome: Result<T, Error>) -> Option<&'static str> {
    match outcome {
        Ok(_) => None,
        Err(Error::Refused(refusal)) => Some(refusal.name()),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_subject_erased_after_the_backup_stays_erased_after_the_restore() {
    let scene = Scene::new().await;
    scene.grow_log(1);
    scene.back_up().await;
    // Since then anna was erased and bert moved to London; dora came and was erased, and the backup never knew her.
    let (anna, bert, dora) = (scene.digest("anna"), scene.digest("bert"), scene.digest("dora"));
    scene.cluster.sql(
        &scene.directory,
        &format!(
            "UPDATE domicile.pins SET state = 'erased', erased_at = now() WHERE subject_digest = '\\x{anna}'; \
             UPDATE domicile.pins SET region = 'uk-south', epoch = 2 WHERE subject_digest = '\\x{bert}'; \
             INSERT INTO domicile.pins (subject_digest, key_id, region, epoch, state, erased_at) \
             VALUES ('\\x{dora}', 1, 'eu-central', 1, 'erased', now())"
        ),
    );
    let restored = scene.restore().await;
    assert_eq!(scene.records(&restored), ["anna", "bert", "cleo"], "the backup is of before");
    let closed = scene.served(&restored, ORIGIN).await.expect_err("nobody may see them");
    assert!(closed.contains("restored from the backup") && closed.contains("--open"), "{closed}");

    let directory = scene.cluster.dsn(&scene.directory).into();
    let mut told = opening(&scene, &restored, &directory);
    assert_eq!(
        refusal(open(&scene.source, &told, false).await),
        Some("unknown_loss"),
        "nobody said how long the log was"
    );
    told.seen = Some(0);
    let found = open(&scene.source, &told, true).await.expect("a plan");
    assert_eq!((found.replayed.erased, found.replayed.moved, found.replayed.tombstones), (1, 1, 2));
    assert_eq!(scene.records(&restored), ["anna", "bert", "cleo"], "a plan changes nothing");
    // Whatever breaks before it is open leaves one that can be opened.
    let nobody = admin::LoginName::new("a_login_that_nobody_made");
    told.login = nobody.as_ref();
    assert!(matches!(open(&scene.source, &told, false).await, Err(error) if !error.is_refusal()));
    scene.served(&restored, ORIGIN).await.expect_err("it is closed still");
    told.login = None;
    let found = open(&scene.source, &told, false).await.expect("it opens");
    assert!(found.opened.is_some());
    assert_eq!(scene.records(&restored), ["cleo"]);
    assert_eq!(scene.details(&restored), ["cleo"]);
    assert_eq!(scene.subjects(&restored), ["bert departed", "cleo active"]);
    let remembered = "SELECT encode(digest, 'hex') FROM domicile.erasures ORDER BY 1";
    let mut erased = vec![anna, dora];
    erased.sort();
    assert_eq!(scene.cluster.sql(&restored, remembered), erased, "the region refuses a later write, too");
    scene.served(&restored, ORIGIN).await.expect("it is served");
    assert_eq!(refusal(open(&scene.source, &told, false).await), Some("not_restored"), "it is open already");
}

#[tokio::test]
async fn a_subject_that_an_older_directory_does_not_know_is_pinned_again() {
    let scene = Scene::new().await;
    scene.grow_log(1);
    scene.back_up().await;
    scene.cluster.sql(&scene.directory, "DELETE FROM domicile.pins");
    let restored = scene.restore().await;
    let directory = scene.cluster.dsn(&scene.directory).into();
    let found = open(&scene.source, &Opening { seen: Some(0), ..opening(&scene, &restored, &directory) }, false).await;
    assert_eq!(found.expect("it opens").replayed.pinned, 3);
    let pins = "SELECT region || ' ' || state FROM domicile.pins";
    assert_eq!(scene.cluster.sql(&scene.directory, pins), ["eu-central active"; 3]);
    assert_eq!(scene.records(&restored), ["anna", "bert", "cleo"]);
}

#[tokio::test]
async fn a_log_that_lost_entries_goes_on_under_a_new_name_behind_everything_that_was_seen() {
    let scene = Scene::new().await;
    scene.grow_log(10);
    scene.back_up().await;
    let root = scene.grow_log(25);
    let restored = scene.restore().await;
    let directory = scene.cluster.dsn(&scene.directory).into();
    let mut told = opening(&scene, &restored, &directory);
    told.signed = Some((25, root));
    assert_eq!(refusal(open(&scene.source, &told, false).await), Some("log_lost"));
    told.log_origin = Some(ORIGIN);
    assert_eq!(refusal(open(&scene.source, &told, false).await), Some("log_lost"), "the old name is no new one");
    scene.served(&restored, ORIGIN).await.expect_err("it stays closed");

    let new = "log.example/eu-central-2";
    told.log_origin = Some(new);
    let found = open(&scene.source, &told, false).await.expect("it opens");
    assert_eq!(found.lost, Some(10..625), "what was signed, and what may have been answered since");
    let opened = found.opened.expect("it is open");
    assert_eq!((opened.restored, opened.size), (10, 625));
    // The tree is whole: head, leaves and tiles come to one root.
    let dsn = scene.cluster.dsn(&restored).into();
    let state = admin::Snapshot::take(&dsn, None, admin::Set::Region).await.expect("a snapshot");
    let log = state.state().region.clone().expect("a region");
    assert_eq!((log.log_size, log.origin.as_str(), log.log_epoch), (625, new, 2));
    assert_eq!(admin::log_root_at(&dsn, 625).await.expect("a root"), Some(log.log_root));
    assert_eq!(
        admin::log_root_at(&dsn, 10).await.expect("a root"),
        Some(scene.root_of(10)),
        "what was kept is as it was"
    );
    let tiles = "SELECT t.n FROM domicile.tiles AS t WHERE t.level = 0 AND t.hashes = \
                 (SELECT string_agg(l.hash, ''::bytea ORDER BY l.seq) FROM domicile.leaves AS l WHERE l.seq / 256 = t.n) ORDER BY 1";
    assert_eq!(scene.cluster.sql(&restored, tiles), ["0", "1"]);
    let said = scene.cluster.sql(&restored, "SELECT line FROM domicile.leaves WHERE seq IN (10, 624) ORDER BY seq");
    for line in &said {
        leaf::parse_fact(line.as_bytes()).expect("a leaf like every other");
        let fields: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(fields["k"], "log.recover");
        assert_eq!(fields["lost"], serde_json::json!([10, 625]));
        assert_eq!((&fields["size"], &fields["root"]), (&25.into(), &hex::encode(root).into()));
    }
    assert_ne!(said[0], said[1], "each has its own number");
    scene.served(&restored, new).await.expect("it is served under the new name");
    let old = scene.served(&restored, ORIGIN).await.expect_err("and under no other");
    assert!(old.contains("origin"), "{old}");
    assert_eq!(admin::former_origins(&dsn).await.expect("names"), [ORIGIN], "the name before is remembered");
    // Restored a second time, it goes on under neither of its names.
    admin::close_restored(&dsn, "another backup").await.expect("closed");
    for used in [new, ORIGIN] {
        let told =
            Opening { signed: Some((700, root)), log_origin: Some(used), ..opening(&scene, &restored, &directory) };
        assert_eq!(refusal(open(&scene.source, &told, false).await), Some("log_lost"), "{used}");
    }
}

#[tokio::test]
async fn a_log_that_lost_nothing_keeps_its_name_and_one_of_another_history_is_refused() {
    let scene = Scene::new().await;
    let root = scene.grow_log(10);
    scene.back_up().await;
    let restored = scene.restore().await;
    let directory = scene.cluster.dsn(&scene.directory).into();
    let mut told = opening(&scene, &restored, &directory);
    told.signed = Some((10, [1; 32]));
    assert_eq!(refusal(open(&scene.source, &told, false).await), Some("log_rewritten"));
    told.signed = Some((10, root));
    let unknown = open(&scene.source, &told, true).await.expect_err("a signer that stood still would say the same");
    assert!(unknown.to_string().contains("10 entries were signed, and 10 are here"), "{unknown}");
    assert!(unknown.to_string().contains("--seen"), "{unknown}");
    assert_eq!(refusal(open(&scene.source, &told, false).await), Some("unknown_loss"));
    scene.served(&restored, ORIGIN).await.expect_err("it stays closed");
    told.seen = Some(9);
    let found = open(&scene.source, &told, false).await.expect("it opens");
    assert_eq!((found.lost, found.opened.map(|opened| opened.size)), (None, Some(10)));
    scene.served(&restored, ORIGIN).await.expect("it is served under its name");
}

#[tokio::test]
async fn what_was_written_while_the_signer_stood_still_is_lost_and_its_positions_are_not_used_again() {
    let scene = Scene::new().await;
    let signed = scene.grow_log(5);
    scene.grow_log(10);
    scene.back_up().await;
    scene.grow_log(25);
    let restored = scene.restore().await;
    let directory = scene.cluster.dsn(&scene.directory).into();
    let mut told = opening(&scene, &restored, &directory);
    told.signed = Some((5, signed));
    assert_eq!(refusal(open(&scene.source, &told, false).await), Some("unknown_loss"));
    told.seen = Some(24);
    assert_eq!(refusal(open(&scene.source, &told, false).await), Some("log_lost"));
    told.log_origin = Some("log.example/eu-central-2");
    let found = open(&scene.source, &told, false).await.expect("it opens");
    assert_eq!((found.lost, found.opened.map(|opened| opened.size)), (Some(10..25), Some(25)));
}

#[tokio::test]
async fn a_restore_over_what_it_was_taken_from_is_refused() {
    let scene = Scene::new().await;
    scene.back_up().await;
    let over = plan(&scene.source, None, Some(&scene.database)).await;
    assert_eq!(refusal(over), Some("target_is_source"));
    for name in ["", "Eu", "a-b", "a b", "1a", "x; DROP DATABASE eu"] {
        assert_eq!(refusal(plan(&scene.source, None, Some(name)).await), Some("database_name"), "{name}");
    }
    let directory = scene.cluster.dsn(&scene.directory).into();
    let live = open(&scene.source, &opening(&scene, &scene.database, &directory), false).await;
    assert!(matches!(live, Err(Error::Refused(Refusal::NotRestored { .. }))), "a database that serves is not opened");
}

impl Scene {
    /// The root of the first entries that [`grow_log`](Self::grow_log) writes.
    fn root_of(&self, size: u64) -> [u8; 32] {
        let mut frontier = Frontier::new();
        (0..size).for_each(|seq| frontier.push(leaf_hash(format!("{{\"entry\":{seq}}}").as_bytes())));
        frontier.root()
    }
}
