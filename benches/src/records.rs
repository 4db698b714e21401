//! Reads and writes of records, and classifications, on many connections.

use anyhow::Result;

use crate::pgbench;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::report::{Comparison, Goal};
use crate::rounds::{Side, against};
use crate::scene::{Reads, Scene};
use crate::wrk::Shape;

/// GET of a record with its leaf, buffered and durable.
pub(crate) async fn reads(plan: &Plan, scene: &Scene, progress: &Progress) -> Result<Vec<Comparison>> {
    let mut found = Vec::new();
    for clients in plan.clients.iter().copied() {
        let side = |gateway: Reads| {
            let (goal, cpu_goal) = match (gateway, clients) {
                (Reads::Buffered, 64) => (Goal::AtLeast(1.1), None),
                (Reads::Buffered, 256) => (Goal::AtLeast(2.5), Some(25.0)),
                (Reads::Durable, 64) => (Goal::AtLeast(0.5), None),
                (Reads::Durable, 256) => (Goal::AtLeast(1.5), Some(35.0)),
                _ => (Goal::More, None),
            };
            let url = scene.gateway(gateway).url();
            let shape = Shape::get(url, scene.token(), scene.subjects, scene.keys);
            let name = format!("GET record, {} leaf, {clients} connections", gateway.name());
            Side { name, gateway, shape, writes: false, goal, cpu_goal }
        };
        let sides = [side(Reads::Buffered), side(Reads::Durable)];
        found.extend(against(plan, scene, progress, pgbench::READ, clients, &sides).await?);
    }
    Ok(found)
}

/// PUT of a record with its event and its leaf.
pub(crate) async fn writes(plan: &Plan, scene: &Scene, progress: &Progress) -> Result<Vec<Comparison>> {
    let mut found = Vec::new();
    for clients in plan.clients.iter().copied() {
        let (goal, cpu_goal) = match clients {
            16 => (Goal::AtLeast(1.5), None),
            64 => (Goal::AtLeast(3.0), None),
            256 => (Goal::AtLeast(8.0), Some(35.0)),
            _ => (Goal::More, None),
        };
        let shape = Shape::put(scene.gateway(Reads::Durable).url(), scene.token(), scene.subjects);
        let name = format!("PUT record, {clients} connections");
        let side = Side { name, gateway: Reads::Durable, shape, writes: true, goal, cpu_goal };
        found.extend(against(plan, scene, progress, pgbench::WRITE, clients, &[side]).await?);
    }
    Ok(found)
}
