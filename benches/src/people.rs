//! Many regions and many people: whether a read stays what it was, and what a remembered pin takes.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{TryStreamExt as _, stream};
use residency::{SubjectId, presets};
use tempfile::NamedTempFile;
use world::{Builder, RegionPlan, World};

use crate::decision;
use crate::memory::mib;
use crate::plan::Plan;
use crate::population::{self, home, subject};
use crate::process::{cpu_of, cpu_of_cluster, resident_bytes};
use crate::progress::Progress;
use crate::report::{Comparison, Goal};
use crate::scene::POSTGRES;
use crate::wrk::{self, Load, Shape};

/// Regions, few and many.
const FEW: usize = 3;
const MANY: usize = 30;
/// Connections of the loads.
const CONNECTIONS: u32 = 64;
/// As many of them for each region, when there are many.
const CONNECTIONS_MANY: u32 = CONNECTIONS * (MANY / FEW) as u32;
/// What is called flat.
const FLAT: f64 = 1.25;
/// Lookups that are under way while a cache is filled.
const AT_ONCE_MAX: usize = 4_096;
/// A pin's key and home, in bytes: what grows by less has used memory that this process had left.
const PIN_BYTES_MIN: f64 = 16.0;
/// Pins remembered by the gateway: more than the loads ask for.
const CACHE_PINS_MAX: i64 = 2_000_000;

/// Which figures are wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) memory: bool,
    pub(crate) scale: bool,
}

/// Memory idle and by pin; reads with more regions and with more people.
pub(crate) async fn many(plan: &Plan, wanted: Wanted, progress: &Progress) -> Result<Vec<Comparison>> {
    let mut found = Vec::new();
    let mut keep = |one: Comparison| {
        progress.found(&one);
        found.push(one);
    };
    let (few_pins, many_pins) = plan.pins;
    progress.now(format!("starting {FEW} regions"));
    let file = policy(FEW)?;
    let world = start(FEW, file.path()).await?;
    if wanted.memory {
        keep(idle(&world).await?);
    }
    population::settle(&world, 1..=few_pins).await?;
    records(&world, few_pins).await?;
    let base = if wanted.scale {
        progress.now(format!("reads with {FEW} regions and {few_pins} people"));
        Some((read(plan, &world, few_pins, 1).await?, read(plan, &world, few_pins, CONNECTIONS).await?))
    } else {
        None
    };
    progress.now(format!("pinning {many_pins} people"));
    population::settle(&world, few_pins + 1..=many_pins).await?;
    if let Some((_, base)) = base {
        progress.now(format!("reads with {FEW} regions and {many_pins} people"));
        let of = format!("{few_pins} -> {many_pins} pinned subjects");
        let now = read(plan, &world, few_pins, CONNECTIONS).await?;
        keep(p50(&of, base, now, Goal::AtMost(FLAT)));
        keep(cpu(&of, base, now, Goal::AtMost(FLAT)));
    }
    if wanted.memory {
        progress.now(format!("remembering {many_pins} pins"));
        keep(by_pin(&world, many_pins).await?);
    }
    world.shutdown().await;
    if let Some((alone, base)) = base {
        progress.now(format!("starting {MANY} regions"));
        let file = policy(MANY)?;
        let world = start(MANY, file.path()).await?;
        population::settle(&world, 1..=few_pins).await?;
        records(&world, few_pins).await?;
        progress.now(format!("reads with {MANY} regions and {few_pins} people"));
        let of = format!("{FEW} -> {MANY} regions");
        keep(p50(&of, alone, read(plan, &world, few_pins, 1).await?, Goal::AtMost(FLAT)));
        // What a read costs depends on how many share its commit, and every region commits by itself: the load grows
        // with the regions.
        let of_each = format!("{of}, as many callers of each");
        keep(cpu(&of_each, base, read(plan, &world, few_pins, CONNECTIONS_MANY).await?, Goal::AtMost(FLAT)));
        let of_all = format!("{of}, as many callers of all");
        let thin = read(plan, &world, few_pins, CONNECTIONS).await?;
        keep(p50(&of_all, base, thin, Goal::Less));
        keep(cpu(&of_all, base, thin, Goal::Less));
        world.shutdown().await;
    }
    Ok(found)
}

