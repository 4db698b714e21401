//! A restored directory: closed until every region has said who is at home there and who was erased.

#[path = "../../storage/tests/support/mod.rs"]
mod support;

use std::sync::Arc;

use age::x25519::Identity;
use ops::DatabaseName;
use ops::backup::restore::{Reopened, Reopening, open_directory, plan, restore};
use ops::backup::target::Folder;
use ops::backup::{Bounds, Error, Identities, Kind, Order, Place, Programs, Recipients, Refusal, Source, create};
use residency::{Jurisdiction, Policy, Region, SubjectId, presets};
use secrecy::SecretString;
use storage::{Directory, DirectorySettings, Limits, Pepper, Peppers, admin};
use support::Cluster;
use tempfile::TempDir;
use time::OffsetDateTime;
use tlog::{KeyKind, SigningKey};

const REGIONS: [&str; 2] = ["eu-central", "us-east"];

/// A directory, two regions, and a backup of the directory of before `since`.
struct Scene {
    cluster: Cluster,
    directory: String,
    regions: Vec<(Region, SecretString)>,
    names: Vec<String>,
    peppers: Peppers,
    source: Source,
    restored: String,
    _folder: TempDir,
}

#[expect(clippy::disallowed_methods, reason = "the tests' front door for time")]
fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

impl Scene {
    /// anna lives in the EU and bert in the US when the backup is taken; what `since` does, it does not know.
    async fn restored_after(since: impl FnOnce(&Self)) -> Self {
        let cluster = Cluster::shared();
        let law = |name: &str| Jurisdiction::new(name).expect("a law");
        let (mut regions, mut names) = (Vec::new(), Vec::new());
        for name in REGIONS {
            let database = cluster.unused("reopened_region");
            admin::create_database_if_absent(&cluster.dsn("postgres").into(), &database).await.expect("a database");
            let dsn: SecretString = cluster.dsn(&database).into();
            let region = Region::new(name).expect("a region");
            let origin = format!("log.example/{name}");
            admin::migrate_region(&dsn, &region, &law(&name[..2]), &origin, &|_| ()).await.expect("migrated");
            regions.push((region, dsn));
            names.push(database);
        }
        let directory = cluster.unused("reopened_pins");
        admin::create_database_if_absent(&cluster.dsn("postgres").into(), &directory).await.expect("a database");
        admin::migrate_directory(&cluster.dsn(&directory).into(), &|_| ()).await.expect("migrated");
        let folder = tempfile::tempdir().expect("a folder");
        let (key, other) = (Identity::generate(), Identity::generate());
        let texts = [key.to_public().to_string(), other.to_public().to_string()];
        let policy = Policy::parse(presets::SHIPPED_POLICY, presets::JURISDICTIONS, presets::LOCATIONS);
        let place = Place::prove(&policy.expect("the shipped policy"), &law("eu"), "aws/eu-central-1", &[]);
        let source = Source {
            database: DatabaseName::Directory,
            jurisdiction: law("eu"),
            owner_dsn: cluster.dsn(&directory).into(),
            scratch_dsn: cluster.dsn("postgres").into(),
            target: Arc::new(Folder::at(folder.path())),
            place: place.expect("Frankfurt is in the EU"),
            recipients: Recipients::parse(&texts).expect("two recipients"),
            key: SigningKey::new("directory.backup.example", KeyKind::Log, &[7; 32]).expect("a key"),
            programs: Programs::find(None).expect("PostgreSQL's programs"),
            bounds: Bounds::default(),
            clock: now,
        };
        let peppers = Peppers::new(Pepper::new(1, &[9; 32]).expect("a pepper"), Vec::new());
        let restored = cluster.unused("reopened");
        let scene = Self { cluster, directory, regions, names, peppers, source, restored, _folder: folder };
        scene.lives("anna", 0, 1);
        scene.lives("bert", 1, 1);
        scene.pinned("anna", "eu-central");
        scene.pinned("bert", "us-east");
        let order = Order { kind: Kind::Manual, release: "test".into(), verify_inline: false };
        create(&scene.source, &order, &|_, _| ()).await.expect("a backup");
        since(&scene);
        let plan = plan(&scene.source, None, Some(&scene.restored)).await.expect("a plan");
        let identities = Identities::parse(&key.to_string()).expect("an identity");
        restore(&scene.source, &plan, &identities, &|_, _| ()).await.expect("restored");
        scene
    }

    fn digest(&self, subject: &str) -> String {
        hex::encode(self.peppers.digest(&SubjectId::new(subject).expect("a subject")).bytes)
    }

    /// A region has a subject at home.
    fn lives(&self, subject: &str, region: usize, epoch: u32) {
        let digest = self.digest(subject);
        self.cluster.sql(
            &self.names[region],
            &format!(
                "INSERT INTO domicile.subjects (subject, digest, key_id, state, epoch, secret, registered_at) \
                 VALUES ('{subject}', '\\x{digest}', 1, 'active', {epoch}, sha256('{subject}'), now())"
            ),
        );
    }

    /// A region erases a subject and remembers it.
    fn erased(&self, subject: &str, region: usize) {
        let digest = self.digest(subject);
        self.cluster.sql(
            &self.names[region],
            &format!(
                "DELETE FROM domicile.subjects WHERE subject = '{subject}'; \
                 INSERT INTO domicile.erasures (digest, key_id, events_digest, epoch, erased_at, filed_at) \
                 VALUES ('\\x{digest}', 1, '\\x{digest}', 1, now(), now())"
            ),
        );
    }

