//! Three times what the gateway can serve, offered at a steady pace whether or not it answers: how much of its peak it
//! still serves, how fast it says no, and how much memory it takes.
//!
//! Twice: bound by the cores, which the generator shares, so that whatever offering and refusing takes is missing for
//! serving; and bound by commits that take long, as on a slow disk or with a standby far away, which leaves the
//! cores room.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::memory::{Watch, mib};
use crate::plan::Plan;
use crate::process::{cpu_of, cpu_of_cluster};
use crate::progress::Progress;
use crate::report::{Comparison, Goal};
use crate::scene::{Deeds, NARROW_REQUESTS, Reads, Scene};
use crate::wire;
use crate::wrk::Shape;

/// What is bounded by what.
struct Scenario {
    name: &'static str,
    gateway: Reads,
    /// Connections at the peak: as many as are served at once.
    peak_connections: usize,
    /// Connections under overload: more than requests are let in at once, so that some are refused.
    connections: usize,
    /// How long each commit is held up, microseconds.
    commit_delay_us: u32,
}

const SCENARIOS: [Scenario; 2] = [
    Scenario {
        name: "3x the peak, bound by the cores",
        gateway: Reads::Durable,
        peak_connections: 256,
        connections: CONNECTIONS_MAX,
        commit_delay_us: 0,
    },
    Scenario {
        name: "3x the peak, bound by slow commits",
        gateway: Reads::Narrow,
        peak_connections: NARROW_REQUESTS as usize,
        connections: 1_024,
        commit_delay_us: 20_000,
    },
];
/// Half as many again as requests are let in at once by default.
const CONNECTIONS_MAX: usize = 1_536;
/// Offered load as a multiple of the peak.
const TIMES: f64 = 3.0;
/// How long a connection that has nothing to send sleeps at most.
const PACE: Duration = Duration::from_millis(1);
/// Resident memory under overload.
const RESIDENT_MIB_MAX: f64 = 512.0;
/// What an answer is read into.
const BUFFER_BYTES: usize = 8 * 1024;

/// What one pace came to.
#[derive(Debug)]
struct Outcome {
    served: u64,
    refused: u64,
    /// How long a refusal takes, microseconds.
    refusals: Histogram<u64>,
    took: Duration,
    offered: f64,
}

/// A durable GET at three times its peak.
pub(crate) async fn three_times(plan: &Plan, scene: &Scene, progress: &Progress) -> Result<Vec<Comparison>> {
    raise_descriptors()?;
    let mut found = Vec::new();
    for scenario in SCENARIOS {
        delay_commits(scene, scenario.commit_delay_us).await?;
        let of_it = offered(plan, scene, progress, &scenario).await;
        delay_commits(scene, 0).await?;
        let of_it = of_it.context(scenario.name)?;
        of_it.iter().for_each(|one| progress.found(one));
        found.extend(of_it);
    }
    Ok(found)
}

async fn offered(plan: &Plan, scene: &Scene, progress: &Progress, scenario: &Scenario) -> Result<Vec<Comparison>> {
    let Scenario { name, gateway, peak_connections, connections, .. } = scenario;
    let gateway = scene.gateway(*gateway);
    let before = scene.ledger().await?;
    scene.checkpoint().await?;
    gateway.start_again().await?;
    let process = gateway.id().await.context("the gateway has ended")?;
    let shape = Arc::new(Shape::get(gateway.url(), scene.token(), scene.subjects, scene.keys));
    progress.now(format!("overload, {name}: the peak on {peak_connections} connections"));
    let warm = drive(&shape, *peak_connections, None, plan.warm_up).await?;
    let peak = drive(&shape, *peak_connections, None, plan.load).await?;
    let peak_rate = rate(peak.served, peak.took);
    progress.now(format!("overload, {name}: {:.0}/s offered on {connections} connections", TIMES * peak_rate));
    let watch = Watch::begin(process)?;
    let (cpu, postgres) = (cpu_of(process)?, cpu_of_cluster(scene.cluster()).await?);
    let own = cpu_of(std::process::id())?;
    let over = drive(&shape, *connections, Some(TIMES * peak_rate), plan.load).await?;
    let (cpu, postgres) = (cpu_of(process)? - cpu, cpu_of_cluster(scene.cluster()).await? - postgres);
    let own = cpu_of(std::process::id())? - own;
    let (idle, most) = watch.end().await?;
    gateway.terminate().await?;
    let deeds = Deeds { reads: warm.served + peak.served + over.served, writes: 0, unread_max: 0 };
    scene.must_tell(&before, deeds).await?;

    let goodput = rate(over.served, over.took);
    let cores = |cpu: Duration| cpu.as_secs_f64() / over.took.as_secs_f64();
    let detail = format!(
        "{goodput:.0}/s of {peak_rate:.0}/s at the peak; {:.0}/s were offered in fact, {:.0}/s refused; cores: gateway {:.2}, Postgres {:.2}, generator {:.2}",
        over.offered,
        rate(over.refused, over.took),
        cores(cpu),
        cores(postgres),
        cores(own)
    );
    let p99_ms = Duration::from_micros(over.refusals.value_at_quantile(0.99)).as_secs_f64() * 1e3;
    let refusals = format!("{} refusals", over.refused);
    let memory = format!("{:.0} MiB before; {connections} connections", mib(idle));
    Ok(vec![
        Comparison::ratio(format!("{name}: goodput"), goodput / peak_rate, Goal::AtLeast(0.9), detail),
        Comparison::value(format!("{name}: p99 of refusals"), p99_ms, "ms", Goal::AtMost(50.0), refusals),
        Comparison::value(format!("{name}: resident memory"), mib(most), "MiB", Goal::AtMost(RESIDENT_MIB_MAX), memory),
    ])
}

