//! `domicile ops`: what an operator does to a deployment.

use clap::Subcommand;

use super::backup::{BACKUP_HELP, Backup};
use super::drill::{DRILL_HELP, Drill};

#[derive(Debug, Subcommand)]
pub(crate) enum Ops {
    /// Backups: make, list, prove, restore, thin out, encrypt anew
    #[command(subcommand, after_help = BACKUP_HELP)]
    Backup(Backup),
    /// Drills: disasters, rehearsed and measured
    #[command(subcommand, after_help = DRILL_HELP)]
    Drill(Drill),
}
