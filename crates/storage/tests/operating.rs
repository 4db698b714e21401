//! What a deployer relies on in a database: a lease for one at a time, and a schema that says who may still use it.

mod support;

use std::time::Duration;

use residency::{Jurisdiction, Region};
use secrecy::SecretString;
use sqlx::{Connection, PgConnection};
use storage::admin::{self, Error, Lease, LeaseError, Options, SchemaLevel, Set};
use support::Cluster;

const LASTS: Duration = Duration::from_secs(600);

async fn directory(stem: &str) -> (Cluster, String, SecretString) {
    let cluster = Cluster::shared();
    let name = cluster.unused(stem);
    admin::create_database_if_absent(&cluster.dsn("postgres").into(), &name).await.expect("a database");
    let dsn: SecretString = cluster.dsn(&name).into();
    (cluster, name, dsn)
}

async fn migrated(stem: &str) -> (Cluster, String, SecretString) {
    let (cluster, name, dsn) = directory(stem).await;
    admin::migrate_directory(&dsn, &|_| {}).await.expect("a migration");
    (cluster, name, dsn)
}

async fn sql(cluster: &Cluster, name: &str, sql: &'static str) {
    let mut connection = PgConnection::connect(&cluster.dsn(name)).await.expect("a connection");
    sqlx::query(sql).execute(&mut connection).await.expect("a statement that works");
}

#[tokio::test]
async fn one_deployer_at_a_time_and_the_next_one_has_a_higher_token() {
    let (_cluster, _, dsn) = migrated("lease").await;
    let first = Lease::take(&dsn, "anna on one", LASTS).await.expect("a lease").expect("leases are known");
    let refused = Lease::take(&dsn, "berta on two", LASTS).await;
    assert!(
        matches!(&refused, Err(LeaseError::Held { holder, seconds_left }) if holder == "anna on one" && *seconds_left > 0),
        "{refused:?}"
    );
    let token = first.token();
    first.release().await.expect("given back");
    let second = Lease::take(&dsn, "berta on two", LASTS).await.expect("a lease").expect("leases are known");
    assert!(second.token() > token);
}

#[tokio::test]
async fn whoever_was_away_too_long_has_lost_the_lease_and_can_migrate_no_more() {
    let (cluster, name, dsn) = migrated("fenced").await;
    let mut first = Lease::take(&dsn, "anna", LASTS).await.expect("a lease").expect("leases are known");
    first.renew().await.expect("it is hers");
    sql(&cluster, &name, "UPDATE domicile_ops.lease SET expires_at = now() - interval '1 second'").await;
    first.renew().await.expect("nobody took it meanwhile");
    sql(&cluster, &name, "UPDATE domicile_ops.lease SET expires_at = now() - interval '1 second'").await;
    let second = Lease::take(&dsn, "berta", LASTS).await.expect("a lease").expect("leases are known");

    assert!(matches!(first.renew().await, Err(LeaseError::Lost)));
    let under = |token| Options { lease_token: Some(token), ..Options::default() };
    let fenced = admin::migrate(&dsn, Set::Directory, &under(first.token()), &|_| {}).await;
    assert!(matches!(fenced, Err(Error::Fenced)), "{fenced:?}");
    admin::migrate(&dsn, Set::Directory, &under(second.token()), &|_| {}).await.expect("she has it");
}