/// A policy of so many regions, as a file that is there as long as this is kept.
pub(crate) fn policy(regions: usize) -> Result<NamedTempFile> {
    let file = tempfile::Builder::new().prefix("domicile-").suffix(".toml").tempfile()?;
    std::fs::write(file.path(), policy_of(&plans(regions)))?;
    Ok(file)
}

/// So many regions of one jurisdiction, and the two that the shipped policy has besides.
fn plans(regions: usize) -> Vec<RegionPlan> {
    RegionPlan::ALL.into_iter().chain((1..regions).map(further)).collect()
}

/// A world of so many regions of one jurisdiction, each a cluster of its own.
pub(crate) fn apart(regions: usize, policy: &Path) -> Builder {
    World::with_regions([])
        .policy_regions(plans(regions))
        .setting("policy.file", policy.to_string_lossy().as_ref())
        .without_brokers()
        .without_snowflakes()
        .setting("gateway.limits.caller_requests_per_s_max", 0)
}

/// So many regions as databases of one cluster.
async fn start(regions: usize, policy: &Path) -> Result<World> {
    let mut builder = apart(regions, policy)
        .one_cluster()
        .setting("directory.cache_pins_max", CACHE_PINS_MAX)
        .setting("telemetry.filter", "error");
    for (name, value) in POSTGRES {
        builder = builder.postgres_setting(name, value);
    }
    builder.start().await
}

/// One more region than the shipped policy has.
fn further(n: usize) -> RegionPlan {
    // A name lives as long as a policy; this process ends after its bench.
    RegionPlan { name: Box::leak(format!("eu-further-{n:02}").into_boxed_str()), jurisdiction: "eu", residence: "DE" }
}

/// The shipped policy, with the regions that it does not have.
fn policy_of(plans: &[RegionPlan]) -> String {
    let mut text = presets::SHIPPED_POLICY.to_owned();
    for plan in plans.iter().skip(RegionPlan::ALL.len()) {
        text.push_str(&format!(
            "\n[regions.{}]\njurisdiction = \"{}\"\nplacements = [\n  {{ cloud = \"aws\", location = \"eu-central-1\" }},\n  \
             {{ cloud = \"aws\", location = \"eu-west-3\" }},\n]\n",
            plan.name, plan.jurisdiction
        ));
    }
    text
}

/// One record for each of the first subjects.
async fn records(world: &World, subjects: u64) -> Result<()> {
    for region in world.regions() {
        let here: Vec<String> = (1..=subjects)
            .filter(|n| home(world.regions(), *n).name() == region.name())
            .map(|n| format!("('{}')", subject(n)))
            .collect();
        if here.is_empty() {
            continue;
        }
        let sql = format!(
            "INSERT INTO domicile.records (region, subject, collection, key, version, body, updated_at) \
             SELECT '{}', s, 'profile', 'k0', 1, '{{\"n\": 1, \"note\": \"about a hundred bytes of data\"}}', now() \
             FROM (VALUES {}) v(s)",
            region.name(),
            here.join(",")
        );
        region.sql(&sql).await?;
        region.sql("VACUUM ANALYZE").await?;
    }
    Ok(())
}

/// A load of reads and the CPU of one: of the gateway and of all PostgreSQL servers, microseconds.
#[derive(Debug, Clone, Copy)]
struct Read {
    connections: u32,
    load: Load,
    gateway_us: f64,
    postgres_us: f64,
}

