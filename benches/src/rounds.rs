//! Loads against a measure: the two alternate, and the median ratio counts.

use anyhow::{Context, Result};

use crate::pgbench::{self, Base};
use crate::plan::Plan;
use crate::process::{cpu_of, cpu_of_cluster};
use crate::progress::Progress;
use crate::report::{Comparison, Goal, median};
use crate::scene::{Deeds, Reads, Scene};
use crate::wrk::{self, Load, Shape};

/// A load of one gateway and its goals.
pub(crate) struct Side {
    pub(crate) name: String,
    pub(crate) gateway: Reads,
    pub(crate) shape: Shape,
    /// Whether its requests are changes.
    pub(crate) writes: bool,
    /// Of the ratio to the measure.
    pub(crate) goal: Goal,
    /// Of the gateway's CPU for one request, where there is one.
    pub(crate) cpu_goal: Option<f64>,
}

/// One load with what it took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) load: Load,
    pub(crate) gateway_us: f64,
    pub(crate) postgres_us: f64,
}

/// Each side against pgbench with as many clients. In a round pgbench comes first, on a server that serves nobody
/// else, then each side.
pub(crate) async fn against(
    plan: &Plan,
    scene: &Scene,
    progress: &Progress,
    script: &str,
    clients: u32,
    sides: &[Side],
) -> Result<Vec<Comparison>> {
    let mut bases = Vec::new();
    let mut measured: Vec<Vec<Measured>> = sides.iter().map(|_| Vec::new()).collect();
    for round in 1..=plan.rounds {
        let of = if plan.rounds > 1 { format!(", round {round} of {}", plan.rounds) } else { String::new() };
        progress.now(format!("pgbench, {clients} clients{of}"));
        scene.checkpoint().await?;
        bases.push(pgbench::run(scene.cluster(), script, clients, plan.load, &scene.variables()).await?);
        for (side, measured) in sides.iter().zip(&mut measured) {
            progress.now(format!("{}{of}", side.name));
            measured.push(load(plan, scene, side, clients).await.with_context(|| side.name.clone())?);
        }
    }
    let mut found = Vec::new();
    for (side, measured) in sides.iter().zip(&measured) {
        found.extend(compared(side, &bases, measured));
    }
    found.iter().for_each(|one| progress.found(one));
    Ok(found)
}

/// One load of a gateway that is started for it, is warm, and ends after it: only then is its log whole.
pub(crate) async fn load(plan: &Plan, scene: &Scene, side: &Side, connections: u32) -> Result<Measured> {
    let gateway = scene.gateway(side.gateway);
    let before = scene.ledger().await?;
    scene.checkpoint().await?;
    gateway.start_again().await?;
    let process = gateway.id().await.context("the gateway has ended")?;
    let warm = wrk::drive(&side.shape, connections, plan.warm_up).await?;
    let (gateway_cpu, postgres_cpu) = (cpu_of(process)?, cpu_of_cluster(scene.cluster()).await?);
    let load = wrk::drive(&side.shape, connections, plan.load).await?;
    let (gateway_cpu, postgres_cpu) =
        (cpu_of(process)? - gateway_cpu, cpu_of_cluster(scene.cluster()).await? - postgres_cpu);
    gateway.terminate().await?;
    let answers = warm.answers + load.answers;
    let (reads, writes) = if side.writes { (0, answers) } else { (answers, 0) };
    let deeds = Deeds { reads, writes, unread_max: 2 * u64::from(connections) };
    scene.ledger().await?.must_tell(&before, deeds)?;
    #[expect(clippy::cast_precision_loss, reason = "a mean")]
    let each = |cpu: std::time::Duration| cpu.as_secs_f64() * 1e6 / load.answers as f64;
    Ok(Measured { load, gateway_us: each(gateway_cpu), postgres_us: each(postgres_cpu) })
}

fn compared(side: &Side, bases: &[Base], measured: &[Measured]) -> Vec<Comparison> {
    let middle = |of: fn(&Measured) -> f64| median(measured.iter().map(of).collect());
    let base = |of: fn(&Base) -> f64| median(bases.iter().map(of).collect());
    let ratios: Vec<f64> = measured.iter().zip(bases).map(|(one, base)| one.load.rate / base.rate).collect();
    let spread = if ratios.len() > 1 {
        let (least, most) =
            ratios.iter().fold((f64::MAX, f64::MIN), |(least, most), ratio| (least.min(*ratio), most.max(*ratio)));
        format!("; rounds {least:.2} to {most:.2}")
    } else {
        String::new()
    };
    let (gateway_us, postgres_us) = (middle(|one| one.gateway_us), middle(|one| one.postgres_us));
    let detail = format!(
        "{:.0}/s against {:.0}/s; p50 {:.2} ms, p99 {:.2} ms; wrk {:.1} us; pgbench: Postgres {:.1} us, itself {:.1} us{spread}",
        middle(|one| one.load.rate),
        base(|base| base.rate),
        middle(|one| one.load.p50.as_secs_f64() * 1e3),
        middle(|one| one.load.p99.as_secs_f64() * 1e3),
        middle(|one| one.load.client_us),
        base(|base| base.postgres_us),
        base(|base| base.client_us),
    );
    let ratio = Comparison::ratio(side.name.clone(), median(ratios), side.goal, detail);
    let mut found = vec![ratio.with_cpu(gateway_us, postgres_us)];
    if let Some(us) = side.cpu_goal {
        let name = format!("{}: gateway CPU", side.name);
        found.push(Comparison::value(name, gateway_us, "us", Goal::AtMost(us), "per request".into()));
    }
    found
}
