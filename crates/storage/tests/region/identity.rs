//! Who may be whose: a region's database refuses what is not its own, and is refused where it does not belong.

use sqlx::Executor;
use storage::{Error, Health, Precondition, RegionStore};

use crate::scene::{ORIGIN, REGION, Scene, commit, done, eventually, put, subject};

fn refused(outcome: Result<impl Sized, sqlx::Error>) -> String {
    match outcome.err().expect("it is refused") {
        sqlx::Error::Database(error) => error.code().unwrap_or_default().into_owned(),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn postgres_itself_refuses_another_regions_row() {
    let scene = Scene::new().await;
    let mut superuser = scene.outside().await;
    let record = "INSERT INTO domicile.records VALUES ('us-east', 's', 'c', 'k', 1, '{}', now())";
    assert_eq!(refused(superuser.execute(record).await), "23514", "no partition of records for it");
    let attribute = "INSERT INTO domicile.zero_party VALUES ('us-east', 's', 'a', 1, '{}', '[]', 'x', now())";
    assert_eq!(refused(superuser.execute(attribute).await), "23514", "no partition of zero_party for it");
    let partition = "INSERT INTO domicile.\"records_eu-central\" VALUES ('us-east', 's', 'c', 'k', 1, '{}', now())";
    assert_eq!(refused(superuser.execute(partition).await), "23514", "not through the partition either");
}

#[tokio::test]
async fn a_region_is_founded_once() {
    let scene = Scene::new().await;
    scene.found(&scene.database, REGION, "eu", ORIGIN).await.unwrap();
    for (region, jurisdiction, origin) in
        [("us-east", "eu", ORIGIN), (REGION, "us", ORIGIN), (REGION, "eu", "audit.example.com/other")]
    {
        let error = scene.found(&scene.database, region, jurisdiction, origin).await.unwrap_err();
        assert!(!error.is_empty());
    }
    assert_eq!(scene.strings("SELECT region FROM domicile.region_identity").await, [REGION]);
    assert_eq!(scene.number("SELECT count(*) FROM domicile.head").await, 1);
}

#[tokio::test]
async fn a_connection_string_that_leads_to_another_region_is_refused_for_good() {
    let scene = Scene::new().await;
    let elsewhere = scene.cluster.unused("elsewhere");
    scene.found(&elsewhere, "us-east", "us", "audit.example.com/domicile/us-east").await.unwrap();
    let mut settings = scene.settings(1);
    settings.dsn = scene.cluster.dsn(&elsewhere).into();
    let store = RegionStore::open(settings);
    eventually("the database is recognised", async || matches!(store.health(), Health::Misplaced { .. })).await;
    let Health::Misplaced { reason } = store.health() else { panic!() };
    assert!(reason.contains("us-east"), "{reason}");
    assert!(matches!(store.verify().await, Err(Error::Misplaced { .. })));
    let outcome = commit(&store, &subject("anna"), put("a", "{}", Precondition::None)).await;
    assert!(matches!(outcome, Err(Error::Misplaced { .. })), "{outcome:?}");
    store.shutdown().await;
}

#[tokio::test]
async fn a_database_on_another_cluster_than_it_was_founded_on_is_refused() {
    let scene = Scene::new().await;
    let mut superuser = scene.outside().await;
    superuser.execute("UPDATE domicile.region_identity SET system_identifier = 1").await.unwrap();
    let store = scene.open();
    assert!(matches!(store.verify().await, Err(Error::Misplaced { reason, .. }) if reason.contains("copy")));
}

#[tokio::test]
async fn a_program_older_than_the_schemas_floor_is_refused_and_told_why() {
    let scene = Scene::new().await;
    let level = storage::admin::Set::Region.level();
    let store = scene.open();
    assert_eq!(store.schema_level().await.expect("a level").level, level);
    let mut superuser = scene.outside().await;
    superuser.execute("UPDATE domicile.schema_level SET level = 9999, floor = 1").await.unwrap();
    assert!(scene.open().schema_level().await.is_ok(), "a newer schema that only added is fine");
    superuser.execute("UPDATE domicile.schema_level SET floor = 9999").await.unwrap();
    let refused = scene.open().schema_level().await;
    assert!(
        matches!(&refused, Err(Error::Misplaced { reason, .. }) if reason.contains("deploy a newer release")),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_gateway_cannot_change_or_take_back_what_is_in_the_log() {
    let scene = Scene::new().await;
    let store = scene.open();
    done(&store, &subject("anna"), put("a", "{}", Precondition::None)).await;
    let mut gateway = scene.outside().await;
    gateway.execute("SET ROLE domicile_gateway").await.unwrap();
    for forbidden in [
        "UPDATE domicile.leaves SET line = ''",
        "DELETE FROM domicile.leaves",
        "TRUNCATE domicile.leaves",
        "UPDATE domicile.leaves_000000 SET line = ''",
        "DELETE FROM domicile.outbox",
        "UPDATE domicile.outbox SET topic = ''",
        "UPDATE domicile.tiles SET hashes = ''",
        "UPDATE domicile.head SET epoch = 2",
        "DELETE FROM domicile.head",
        "UPDATE domicile.region_identity SET region = 'us-east'",
        "UPDATE domicile.subjects SET secret = secret",
        "DELETE FROM domicile.subjects",
        "ALTER TABLE domicile.leaves DETACH PARTITION domicile.leaves_000000",
        "CREATE TABLE domicile.records_us PARTITION OF domicile.records FOR VALUES IN ('us-east')",
        "SELECT domicile.found('us-east', 'us', 'x')",
    ] {
        assert_eq!(refused(gateway.execute(forbidden).await), "42501", "{forbidden}");
    }
}

#[tokio::test]
async fn a_store_acts_as_a_gateway_and_not_as_its_login() {
    let scene = Scene::apart().await;
    let mut superuser = scene.outside().await;
    // A login without rights of its own, which does not inherit the group's either: it must take the role.
    for sql in ["CREATE ROLE bare LOGIN NOINHERIT", "GRANT domicile_gateway TO bare", "CREATE ROLE stranger LOGIN"] {
        superuser.execute(sql).await.unwrap();
    }
    let connect = format!("GRANT CONNECT ON DATABASE {} TO bare, stranger", scene.database);
    superuser.execute(sqlx::AssertSqlSafe(connect)).await.unwrap();
    let store_of = |login: &str| {
        let mut settings = scene.settings(1);
        settings.dsn = scene.cluster.dsn_as(login, &scene.database).into();
        RegionStore::open(settings)
    };
    let store = store_of("bare");
    done(&store, &subject("anna"), put("a", "{}", Precondition::None)).await;
    let identity = store.verify().await.unwrap();
    assert_eq!((identity.region.as_str(), identity.founded_on), (REGION, identity.found_on));
    let outcome = commit(&store_of("stranger"), &subject("anna"), put("a", "{}", Precondition::None)).await;
    assert!(matches!(outcome, Err(Error::Unavailable { .. })), "{outcome:?}");
}

#[tokio::test]
async fn a_restored_database_is_down_until_it_is_opened_and_served_then_without_a_restart() {
    let scene = Scene::new().await;
    let dsn = secrecy::SecretString::from(scene.cluster.dsn(&scene.database));
    storage::admin::close_restored(&dsn, "eu-central-7").await.unwrap();
    let store = scene.open();
    eventually(
        "it is told why",
        async || matches!(store.health(), Health::Down { reason, .. } if reason.contains("eu-central-7")),
    )
    .await;
    let outcome = commit(&store, &subject("anna"), put("a", "{}", Precondition::None)).await;
    assert!(matches!(outcome, Err(Error::Unavailable { .. })), "{outcome:?}");
    storage::admin::open_restored(&dsn, None, None).await.unwrap();
    eventually("it is up", async || store.health() == Health::Up).await;
    done(&store, &subject("anna"), put("a", "{}", Precondition::None)).await;
}
