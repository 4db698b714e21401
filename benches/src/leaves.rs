//! Durable logging alone: how many leaves a second one region's committer makes durable, with nothing around it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use leaf::GatewayId;
use residency::{
    Actor, Country, Decision, DecisionId, Denial, DenialReason, Evidence, EvidenceList, Finding, Jurisdiction,
    Operation, Origin, Region, RuleId, Source,
};
use storage::{AuditReads, Limits, RegionSettings, RegionStore};

use crate::plan::Plan;
use crate::process::{cpu_of, cpu_of_cluster};
use crate::progress::Progress;
use crate::report::{Comparison, Goal, median};
use crate::scene::Scene;

/// Callers, each with one leaf under way.
const CALLERS: u64 = 2_048;
/// Leaves per second that the committer is to make durable.
const GOAL: f64 = 30_000.0;

/// Notes of decisions through the store, in this process.
pub(crate) async fn durable(plan: &Plan, scene: &Scene, progress: &Progress) -> Result<Vec<Comparison>> {
    let store = RegionStore::open(RegionSettings {
        region: Region::new("eu-central")?,
        jurisdiction: Jurisdiction::new("eu")?,
        dsn: scene.cluster().dsn("gateway", "domicile").into(),
        log_origin: "eu-central.log.world.test".into(),
        audit_reads: AuditReads::Durable,
        keeps_details: false,
        gateway: GatewayId::new("bench", 1).context("a gateway's name")?,
        peppers: scene.world.peppers()?,
        reader_connections: 2,
        committer_connections: 2,
        limits: Limits::default(),
    });
    until_up(&store).await?;
    let mut rounds = Vec::new();
    for round in 1..=plan.rounds {
        progress.now(format!("leaves through the committer, {CALLERS} callers, round {round} of {}", plan.rounds));
        scene.checkpoint().await?;
        rounds.push(round_of(plan, scene, &store).await?);
    }
    store.shutdown().await;
    let middle = |of: fn(&Round) -> f64| median(rounds.iter().map(of).collect());
    let detail = format!("{CALLERS} callers in one process, without HTTP; CPU per leaf");
    let one = Comparison::value(
        "durable leaves through the committer",
        middle(|r| r.rate),
        "/s",
        Goal::AtLeast(GOAL),
        detail,
    )
    .with_cpu(middle(|r| r.own_us), middle(|r| r.postgres_us));
    progress.found(&one);
    Ok(vec![one])
}

struct Round {
    rate: f64,
    own_us: f64,
    postgres_us: f64,
}

async fn round_of(plan: &Plan, scene: &Scene, store: &RegionStore) -> Result<Round> {
    let before = scene.ledger().await?;
    let (stop, durable) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (own, postgres) = (cpu_of(std::process::id())?, cpu_of_cluster(scene.cluster()).await?);
    let began = Instant::now();
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (store, stop, durable) = (store.clone(), Arc::clone(&stop), Arc::clone(&durable));
            tokio::spawn(async move {
                for n in 0_u64.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    store.note(denial(caller << 32 | n)).await?;
                    durable.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<_, storage::Error>(())
            })
        })
        .collect();
    tokio::time::sleep(plan.load).await;
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await??;
    }
    let took = began.elapsed();
    let (own, postgres) = (cpu_of(std::process::id())? - own, cpu_of_cluster(scene.cluster()).await? - postgres);
    let leaves = durable.load(Ordering::Relaxed);
    let logged = scene.ledger().await?.leaves - before.leaves;
    ensure!(logged == leaves, "{leaves} leaves were acknowledged and {logged} are there: the figure is void");
    #[expect(clippy::cast_precision_loss, reason = "a mean")]
    let leaves = leaves as f64;
    let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / leaves;
    Ok(Round { rate: leaves / took.as_secs_f64(), own_us: each(own), postgres_us: each(postgres) })
}

async fn until_up(store: &RegionStore) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(30);
    let began = Instant::now();
    while !matches!(store.health(), storage::Health::Up) {
        ensure!(began.elapsed() < PATIENCE, "the region does not come up: {:?}", store.health());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// A decision as they are: two signals, a rule, a policy.
fn denial(n: u64) -> Denial {
    let place = |code: &str| {
        Country::new(code).map_or(Finding::Nothing(residency::Nothing::UnknownTenant), |c| Finding::Place(c.into()))
    };
    let mut evidence = EvidenceList::new();
    evidence.push(Evidence { source: Source::DeclaredResidence, origin: Origin::Header, finding: place("DE") });
    evidence.push(Evidence { source: Source::GeoIp, origin: Origin::Header, finding: place("US") });
    let decision = Decision {
        id: DecisionId(uuid::Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0000 | u128::from(n))),
        at_us: 1_795_000_000_000_000,
        actor: Actor::new("key:checkout"),
        operation: Operation::RecordRead,
        resource: Some("profile".into()),
        via: Region::new("eu-central").unwrap_or_else(|_| unreachable!("a region's name")),
        evidence,
        winner: Some(0),
        rule: RuleId::new("eea"),
        policy_hash: [0x5a; 32],
        geoip_built_s: Some(1_781_000_000),
        transfer: None,
        stated: None,
    };
    Denial { decision: Box::new(decision), reason: DenialReason::NotPinned }
}
