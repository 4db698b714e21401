//! The relay: how fast it drains a backlog, against a bare producer of the same library on the same broker in the same
//! run; how long an event takes to its topic under steady load; and whether its memory stays flat meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use relay::bare::Arrival;
use reqwest::Method;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use world::{Broker, Client, RegionWorld, World};

use crate::memory::{Watch, mib};
use crate::plan::Plan;
use crate::process::{cpu_of, cpu_of_cluster};
use crate::progress::Progress;
use crate::report::{Comparison, Goal, short};
use crate::scene::POSTGRES;

const REGION: &str = "eu-central";
const TOPIC: &str = "eu-central.shop.order-placed.v1";
/// Lines of one batch, and batches under way: as many as one caller may have.
const LINES: u64 = 1_000;
const WRITERS: u64 = 8;
/// Events a second under which an event's way is measured.
const STEADY_PER_S: u64 = 5_000;
/// Batches a second that make up this load.
const STEADY_BATCHES: u64 = 100;
/// How long anything may take in all.
const PATIENCE: Duration = Duration::from_secs(600);

/// Measures both.
pub(crate) async fn relay(plan: &Plan, progress: &Progress) -> Result<Vec<Comparison>> {
    progress.now("starting a region with a broker");
    let mut builder = World::with_regions([REGION])
        .gateway("writer", [REGION])
        .role("writer", "gateway")
        .gateway("api", [REGION])
        .role("api", "gateway,relay")
        .gateway("relay", [REGION])
        .role("relay", "relay")
        .without_snowflakes()
        .brokers_in_memory()
        .setting("gateway.limits.caller_requests_per_s_max", 0)
        .setting("telemetry.filter", "error");
    for (name, value) in POSTGRES {
        builder = builder.postgres_setting(name, value);
    }
    let world = builder.start().await?;
    let region = world.region(REGION);
    let broker = region.broker.as_ref().context("the region has a broker")?;
    ensure!(broker.mock().is_none(), "this bench needs the broker nisshi: run `cargo xtask tools`");
    let mut found = drain(plan, &world, region, broker, progress).await?;
    found.extend(steady(plan, &world, region, broker, progress).await?);
    world.shutdown().await;
    Ok(found)
}

