//! The bound of every ratio through HTTP: a server that answers at once and does nothing, on the same machine, under
//! the same load. What it reaches against pgbench, nothing behind HTTP can pass.

use anyhow::{Context, Result};
use axum::Router;
use tokio::net::TcpListener;

use crate::pgbench;
use crate::plan::Plan;
use crate::process::cpu_of;
use crate::progress::Progress;
use crate::report::{Comparison, Goal, median};
use crate::scene::Scene;
use crate::wrk::{self, Shape};

/// As long as a record of the other loads.
const RECORD: &str = r#"{"n": 1, "note": "about a hundred bytes of somebody's data, as records are in practice"}"#;

/// A handler of axum that returns a constant, against pgbench reading and writing.
pub(crate) async fn http_alone(plan: &Plan, scene: &Scene, progress: &Progress) -> Result<Vec<Comparison>> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("no port for the empty server")?;
    let url = format!("http://{}", listener.local_addr()?);
    let server = tokio::spawn(async move { axum::serve(listener, Router::new().fallback(async || RECORD)).await });
    let shape = Shape::get(&url, scene.token(), scene.subjects, scene.keys);
    let mut found = Vec::new();
    for clients in plan.clients.iter().copied() {
        let (mut reads, mut writes, mut rates, mut cpu_us) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..plan.rounds {
            progress.now(format!("an empty HTTP server, {clients} connections"));
            scene.checkpoint().await?;
            let read = pgbench::run(scene.cluster(), pgbench::READ, clients, plan.load, &scene.variables()).await?;
            let write = pgbench::run(scene.cluster(), pgbench::WRITE, clients, plan.load, &scene.variables()).await?;
            let before = cpu_of(std::process::id())?;
            let load = wrk::drive(&shape, clients, plan.load).await?;
            let cpu = cpu_of(std::process::id())? - before;
            reads.push(load.rate / read.rate);
            writes.push(load.rate / write.rate);
            rates.push(load.rate);
            #[expect(clippy::cast_precision_loss, reason = "a mean")]
            cpu_us.push(cpu.as_secs_f64() * 1e6 / load.answers as f64);
        }
        let detail = format!("{:.0}/s; what no GET or PUT through HTTP can pass on this machine", median(rates));
        let server_us = median(cpu_us);
        for (what, ratios) in [("pgbench's reads", reads), ("pgbench's writes", writes)] {
            let name = format!("an empty HTTP server against {what}, {clients} connections");
            found.push(Comparison::ratio(name, median(ratios), Goal::More, detail.clone()).with_cpu(server_us, 0.0));
        }
    }
    server.abort();
    found.iter().for_each(|one| progress.found(one));
    Ok(found)
}
