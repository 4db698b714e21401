//! Crashes outside a cell: in a world of its own, or, with guards, of what the operator names.

use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use ops::drill::proofs::Proofs;
use ops::drill::{Kind, Report};
use tokio::process::Command;
use tokio::time::{sleep, timeout};
use world::World;

use super::super::sources::clock;
use super::rehearsal::{Disaster, USUAL, guard, rehearse};
use super::writer::ApiWriter;
use super::{REFUSED_BEFORE, code, finish, keep, state_folder, targets};
use crate::commands::{Failure, load};
use crate::config::{Config, DEFAULT_PATH, secret_by_reference};
use crate::{cli, print};

/// How long a command of the operator's may take.
const COMMAND_MAX: Duration = Duration::from_secs(900);
/// The region of a world of its own, and who lives there.
const OWN_REGION: (&str, &str) = ("eu-central", "DE");

/// Runs the drill.
pub(super) async fn run(args: &cli::DrillBreak) -> Result<ExitCode, Failure> {
    let done = match &args.victim.url {
        Some(url) => named(args, url).await?,
        None => Some(own(args).await?),
    };
    let Some(report) = done else { return Ok(ExitCode::from(REFUSED_BEFORE)) };
    let reports = [report];
    finish(&reports, args.cell.json)?;
    Ok(code(&reports))
}

fn config_file(args: &cli::DrillBreak) -> cli::ConfigFile {
    cli::ConfigFile { path: args.cell.config.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_PATH)) }
}

/// In a world of its own: nothing that serves anybody is touched.
async fn own(args: &cli::DrillBreak) -> anyhow::Result<Report> {
    print::note("A world of its own is started: a region's PostgreSQL, a directory's, a gateway. Ctrl-C ends it.");
    let world = World::with_regions([OWN_REGION.0]).without_brokers().without_snowflakes().start().await?;
    let token = world.keys().service.clone().into();
    let subject = format!("domicile-drill-{}", OWN_REGION.0);
    let writer = ApiWriter::new(world.gateways()[0].url(), token, OWN_REGION.1, &subject)?;
    let targets = targets(&args.targets, USUAL);
    let broken = "the region's PostgreSQL was killed (SIGKILL) in a world of its own, and started again";
    let begun = Report::begin(Kind::Crash, OWN_REGION.0, &args.targets.actor, broken, targets, clock());
    let report = rehearse(begun, writer, Own(&world)).await?;
    world.shutdown().await;
    match load(&config_file(args)) {
        Ok(config) => keep(&config, &report)?,
        Err(_) => print::note("There is no configuration, so the report is shown and not kept."),
    }
    Ok(report)
}

/// What serves people, or might: guarded. `None` when it was refused before anything was changed.
async fn named(args: &cli::DrillBreak, url: &str) -> anyhow::Result<Option<Report>> {
    let config = load(&config_file(args)).map_err(|failure| anyhow::anyhow!("{failure}"))?;
    let region = args.victim.region.as_deref().context("name the region with --region")?;
    let breaks = args.break_by.as_deref().context("say what breaks it with --break")?;
    let residence = args.victim.residence.as_deref().context("say where the probe's subject lives with --residence")?;
    if let Err(reason) = guarded(&config, region, args) {
        print::note(format!("refused: {reason:#}\nServing now: unchanged. Data: unchanged. Nothing was done."));
        return Ok(None);
    }
    let token = secret_by_reference(&args.token).map_err(|sentence| anyhow::anyhow!(sentence))?;
    let writer = ApiWriter::new(url, token.into(), residence, &format!("domicile-drill-{region}"))?;
    let targets = targets(&args.targets, USUAL);
    let broken = format!("`{breaks}`");
    let begun = Report::begin(Kind::Crash, region, &args.targets.actor, &broken, targets, clock());
    let disaster = Named { breaks, mends: args.mend_by.as_deref(), broken: Duration::from_secs(args.broken_s) };
    let report = rehearse(begun, writer, disaster).await?;
    keep(&config, &report)?;
    Ok(Some(report))
}

fn guarded(config: &Config, region: &str, args: &cli::DrillBreak) -> anyhow::Result<()> {
    let aborts = args.mend_by.as_deref().unwrap_or("there is none: it has to mend itself, or give --mend");
    let proven = Proofs::read(&state_folder(config)).context("what was proven cannot be read").map(|proofs| {
        let verified = proofs.verified.get(region).filter(|at| **at > 0);
        verified.map(|at| clock().unix_timestamp() - at)
    });
    let cli::DrillVictim { production, confirm, .. } = &args.victim;
    guard(region, *production, confirm.as_deref(), aborts, proven, config.backup.verified_age_max)
}

/// The region's PostgreSQL of a world of its own is killed and started again.
struct Own<'a>(&'a World);

impl Disaster for Own<'_> {
    async fn strike(&mut self) -> anyhow::Result<String> {
        self.0.region(OWN_REGION.0).cluster.kill().await?;
        Ok("it is broken".into())
    }

    async fn mend(&mut self) -> anyhow::Result<String> {
        self.0.region(OWN_REGION.0).cluster.start_again().await?;
        Ok("it is mended".into())
    }

    fn serves_on(&self) -> bool {
        false
    }
}

/// Commands of the operator's.
struct Named<'a> {
    breaks: &'a str,
    mends: Option<&'a str>,
    broken: Duration,
}

impl Disaster for Named<'_> {
    async fn strike(&mut self) -> anyhow::Result<String> {
        shell(self.breaks).await?;
        sleep(self.broken).await;
        Ok("it is broken".into())
    }

    async fn mend(&mut self) -> anyhow::Result<String> {
        let Some(mends) = self.mends else { return Ok("it is left to mend itself".into()) };
        shell(mends).await?;
        Ok("it is mended".into())
    }

    fn serves_on(&self) -> bool {
        false
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