/// A backlog and its draining.
async fn drain(
    plan: &Plan,
    world: &World,
    region: &RegionWorld,
    broker: &Broker,
    progress: &Progress,
) -> Result<Vec<Comparison>> {
    let events = plan.drained_events;
    // The backlog is made while nobody carries.
    let relay = world.gateway("relay");
    relay.terminate().await?;
    world.gateway("api").terminate().await?;
    progress.now(format!("committing {events} events"));
    let writer = world.client_of(world.gateway("writer"))?;
    publish_backlog(&writer, events).await?;
    progress.now("indexing what was committed");
    // Whoever searches has the indexes filled: their work is not what is measured, on either side.
    let auditor = writer.with_key(&world.keys().compliance);
    let began = Instant::now();
    while auditor.send(auditor.request(Method::GET, ["v1", "audit", "decisions"])).await?.status != 200 {
        ensure!(began.elapsed() < PATIENCE, "the indexes do not catch up");
    }
    region.sql("CHECKPOINT").await?;
    let last: u64 =
        region.sql("SELECT max(seq)::text FROM domicile.outbox").await?.first().context("events")?.parse()?;

    progress.now(format!("draining {events} events"));
    let began = Instant::now();
    relay.start_again().await?;
    let process = relay.id().await.context("the relay runs")?;
    let from = reach(region, last / 10).await?;
    let watch = Watch::begin(process)?;
    let carrier = broker.id().await.context("the broker runs")?;
    let spent = || async { anyhow::Ok([cpu_of(process)?, cpu_of_cluster(&region.cluster).await?, cpu_of(carrier)?]) };
    let before = spent().await?;
    let to = reach(region, last).await?;
    let after = spent().await?;
    let took = to.1 - from.1;
    let (at_a_tenth, peak) = watch.end().await?;
    let carried = (to.0 - from.0) as f64;
    let rate = carried / took.as_secs_f64();
    let [relay_us, postgres_us, broker_us] = [0, 1, 2].map(|n| (after[n] - before[n]).as_secs_f64() * 1e6 / carried);
    ensure!(began.elapsed() < PATIENCE, "draining took too long to be worth a figure");
    let messages = broker.messages(&[TOPIC.to_owned()]).await?;
    let ids: BTreeSet<&str> = messages.iter().filter_map(|message| message.header("ce_id")).collect();
    ensure!(
        ids.len() as u64 == events && messages.len() as u64 == events,
        "{events} events were acknowledged; {} messages with {} ids are in the topic: the figure is void",
        messages.len(),
        ids.len()
    );

    progress.now("the bare producer on the same broker");
    let sample = messages.first().context("a message")?.clone();
    let headers: Vec<(String, String)> = sample
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), String::from_utf8_lossy(value).into_owned()))
        .collect();
    drop(messages);
    let brokers = broker.addresses();
    // Into the same topic: its partitions are there. The first few warm the broker's path up, as the relay's first tenth did.
    relay::bare::produce(&brokers, TOPIC, events / 20, sample.payload.clone(), headers.clone()).await?;
    let spent = || anyhow::Ok([cpu_of(std::process::id())?, cpu_of(carrier)?]);
    let before = spent()?;
    let bare = relay::bare::produce(&brokers, TOPIC, events, sample.payload, headers).await?;
    let after = spent()?;
    let bare_rate = events as f64 / bare.as_secs_f64();
    let [producer_us, bare_broker_us] = [0, 1].map(|n| (after[n] - before[n]).as_secs_f64() * 1e6 / events as f64);

    let bare_us = producer_us + bare_broker_us;
    let drained = Comparison::ratio(
        format!("{events} events drained, against a bare producer"),
        rate / bare_rate,
        Goal::AtLeast(0.8),
        format!(
            "{} against {} messages/s; each event is in the topic once. CPU a message: relay {relay_us:.1} µs, PostgreSQL \
             {postgres_us:.1} µs, broker {broker_us:.1} µs; bare: producer {producer_us:.1} µs, broker {bare_broker_us:.1} µs. \
             With as much of the cores, a bare producer that also reads comes to {:.2}",
            short(rate),
            short(bare_rate),
            bare_us / (bare_us + postgres_us)
        ),
    );
    let flat = Comparison::value(
        "the relay's memory grows while it drains",
        mib(peak.saturating_sub(at_a_tenth)),
        "MiB",
        Goal::AtMost(64.0),
        format!("{:.0} MiB after a tenth, {:.0} MiB at most", mib(at_a_tenth), mib(peak)),
    );
    progress.found(&drained);
    progress.found(&flat);
    relay.terminate().await?;
    Ok(vec![drained, flat])
}

