//! Brokers or a Snowflake account away under load: writes go on, alarms fire, the backlog drains, alarms clear.
//!
//! How fast writes are before and during the outage is told, not demanded.

mod writing;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use world::{Gateway, World};

use super::proxy::Proxy;
use super::stage::{self, API, Carrier, PATIENCE, REGION};
use crate::until;
use writing::Writing;

/// Subjects that the changes are about.
const SUBJECTS: u64 = 200;

/// How long something is away, and what comes meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    /// How long.
    pub away: Duration,
    /// Changes a second.
    pub rate: u32,
    /// How long, before and again at the end of the outage, it is written as fast as one caller is answered; zero for
    /// not at all.
    pub flat_out: Duration,
}

impl Default for Outage {
    /// The short form, for the test command.
    fn default() -> Self {
        Self { away: Duration::from_secs(8), rate: 100, flat_out: Duration::ZERO }
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
    let world =
        Carrier::Relay.world().setting("events.relay_lag_alarm_s", i64::try_from(outage.alarm_s())?).start().await?;
    let region = world.region(REGION);
    let broker = stage::broker(region)?;
    let writing = Writing::start(world.client_of(world.gateway(API))?, outage.rate, event);
    let alarm = Alarm::of(Carrier::Relay, &world);
    let told =
        writing.through(&alarm, outage, async || broker.kill().await, async || broker.start_again().await).await?;
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
    let world = Carrier::Forwarder
        .world()
        .setting("events.forwarder_batch_ms_max", 200)
        .setting("events.forwarder_lag_alarm_s", i64::try_from(outage.alarm_s())?)
        .setting("regions.eu-central.snowflake.base_url", proxy.url.as_str())
        .start()
        .await?;
    let region = world.region(REGION);
    let snowflake = stage::snowflake(region)?;
    proxy.lead_to(&snowflake.url());
    let writing = Writing::start(world.client_of(world.gateway(API))?, outage.rate, declaration);
    let alarm = Alarm::of(Carrier::Forwarder, &world);
    let leave = async || {
        proxy.lead_nowhere();
        Ok(())
    };
    let come_back = async || {
        proxy.lead_to(&snowflake.url());
        Ok(())
    };
    let told = writing.through(&alarm, outage, leave, come_back).await?;
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

/// A carrier's alarm about its lag.
struct Alarm<'a> {
    carrier: Carrier,
    world: &'a World,
}

impl<'a> Alarm<'a> {
    fn of(carrier: Carrier, world: &'a World) -> Self {
        Self { carrier, world }
    }

    async fn fires(&self) -> Result<()> {
        self.comes_to(1).await
    }

    async fn clears(&self) -> Result<()> {
        self.comes_to(0).await
    }

    async fn comes_to(&self, value: u8) -> Result<()> {
        let process: &Gateway = self.carrier.of(self.world);
        let line = format!("domicile_{}_lag_alarm{{region=\"{REGION}\"}} {value}", self.carrier.name());
        until(&line, PATIENCE, || async {
            process.metrics().await.is_ok_and(|metrics| metrics.lines().any(|found| found == line))
        })
        .await
    }

    /// How many events wait.
    async fn behind(&self) -> Result<u64> {
        self.carrier.behind(self.world.region(REGION)).await
    }

    /// Waits until none does.
    async fn caught_up(&self) -> Result<()> {
        self.carrier.caught_up(self.world.region(REGION)).await
    }
}