async fn read(plan: &Plan, world: &World, subjects: u64, connections: u32) -> Result<Read> {
    let gateway = &world.gateways()[0];
    gateway.start_again().await?;
    let process = gateway.id().await.context("the gateway has ended")?;
    let shape = Shape::get(gateway.url(), &world.keys().service, subjects, 1);
    wrk::drive(&shape, connections, plan.warm_up).await?;
    let cluster = &world.regions()[0].cluster;
    let (gateway_cpu, postgres) = (cpu_of(process)?, cpu_of_cluster(cluster).await?);
    let load = wrk::drive(&shape, connections, plan.load).await?;
    let (gateway_cpu, postgres) = (cpu_of(process)? - gateway_cpu, cpu_of_cluster(cluster).await? - postgres);
    gateway.terminate().await?;
    #[expect(clippy::cast_precision_loss, reason = "a mean")]
    let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / load.answers as f64;
    Ok(Read { connections, load, gateway_us: each(gateway_cpu), postgres_us: each(postgres) })
}

fn p50(of: &str, base: Read, now: Read, goal: Goal) -> Comparison {
    let ms = |read: Read| read.load.p50.as_secs_f64() * 1e3;
    Comparison::ratio(
        format!("GET, {of}: p50"),
        ms(now) / ms(base),
        goal,
        format!("{:.2} ms, {:.2} ms before; durable leaf, {} connections", ms(now), ms(base), now.connections),
    )
}

fn cpu(of: &str, base: Read, now: Read, goal: Goal) -> Comparison {
    let all = |read: Read| read.gateway_us + read.postgres_us;
    let detail = format!(
        "gateway {:.1} us and Postgres {:.1} us by {} connections, {:.1} us and {:.1} us by {} before",
        now.gateway_us, now.postgres_us, now.connections, base.gateway_us, base.postgres_us, base.connections
    );
    Comparison::ratio(format!("GET, {of}: CPU"), all(now) / all(base), goal, detail)
        .with_cpu(now.gateway_us, now.postgres_us)
}

/// A gateway of three regions that has nothing to do.
async fn idle(world: &World) -> Result<Comparison> {
    const SETTLED: Duration = Duration::from_secs(2);
    let gateway = &world.gateways()[0];
    gateway.start_again().await?;
    tokio::time::sleep(SETTLED).await;
    let process = gateway.id().await.context("the gateway has ended")?;
    let resident = resident_bytes(process)?;
    gateway.terminate().await?;
    let detail = format!("the whole process {} s after its start", SETTLED.as_secs());
    Ok(Comparison::value("resident memory idle, 3 regions", mib(resident), "MiB", Goal::AtMost(64.0), detail))
}

/// What the directory's memory of pins takes, in this process: it is the one that a gateway has.
async fn by_pin(world: &World, pins: u64) -> Result<Comparison> {
    let own = std::process::id();
    let directory = decision::open(world, pins)?;
    let remember = async |numbers: std::ops::RangeInclusive<u64>| {
        let subjects = stream::iter(numbers.map(|n| SubjectId::new(&subject(n))));
        subjects
            .map_err(anyhow::Error::from)
            .try_for_each_concurrent(AT_ONCE_MAX, |subject| {
                let directory = &directory;
                async move { directory.home_of(&subject).await?.context("a subject is not pinned").map(drop) }
            })
            .await
    };
    // What the lookups themselves take is there before we count.
    let first = pins / 100;
    remember(1..=first).await?;
    let (held, before) = (directory.cached_pins(), resident_bytes(own)?);
    remember(first + 1..=pins).await?;
    let (cached, after) = (directory.cached_pins(), resident_bytes(own)?);
    #[expect(clippy::cast_precision_loss, reason = "a mean")]
    let each = after.saturating_sub(before) as f64 / cached.saturating_sub(held).max(1) as f64;
    ensure!(each >= PIN_BYTES_MIN, "pins took {each:.0} B each, less than they hold: the figure is void");
    let detail = format!("{cached} of {pins} pins in {:.0} MiB", mib(after.saturating_sub(before)));
    Ok(Comparison::value("resident memory of a cached pin", each, "B", Goal::AtMost(64.0), detail))
}