/// Holds up every commit of the region.
async fn delay_commits(scene: &Scene, us: u32) -> Result<()> {
    for statement in [
        format!("ALTER SYSTEM SET commit_delay = {us}"),
        // As many other transactions have to be under way for it: none.
        "ALTER SYSTEM SET commit_siblings = 0".to_owned(),
        "SELECT pg_reload_conf()".to_owned(),
    ] {
        scene.region().sql(&statement).await?;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn rate(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// Arrivals at a steady pace: whoever is free takes the next one when its time has come.
struct Pace {
    began: Instant,
    /// Arrivals per second; as fast as possible without one.
    per_s: Option<f64>,
    taken: AtomicU64,
}

impl Pace {
    /// Waits for the next arrival's time; none when the load is over.
    async fn next(&self, load: Duration) -> Option<()> {
        let Some(per_s) = self.per_s else { return (self.began.elapsed() < load).then_some(()) };
        let turn = self.taken.fetch_add(1, Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "a moment")]
        let due = Duration::from_secs_f64(turn as f64 / per_s);
        if due >= load {
            return None;
        }
        // What could not be sent in time is sent at once; what is left at the end was not offered, and we say so.
        while let Some(early) = due.checked_sub(self.began.elapsed()).filter(|early| !early.is_zero()) {
            tokio::time::sleep(early.max(PACE)).await;
        }
        (self.began.elapsed() < load).then_some(())
    }
}

/// Offers `per_s` on so many connections for `load`. Every answer is a success or a refusal.
async fn drive(shape: &Arc<Shape>, connections: usize, per_s: Option<f64>, load: Duration) -> Result<Outcome> {
    let address = wire::address(&shape.url)?;
    let mut streams = Vec::with_capacity(connections);
    for _ in 0..connections {
        let stream = TcpStream::connect(address).await.context("a connection was refused")?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    let pace = Arc::new(Pace { began: Instant::now(), per_s, taken: AtomicU64::new(0) });
    let mut callers = JoinSet::new();
    for (n, stream) in streams.into_iter().enumerate() {
        callers.spawn(caller(Arc::clone(shape), Arc::clone(&pace), stream, u64::try_from(n)?, load));
    }
    let mut all = Outcome {
        served: 0,
        refused: 0,
        refusals: Histogram::new_with_bounds(1, 60_000_000, 3)?,
        took: Duration::ZERO,
        offered: 0.0,
    };
    while let Some(one) = callers.join_next().await {
        let one = one??;
        all.served += one.served;
        all.refused += one.refused;
        for micros in one.refusals_us {
            all.refusals.saturating_record(micros.max(1));
        }
    }
    all.took = pace.began.elapsed();
    all.offered = rate(all.served + all.refused, all.took);
    Ok(all)
}

#[derive(Default)]
struct Tally {
    served: u64,
    refused: u64,
    refusals_us: Vec<u64>,
}

async fn caller(shape: Arc<Shape>, pace: Arc<Pace>, stream: TcpStream, seed: u64, load: Duration) -> Result<Tally> {
    let (mut stream, mut buffer, mut tally) = (Some(stream), vec![0; BUFFER_BYTES], Tally::default());
    let mut chance = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut pieces = shape.request.split("{s}").flat_map(|piece| piece.split("{k}"));
    let (head, middle, end) = (pieces.next().unwrap_or(""), pieces.next().unwrap_or(""), pieces.next().unwrap_or(""));
    let mut request = String::new();
    while pace.next(load).await.is_some() {
        // xorshift64: any subject, any key.
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        request.clear();
        let (s, k) = (chance % shape.subjects + 1, (chance >> 32) % shape.keys);
        std::fmt::Write::write_fmt(&mut request, format_args!("{head}{s}{middle}{k}{end}"))?;
        let asked = Instant::now();
        let mut line = match stream.take() {
            Some(line) => line,
            None => TcpStream::connect(wire::address(&shape.url)?).await.context("a connection was refused")?,
        };
        line.write_all(request.as_bytes()).await?;
        let mut held = 0;
        let answer = loop {
            let read = line.read(&mut buffer[held..]).await?;
            ensure!(read > 0, "the gateway hung up before it answered");
            held += read;
            if let Some(answer) = wire::answer(&buffer[..held])? {
                break answer;
            }
            ensure!(held < buffer.len(), "an answer is longer than {BUFFER_BYTES} bytes");
        };
        match answer.status {
            200 => tally.served += 1,
            429 | 503 => {
                tally.refused += 1;
                tally.refusals_us.push(u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX));
            }
            _ => anyhow::bail!("an odd answer: {}", String::from_utf8_lossy(&buffer[..held])),
        }
        if !answer.closes {
            stream = Some(line);
        }
    }
    Ok(tally)
}

/// As many open files as the system lets us have; the gateway inherits it.
fn raise_descriptors() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let needed = u64::try_from(CONNECTIONS_MAX)? + 512;
    if current.is_some_and(|current| current < needed) {
        ensure!(maximum.is_none_or(|most| most >= needed), "this needs {needed} open files: raise `ulimit -Hn`");
        setrlimit(Resource::Nofile, Rlimit { current: maximum.or(Some(needed)), maximum })?;
    }
    Ok(())
}
