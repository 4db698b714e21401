//! The alarms of the log fire when they must, and are silent again when the cause is gone.

use serde_json::json;
use system_tests::{PATIENCE, person, until};
use world::World;

/// The value of a gauge of a region, as it is scraped.
async fn gauge(world: &World, name: &str) -> Option<f64> {
    let text = world.gateways()[0].metrics().await.ok()?;
    let line = text.lines().find(|line| line.starts_with(&format!("{name}{{")) && line.contains("eu-central"))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_alarms_of_a_damaged_log_fire_and_clear() {
    let world = World::with_regions(["eu-central"]).without_brokers().without_snowflakes().start().await.unwrap();
    let region = world.region("eu-central");
    let write = async |name: &str| {
        let client = world.client().unwrap().residing_in("DE");
        client.put_record(&person(name), "profile", "x", &json!({})).await.unwrap().expect(201).unwrap();
    };
    write("before").await;
    until("A signed log without an alarm", PATIENCE, || async {
        gauge(&world, "domicile_signed_size").await.is_some_and(|size| size > 2.0)
            && gauge(&world, "domicile_signer_refuses").await == Some(0.0)
            && gauge(&world, "domicile_log_damaged").await == Some(0.0)
    })
    .await
    .unwrap();

    region.sql("UPDATE domicile.leaves SET hash = sha256('forged') WHERE seq = 1").await.unwrap();
    write("meanwhile").await;
    for alarm in ["domicile_signer_refuses", "domicile_log_damaged"] {
        until(alarm, PATIENCE, || async { gauge(&world, alarm).await == Some(1.0) }).await.unwrap();
    }

    let mend = "UPDATE domicile.leaves SET hash = sha256('\\x00'::bytea || convert_to(line, 'UTF8')) WHERE seq = 1";
    region.sql(mend).await.unwrap();
    for alarm in ["domicile_signer_refuses", "domicile_log_damaged"] {
        until(alarm, PATIENCE, || async { gauge(&world, alarm).await == Some(0.0) }).await.unwrap();
    }
    world.shutdown().await;
}
