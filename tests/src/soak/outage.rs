//! Brokers or a Snowflake account away under load: writes go on, alarms fire, the backlog drains, alarms clear.
//!
//! How fast writes are before and during the outage is told, not demanded.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};
use world::{Client, Gateway, RegionWorld, World};

use super::proxy::{PATIENCE, Proxy};
use crate::{batch, person, until};

const REGION: &str = "eu-central";
/// Batches of changes a second.
const BATCHES: u32 = 10;
/// Subjects that the changes are about.
const SUBJECTS: u64 = 200;

/// How long something is away, and what comes meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    /// How long.
    pub away: Duration,
    /// Changes a second.
    pub rate: u32,
}

impl Default for Outage {
    /// The short form, for the test command.
    fn default() -> Self {
        Self { away: Duration::from_secs(8), rate: 100 }
    }
}

impl Outage {
    /// How long it is written before: a tenth of the outage, at least some seconds.
    fn before(&self) -> Duration {
        (self.away / 10).max(Duration::from_secs(4))
    }

    /// What must wait for an alarm to fire: so long that ordinary work does not, so short that the outage does.
    fn alarm_s(&self) -> u64 {
        (self.away.as_secs() / 4).clamp(2, 60)
    }
}

/// The region's brokers are away. The answer is what held, in words.
///
/// # Errors
/// When an event is lost, or an alarm does not fire or clear.
pub async fn broker_away(outage: Outage) -> Result<String> {
    let world = World::with_regions([REGION])
        .gateway("api", [REGION])
        .role("api", "gateway")
        .gateway("relay", [REGION])
        .role("relay", "relay")
        .without_snowflakes()
        .setting("events.relay_lag_alarm_s", i64::try_from(outage.alarm_s())?)
        .start()
        .await?;
    let region = world.region(REGION);
    let broker = region.broker.as_ref().context("the region has a broker")?;
    ensure!(
        broker.mock().is_none(),
        "this soak stops a broker, and the one inside this process cannot be stopped: run `cargo xtask tools`"
    );
    let writing = Writing::start(world.client_of(world.gateway("api"))?, outage.rate, event);
    let alarm = Alarm { name: "domicile_relay_lag_alarm", of: world.gateway("relay") };
    let told = writing
        .through(region, "relay", &alarm, outage, async || broker.kill().await, async || broker.start_again().await)
        .await?;
    let expected: BTreeSet<String> = (0..told.changes).map(|n| format!("{n:09}")).collect();
    let topics = broker.topics().await?;
    let found: BTreeSet<String> = broker
        .messages(&topics)
        .await?
        .iter()
        .filter(|message| message.topic.contains(".shop."))
        .filter_map(|message| message.header("ce_id").map(str::to_owned))
        .collect();
    let lost = expected.difference(&found).count();
    ensure!(lost == 0, "{lost} of {} events are in no topic", expected.len());
    world.shutdown().await;
    Ok(format!("the brokers away for {:.0} s: 0 of {} events lost; {told}", outage.away.as_secs_f32(), told.changes))
}

/// The region's Snowflake is away. The answer is what held, in words.
///
/// # Errors
/// When a change is missing, or an alarm does not fire or clear.
pub async fn snowflake_away(outage: Outage) -> Result<String> {
    let proxy = Proxy::start(0).await?;
    let world = World::with_regions([REGION])
        .gateway("api", [REGION])
        .role("api", "gateway")
        .gateway("forwarder", [REGION])
        .role("forwarder", "forwarder")
        .without_brokers()
        .setting("events.forwarder_batch_ms_max", 200)
        .setting("events.forwarder_lag_alarm_s", i64::try_from(outage.alarm_s())?)
        .setting("regions.eu-central.snowflake.base_url", proxy.url.as_str())
        .start()
        .await?;
    let region = world.region(REGION);
    let snowflake = region.snowflake.as_ref().context("the region has a Snowflake")?;
    ensure!(snowflake.folder().is_none(), "this soak needs the Snowflake stand-in fakesnow: run `cargo xtask tools`");
    proxy.lead_to(&snowflake.url());
    let writing = Writing::start(world.client_of(world.gateway("api"))?, outage.rate, declaration);
    let alarm = Alarm { name: "domicile_forwarder_lag_alarm", of: world.gateway("forwarder") };
    let leave = async || {
        proxy.lead_nowhere();
        Ok(())
    };
    let come_back = async || {
        proxy.lead_to(&snowflake.url());
        Ok(())
    };
    let told = writing.through(region, "forwarder", &alarm, outage, leave, come_back).await?;
    let mut found: Vec<u64> = Vec::new();
    for row in region.forwarded_rows().await? {
        let value: Value = serde_json::from_str(row.value.as_deref().unwrap_or("null"))?;
        found.push(value["n"].as_u64().context("a row has its number")?);
    }
    found.sort_unstable();
    let last: Vec<u64> = (told.changes.saturating_sub(SUBJECTS)..told.changes).collect();
    ensure!(found == last, "{} rows, and not those of the last {} changes", found.len(), last.len());
    ensure!(snowflake.staged().await? == 0, "rows were left between their insert and their merge");
    world.shutdown().await;
    Ok(format!(
        "Snowflake away for {:.0} s: the table equals the last of {} changes; {told}",
        outage.away.as_secs_f32(),
        told.changes
    ))
}

fn event(n: u64) -> Value {
    json!({"operation": "event.publish", "subject": format!("away-{:03}", n % SUBJECTS), "residence": "DE", "body": {
        "specversion": "1.0", "id": format!("{n:09}"), "source": "/soak", "type": "shop.order-placed", "data": {"n": n},
    }})
}

