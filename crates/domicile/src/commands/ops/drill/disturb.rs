//! Breaking what serves, under writes: in a world of its own, or, with guards, what the operator names.

use std::io::{IsTerminal as _, Write as _};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use ops::drill::probe::Probe;
use ops::drill::proofs::Proofs;
use ops::drill::{Kind, Measured, PROBE_EVERY, Report};
use tokio::process::Command;
use tokio::time::{sleep, timeout};
use world::World;

use super::super::sources::clock;
use super::writer::ApiWriter;
use super::{REFUSED_BEFORE, code, finish, keep, state_folder, targets};
use crate::commands::{Failure, load};
use crate::config::{Config, secret_by_reference};
use crate::{cli, print};

/// Acknowledgements before anything is broken, and after it was mended.
const STEADY: usize = 50;
/// How long the probe waits for the first, and for the service to come back.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long a command of the operator's may take.
const COMMAND_MAX: Duration = Duration::from_secs(900);
/// The region of a world of its own, and who lives there.
const OWN_REGION: (&str, &str) = ("eu-central", "DE");
/// What a crash and a rollback should come to: outage, loss.
const USUAL: (Duration, Duration) = (Duration::from_secs(60), Duration::ZERO);

/// What breaks it and what mends it.
enum Disaster<'a> {
    /// The region's PostgreSQL of a world of its own is killed and started again.
    Own(&'a World),
    /// Commands of the operator's.
    Named { breaks: &'a str, mends: Option<&'a str>, broken: Duration },
}

/// Runs the drill.
pub(super) async fn run(kind: Kind, args: &cli::DrillBreak) -> Result<ExitCode, Failure> {
    let done = match (&args.url, kind) {
        (Some(url), _) => named(kind, args, url).await?,
        (None, Kind::Rollback) => {
            print::note("A rollback needs a deployment: give --url, --region, --residence, --break and --mend.");
            return Ok(ExitCode::from(crate::commands::MISUSED));
        }
        (None, _) => Some(own(kind, args).await?),
    };
    let Some(report) = done else { return Ok(ExitCode::from(REFUSED_BEFORE)) };
    let reports = [report];
    finish(&reports, args.json)?;
    Ok(code(&reports))
}

/// In a world of its own: nothing that serves anybody is touched.
async fn own(kind: Kind, args: &cli::DrillBreak) -> anyhow::Result<Report> {
    print::note("A world of its own is started: a region's PostgreSQL, a directory's, a gateway. Ctrl-C ends it.");
    let world = World::with_regions([OWN_REGION.0]).without_brokers().without_snowflakes().start().await?;
    let token = world.keys().service.clone().into();
    let subject = format!("domicile-drill-{}", OWN_REGION.0);
    let writer = ApiWriter::new(world.gateways()[0].url(), token, OWN_REGION.1, &subject)?;
    let targets = targets(&args.targets, USUAL);
    let broken = "the region's PostgreSQL was killed (SIGKILL) in a world of its own, and started again";
    let begun = Report::begin(kind, OWN_REGION.0, &args.targets.actor, broken, targets, clock());
    let report = rehearse(begun, writer, &Disaster::Own(&world)).await?;
    world.shutdown().await;
    let state = load_quietly(&args.config);
    match state {
        Some(config) => keep(&config, &report)?,
        None => print::note("There is no configuration, so the report is shown and not kept."),
    }
    Ok(report)
}

fn load_quietly(file: &cli::ConfigFile) -> Option<Config> {
    load(file).ok()
}

/// What serves people, or might: guarded. `None` when it was refused before anything was changed.
async fn named(kind: Kind, args: &cli::DrillBreak, url: &str) -> anyhow::Result<Option<Report>> {
    let config = load(&args.config).map_err(|failure| anyhow::anyhow!("{failure}"))?;
    let region = args.region.as_deref().context("name the region with --region")?;
    let breaks = args.break_by.as_deref().context("say what breaks it with --break")?;
    let residence = args.residence.as_deref().context("say where the probe's subject lives with --residence")?;
    if let Err(reason) = guard(&config, region, args) {
        print::note(format!("refused: {reason:#}\nServing now: unchanged. Data: unchanged. Nothing was done."));
        return Ok(None);
    }
    let token = secret_by_reference(&args.token).map_err(|sentence| anyhow::anyhow!(sentence))?;
    let writer = ApiWriter::new(url, token.into(), residence, &format!("domicile-drill-{region}"))?;
    let targets = targets(&args.targets, USUAL);
    let broken = format!("`{breaks}`");
    let begun = Report::begin(kind, region, &args.targets.actor, &broken, targets, clock());
    let disaster =
        Disaster::Named { breaks, mends: args.mend_by.as_deref(), broken: Duration::from_secs(args.broken_s) };
    let report = rehearse(begun, writer, &disaster).await?;
    keep(&config, &report)?;
    Ok(Some(report))
}

