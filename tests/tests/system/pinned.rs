//! Promise 1, held by the database: another region's partition does not exist, another region's cluster is refused.

use serde_json::json;
use system_tests::{PATIENCE, canary, person, shared, until};
use world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_regions_row_is_refused_by_postgres_itself() {
    let world = shared().await;
    for region in world.regions() {
        let foreign = if region.name() == "us-east" { "eu-central" } else { "us-east" };
        for table in [
            "records (region, subject, collection, key, version, body, updated_at) VALUES ($, 's', 'c', 'k', 1, '{}', now())",
            "zero_party (region, subject, attribute, version, value, consents, source, updated_at) \
             VALUES ($, 's', 'a', 1, '1', '[]', 'x', now())",
        ] {
            let insert = format!("INSERT INTO domicile.{}", table.replace('$', &format!("'{foreign}'")));
            let refused = region.sql(&insert).await.expect_err("a foreign row must be refused");
            assert!(format!("{refused:#}").contains("no partition of relation"), "{refused:#}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_cannot_be_rewritten_by_the_role_that_writes_it() {
    let world = shared().await;
    let client = world.client().residing_in("DE");
    client.put_record(&person("append-only"), "profile", "x", &json!({})).await.unwrap().expect(201).unwrap();
    let region = world.region("eu-central");
    for statement in [
        "UPDATE domicile.leaves SET line = 'x'",
        "DELETE FROM domicile.leaves",
        "TRUNCATE domicile.leaves",
        "DELETE FROM domicile.outbox",
        "UPDATE domicile.tiles SET hashes = ''",
        "UPDATE domicile.region_identity SET region = 'us-east'",
        "DROP TABLE domicile.records",
        "CREATE TABLE domicile.mine ()",
    ] {
        let as_gateway = format!("SET ROLE domicile_gateway; {statement}");
        let refused = region.sql(&as_gateway).await.expect_err(statement);
        let said = format!("{refused:#}");
        assert!(said.contains("permission denied") || said.contains("must be owner"), "{statement}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dsn_that_leads_to_another_regions_cluster_is_refused_at_connect() {
    let world = World::with_regions(["eu-central", "us-east"]).without_brokers().without_snowflakes();
    let world = world.gateway("european", ["eu-central"]).gateway("american", ["us-east"]);
    let world = world.gateways_not_started().start().await.unwrap();
    // The European secret now names the American cluster.
    let wrong = world.region("us-east").cluster.dsn("gateway", "domicile");
    std::fs::write(world.root().join("secrets/eu-central-postgres"), wrong).unwrap();
    let (european, american) = (world.gateway("european"), world.gateway("american"));
    european.start_unready().await.unwrap();
    american.start_again().await.unwrap();

    let client = world.client_of(european).unwrap().residing_in("DE");
    until("The refusal", PATIENCE, || async {
        let answer = client.put_record(&person("misplaced"), "profile", "x", &json!({})).await.unwrap();
        (answer.status, answer.code().as_deref()) == (503, Some("region_misplaced"))
    })
    .await
    .unwrap();
    let client = world.client_of(american).unwrap().residing_in("US");
    client.put_record(&person("placed"), "profile", "x", &json!({})).await.unwrap().expect(201).unwrap();
    let rows = world.region("us-east").sql("SELECT count(*)::text FROM domicile.records").await.unwrap();
    assert_eq!(rows, ["1"], "nothing of the European subject is in the American cluster");
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_knows_no_subject_by_name() {
    let world = shared().await;
    let anna = canary();
    world.client().residing_in("GB").pin(&anna).await.unwrap().expect_success().unwrap();
    let dump = world.directory().dump("directory").await.unwrap();
    let text = String::from_utf8_lossy(&dump);
    assert!(text.contains("uk-south"), "the pin is there");
    assert!(!text.contains(&anna), "the subject's name is not");
}
