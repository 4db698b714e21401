//! `domicile audit`: the region logs as proof.

mod details;
mod export;
mod http;
pub(super) mod key;
mod pack;
mod prune;
mod receipt;
mod registers;
mod succession;
mod verify;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use indicatif::{ProgressBar, ProgressStyle};

use leaf::Fact;
use residency::Region;
use storage::{Log, RegionStore};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Failure, load};
use crate::config::Config;
use crate::{cli, print, rooms};

/// Who the log says has done what a command did: whoever may run it has the region's own database.
const ACTOR: &str = "operator:cli";

/// Runs one of them.
pub(crate) async fn run(command: cli::Audit) -> Result<ExitCode, Failure> {
    match command {
        cli::Audit::Key(cli::AuditKey::Generate(args)) => key::generate(&args),
        cli::Audit::Key(cli::AuditKey::Show(args)) => key::show(&args),
        cli::Audit::Key(cli::AuditKey::Retire(args)) => Box::pin(succession::end(&args)).await,
        cli::Audit::Key(cli::AuditKey::Succeed(args)) => Box::pin(succession::begin(&args)).await,
        cli::Audit::Verify(args) => verify::run(args).await,
        cli::Audit::Receipt(cli::AuditReceipt::Check(args)) => receipt::check(&args),
        cli::Audit::Pack(args) => Box::pin(pack::run(&args)).await,
        cli::Audit::Export(args) => Box::pin(export::run(&args)).await,
        cli::Audit::Violations(cli::AuditViolations::List(args)) => registers::list(&args).await,
        cli::Audit::Violations(cli::AuditViolations::Acknowledge(args)) => registers::acknowledge(&args).await,
        cli::Audit::Transfers(args) => registers::transfers(&args).await,
        cli::Audit::Prune(args) => Box::pin(prune::run(&args)).await,
        cli::Audit::Details(args) => Box::pin(details::run(&args)).await,
    }
}

/// A bar on a terminal, nothing elsewhere.
fn bar(what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {bar:40} {human_pos}/{human_len} {per_sec} {eta}");
    let bar = ProgressBar::no_length().with_message(what);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// The region's own database, to be read and to be told what is made of it.
fn open_region(config: &cli::ConfigFile, region: &str) -> Result<RegionStore, Failure> {
    open_served(&load(config)?, region)
}

fn open_served(config: &Config, region: &str) -> Result<RegionStore, Failure> {
    let region = Region::new(region).map_err(anyhow::Error::from)?;
    Ok(RegionStore::open(rooms::region(config, &region, &rooms::gateway_id(config)?)?))
}

/// Tells the log what was made of it, before anybody has that. A log that has ended is told nothing: nobody would sign it.
async fn tell(store: &RegionStore, fact: Fact) -> anyhow::Result<()> {
    if audit::succession::has_ended(&store.log()).await? {
        print::note("The log has ended, so no entry says that this was made.");
        return Ok(());
    }
    store.record(fact).await?;
    Ok(())
}

/// An entry's number as it is, or of the first entry at or behind a time.
async fn bound(log: &Log, written: Option<&str>, otherwise: u64) -> anyhow::Result<u64> {
    let Some(written) = written else { return Ok(otherwise) };
    if let Ok(seq) = written.parse() {
        return Ok(seq);
    }
    let at = OffsetDateTime::parse(written, &Rfc3339)
        .map_err(|_| anyhow!("{written} is neither an entry's number nor a time like 2026-11-01T00:00:00Z"))?;
    let at_us = i64::try_from(at.unix_timestamp_nanos() / 1_000).context("the time is out of range")?;
    Ok(audit::seq_at(log, at_us).await?)
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}
