//! `kill -9` of the broker and of the relay under load: every event is in its topic, in the order of its subject,
//! and hardly any twice.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use example_consumer::{Coordinates, Ledger, Verdict};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use world::{Broker, Client, Message, World};

use super::Length;
use super::stage::{self, API, Carrier, REGION};
use crate::{batch, person, until};

/// Writers at once, each with subjects of its own.
const WRITERS: u64 = 8;
/// Events of one request.
const LINES: u64 = 100;
/// Subjects of one writer.
const SUBJECTS: u64 = 20;
/// What the relay reads at once: the measure of what a crash may repeat.
const RELAY_BATCH: u64 = 1_000;

/// Runs it; the answer is what held, in words.
///
/// # Errors
/// When an event is missing, out of order, or too many came twice.
pub async fn streams(length: Length) -> Result<String> {
    let (events, kills) = (length.of(6_000, 100_000), length.of(2, 5));
    let world = Carrier::Relay
        .world()
        .setting("events.relay_batch_rows_max", i64::try_from(RELAY_BATCH)?)
        .setting("events.lease_s", 5)
        .start()
        .await?;
    let region = world.region(REGION);
    let broker = stage::broker(region)?;
    let client = world.client_of(world.gateway(API))?;
    let published = Arc::new(AtomicU64::new(0));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(publish(client.clone(), writer, events / WRITERS, Arc::clone(&published)));
    }
    // The kills spread over the writing, the broker's and the relay's by turns.
    for round in 1..=kills {
        for (half, victim) in [Victim::Broker, Victim::Relay].into_iter().enumerate() {
            let due = events * (2 * round + half as u64 - 1) / (2 * kills + 2);
            until("The writing to go on", Duration::from_secs(300), || async {
                published.load(Ordering::Relaxed) >= due
            })
            .await?;
            victim.fall(&world, broker).await?;
        }
    }
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    let held = check(&world, broker, events, kills).await?;
    world.shutdown().await;
    Ok(held)
}

/// What is killed, and comes again.
enum Victim {
    Broker,
    Relay,
}

impl Victim {
    async fn fall(&self, world: &World, broker: &Broker) -> Result<()> {
        match self {
            Self::Broker => {
                broker.kill().await?;
                tokio::time::sleep(Duration::from_millis(500)).await;
                broker.start_again().await
            }
            Self::Relay => {
                let relay = Carrier::Relay.of(world);
                relay.kill().await?;
                relay.start_again().await
            }
        }
    }
}

/// Publishes in order, by batches.
async fn publish(client: Client, writer: u64, events: u64, published: Arc<AtomicU64>) -> Result<()> {
    let subjects: Vec<String> = (0..SUBJECTS).map(|n| person(&format!("stream-{writer}-{n}"))).collect();
    let mut n = 0;
    while n < events {
        let lines = LINES.min(events - n);
        let of = |n: u64| {
            let subject = &subjects[usize::try_from(n % SUBJECTS).unwrap_or_default()];
            let kind = if n.is_multiple_of(3) { "shop.order-placed" } else { "shop.order-paid" };
            json!({"operation": "event.publish", "subject": subject, "residence": "DE", "body": {
                "specversion": "1.0", "id": format!("{writer}-{n:07}"), "source": "/soak", "type": kind, "data": {"n": n},
            }})
        };
        let told = batch(&client, (n..n + lines).map(of)).await?;
        ensure!(told.iter().all(|line| line["status"] == 202), "an event was not accepted: {:?}", told.first());
        n += lines;
        published.fetch_add(lines, Ordering::Relaxed);
    }
    Ok(())
}

