//! `domicile ops drill`: disasters, rehearsed and measured.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::ops::{Cell, How};
use super::{ConfigFile, Which};

pub(super) const DRILL_HELP: &str = "\
Each drill really does what it says, measures what it cost by writes through the API, and keeps a dated report
(Markdown and JSON) in the state folder ([backup] state_folder; of a cell also in .domicile/<project>/drills). What is
broken of a system that serves people needs --production, a proven backup and the region's name typed; how the drill is
stopped is said first.

Examples:
  domicile ops drill restore --identity file:/run/secrets/verify-key
  deploy.sh drill restore --identity file:/run/secrets/offline/KEY --probe http://web:8080      of a backup made under writes
  domicile ops drill tamper --identity file:/run/secrets/verify-key
  domicile ops drill crash                                      in a world of its own on this machine
  deploy.sh drill crash --service db --region eu-central --residence DE --production       kill -9 in this cell
  deploy.sh drill rollback --region eu-central --residence DE --production                 back, and forward again
  domicile ops drill crash --url https://eu.example.com --residence DE --region eu-central --production \\
      --break 'kubectl delete pod db-0 --grace-period=0' --mend true       where something else runs it
  domicile ops drill history

Exit codes: 0 passed; 1 failed, or it could not be done; 4 refused before anything was changed; 9 a target was missed.";

#[derive(Debug, Subcommand)]
pub(crate) enum Drill {
    /// Restore the newest encrypted backup of each database, compare it, and measure; with --probe of one made under writes
    Restore(DrillRestore),
    /// Damage copies of the newest backup: each has to be refused
    Tamper(DrillBackups),
    /// Kill something that serves, under writes, and count what was lost
    Crash(Box<DrillBreak>),
    /// Roll the release back and forward again under writes, as `rollback` does it, and count what was lost
    Rollback(Box<DrillRollback>),
    /// Show which drills were done, and how they ended
    History(DrillHistory),
    /// Show the report of a drill
    Report(DrillReport),
    /// Keep the report of a drill that was done from outside
    #[command(hide = true)]
    Keep(DrillKeep),
}

impl Drill {
    /// Whether it is done to a cell, by the cell's own deployer.
    pub(crate) fn is_of_a_cell(&self) -> bool {
        match self {
            Self::Rollback(_) => true,
            Self::Crash(args) => args.service.is_some(),
            Self::Restore(_) | Self::Tamper(_) | Self::History(_) | Self::Report(_) | Self::Keep(_) => false,
        }
    }
}

/// What a drill should come to.
#[derive(Debug, Clone, Args)]
pub(crate) struct DrillTargets {
    /// The longest recovery time that is good enough, in seconds
    #[arg(long, value_name = "SECONDS")]
    pub rto: Option<u64>,
    /// The oldest that what is recovered may be, in seconds
    #[arg(long, value_name = "SECONDS")]
    pub rpo: Option<u64>,
    /// Who does it; written into the report
    #[arg(long, value_name = "NAME", default_value = "operator")]
    pub actor: String,
}

#[derive(Debug, Args)]
pub(crate) struct DrillRestore {
    #[command(flatten)]
    pub backups: DrillBackups,
    /// A gateway through which a probe writes while a backup of each region is made: what was acknowledged before the
    /// snapshot has to be in the restored copy. In a cell of containers http://web:8080
    #[arg(long, value_name = "URL")]
    pub probe: Option<String>,
}

/// Whose backups, and who opens them.
#[derive(Debug, Args)]
pub(crate) struct DrillBackups {
    #[command(flatten)]
    pub which: Which,
    /// The private key, an age identity file: file:… or env:NAME
    #[arg(long, value_name = "REFERENCE")]
    pub identity: String,
    #[command(flatten)]
    pub targets: DrillTargets,
}

/// Whom the probe writes as, and that breaking it is meant.
#[derive(Debug, Clone, Args)]
pub(crate) struct DrillVictim {
    /// The region that is drilled
    #[arg(long, value_name = "NAME")]
    pub region: Option<String>,
    /// The residence that the probe's subject declares, so that it is at home in the region
    #[arg(long, value_name = "PLACE")]
    pub residence: Option<String>,
    /// The API through which the probe writes; in a cell its edge by default
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// It serves people, and that is meant
    #[arg(long)]
    pub production: bool,
    /// The region's name, typed, where nobody can be asked
    #[arg(long, value_name = "REGION")]
    pub confirm: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DrillBreak {
    #[command(flatten)]
    pub cell: Cell,
    #[command(flatten)]
    pub victim: DrillVictim,
    /// Kill this service of the cell (web, db, …) and start it again
    #[arg(long, value_name = "SERVICE", conflicts_with_all = ["url", "break_by"], requires_all = ["region", "residence"])]
    pub service: Option<String>,
    /// With --url: the API key of the probe, as file:… or env:NAME; it needs records:read and records:write
    #[arg(long, value_name = "REFERENCE", default_value = "env:DOMICILE_TOKEN")]
    pub token: String,
    /// With --url: the command that breaks it, for the shell
    #[arg(long = "break", value_name = "COMMAND", requires_all = ["url", "region", "residence"])]
    pub break_by: Option<String>,
    /// With --url: the command that mends it, for the shell; without it, it has to mend itself
    #[arg(long = "mend", value_name = "COMMAND", requires = "break_by")]
    pub mend_by: Option<String>,
    /// How long it stays broken before it is mended, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "1")]
    pub broken_s: u64,
    #[command(flatten)]
    pub targets: DrillTargets,
}

#[derive(Debug, Args)]
pub(crate) struct DrillRollback {
    #[command(flatten)]
    pub cell: Cell,
    #[command(flatten)]
    pub how: How,
    #[command(flatten)]
    pub victim: DrillVictim,
    #[command(flatten)]
    pub targets: DrillTargets,
}

#[derive(Debug, Args)]
pub(crate) struct DrillKeep {
    #[command(flatten)]
    pub config: ConfigFile,
    /// The report, as JSON
    #[arg(long, value_name = "JSON")]
    pub report: String,
}

#[derive(Debug, Args)]
pub(crate) struct DrillHistory {
    #[command(flatten)]
    pub config: ConfigFile,
    /// Where the state is, instead of the configuration's folder
    #[arg(long, value_name = "FOLDER")]
    pub state: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DrillReport {
    /// Which drill; the newest by default
    pub id: Option<String>,
    #[command(flatten)]
    pub config: ConfigFile,
    /// Where the state is, instead of the configuration's folder
    #[arg(long, value_name = "FOLDER")]
    pub state: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
