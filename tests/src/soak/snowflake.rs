//! Zero-party changes through a bad network, by forwarders that are killed: the table equals what was declared, a
//! replay of the whole log changes nothing, and nobody's value is where no consent is.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use world::{Client, RegionWorld, Row, World};

use super::Length;
use super::proxy::{PATIENCE, Proxy};
use crate::{batch, person, until};

/// Writers at once, each with subjects of its own.
const WRITERS: u64 = 8;
/// Changes of one request.
const LINES: u64 = 200;
/// Subjects of one writer.
const SUBJECTS: u64 = 60;
/// Attributes of one subject.
const ATTRIBUTES: u64 = 5;
const REGION: &str = "eu-central";
/// The one purpose that is forwarded.
const PURPOSE: &str = "recommendations";

/// What each attribute is after its last change: by the change's position in the log, its value if there is consent.
type Model = BTreeMap<(String, String), (u64, Option<u64>)>;

/// Runs it; the answer is what held, in words.
///
/// # Errors
/// When the table is not what was declared.
pub async fn snowflake(length: Length) -> Result<String> {
    let (changes, kills) = (length.of(6_000, 200_000), length.of(2, 5));
    let proxy = Proxy::start(length.of(5, 23)).await?;
    let world = World::with_regions([REGION])
        .gateway("api", [REGION])
        .role("api", "gateway")
        .gateway("forwarder", [REGION])
        .role("forwarder", "forwarder")
        .without_brokers()
        .setting("events.lease_s", 5)
        .setting("events.forwarder_batch_ms_max", 100)
        .setting("events.forwarder_batch_rows_max", length.of(100, 1_000))
        .setting("regions.eu-central.snowflake.base_url", proxy.url.as_str())
        .setting("regions.eu-central.snowflake.purposes", vec![PURPOSE])
        .start()
        .await?;
    let region = world.region(REGION);
    let snowflake = region.snowflake.as_ref().context("the region has a Snowflake")?;
    ensure!(snowflake.folder().is_none(), "this soak needs the Snowflake stand-in fakesnow: run `cargo xtask tools`");
    proxy.lead_to(&snowflake.url());

    let client = world.client_of(world.gateway("api"))?;
    let declared = Arc::new(AtomicU64::new(0));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(declare(client.clone(), writer, changes / WRITERS, Arc::clone(&declared)));
    }
    let forwarder = world.gateway("forwarder");
    for round in 1..=kills {
        let due = changes * round / (kills + 1);
        until("The writing to go on", Duration::from_secs(300), || async { declared.load(Ordering::Relaxed) >= due })
            .await?;
        forwarder.kill().await?;
        forwarder.start_again().await?;
    }
    let mut model = Model::new();
    while let Some(writer) = writers.join_next().await {
        model.extend(writer??);
    }
    caught_up(region).await?;
    let faults = proxy.faults();
    ensure!(faults > 5, "only {faults} faults were met");
    proxy.heal();
    ensure!(snowflake.staged().await? == 0, "rows were left between their insert and their merge");
    let rows = compare(region, &model).await?;
    let withdrawn = rows.iter().filter(|row| row.deleted).count();

    replay(&world)?;
    let again = compare(region, &model).await?;
    ensure!(again == rows, "a replay of the whole log changed the table");
    ensure!(snowflake.staged().await? == 0, "the replay left rows behind");
    world.shutdown().await;
    Ok(format!(
        "{changes} changes of {} attributes, {faults} faults, the forwarder killed {kills} times: the table equals what was declared, \
         {withdrawn} without consent or deleted are tombstones, and a replay of the whole log changed nothing",
        model.len()
    ))
}