fn declaration(n: u64) -> Value {
    json!({"operation": "zero_party.put", "subject": format!("away-{:03}", n % SUBJECTS), "residence": "DE",
        "attribute": "wish", "body": {"value": {"n": n}, "source": "soak",
            "consents": [{"purpose": "recommendations", "granted": true}]}})
}

/// An alarm of one process.
struct Alarm<'a> {
    name: &'static str,
    of: &'a Gateway,
}

impl Alarm<'_> {
    async fn comes_to(&self, value: &str) -> Result<()> {
        let line = format!("{}{{region=\"{REGION}\"}} {value}", self.name);
        until(&format!("{} {value}", self.name), PATIENCE, || async {
            self.of.metrics().await.is_ok_and(|metrics| metrics.lines().any(|found| found == line))
        })
        .await
    }
}

/// Steady writing, and how long each batch took.
struct Writing {
    changes: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    begun: Instant,
    task: JoinHandle<Result<Vec<(Duration, Duration)>>>,
}

/// What came of it.
struct Told {
    changes: u64,
    before: Pace,
    during: Pace,
    backlog: u64,
    drained: Duration,
}

/// How a stretch of the writing went.
struct Pace {
    changes_per_s: f64,
    p50: Duration,
    p99: Duration,
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pace = |pace: &Pace| {
            format!(
                "{:.0} changes/s (a batch: p50 {:.1} ms, p99 {:.1} ms)",
                pace.changes_per_s,
                pace.p50.as_secs_f64() * 1_000.0,
                pace.p99.as_secs_f64() * 1_000.0
            )
        };
        write!(
            f,
            "written before: {}; meanwhile: {}; the alarm fired and cleared; {} entries waited and were carried {:.1} s after",
            pace(&self.before),
            pace(&self.during),
            self.backlog,
            self.drained.as_secs_f64()
        )
    }
}

impl Writing {
    fn start(client: Client, rate: u32, line: fn(u64) -> Value) -> Self {
        let (changes, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, stopped, begun) = (Arc::clone(&changes), Arc::clone(&stop), Instant::now());
        let prefix = person("outage");
        let task = tokio::spawn(async move {
            let mut ticks = interval(Duration::from_secs(1) / BATCHES);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let (lines, mut n, mut took) = (u64::from((rate / BATCHES).max(1)), 0, Vec::new());
            while !stopped.load(Ordering::Relaxed) {
                ticks.tick().await;
                let at = Instant::now();
                let some = (n..n + lines).map(|n| {
                    let mut line = line(n);
                    // Subjects of this run.
                    line["subject"] = format!("{prefix}-{}", line["subject"].as_str().unwrap_or_default()).into();
                    line
                });
                for told in batch(&client, some).await? {
                    let status = told["status"].as_u64().unwrap_or_default();
                    ensure!((200..300).contains(&status), "a write was not accepted: {told}");
                }
                took.push((at.duration_since(begun), at.elapsed()));
                n += lines;
                counted.store(n, Ordering::Relaxed);
            }
            Ok(took)
        });
        Self { changes, stop, begun, task }
    }

    /// Writes before, during and a while after the outage; waits for alarms and for the backlog.
    async fn through(
        self,
        region: &RegionWorld,
        cursor: &str,
        alarm: &Alarm<'_>,
        outage: Outage,
        leave: impl AsyncFn() -> Result<()>,
        come_back: impl AsyncFn() -> Result<()>,
    ) -> Result<Told> {
        let count = || self.changes.load(Ordering::Relaxed);
        // The first batches register their subjects, and the first carrying makes topics or tables.
        until("The first changes", PATIENCE, || async { count() > 2 * SUBJECTS }).await?;
        alarm.comes_to("0").await?;
        let (begun, from) = (self.begun.elapsed(), count());
        sleep(outage.before()).await;
        leave().await?;
        let (left, at_leave) = (self.begun.elapsed(), count());
        sleep(outage.away).await;
        alarm.comes_to("1").await?;
        let backlog = behind(region, cursor).await?;
        let (back, at_return) = (self.begun.elapsed(), count());
        come_back().await?;
        let returned = Instant::now();
        alarm.comes_to("0").await?;
        self.stop.store(true, Ordering::Relaxed);
        let took = self.task.await??;
        until("The backlog to be carried", PATIENCE, || async {
            behind(region, cursor).await.is_ok_and(|left| left == 0)
        })
        .await?;
        let drained = returned.elapsed();
        ensure!(backlog > 0, "nothing waited during the outage");
        let pace = |from: Duration, to: Duration, changes: u64| {
            let mut took: Vec<Duration> =
                took.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, took)| *took).collect();
            took.sort_unstable();
            let at = |part: usize| took.get(took.len().saturating_sub(1) * part / 100).copied().unwrap_or_default();
            Pace { changes_per_s: changes as f64 / (to - from).as_secs_f64(), p50: at(50), p99: at(99) }
        };
        Ok(Told {
            changes: self.changes.load(Ordering::Relaxed),
            before: pace(begun, left, at_leave - from),
            during: pace(left, back, at_return - at_leave),
            backlog,
            drained,
        })
    }
}

/// How many events of the log a cursor is behind.
async fn behind(region: &RegionWorld, cursor: &str) -> Result<u64> {
    let sql = format!(
        "SELECT count(*)::text FROM domicile.outbox \
         WHERE seq > (SELECT coalesce(max(c.seq), 0) FROM domicile.cursors AS c WHERE c.name = '{cursor}')"
    );
    Ok(region.sql(&sql).await?.first().context("a count")?.parse()?)
}
