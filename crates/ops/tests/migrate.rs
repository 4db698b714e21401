//! A deployment's migrations against a real PostgreSQL.

#[path = "../../storage/tests/support/mod.rs"]
mod support;

use std::sync::Mutex;

use ops::{DatabaseName, Deployment, migrate};
use residency::{Jurisdiction, Region};
use secrecy::SecretString;
use storage::admin::{self, Error, Options};
use support::Cluster;

async fn owner_dsn(cluster: &Cluster, database: &str) -> SecretString {
    admin::create_database_if_absent(&cluster.dsn("postgres").into(), database).await.expect("a database");
    cluster.dsn(database).into()
}

fn with_region(deployment: Deployment, region: &str, law: &str, dsn: SecretString) -> Deployment {
    let law = Jurisdiction::new(law).expect("a jurisdiction");
    deployment.with_region(Region::new(region).expect("a region"), law, &format!("log.example/{region}"), dsn)
}

#[tokio::test]
async fn a_deployment_is_planned_migrated_and_then_up_to_date() {
    let cluster = Cluster::start_new();
    let deployment = Deployment::new(owner_dsn(&cluster, "directory").await);
    let deployment = with_region(deployment, "eu-central", "eu", owner_dsn(&cluster, "eu").await);
    let deployment = with_region(deployment, "us-east", "us", owner_dsn(&cluster, "us").await);

    let plan = migrate::plan(&deployment).await;
    assert!(plan.iter().all(|planned| planned.pending().count() > 0 && !planned.is_up_to_date()), "{plan:?}");
    let again = migrate::plan(&deployment).await;
    assert_eq!(again[0].pending().count(), plan[0].pending().count(), "a plan changes nothing");

    let told = Mutex::new(Vec::new());
    let outcomes = migrate::run(&deployment, &Options::default(), &|name, step| {
        told.lock().expect("steps").push(format!("{name}: {step}"));
    })
    .await;
    for (outcome, planned) in outcomes.iter().zip(&plan) {
        let applied = &outcome.migrated.as_ref().expect("a migration").applied;
        assert_eq!(*applied, planned.pending().map(|one| one.version).collect::<Vec<_>>(), "{}", outcome.database);
    }
    let told = told.into_inner().expect("steps");
    assert!(told[0].starts_with("directory: applying 1 "), "{told:?}");
    assert_eq!(told.last().map(String::as_str), Some("us-east: the database is region us-east's"));
    assert!(migrate::plan(&deployment).await.iter().all(migrate::Planned::is_up_to_date));
}

#[tokio::test]
async fn a_database_that_fails_does_not_keep_the_others_waiting() {
    let cluster = Cluster::start_new();
    let deployment = Deployment::new(cluster.dsn("missing").into());
    let deployment = with_region(deployment, "eu-central", "eu", owner_dsn(&cluster, "eu").await);
    // The same database by mistake: the second region must not move in with the first.
    let deployment = with_region(deployment, "us-east", "us", cluster.dsn("eu").into());

    let outcomes = migrate::run(&deployment, &Options::default(), &|_, _| {}).await;
    let names: Vec<_> = outcomes.iter().map(|outcome| outcome.database.to_string()).collect();
    assert_eq!(names, ["directory", "eu-central", "us-east"]);
    assert_eq!(outcomes[0].database, DatabaseName::Directory);
    assert!(matches!(outcomes[0].migrated, Err(Error::Unreachable(_))), "{:?}", outcomes[0]);
    assert!(outcomes[1].migrated.is_ok(), "{:?}", outcomes[1]);
    assert!(matches!(outcomes[2].migrated, Err(Error::Founding { .. })), "{:?}", outcomes[2]);
}