async fn check(world: &World, broker: &Broker, events: u64, kills: u64) -> Result<String> {
    let region = world.region(REGION);
    Carrier::Relay.caught_up(region).await?;
    let expected: BTreeMap<u64, String> = region
        .sql("SELECT seq || ' ' || event_id FROM domicile.outbox ORDER BY seq")
        .await?
        .iter()
        .filter_map(|row| row.split_once(' '))
        .map(|(seq, id)| Ok((seq.parse()?, id.to_owned())))
        .collect::<Result<_>>()?;
    let of_writers = expected.values().filter(|id| id.len() == 9 && id.as_bytes()[1] == b'-').count() as u64;
    ensure!(of_writers == events, "{of_writers} of {events} published events are in the log");

    let messages = broker.messages(&broker.topics().await?).await?;
    let (mut ledger, mut repeated, mut places) = (Ledger::default(), 0, Vec::with_capacity(messages.len()));
    let mut newest_of_writer: BTreeMap<(String, Vec<u8>), String> = BTreeMap::new();
    for message in &messages {
        let place = coordinates(message)?;
        match ledger.take(&place).map_err(|sentence| anyhow!(sentence))? {
            Verdict::Seen => repeated += 1,
            Verdict::Overtaken => {
                anyhow::bail!("the order of a subject was broken at {} in {}", place.seq, place.topic)
            }
            Verdict::New => {
                let id = message.header("ce_id").context("a message without its event's id")?;
                ensure!(
                    expected.get(&place.seq).is_some_and(|known| known == id),
                    "the message at {} is another event",
                    place.seq
                );
                // A writer numbers its events in the order in which they were acknowledged.
                let last = newest_of_writer.entry((place.topic.clone(), place.key.clone())).or_default();
                ensure!(place.topic.contains(".domicile.") || last.as_str() < id, "{id} came behind {last}");
                id.clone_into(last);
            }
        }
        places.push(place);
    }
    let seen: BTreeSet<u64> = places.iter().map(|place| place.seq).collect();
    let lost = expected.keys().filter(|seq| !seen.contains(seq)).count();
    ensure!(lost == 0, "{lost} of {} events are in no topic", expected.len());
    ensure!(ledger.missing().is_empty(), "the chain of events has gaps: {:?}", ledger.missing());
    let crashes = 2 * kills;
    ensure!(repeated < RELAY_BATCH * crashes, "{repeated} events came twice in {crashes} crashes");
    agree(&places, &ledger, repeated)?;
    Ok(format!(
        "{} events, the broker and the relay killed {kills} times each: 0 lost, subjects in order, no gap, {repeated} sent twice \
         before deduplication and none after; the consumers in Rust and Python agree",
        ledger.events()
    ))
}

/// The example in Python comes to the same.
fn agree(places: &[Coordinates], ledger: &Ledger, repeated: u64) -> Result<()> {
    let python = world::tools::fakesnow_python().unwrap_or_else(|| "python3".into());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/python/consumer.py");
    let mut child = Command::new(python)
        .args([script, "--ndjson"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("the example in Python could not be run")?;
    let mut input = child.stdin.take().context("it reads from its input")?;
    let mut lines = String::new();
    for place in places {
        let key = String::from_utf8_lossy(&place.key);
        let line = json!({"log": place.log, "seq": place.seq, "prev": place.prev, "topic": place.topic, "key": key});
        lines.push_str(&line.to_string());
        lines.push('\n');
    }
    input.write_all(lines.as_bytes())?;
    drop(input);
    let output = child.wait_with_output()?;
    let said: Value = serde_json::from_slice(&output.stdout).context("the example in Python said something else")?;
    let expected =
        json!({"new": ledger.events(), "seen": repeated, "overtaken": 0, "events": ledger.events(), "missing": []});
    ensure!(said == expected, "the example in Python says {said}, the one in Rust {expected}");
    Ok(())
}

fn coordinates(message: &Message) -> Result<Coordinates> {
    let header = |name: &str| message.header(name).with_context(|| format!("a message has no header {name}"));
    Ok(Coordinates {
        log: header("domicile_log")?.to_owned(),
        seq: header("domicile_seq")?.parse()?,
        prev: header("domicile_prev")?.parse()?,
        topic: message.topic.clone(),
        key: message.key.clone().unwrap_or_default(),
    })
}
