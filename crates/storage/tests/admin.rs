//! What an operator does to a database: migrations that wait for each other, regions that are founded
//! once, logins that can do little.

mod support;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use residency::{Jurisdiction, Region};
use secrecy::SecretString;
use sqlx::{Connection, PgConnection, Row};
use storage::admin::{self, Error, LoginName, Membership, Migrated, Options, Set, Step};
use support::{Cluster, PATIENCE, eventually};

/// The advisory lock of migrations, taken by hand.
const TAKE_LOCK: &str = "SELECT pg_advisory_lock(x'646f6d6963696c65'::bigint)";

async fn database(cluster: &Cluster, name: &str) -> SecretString {
    admin::create_database_if_absent(&cluster.dsn("postgres").into(), name).await.expect("a database");
    cluster.dsn(name).into()
}

/// A database of this test's own on the server that all share, by its name.
async fn shared_with_database(stem: &str) -> (Cluster, String, SecretString) {
    let cluster = Cluster::shared();
    let name = cluster.unused(stem);
    let dsn = database(&cluster, &name).await;
    (cluster, name, dsn)
}

async fn connect(cluster: &Cluster, database: &str) -> PgConnection {
    PgConnection::connect(&cluster.dsn(database)).await.expect("a connection")
}

fn region(name: &str) -> Region {
    Region::new(name).expect("a region")
}

fn jurisdiction(name: &str) -> Jurisdiction {
    Jurisdiction::new(name).expect("a jurisdiction")
}

fn quiet(_: Step) {}

#[tokio::test]
async fn a_database_is_migrated_once_and_says_how_it_stands() {
    let (_cluster, _, dsn) = shared_with_database("directory").await;
    let before = admin::status(&dsn, Set::Directory).await.expect("a status");
    assert!(before.len() >= 2 && before.iter().all(|m| !m.applied && m.known && m.expand_only), "{before:?}");

    let steps = Mutex::new(Vec::new());
    let first = admin::migrate_directory(&dsn, &|step| steps.lock().expect("steps").push(step.to_string())).await;
    assert_eq!(first.expect("a migration").applied, before.iter().map(|m| m.version).collect::<Vec<_>>());
    assert_eq!(steps.lock().expect("steps")[0], "applying 1 pins");
    assert_eq!(admin::migrate_directory(&dsn, &quiet).await.expect("a migration"), Migrated::default());
    let after = admin::status(&dsn, Set::Directory).await.expect("a status");
    assert!(after.iter().all(|migration| migration.applied), "{after:?}");
}

#[tokio::test]
async fn an_older_program_runs_on_a_newer_schema_and_says_that_it_is_newer() {
    let (cluster, name, dsn) = shared_with_database("directory").await;
    admin::migrate_directory(&dsn, &quiet).await.expect("a migration");
    sqlx::query(
        "INSERT INTO domicile.directory_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'from the future', true, '', 0)",
    )
    .execute(&mut connect(&cluster, &name).await)
    .await
    .expect("a newer migration");

    assert_eq!(admin::migrate_directory(&dsn, &quiet).await.expect("a migration"), Migrated::default());
    let last = admin::status(&dsn, Set::Directory).await.expect("a status").pop().expect("migrations");
    assert_eq!((last.version, last.description.as_str()), (9999, "from the future"));
    assert!(last.applied && !last.known);
}

