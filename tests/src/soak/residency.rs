//! Many people of many countries, in every way the API has; then every store but their own is searched for them.

use anyhow::{Result, ensure};
use serde_json::json;
use world::World;
use world::inspect::Needle;

use super::Length;
use crate::{PATIENCE, canary, person, until};

const PLACES: [(&str, &str); 10] = [
    ("DE", "eu-central"),
    ("FR", "eu-central"),
    ("RE", "eu-central"),
    ("NO", "eu-central"),
    ("IE", "eu-central"),
    ("GB", "uk-south"),
    ("JE", "uk-south"),
    ("US", "us-east"),
    ("US-CA", "us-east"),
    ("PR", "us-east"),
];

/// Runs it; the answer is what held, in words.
///
/// # Errors
/// When anything of a person is found outside the home region, or is missing at home.
pub async fn residency(length: Length) -> Result<String> {
    let people = length.of(40, 1_000);
    let world = World::with_regions(["eu-central", "uk-south", "us-east"]).start().await?;
    let client = world.client()?;
    let mut needles = Vec::new();
    for n in 0..people {
        let (place, region) = PLACES[n % PLACES.len()];
        let client = client.residing_in(place);
        let subject = person("resident");
        let (record, event, declared, key) = (canary(), canary(), canary(), canary());
        client.put_record(&subject, "profile", &key, &json!({ "note": record })).await?.expect(201)?;
        client.get_record(&subject, "profile", &key).await?.expect(200)?;
        client.publish(&subject, "shop.order-placed", &canary(), &json!({ "note": event })).await?.expect_success()?;
        client.declare(&subject, "wish", &json!(declared), "recommendations").await?.expect_success()?;
        // And what goes wrong must not tell either.
        let wrong = client.record(reqwest::Method::PUT, &subject, "profile", &key).header("if-match", "\"77\"");
        client.send(wrong.json(&json!({ "note": canary() }))).await?.expect(412)?;
        for text in [subject, record, event, declared, key] {
            needles.push(Needle::at_home_in(region, text));
        }
    }
    drained(&world).await?;
    let findings = world.search(&needles).await?;
    findings.must_be_clean()?;
    ensure!(findings.needles == people * 5, "not everything was looked for");
    let held = format!(
        "{people} people, {} texts of theirs looked for in {} bytes of {} places: at home and nowhere else",
        findings.needles,
        findings.bytes,
        findings.places.values().sum::<usize>()
    );
    world.shutdown().await;
    Ok(held)
}

/// Waits until relay and forwarder have carried everything there is.
async fn drained(world: &World) -> Result<()> {
    for region in world.regions() {
        until("The cursors at the head of the log", PATIENCE, || async {
            let behind = "SELECT count(*)::text FROM domicile.cursors c WHERE \
                 (c.name = 'relay' AND c.seq < (SELECT max(seq) FROM domicile.outbox)) OR \
                 (c.name = 'forwarder' AND c.seq < (SELECT max(seq) FROM domicile.outbox WHERE channel = 1))";
            region.sql(behind).await.is_ok_and(|count| count == ["0"])
        })
        .await?;
    }
    Ok(())
}
