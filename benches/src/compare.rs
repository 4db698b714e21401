//! The comparisons.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sqlx::Connection as _;

use crate::Plan;
use crate::machine::{cpu_of, resident_bytes};
use crate::pgbench;
use crate::report::{Comparison, Goal};
use crate::scene::Scene;
use crate::wrk::{self, Load, Shape};

const GET: &str = "return wrk.format('GET', '/v1/subjects/bench-' .. s .. '/records/profile/k' .. k)";
const PUT: &str = "return wrk.format('PUT', '/v1/subjects/bench-' .. s .. '/records/profile/w' .. math.random(0, 1000000000), nil, \
    '{\"n\": 1, \"note\": \"about a hundred bytes of somebody\\'s data, as records are in practice\"}')";
const CLASSIFY: &str = "local plain = {['Authorization'] = wrk.headers['Authorization'], ['Content-Type'] = 'application/json'} \
    return wrk.format('POST', '/v1/classify', plain, '{\"subject\": \"bench-' .. s .. '\", \"residence\": \"DE\"}')";

/// Every comparison, one after the other: two loads at once would measure each other.
pub(crate) async fn all(plan: &Plan) -> Result<Vec<Comparison>> {
    let mut found = Vec::new();
    for audit_reads in ["buffered", "durable"] {
        let scene = Scene::set(plan, audit_reads).await?;
        let gateway = &scene.world.gateways()[0];
        let idle = gateway.id().await.map_or(Ok(0), resident_bytes)?;
        for clients in plan.clients {
            found.extend(reads(plan, &scene, audit_reads, *clients).await?);
        }
        if audit_reads == "durable" {
            for clients in plan.clients {
                found.extend(writes(plan, &scene, *clients).await?);
            }
            found.push(classify(plan, &scene).await?);
            found.push(Comparison::value(
                "resident memory after the start, 1 region",
                mib(idle),
                "MiB",
                Goal::AtMost(64.0),
                String::new(),
            ));
        }
        found.push(alone(&scene, audit_reads).await?);
        scene.world.shutdown().await;
    }
    Ok(found)
}

async fn reads(plan: &Plan, scene: &Scene, audit_reads: &str, clients: u32) -> Result<Vec<Comparison>> {
    let goal = match (audit_reads, clients) {
        ("buffered", 64) => Goal::AtLeast(1.1),
        ("buffered", 256) => Goal::AtLeast(2.5),
        ("durable", 64) => Goal::AtLeast(0.5),
        ("durable", 256) => Goal::AtLeast(1.5),
        _ => Goal::None,
    };
    let cpu_goal = match (audit_reads, clients) {
        ("buffered", 256) => Goal::AtMost(25.0),
        ("durable", 256) => Goal::AtMost(35.0),
        _ => Goal::None,
    };
    let name = format!("GET record, {audit_reads} leaf, {clients} connections");
    against(plan, scene, Pair { name, request: GET, script: pgbench::READ, clients, goal, cpu_goal }).await
}

async fn writes(plan: &Plan, scene: &Scene, clients: u32) -> Result<Vec<Comparison>> {
    let goal = match clients {
        16 => Goal::AtLeast(1.5),
        64 => Goal::AtLeast(3.0),
        256 => Goal::AtLeast(8.0),
        _ => Goal::None,
    };
    let cpu_goal = if clients == 256 { Goal::AtMost(35.0) } else { Goal::None };
    let name = format!("PUT record, {clients} connections");
    against(plan, scene, Pair { name, request: PUT, script: pgbench::WRITE, clients, goal, cpu_goal }).await
}

struct Pair {
    name: String,
    request: &'static str,
    script: &'static str,
    clients: u32,
    goal: Goal,
    cpu_goal: Goal,
}