    fn pinned(&self, subject: &str, region: &str) {
        let digest = self.digest(subject);
        self.cluster.sql(
            &self.directory,
            &format!(
                "INSERT INTO domicile.pins (subject_digest, key_id, region, epoch, state) \
                 VALUES ('\\x{digest}', 1, '{region}', 1, 'active')"
            ),
        );
    }

    /// The restored pin of a subject.
    fn pin(&self, subject: &str) -> String {
        let digest = self.digest(subject);
        let pin = format!("SELECT region || ' ' || state FROM domicile.pins WHERE subject_digest = '\\x{digest}'");
        self.cluster.sql(&self.restored, &pin).join(", ")
    }

    async fn open(&self, reached: &[usize], dry_run: bool) -> Result<Reopened, Error> {
        self.open_for(reached, dry_run, None).await
    }

    async fn open_for(
        &self,
        reached: &[usize],
        dry_run: bool,
        login: Option<&admin::LoginName>,
    ) -> Result<Reopened, Error> {
        let regions: Vec<_> = reached.iter().map(|at| self.regions[*at].clone()).collect();
        let known: Vec<Region> = self.regions.iter().map(|(region, _)| region.clone()).collect();
        let opening = Reopening {
            database: &self.restored,
            regions: &regions,
            known: &known,
            without: &[],
            peppers: &self.peppers,
            login,
        };
        open_directory(&self.source, &opening, dry_run).await
    }

    /// What a gateway says of the restored directory; `Ok` when it would use it.
    async fn used(&self) -> Result<(), String> {
        let directory = Directory::open(DirectorySettings {
            dsn: self.cluster.dsn(&self.restored).into(),
            peppers: self.peppers.clone(),
            cache_pins_max: 10,
            limits: Limits::default(),
        });
        let told = directory.home_of(&SubjectId::new("anna").expect("a subject")).await;
        told.map(drop).map_err(|error| format!("{error}: {:?}", directory.health()))
    }
}

fn refusal<T: std::fmt::Debug>(outcome: Result<T, Error>) -> Refusal {
    match outcome {
        Err(Error::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn who_came_and_who_was_erased_after_the_backup_is_known_before_a_directory_serves() {
    let scene = Scene::restored_after(|scene| {
        scene.erased("anna", 0);
        scene.lives("cleo", 1, 1);
        scene.lives("dora", 0, 1);
        scene.erased("dora", 0);
    })
    .await;
    assert_eq!((scene.pin("anna").as_str(), scene.pin("cleo").as_str()), ("eu-central active", ""), "it is of before");
    let closed = scene.used().await.expect_err("nobody may ask it");
    assert!(closed.contains("restored from a backup") && closed.contains("--open"), "{closed}");
    let floor = "SELECT floor > 1000000 FROM domicile.schema_level";
    assert_eq!(scene.cluster.sql(&scene.restored, floor), ["t"], "older releases know floors, and nothing of restores");
    admin::migrate_directory(&scene.cluster.dsn(&scene.restored).into(), &|_| ()).await.expect("migrated");
    scene.used().await.expect_err("migrating opens nothing");

    let told = scene.open(&[0, 1], true).await.expect("a plan");
    let counts = |at: usize| (told.heard[at].repinned.pinned, told.heard[at].repinned.erased);
    assert_eq!((counts(0), counts(1), told.missing.len()), ((0, 2), (1, 0), 0));
    assert_eq!(scene.pin("cleo"), "", "a plan changes nothing");

    // Each cell reaches its own region.
    let first = scene.open(&[0], false).await.expect("it hears one");
    assert_eq!((first.missing.join(" "), first.live_keys), ("us-east".to_owned(), None));
    scene.used().await.expect_err("one region is missing");
    // Whatever breaks before it is open leaves one that can be opened.
    let nobody = admin::LoginName::new("a_login_that_nobody_made");
    assert!(matches!(scene.open_for(&[1], false, nobody.as_ref()).await, Err(error) if !error.is_refusal()));
    scene.used().await.expect_err("it is closed still");
    let last = scene.open(&[1], false).await.expect("it hears the other");
    assert_eq!((last.missing.len(), last.live_keys), (0, Some(0)));
    let pins = ["anna", "bert", "cleo", "dora"].map(|subject| scene.pin(subject));
    assert_eq!(pins, ["eu-central erased", "us-east active", "us-east active", "eu-central erased"]);
    scene.used().await.expect("it is used");
    assert_eq!(refusal(scene.open(&[0, 1], false).await).name(), "not_restored", "it is open already");
}

#[tokio::test]
async fn who_moved_after_the_backup_is_where_they_moved_to_and_nobody_is_in_two_places() {
    let scene = Scene::restored_after(|scene| {
        scene.cluster.sql(&scene.names[0], "UPDATE domicile.subjects SET state = 'departed', epoch = 2");
        scene.lives("anna", 1, 2);
    })
    .await;
    assert_eq!(scene.open(&[0, 1], false).await.expect("it opens").heard[1].repinned.moved, 1);
    assert_eq!(scene.pin("anna"), "us-east active");

    let torn = Scene::restored_after(|scene| scene.lives("bert", 0, 1)).await;
    let refused = refusal(torn.open(&[0, 1], false).await);
    assert_eq!(refused.name(), "contradicted", "both say that he lives there");
    torn.used().await.expect_err("it stays closed");
}
