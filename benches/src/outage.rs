//! A region that is down must not be felt in another: p99 of one region's reads before and while another is killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use world::{Client, World};

use crate::plan::Plan;
use crate::progress::Progress;
use crate::report::{Comparison, Goal};
use crate::wrk::{self, Load, Shape};

/// Connections of the measured load.
const CONNECTIONS: u32 = 16;
/// Callers that go on asking for the region that is down.
const STUBBORN_CALLERS: usize = 8;

/// Measures the neighbour alone, then beside a killed region whose callers do not give up.
pub(crate) async fn neighbour(plan: &Plan, progress: &Progress) -> Result<Vec<Comparison>> {
    progress.now("starting two regions");
    let world = World::with_regions(["eu-central", "us-east"])
        .without_brokers()
        .without_snowflakes()
        .setting("gateway.limits.caller_requests_per_s_max", 0)
        .setting("telemetry.filter", "error")
        .start()
        .await?;
    let client = world.client()?;
    let (here, there) = (client.residing_in("US"), client.residing_in("DE"));
    here.put_record("bench-1", "profile", "k0", &json!({ "n": 1 })).await?.expect(201)?;
    there.put_record("stopped", "profile", "k", &json!({ "n": 1 })).await?.expect(201)?;
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> =
        (0..STUBBORN_CALLERS).map(|_| tokio::spawn(go_on_asking(there.clone(), Arc::clone(&stop)))).collect();
    let mut ratios = Vec::new();
    for _ in 0..plan.rounds {
        progress.now("a region beside a sound neighbour, then beside one that is down");
        let before = load(&world, plan).await?;
        world.region("eu-central").cluster.kill().await?;
        let during = load(&world, plan).await?;
        world.region("eu-central").cluster.start_again().await?;
        ratios.push((during.p99.as_secs_f64() / before.p99.as_secs_f64(), before.p99, during.p99));
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await?;
    }
    world.shutdown().await;
    ratios.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (ratio, before, during) = ratios[ratios.len() / 2];
    let detail = format!("{:.2} ms before, {:.2} ms during", before.as_secs_f64() * 1e3, during.as_secs_f64() * 1e3);
    let one = Comparison::ratio("p99 of a region while its neighbour is down", ratio, Goal::AtMost(1.25), detail);
    progress.found(&one);
    Ok(vec![one])
}

async fn load(world: &World, plan: &Plan) -> Result<Load> {
    let mut shape = Shape::get(world.gateways()[0].url(), &world.keys().service, 1, 1);
    shape.request = shape.request.replace("Residence: DE", "Residence: US");
    wrk::drive(&shape, CONNECTIONS, plan.load).await
}

async fn go_on_asking(client: Client, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        // Whatever the answer: served before, 503 while it is down.
        drop(client.get_record("stopped", "profile", "k").await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