/// Declares, changes, withdraws and deletes, in order, by batches.
async fn declare(client: Client, writer: u64, changes: u64, declared: Arc<AtomicU64>) -> Result<Model> {
    let subjects: Vec<String> = (0..SUBJECTS).map(|n| person(&format!("declared-{writer}-{n}"))).collect();
    let mut model = Model::new();
    let mut n = 0;
    while n < changes {
        let some: Vec<u64> = (n..changes.min(n + LINES)).collect();
        let place = |n: u64| {
            let subject = subjects[usize::try_from(n * 7 % SUBJECTS).unwrap_or_default()].clone();
            (subject, format!("wish-{}", n / SUBJECTS % ATTRIBUTES))
        };
        let line = |n: &u64| {
            let (subject, attribute) = place(*n);
            let whose = json!({"subject": subject, "residence": "DE", "attribute": attribute});
            let (operation, body) = match n % 13 {
                0 => ("zero_party.delete", None),
                kind => {
                    // Consent for the forwarded purpose is withdrawn now and then; for another one it stays.
                    let consents = json!([{"purpose": PURPOSE, "granted": kind != 5, "notice_version": "3"},
                        {"purpose": "research", "granted": true, "notice_version": "3"}]);
                    (
                        "zero_party.put",
                        Some(
                            json!({"value": {"n": n, "text": "it's \"so\" \\ ü"}, "source": "soak", "consents": consents}),
                        ),
                    )
                }
            };
            let mut line = whose;
            line["operation"] = operation.into();
            if let Some(body) = body {
                line["body"] = body;
            }
            line
        };
        for (n, told) in some.iter().zip(batch(&client, some.iter().map(line)).await?) {
            let status = told["status"].as_u64().unwrap_or_default();
            if n % 13 == 0 && status == 404 {
                continue; // it had not been declared
            }
            ensure!((200..300).contains(&status), "a change was not accepted: {told}");
            let seq = told["audit"]["seq"].as_u64().context("a change has its receipt")?;
            let value = (n % 13 != 0 && n % 13 != 5).then_some(*n);
            model.insert(place(*n), (seq, value));
        }
        n += LINES;
        declared.fetch_add(some.len() as u64, Ordering::Relaxed);
    }
    Ok(model)
}

async fn caught_up(region: &RegionWorld) -> Result<()> {
    let sql = "SELECT (c.seq >= (SELECT max(seq) FROM domicile.outbox))::text FROM domicile.cursors c WHERE c.name = 'forwarder'";
    until("The forwarder to carry everything", PATIENCE, || async {
        region.sql(sql).await.is_ok_and(|answer| answer == ["true"])
    })
    .await
}

/// Every row is what was declared last, and there is no other.
async fn compare(region: &RegionWorld, model: &Model) -> Result<Vec<Row>> {
    let rows = region.forwarded_rows().await?;
    let declared: BTreeMap<u64, (&str, Option<u64>)> =
        model.iter().map(|((_, attribute), (seq, value))| (*seq, (attribute.as_str(), *value))).collect();
    ensure!(rows.len() == model.len(), "{} rows for {} attributes", rows.len(), model.len());
    for row in &rows {
        let (attribute, value) =
            declared.get(&row.seq).with_context(|| format!("nobody's last change is {}", row.seq))?;
        ensure!(row.attribute == *attribute, "the row at {} is of another attribute", row.seq);
        let found: Option<Value> = row.value.as_deref().map(serde_json::from_str).transpose()?;
        let expected = value.map(|n| json!({"n": n, "text": "it's \"so\" \\ ü"}));
        ensure!(found == expected && row.deleted == expected.is_none(), "the row at {} is {found:?}", row.seq);
        let consents = row.consents.as_deref().unwrap_or_default();
        ensure!(!consents.contains("research"), "a consent for another purpose went out at {}", row.seq);
    }
    Ok(rows)
}

/// The operator's command, beside the forwarder.
fn replay(world: &World) -> Result<()> {
    let config = world.gateway("forwarder").config();
    let output = Command::new(world::tools::domicile()?)
        .args(["forwarder", "replay", "--from", "1", "--apply", "--json", "--config"])
        .arg(config)
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "the replay failed: {said} {}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_str(&said)?;
    ensure!(said["complete"] == true, "the replay did not come to its end: {said}");
    Ok(())
}