/// Who breaks what serves people says so twice, and has a proven backup.
fn guard(config: &Config, region: &str, args: &cli::DrillBreak) -> anyhow::Result<()> {
    let abort = args.mend_by.as_deref().unwrap_or("there is none: it has to mend itself, or give --mend");
    print::note(format!("To stop this drill at any time and mend what it broke: {abort}"));
    if !args.production {
        bail!("what is named with --url may serve people: say --production if that is meant");
    }
    let proofs = Proofs::read(&state_folder(config)).unwrap_or_default();
    let verified = proofs.verified.get(region).map(|at| clock().unix_timestamp() - at);
    let age_max = i64::try_from(config.backup.verified_age_max.as_secs()).unwrap_or(i64::MAX);
    match verified {
        Some(age) if age <= age_max => {}
        Some(age) => bail!("the last proven backup of {region} is {} hours old: make one first", age / 3_600),
        None => bail!("no backup of {region} was ever proven: `domicile ops backup create` first"),
    }
    let typed = match &args.confirm {
        Some(typed) => typed.clone(),
        None if std::io::stdin().is_terminal() => ask(&format!("Type the region's name to break it ({region}): "))?,
        None => bail!("nobody can be asked: give --confirm {region}"),
    };
    if typed.trim() == region { Ok(()) } else { bail!("what was typed is not {region}") }
}

fn ask(question: &str) -> anyhow::Result<String> {
    let mut err = std::io::stderr();
    err.write_all(question.as_bytes()).and_then(|()| err.flush()).context("nobody can be asked")?;
    let mut typed = String::new();
    std::io::stdin().read_line(&mut typed).context("nobody answered")?;
    Ok(typed)
}

/// Breaks it under writes, mends it, and counts.
async fn rehearse(mut report: Report, writer: ApiWriter, disaster: &Disaster<'_>) -> anyhow::Result<Report> {
    let probe = Probe::begin(writer.clone(), PROBE_EVERY);
    if timeout(PATIENCE, more(&probe, STEADY)).await.is_err() {
        report.fail("the service acknowledged nothing before anything was broken; nothing was broken");
        drop(probe.end(Duration::ZERO).await);
        return Ok(report);
    }
    let broken_ms = probe.now_ms();
    report.note(broken_ms, "writes are acknowledged; now it is broken");
    let broke = break_it(disaster).await;
    report.note(probe.now_ms(), "it is broken");
    if let Err(error) = &broke {
        report.fail(format!("it could not be broken: {error:#}"));
    }
    // It is mended whatever else went wrong.
    if let Err(error) = mend_it(disaster).await {
        report.fail(format!("it could not be mended: {error:#}"));
    }
    report.note(probe.now_ms(), "it is mended, or left to itself");
    match timeout(PATIENCE, more(&probe, STEADY)).await {
        Ok(()) => report.note(probe.now_ms(), "writes are acknowledged again"),
        Err(_) => report.fail(format!("no write was acknowledged within {} s after", PATIENCE.as_secs())),
    }
    let (trace, missing) = probe.end(PATIENCE).await;
    report.measured = Measured {
        rto_ms: trace.outage(broken_ms).map(|outage| u64::try_from(outage.as_millis()).unwrap_or(u64::MAX)),
        acknowledged: Some(trace.acknowledged.len() as u64),
        lost: Some(missing.len() as u64),
        ..Measured::default()
    };
    writer.tidy(trace.acknowledged.iter().map(|(seq, _)| *seq)).await;
    report.judge();
    Ok(report)
}

/// Waits for so many more acknowledgements than there are now.
async fn more(probe: &Probe<ApiWriter>, count: usize) {
    let (now, _) = probe.acknowledged();
    while probe.acknowledged().0 < now + count {
        sleep(Duration::from_millis(10)).await;
    }
}

async fn break_it(disaster: &Disaster<'_>) -> anyhow::Result<()> {
    match disaster {
        Disaster::Own(world) => world.region(OWN_REGION.0).cluster.kill().await,
        Disaster::Named { breaks, broken, .. } => {
            shell(breaks).await?;
            sleep(*broken).await;
            Ok(())
        }
    }
}

async fn mend_it(disaster: &Disaster<'_>) -> anyhow::Result<()> {
    match disaster {
        Disaster::Own(world) => world.region(OWN_REGION.0).cluster.start_again().await,
        Disaster::Named { mends: Some(mends), .. } => shell(mends).await,
        Disaster::Named { mends: None, .. } => Ok(()),
    }
}

/// Runs a command of the operator's; what it prints goes to standard error.
async fn shell(command: &str) -> anyhow::Result<()> {
    let mut child = Command::new("sh");
    child.args(["-c", command]).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    let status = timeout(COMMAND_MAX, child.status()).await.context("the command did not end")?;
    let status = status.context("no shell could be run")?;
    if status.success() { Ok(()) } else { bail!("`{command}` ended with {status}") }
}
