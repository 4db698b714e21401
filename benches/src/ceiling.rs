//! The bound of every ratio through HTTP: a server that answers at once and does nothing, on the same machine, under
//! the same load. What it reaches against pgbench, nothing behind HTTP can pass. And the bound of a read with its leaf:
//! the processor time of that server, of the load generator, of a shared lookup and of a shared leaf, added up.

use anyhow::{Context, Result};
use axum::Router;
use tokio::net::TcpListener;

use crate::parts;
use crate::pgbench;
use crate::plan::Plan;
use crate::process::cpu_of;
use crate::progress::Progress;
use crate::report::{Comparison, Goal, median};
use crate::scene::Scene;
use crate::wrk::{self, Shape};

/// As long as a record of the other loads.
const RECORD: &str = r#"{"n": 1, "note": "about a hundred bytes of somebody's data, as records are in practice"}"#;
/// Leaves that nobody waits for, in one commit.
const GATHERED: u32 = 1_024;

/// One round: rates a second, and CPU of one piece in microseconds.
struct Round {
    reads: f64,
    writes: f64,
    rate: f64,
    server_us: f64,
    generator_us: f64,
    lookup_us: f64,
    gathered_leaf_us: f64,
    shared_leaf_us: f64,
}

impl Round {
    /// What no read with such a leaf can pass, as a multiple of pgbench's.
    fn bound(&self, leaf_us: f64) -> f64 {
        cores() * 1e6 / (self.generator_us + self.server_us + self.lookup_us + leaf_us) / self.reads
    }
}

/// A handler of axum that returns a constant, against pgbench reading and writing.
pub(crate) async fn http_alone(plan: &Plan, scene: &Scene, progress: &Progress) -> Result<Vec<Comparison>> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("no port for the empty server")?;
    let url = format!("http://{}", listener.local_addr()?);
    let server = tokio::spawn(async move { axum::serve(listener, Router::new().fallback(async || RECORD)).await });
    let shape = Shape::get(&url, scene.token(), scene.subjects, scene.keys);
    let mut found = Vec::new();
    for clients in plan.clients.iter().copied() {
        let mut rounds = Vec::new();
        for _ in 0..plan.rounds {
            rounds.push(round(plan, scene, &shape, clients, progress).await?);
        }
        found.extend(compared(clients, &rounds));
    }
    server.abort();
    found.iter().for_each(|one| progress.found(one));
    Ok(found)
}

async fn round(plan: &Plan, scene: &Scene, shape: &Shape, clients: u32, progress: &Progress) -> Result<Round> {
    progress.now(format!("an empty HTTP server, {clients} connections"));
    scene.checkpoint().await?;
    let read = pgbench::run(scene.cluster(), pgbench::READ, clients, plan.load, &scene.variables()).await?;
    let write = pgbench::run(scene.cluster(), pgbench::WRITE, clients, plan.load, &scene.variables()).await?;
    let before = cpu_of(std::process::id())?;
    let load = wrk::drive(shape, clients, plan.load).await?;
    let cpu = cpu_of(std::process::id())? - before;
    progress.now(format!("the parts of a read alone, {clients} callers"));
    #[expect(clippy::cast_precision_loss, reason = "a mean")]
    Ok(Round {
        reads: read.rate,
        writes: write.rate,
        rate: load.rate,
        server_us: cpu.as_secs_f64() * 1e6 / load.answers as f64,
        generator_us: load.client_us,
        lookup_us: parts::lookup(plan, scene, clients).await?,
        gathered_leaf_us: parts::leaf(plan, scene, GATHERED).await?,
        shared_leaf_us: parts::leaf(plan, scene, clients).await?,
    })
}

fn compared(clients: u32, rounds: &[Round]) -> [Comparison; 4] {
    let middle = |of: fn(&Round) -> f64| median(rounds.iter().map(of).collect());
    let server_us = middle(|r| r.server_us);
    let empty = |what: &str, of: fn(&Round) -> f64| {
        let detail = format!("{:.0}/s; what no GET or PUT through HTTP can pass on this machine", middle(|r| r.rate));
        let name = format!("an empty HTTP server against {what}, {clients} connections");
        Comparison::ratio(name, middle(of), Goal::More, detail).with_cpu(server_us, 0.0)
    };
    let sum = |leaf: &str, leaf_us: fn(&Round) -> f64| {
        let detail = format!(
            "wrk {:.1} us, HTTP {server_us:.1} us, a shared lookup {:.1} us, a shared leaf {:.1} us, on {} cores: what no \
             read through HTTP with its leaf can pass",
            middle(|r| r.generator_us),
            middle(|r| r.lookup_us),
            middle(leaf_us),
            cores()
        );
        let name = format!("the parts of a read alone, {leaf} leaf, {clients} connections");
        let bound = median(rounds.iter().map(|round| round.bound(leaf_us(round))).collect());
        Comparison::ratio(name, bound, Goal::More, detail)
    };
    [
        empty("pgbench's reads", |r| r.rate / r.reads),
        empty("pgbench's writes", |r| r.rate / r.writes),
        sum("buffered", |r| r.gathered_leaf_us),
        sum("durable", |r| r.shared_leaf_us),
    ]
}

/// Cores that everything shares.
#[expect(clippy::cast_precision_loss, reason = "a few")]
fn cores() -> f64 {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64
}
