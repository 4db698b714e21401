//! `domicile ops`: what an operator does to a deployment.

use clap::Subcommand;

use super::backup::{BACKUP_HELP, Backup};

#[derive(Debug, Subcommand)]
pub(crate) enum Ops {
    /// Backups: make, list, prove, restore, thin out, encrypt anew
    #[command(subcommand, after_help = BACKUP_HELP)]
    Backup(Backup),
}
