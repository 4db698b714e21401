//! `kill -9` of the gateway under write load: every acknowledged write is there once, with its leaf and its event,
//! and no leaf is without its write.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::task::JoinSet;
use world::{Client, World};

use super::Length;
use crate::{PATIENCE, person, until};

/// Writers at once; each waits for its answer before the next write.
const WRITERS: u64 = 16;

/// Runs it; the answer is what held, in words.
///
/// # Errors
/// When a write, a leaf or an event is missing, doubled or alone.
pub async fn crash(length: Length) -> Result<String> {
    let kills = length.of(3, 20);
    let world = World::with_regions(["eu-central"]).snowflake_folders().start().await?;
    let gateway = &world.gateways()[0];
    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(AtomicU64::new(0));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let client = world.client()?.residing_in("DE");
        writers.spawn(write_until(client, writer, Arc::clone(&stop), Arc::clone(&acknowledged)));
    }
    for round in 0..kills {
        let before = acknowledged.load(Ordering::Relaxed);
        until("Writes under load", PATIENCE, || async { acknowledged.load(Ordering::Relaxed) > before + 200 }).await?;
        tokio::time::sleep(Duration::from_millis(37 * (round % 5))).await;
        gateway.kill().await?;
        gateway.start_again().await?;
    }
    let before = acknowledged.load(Ordering::Relaxed);
    until("Writes after the last kill", PATIENCE, || async { acknowledged.load(Ordering::Relaxed) > before + 200 })
        .await?;
    stop.store(true, Ordering::Relaxed);
    let mut told = BTreeMap::new();
    while let Some(writer) = writers.join_next().await {
        told.extend(writer?);
    }
    let held = check(&world, &told).await?;
    world.shutdown().await;
    Ok(format!("{kills} kills: {held}"))
}

/// Writes records of one subject under fresh keys, in order; returns the acknowledged ones with their log position.
async fn write_until(
    client: Client,
    writer: u64,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
) -> BTreeMap<String, u64> {
    let subject = person(&format!("crash-{writer}"));
    let mut told = BTreeMap::new();
    let mut n = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let key = format!("w{writer}-{n:07}");
        match client.put_record(&subject, "crash", &key, &json!({ "n": n })).await {
            Ok(answer) if answer.is_success() => {
                told.insert(key, answer.seq().unwrap_or(u64::MAX));
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            // Killed under the request: whether it was written is open, and both are right.
            Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    told
}

async fn check(world: &World, told: &BTreeMap<String, u64>) -> Result<String> {
    let region = world.region("eu-central");
    let rows: BTreeMap<String, u64> = region
        .sql("SELECT key || ' ' || version FROM domicile.records WHERE collection = 'crash'")
        .await?
        .iter()
        .filter_map(|row| row.split_once(' '))
        .map(|(key, version)| Ok((key.to_owned(), version.parse()?)))
        .collect::<Result<_>>()?;
    for key in told.keys() {
        ensure!(rows.get(key) == Some(&1), "the acknowledged write {key} is there as {:?}", rows.get(key));
    }
    // One event and one leaf for each row, by one sequence number; and none for anything else.
    let events: BTreeMap<String, u64> = region
        .sql(
            "SELECT convert_from(data, 'UTF8')::jsonb ->> 'key' || ' ' || seq FROM domicile.outbox \
             WHERE event_type = 'domicile.record-changed' ORDER BY seq",
        )
        .await?
        .iter()
        .filter_map(|row| row.split_once(' '))
        .map(|(key, seq)| Ok((key.to_owned(), seq.parse()?)))
        .collect::<Result<_>>()?;
    ensure!(events.keys().eq(rows.keys()), "{} events for {} rows", events.len(), rows.len());
    for (key, seq) in told {
        ensure!(events.get(key) == Some(seq), "the receipt of {key} says {seq}, its event {:?}", events.get(key));
    }
    let leaves = region
        .sql("SELECT l.seq::text FROM domicile.leaves l WHERE l.line::jsonb ->> 'k' = 'decision.write' ORDER BY l.seq")
        .await?;
    let mut of_events: Vec<u64> = events.values().copied().collect();
    of_events.sort_unstable();
    let leaves: Vec<u64> = leaves.iter().map(|seq| Ok(seq.parse()?)).collect::<Result<_>>()?;
    ensure!(leaves == of_events, "{} leaves of writes for {} events", leaves.len(), of_events.len());
    let dense = region
        .sql("SELECT (count(*) = max(seq) - min(seq) + 1 AND count(*) = (SELECT size FROM domicile.head))::text FROM domicile.leaves")
        .await?;
    ensure!(dense == ["true"], "the log has a gap, or its head is wrong");

    let topic = "eu-central.domicile.record-changed.v1";
    let expected = events.len();
    let mut published = 0;
    until("Every event in its topic", PATIENCE, || async {
        region.messages(topic, expected * 2 + 1_000).await.is_ok_and(|messages| messages.len() >= expected)
    })
    .await?;
    let mut newest: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    let mut seen = std::collections::BTreeSet::new();
    for message in region.messages(topic, expected * 2 + 1_000).await? {
        let seq = message.seq().context("a message without its sequence number")?;
        if seen.insert(seq) {
            published += 1;
            let last = newest.entry(message.key.clone().unwrap_or_default()).or_default();
            ensure!(seq > *last, "subject order was broken in the topic at {seq}");
            *last = seq;
        }
    }
    ensure!(published == expected, "{published} distinct events in the topic, {expected} in the log");
    Ok(format!(
        "{} acknowledged of {} written; each once, with its leaf, its event and its message in order",
        told.len(),
        rows.len()
    ))
}
