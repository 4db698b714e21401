//! `domicile audit`: the region logs as proof.

mod details;
mod http;
pub(super) mod key;
mod pack;
mod prune;
mod receipt;
mod verify;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};

use super::Failure;
use crate::cli;

/// Runs one of them.
pub(crate) async fn run(command: cli::Audit) -> Result<ExitCode, Failure> {
    match command {
        cli::Audit::Key(cli::AuditKey::Generate(args)) => key::generate(&args),
        cli::Audit::Key(cli::AuditKey::Show(args)) => key::show(&args),
        cli::Audit::Verify(args) => verify::run(args).await,
        cli::Audit::Receipt(cli::AuditReceipt::Check(args)) => receipt::check(&args),
        cli::Audit::Pack(args) => Box::pin(pack::run(&args)).await,
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

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}