#[tokio::test]
async fn whoever_was_away_is_fenced_in_each_database_however_differently_they_count() {
    let (few, few_name, few_dsn) = migrated("counts_little").await;
    let (_many, _, many_dsn) = migrated("counts_much").await;
    for _ in 0..4 {
        let earlier = Lease::take(&many_dsn, "earlier", LASTS).await.expect("a lease").expect("leases are known");
        earlier.release().await.expect("given back");
    }
    let take = async |holder: &'static str| {
        let mut both = Vec::new();
        for dsn in [&few_dsn, &many_dsn] {
            both.push(Lease::take(dsn, holder, LASTS).await.expect("a lease").expect("leases are known"));
        }
        both
    };
    let mut anna = take("anna").await;
    let token = anna.iter().map(Lease::token).max().expect("two leases");
    assert!(anna[0].token() < token, "they count differently");
    for lease in &mut anna {
        lease.raise(token).await.expect("it is hers");
        lease.renew().await.expect("by its new token, too");
    }
    assert_eq!(anna.iter().map(Lease::token).collect::<Vec<_>>(), [token; 2]);
    let under = |token| Options { lease_token: Some(token), ..Options::default() };
    admin::migrate(&few_dsn, Set::Directory, &under(token), &|_| {}).await.expect("she has it");

    sql(&few, &few_name, "UPDATE domicile_ops.lease SET expires_at = now() - interval '1 second'").await;
    let berta = Lease::take(&few_dsn, "berta", LASTS).await.expect("a lease").expect("leases are known");
    let fenced = admin::migrate(&few_dsn, Set::Directory, &under(token), &|_| {}).await;
    assert!(matches!(fenced, Err(Error::Fenced)), "{fenced:?}");
    assert!(matches!(anna[0].raise(token + 9).await, Err(LeaseError::Lost)));
    admin::migrate(&few_dsn, Set::Directory, &under(berta.token()), &|_| {}).await.expect("she has it now");
}

#[tokio::test]
async fn a_database_without_leases_has_none_to_give() {
    let (_cluster, _, dsn) = directory("young").await;
    assert!(Lease::take(&dsn, "anna", LASTS).await.expect("an answer").is_none());
    assert_eq!(admin::schema_level(&dsn, Set::Directory).await.expect("an answer"), SchemaLevel::default());
}

#[tokio::test]
async fn a_schema_says_how_far_it_is() {
    let (_cluster, _, dsn) = migrated("level").await;
    let here = admin::schema_level(&dsn, Set::Directory).await.expect("a level");
    assert_eq!(here, SchemaLevel { level: Set::Directory.level(), floor: 0 });
}

#[tokio::test]
async fn a_region_tells_whom_it_holds() {
    let (cluster, name, dsn) = directory("holder").await;
    let (home, law) = (Region::new("eu-central").expect("a region"), Jurisdiction::new("eu").expect("a law"));
    admin::migrate_region(&dsn, &home, &law, "log.example/eu", &|_| {}).await.expect("a region");
    assert!(!admin::holds_subject(&dsn, "anna").await.expect("an answer"));
    sql(
        &cluster,
        &name,
        "INSERT INTO domicile.subjects (subject, digest, key_id, state, epoch, secret, registered_at) \
         VALUES ('anna', decode(repeat('00', 32), 'hex'), 1, 'active', 1, decode(repeat('00', 32), 'hex'), now())",
    )
    .await;
    assert!(admin::holds_subject(&dsn, "anna").await.expect("an answer"));
}

#[tokio::test]
async fn an_index_that_was_left_half_made_goes_and_a_whole_one_stays() {
    let (cluster, name, dsn) = migrated("leftover").await;
    sql(&cluster, &name, "CREATE TABLE domicile.twice (a int)").await;
    sql(&cluster, &name, "INSERT INTO domicile.twice VALUES (1), (1)").await;
    sql(&cluster, &name, "CREATE INDEX whole ON domicile.twice (a)").await;
    let file = "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS half ON domicile.twice (a)";
    let mut connection = PgConnection::connect(&cluster.dsn(&name)).await.expect("a connection");
    sqlx::query(file).execute(&mut connection).await.expect_err("two rows are equal");
    sqlx::query(file).execute(&mut connection).await.expect("the leftover passes for the index");

    let both = format!("CREATE INDEX CONCURRENTLY whole ON domicile.twice (a);\n{file};");
    assert_eq!(
        admin::clear_index_leftovers(&dsn, "CREATE INDEX other ON domicile.twice (a)").await.expect("done"),
        [""; 0]
    );
    assert_eq!(admin::clear_index_leftovers(&dsn, &both).await.expect("done"), ["domicile.half"]);
    assert_eq!(admin::clear_index_leftovers(&dsn, &both).await.expect("done"), [""; 0]);

    sql(&cluster, &name, "DELETE FROM domicile.twice").await;
    sqlx::query(file).execute(&mut connection).await.expect("it is made");
    let valid: bool =
        sqlx::query_scalar("SELECT indisvalid FROM pg_index WHERE indexrelid = 'domicile.half'::regclass")
            .fetch_one(&mut connection)
            .await
            .expect("it is there");
    assert!(valid);
}