#[tokio::test]
async fn a_migration_whose_text_was_changed_afterwards_is_refused() {
    let (cluster, name, dsn) = shared_with_database("directory").await;
    admin::migrate_directory(&dsn, &quiet).await.expect("a migration");
    sqlx::query("UPDATE domicile.directory_migrations SET checksum = 'x' WHERE version = 1")
        .execute(&mut connect(&cluster, &name).await)
        .await
        .expect("a change");
    let refused = admin::migrate_directory(&dsn, &quiet).await;
    assert!(matches!(refused, Err(Error::Changed { version: 1, .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn migrators_that_start_together_do_the_work_once() {
    let (_cluster, _, dsn) = shared_with_database("directory").await;
    let together: Vec<_> = (0..6)
        .map(|_| {
            let dsn = dsn.clone();
            tokio::spawn(
                async move { admin::migrate_directory(&dsn, &quiet).await.expect("a migration").applied.len() },
            )
        })
        .collect();
    let mut applied = Vec::new();
    for one in together {
        applied.push(one.await.expect("no panic"));
    }
    applied.sort_unstable();
    assert_eq!(applied[..5], [0; 5]);
    assert!(applied[5] >= 2);
}

#[tokio::test]
async fn a_migrator_waits_for_another_one_visibly_and_not_for_ever() {
    let (cluster, name, dsn) = shared_with_database("directory").await;
    let mut other = connect(&cluster, &name).await;
    sqlx::query(TAKE_LOCK).execute(&mut other).await.expect("the lock");

    static WAITS: AtomicU32 = AtomicU32::new(0);
    let count = |step| {
        WAITS.fetch_add(u32::from(matches!(step, Step::Waiting { .. })), Ordering::SeqCst);
    };
    let options = Options { lock_wait_max: Duration::from_millis(600), ..Options::default() };
    let begun = Instant::now();
    let gave_up = admin::migrate(&dsn, Set::Directory, &options, &count).await;
    assert!(matches!(gave_up, Err(Error::Busy { waited }) if waited >= options.lock_wait_max), "{gave_up:?}");
    assert!(begun.elapsed() >= options.lock_wait_max, "{:?}", begun.elapsed());
    let told = WAITS.load(Ordering::SeqCst);
    assert!(told >= 1);

    // While it waits it must hold no snapshot, or the other's CREATE INDEX CONCURRENTLY would wait for it in turn.
    let patient = Options { lock_wait_max: PATIENCE * 2, ..Options::default() };
    let waiting = tokio::spawn(async move { admin::migrate(&dsn, Set::Directory, &patient, &count).await });
    eventually("the migrator waits", async || WAITS.load(Ordering::SeqCst) > told).await;
    for statement in ["CREATE TABLE public.t (a int)", "CREATE INDEX CONCURRENTLY ON public.t (a)"] {
        let done = tokio::time::timeout(PATIENCE, sqlx::query(statement).execute(&mut other)).await;
        done.expect("no deadlock").expect("a statement that works");
    }
    other.close().await.expect("an end");
    assert!(!waiting.await.expect("no panic").expect("a migration").applied.is_empty());
}

#[tokio::test]
async fn a_region_is_founded_once_and_never_as_another() {
    let (cluster, name, dsn) = shared_with_database("eu_central").await;
    let (home, eu) = (region("eu-central"), jurisdiction("eu"));
    let origin = "log.example/eu-central";
    for _ in 0..2 {
        admin::migrate_region(&dsn, &home, &eu, origin, &quiet).await.expect("a founded region");
    }
    for (other, law, log) in
        [("us-east", "eu", origin), ("eu-central", "us", origin), ("eu-central", "eu", "log.example/other")]
    {
        let refused = admin::migrate_region(&dsn, &region(other), &jurisdiction(law), log, &quiet).await;
        assert!(
            matches!(&refused, Err(Error::Founding { reason, .. }) if reason.contains("eu-central")),
            "{refused:?}"
        );
    }
    let founded = sqlx::query("SELECT region, jurisdiction, origin FROM domicile.region_identity")
        .fetch_all(&mut connect(&cluster, &name).await)
        .await
        .expect("an identity");
    assert_eq!(founded.len(), 1);
    assert_eq!(founded[0].get::<&str, _>("region"), "eu-central");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_regions_of_one_server_are_founded_at_the_same_time() {
    let cluster = Cluster::start_new();
    let mut founding = Vec::new();
    for (name, home, law) in [("eu", "eu-central", "eu"), ("us", "us-east", "us"), ("br", "sa-east", "br")] {
        let dsn = database(&cluster, name).await;
        founding.push(tokio::spawn(async move {
            admin::migrate_region(&dsn, &region(home), &jurisdiction(law), home, &quiet).await
        }));
    }
    for one in founding {
        one.await.expect("no panic").expect("a founded region");
    }
}

#[tokio::test]
async fn a_busy_table_delays_a_migration_and_does_not_defeat_it() {
    let (cluster, name, dsn) = shared_with_database("directory").await;
    admin::migrate_directory(&dsn, &quiet).await.expect("a migration");
    // The second file once more, while somebody keeps it from granting rights on the schema.
    let mut other = connect(&cluster, &name).await;
    for statement in [
        "DROP TABLE domicile.api_keys",
        "DELETE FROM domicile.directory_migrations WHERE version = 2",
        "BEGIN",
        "LOCK TABLE pg_catalog.pg_namespace IN SHARE MODE",
    ] {
        sqlx::query(statement).execute(&mut other).await.expect("a statement that works");
    }
    // Somebody lets go as soon as the migration has told that the table is in use.
    let (in_use, mut told) = tokio::sync::mpsc::unbounded_channel();
    let release = async move {
        told.recv().await.expect("the table is found in use");
        sqlx::query("ROLLBACK").execute(&mut other).await.expect("an end");
    };
    let options = Options { lock_timeout: Duration::from_millis(100), ..Options::default() };
    let migration = async move {
        let watch = |step| {
            if matches!(step, Step::InUse { version: 2, .. }) {
                in_use.send(()).ok();
            }
        };
        admin::migrate(&dsn, Set::Directory, &options, &watch).await
    };
    let (migrated, ()) = tokio::join!(migration, release);
    assert_eq!(migrated.expect("a migration").applied, [2]);
}

#[tokio::test]
async fn a_database_is_created_once_and_closed_to_strangers() {
    let cluster = Cluster::start_new();
    let server = SecretString::from(cluster.dsn("postgres"));
    // A name that would do harm if it were not quoted.
    let name = "odd\"; DROP DATABASE postgres; --";
    assert!(admin::create_database_if_absent(&server, name).await.expect("a database"));
    assert!(!admin::create_database_if_absent(&server, name).await.expect("a database"));
    let (one, other) = tokio::join!(
        admin::create_database_if_absent(&server, "same"),
        admin::create_database_if_absent(&server, "same")
    );
    assert_eq!(u8::from(one.expect("a database")) + u8::from(other.expect("a database")), 1);

    let directory = database(&cluster, "directory").await;
    admin::migrate_directory(&directory, &quiet).await.expect("a migration");
    let login = LoginName::new("gateway").expect("a name");
    admin::create_login_role(&directory, &login, None, &[Membership::Directory]).await.expect("a login");
    assert!(PgConnection::connect(&cluster.dsn_as("gateway", "directory")).await.is_ok());
    assert!(PgConnection::connect(&cluster.dsn_as("gateway", "same")).await.is_err(), "another region's database");
}

#[tokio::test]
async fn a_logins_password_works_is_replaced_and_is_never_seen_by_the_server() {
    let cluster = Cluster::start_new();
    let directory = database(&cluster, "directory").await;
    admin::migrate_directory(&directory, &quiet).await.expect("a migration");
    // From now on this login needs its password.
    let rules = cluster.folder().join("data/pg_hba.conf");
    let trusting = std::fs::read_to_string(&rules).expect("the rules");
    std::fs::write(&rules, format!("local all gateway scram-sha-256\n{trusting}")).expect("the rules");
    let mut superuser = connect(&cluster, "postgres").await;
    for statement in ["ALTER SYSTEM SET log_statement = 'all'", "SELECT pg_reload_conf()"] {
        sqlx::query(statement).execute(&mut superuser).await.expect("a statement that works");
    }
    eventually("new sessions know the new rules", async || {
        let said: String = sqlx::query("SHOW log_statement")
            .fetch_one(&mut connect(&cluster, "postgres").await)
            .await
            .expect("a row")
            .get(0);
        said == "all"
    })
    .await;

    let login = LoginName::new("gateway").expect("a name");
    let connects = async |password: &str| {
        PgConnection::connect(&cluster.dsn_as(&format!("gateway:{password}"), "directory")).await.is_ok()
    };
    for password in ["first-password-1", "second-password-2"] {
        let secret = SecretString::from(password);
        let made = admin::create_login_role(&directory, &login, Some(&secret), &[Membership::Directory]).await;
        made.expect("a login");
        assert!(connects(password).await, "{password}");
    }
    assert!(!connects("first-password-1").await);
    assert!(cluster.log().contains("ALTER ROLE gateway PASSWORD"), "the server logs statements");
    assert!(!cluster.log().contains("password-"), "and no password is in them");

    let refused = admin::create_login_role(&directory, &login, Some(&"kurz".into()), &[]).await;
    assert!(matches!(refused, Err(Error::Password)), "{refused:?}");
    // No group, no login: the groups are made by the migrations.
    let elsewhere = admin::create_login_role(&directory, &login, None, &[Membership::Gateway]).await;
    assert!(matches!(elsewhere, Err(Error::Refused { what: "make the login a member", .. })), "{elsewhere:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_login_of_many_databases_is_made_by_all_of_them_at_once() {
    let cluster = Cluster::start_new();
    let dsn = database(&cluster, "one").await;
    admin::migrate_directory(&dsn, &quiet).await.expect("a migration");
    let name = LoginName::new("gateway").expect("a name");
    for _ in 0..10 {
        let (dsn, name) = (&dsn, &name);
        let password: SecretString = "correct-horse".to_owned().into();
        let password = &password;
        let makers = (0..16).map(|_| admin::create_login_role(dsn, name, Some(password), &[Membership::Directory]));
        for made in futures::future::join_all(makers).await {
            made.expect("the login, although others change it at the same time");
        }
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_told_apart_from_a_connection_string_that_is_wrong() {
    let cluster = Cluster::start_new();
    let dsn = SecretString::from(cluster.dsn("postgres"));
    cluster.stop();
    assert!(matches!(admin::status(&dsn, Set::Region).await, Err(Error::Unreachable(_))));
    let wrong = admin::status(&"mysql//secret-in-here".into(), Set::Region).await.expect_err("no connection string");
    assert!(matches!(wrong, Error::Dsn));
    assert!(!format!("{wrong} {wrong:?}").contains("secret-in-here"));
}