/// Steady load through a gateway that carries as well.
async fn steady(
    plan: &Plan,
    world: &World,
    region: &RegionWorld,
    broker: &Broker,
    progress: &Progress,
) -> Result<Vec<Comparison>> {
    // One process, so that a commit wakes the relay.
    world.gateway("writer").terminate().await?;
    world.gateway("api").start_again().await?;
    progress.now(format!("an event's way at {STEADY_PER_S} events/s"));
    let client = world.client_of(world.gateway("api"))?;
    // The backlog's pages are on disk: their flush is not what an event waits for.
    region.sql("CHECKPOINT").await?;
    // What comes first waits until the topic's tail has been read.
    publish(&client, "w", 0, LINES).await?;
    let warm = region.sql("SELECT max(seq)::text FROM domicile.outbox").await?;
    reach(region, warm.first().context("events")?.parse()?).await?;
    let (brokers, stop) = (broker.addresses(), CancellationToken::new());
    let listener = tokio::spawn({
        let stop = stop.clone();
        async move { relay::bare::arrivals(&brokers, TOPIC, stop).await }
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    let seconds = plan.load.as_secs().max(2) * 2;
    let mut ticks = interval(Duration::from_secs(1) / u32::try_from(STEADY_BATCHES)?);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut sending, began) = (JoinSet::new(), Instant::now());
    let turns = Arc::new(Semaphore::new(usize::try_from(WRITERS)?));
    for n in 0..seconds * STEADY_BATCHES {
        ticks.tick().await;
        let client = client.clone();
        let lines = STEADY_PER_S / STEADY_BATCHES;
        // One caller has so many batches under way; whatever waits here is not committed yet, and so not late.
        let turn = Arc::clone(&turns).acquire_owned().await?;
        sending.spawn(async move {
            let published = publish(&client, "s", n * lines, lines).await;
            drop(turn);
            published
        });
    }
    while let Some(sent) = sending.join_next().await {
        sent??;
    }
    let (sent, took) = (seconds * STEADY_PER_S, began.elapsed());
    stop.cancel();
    let arrivals = listener.await??;
    let seqs: BTreeSet<u64> = arrivals.iter().map(|arrival| arrival.seq).collect();
    ensure!(
        seqs.len() as u64 == sent && arrivals.len() as u64 == sent,
        "{sent} events were acknowledged; {} arrived, {} of them different: the figure is void",
        arrivals.len(),
        seqs.len()
    );
    let sorted = |of: fn(&Arrival) -> i64| {
        let mut all: Vec<i64> = arrivals.iter().map(of).collect();
        all.sort_unstable();
        all
    };
    let (after, handed) = (sorted(|arrival| arrival.after_us), sorted(|arrival| arrival.handed_after_us));
    let at = |all: &[i64], part: usize| all[(all.len() - 1) * part / 100] as f64 / 1_000.0;
    let one = Comparison::value(
        format!("from commit to a consumer of the topic at {STEADY_PER_S} events/s, p99"),
        at(&after, 99),
        "ms",
        Goal::AtMost(50.0),
        format!(
            "from the decision, a little before the commit: p50 {:.1} ms, p99 {:.1} ms, of which {:.0} and {:.0} ms until the \
             relay handed it to the client library; {:.0} events/s were reached",
            at(&after, 50),
            at(&after, 99),
            at(&handed, 50),
            at(&handed, 99),
            sent as f64 / took.as_secs_f64()
        ),
    );
    progress.found(&one);
    Ok(vec![one])
}

/// Waits until the relay's cursor has come so far. Where it is then, and when.
async fn reach(region: &RegionWorld, seq: u64) -> Result<(u64, Instant)> {
    let sql = "SELECT coalesce(max(seq), 0)::text FROM domicile.cursors WHERE name = 'relay'";
    let began = Instant::now();
    loop {
        let at: u64 = region.sql(sql).await?.first().context("a cursor")?.parse()?;
        if at >= seq {
            return Ok((at, Instant::now()));
        }
        ensure!(began.elapsed() < PATIENCE, "the relay stands at {at} of {seq}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn publish_backlog(client: &Client, events: u64) -> Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let (client, next) = (client.clone(), Arc::clone(&next));
        writers.spawn(async move {
            loop {
                let from = next.fetch_add(LINES, Ordering::Relaxed);
                if from >= events {
                    return Ok::<_, anyhow::Error>(());
                }
                publish(&client, "d", from, LINES.min(events - from)).await?;
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done??;
    }
    Ok(())
}

async fn publish(client: &Client, run: &str, from: u64, lines: u64) -> Result<()> {
    let mut body = String::new();
    for n in from..from + lines {
        let line = json!({"operation": "event.publish", "subject": format!("stream-{}", n % 1_000), "residence": "DE", "body": {
            "specversion": "1.0", "id": format!("{run}-{n:09}"), "source": "/bench", "type": "shop.order-placed",
            "data": {"n": n, "text": "a hundred bytes or so, as an event of a shop has them; what stands in it is nobody's"},
        }});
        body.push_str(&line.to_string());
        body.push('\n');
    }
    let request = client.request(Method::POST, ["v1", "batch"]).header("content-type", "application/x-ndjson");
    let answer = client.send(request.body(body)).await?.expect(200)?;
    let taken = answer.text().lines().filter(|line| line.contains("\"status\":202")).count() as u64;
    ensure!(taken == lines, "{taken} of {lines} events were accepted");
    Ok(())
}
