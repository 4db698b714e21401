//! `domicile ops`: what an operator does to a deployment. The work is in the crate `ops`; here are its configuration
//! and its words.

mod backup;
mod drill;
mod restore;
mod sources;

use std::process::ExitCode;

use super::Failure;
use crate::cli;

/// A backup or residency check failed.
pub(crate) const REFUSED: u8 = 9;

/// Runs one of them.
pub(crate) async fn run(command: cli::Ops) -> Result<ExitCode, Failure> {
    match command {
        cli::Ops::Backup(command) => Box::pin(backup::run(command)).await,
        cli::Ops::Drill(command) => Box::pin(drill::run(command)).await,
    }
}
