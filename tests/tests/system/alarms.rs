//! The alarms of the log fire when they must, and are silent again when the cause is gone.

use serde_json::json;
use system_tests::{PATIENCE, person, until};
use tlog::{AddCheckpoint, Checkpoint, Note, SigningKey};
use world::World;

use crate::witness::Witness;

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

#[tokio::test(flavor = "multi_thread")]
async fn the_alarm_of_a_witness_that_saw_another_history_fires_and_clears() {
    let world = World::with_regions(["eu-central"]).without_brokers().without_snowflakes().start().await.unwrap();
    let gateway = &world.gateways()[0];
    let mut witness = Witness::of(&world, "eu-central").await;
    // Somebody has the log's key and shows the witness a longer log of their own making.
    let config: toml::Table = std::fs::read_to_string(gateway.config()).unwrap().parse().unwrap();
    let key = config["regions"]["eu-central"]["signer"]["key"].as_str().unwrap().trim_start_matches("file:");
    let key: SigningKey = std::fs::read_to_string(key).unwrap().trim().parse().unwrap();
    let mut forged = Note::new(Checkpoint::new(key.public().name(), 1_000_000, [7; 32]).to_string()).unwrap();
    forged.add(key.sign(forged.text(), 0));
    let body = AddCheckpoint { old_size: 0, hashes: Vec::new(), checkpoint: forged }.to_string();
    let shown = || async {
        let asked = reqwest::Client::new().post(format!("{}/add-checkpoint", witness.url())).body(body.clone());
        asked.send().await.is_ok_and(|answer| answer.status() == 200)
    };
    until("the witness has cosigned it", PATIENCE, shown).await.unwrap();
    witness.is_asked_by(gateway, "eu-central").await;
    let alarm = "domicile_witness_refuses";
    until("the alarm", PATIENCE, || async { gauge(&world, alarm).await == Some(1.0) }).await.unwrap();
    let signer = gauge(&world, "domicile_signer_refuses").await;
    assert_eq!(signer, Some(0.0), "only the witness can know: what is signed here continues what was signed here");

    // Its operator has cleared the matter up, and it begins anew.
    witness.stop().await;
    witness.start("seen-2");
    until("the end of the alarm", PATIENCE, || async { gauge(&world, alarm).await == Some(0.0) }).await.unwrap();
    world.shutdown().await;
}