/// One load against one measure, alternating; the median ratio counts.
async fn against(plan: &Plan, scene: &Scene, pair: Pair) -> Result<Vec<Comparison>> {
    let mut rounds = Vec::new();
    for _ in 0..plan.rounds {
        let variables = [("subjects", scene.subjects), ("keys", scene.keys)];
        let cluster = &scene.region().cluster;
        let base = pgbench::rate(cluster, pair.script, pair.clients, plan.load, &variables).await?;
        let (load, cpu_us) = measured(plan, scene, pair.request, pair.clients).await?;
        rounds.push((load.rate / base, base, load, cpu_us));
    }
    rounds.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (ratio, base, load, cpu_us) = rounds[rounds.len() / 2];
    let detail =
        format!("{:.0}/s against pgbench's {base:.0}/s; p50 {:.2} ms", load.rate, load.p50.as_secs_f64() * 1e3);
    Ok(vec![
        Comparison::ratio(pair.name.clone(), ratio, pair.goal, detail),
        Comparison::value(format!("{}: gateway CPU", pair.name), cpu_us, "us", pair.cpu_goal, "per request".into()),
    ])
}

/// One load, with the gateway's CPU per answer; void unless the log has a leaf for each answer.
async fn measured(plan: &Plan, scene: &Scene, request: &'static str, clients: u32) -> Result<(Load, f64)> {
    let gateway = &scene.world.gateways()[0];
    let process = gateway.id().await.unwrap_or(0);
    let token = &scene.world.keys().service;
    let shape = Shape { url: gateway.url(), token, request, subjects: scene.subjects, keys: scene.keys };
    let (leaves, cpu) = (scene.leaves().await?, cpu_of(process)?);
    let load = wrk::drive(&shape, clients, plan.load).await?;
    let cpu = cpu_of(process)?.saturating_sub(cpu);
    let logged = scene.leaves().await? - leaves;
    ensure!(logged >= load.answers, "{} answers but {logged} leaves: the figure is void", load.answers);
    #[expect(clippy::cast_precision_loss, reason = "a mean")]
    Ok((load, cpu.as_secs_f64() * 1e6 / load.answers as f64))
}

async fn classify(plan: &Plan, scene: &Scene) -> Result<Comparison> {
    let gateway = &scene.world.gateways()[0];
    let token = &scene.world.keys().service;
    let shape = Shape { url: gateway.url(), token, request: CLASSIFY, subjects: scene.subjects, keys: scene.keys };
    let load = wrk::drive(&shape, 64, plan.load).await?;
    let variables = [("subjects", scene.subjects), ("keys", scene.keys)];
    let base = pgbench::rate(&scene.region().cluster, pgbench::READ, 64, plan.load, &variables).await?;
    let detail = format!("{:.0}/s against pgbench -S's {base:.0}/s", load.rate);
    Ok(Comparison::ratio("classify, 64 connections", load.rate / base, Goal::None, detail))
}

/// One connection, one at a time, against the same statement on a held connection.
async fn alone(scene: &Scene, audit_reads: &str) -> Result<Comparison> {
    const TIMES: u32 = 2_000;
    let client = scene.world.client()?.residing_in("DE");
    let mut by_gateway = Vec::new();
    for n in 0..TIMES {
        let (subject, key) =
            (format!("bench-{}", u64::from(n) % scene.subjects + 1), format!("k{}", u64::from(n) % scene.keys));
        let asked = Instant::now();
        client.get_record(&subject, "profile", &key).await?.expect(200)?;
        by_gateway.push(asked.elapsed());
    }
    let mut connection = sqlx::PgConnection::connect(&scene.region().superuser_dsn()).await?;
    let mut by_sqlx = Vec::new();
    for n in 0..TIMES {
        let (subject, key) =
            (format!("bench-{}", u64::from(n) % scene.subjects + 1), format!("k{}", u64::from(n) % scene.keys));
        let asked = Instant::now();
        sqlx::query("SELECT version, body::text FROM domicile.records WHERE region = 'eu-central' AND subject = $1 AND collection = 'profile' AND key = $2")
            .bind(&subject)
            .bind(&key)
            .fetch_one(&mut connection)
            .await?;
        by_sqlx.push(asked.elapsed());
    }
    let (gateway, alone) = (median(by_gateway), median(by_sqlx));
    let more = gateway.saturating_sub(alone);
    let goal = if audit_reads == "buffered" { Goal::AtMost(250.0) } else { Goal::None };
    let detail = format!("p50 {} us through the gateway, {} us by sqlx alone", gateway.as_micros(), alone.as_micros());
    Ok(Comparison::value(
        format!("GET, {audit_reads} leaf, one at a time: added p50"),
        more.as_secs_f64() * 1e6,
        "us",
        goal,
        detail,
    ))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[expect(clippy::cast_precision_loss, reason = "for reading")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
