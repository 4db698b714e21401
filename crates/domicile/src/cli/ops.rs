//! `domicile ops`: what deploy.sh calls; and the smoke test.

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{Args, Subcommand, ValueEnum};

use super::backup::{BACKUP_HELP, Backup};
use super::drill::{DRILL_HELP, Drill};
use super::{ConfigFile, Role};

pub(super) const OPS_HELP: &str = "\
The way there and back (deploy.sh passes its arguments on, so `deploy.sh deploy` is `domicile ops deploy`):
  deploy.sh deploy                   back up, migrate, start beside, prove, switch, watch, stop the old
  deploy.sh plan                     what that would do, and whether there is a way back
  deploy.sh rollback                 the last release that served; never a restore, never a down migration
  deploy.sh status                   what serves, and whether that is what was written down
  deploy.sh doctor                   can I deploy, roll back, back up, restore, fail over, and when was each proven?
  deploy.sh resume | abort           after a crash of the deployer or exit code 12: go on, or have the old release back

Exit codes:
  0  done                                              8  something could not be reached; try again
  1  failed otherwise                                  9  a backup or residency could not be proven
  2  the command line or the configuration is wrong   10  doctor or status found something
  4  refused before anything was changed              11  failed and undone: the old release serves
  5  stopped because you asked; the old release serves 12  failed, and a human is needed
  6  no such release                                  20  with --detailed-exitcode: the plan has changes
  7  somebody else is at work

Every failure ends with a line: Serving now: … Data: … Next: …";

pub(super) const SMOKE_HELP: &str = "\
Needs the configuration with postgres_owner: it makes an API key for the run and revokes it, and looks into each
region's database. One synthetic subject per region, `domicile-smoke-<region>`, is used again and again.

Exit code 0: it works; 1: it does not; 9: a subject is not in its region, or in another one too.

Example:
  domicile smoke --target http://127.0.0.1:8080";

/// `domicile ops`.
#[derive(Debug, Subcommand)]
pub(crate) enum Ops {
    /// Bring a new release into service without a failed request
    Deploy(OpsDeploy),
    /// Have a release serve that served before
    Rollback(OpsRollback),
    /// What `deploy` would do
    Plan(OpsDeploy),
    /// What serves, and whether that is what was written down
    Status(Cell),
    /// What was deployed when, by whom, and which releases can come back
    History(Cell),
    /// Can I deploy, roll back, back up, restore, fail over; and when was each last proven?
    Doctor(Cell),
    /// The last lines of a service: web (default), db, edge, …
    Logs(OpsLogs),
    /// Go on with an operation that a crash ended, or that could not end
    Resume(Cell),
    /// Have the old release serve again after a crash, or when an operation cannot end; not once it is written down that
    /// the new one serves
    Abort(Cell),
    /// Have the edge lead to what is written down again, after a restart of the machine
    Reconcile(Cell),
    /// Who is at work
    #[command(subcommand)]
    Lock(OpsLock),
    /// Migrations that take something away
    #[command(subcommand)]
    Migrate(OpsMigrate),
    /// Backups: make, list, prove, restore, thin out, encrypt anew
    #[command(subcommand, after_help = BACKUP_HELP)]
    Backup(Backup),
    /// Drills: disasters, rehearsed and measured
    #[command(subcommand, after_help = DRILL_HELP)]
    Drill(Drill),
    /// The lease of deployers in the databases: held while standard input is open
    #[command(hide = true)]
    Lease(OpsLease),
    /// Send the marker of a deployment to the collector
    #[command(hide = true)]
    Mark(OpsMark),
}

/// Where releases run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RuntimeKind {
    /// Containers, by docker-compose or docker compose
    Compose,
    /// Plain processes on this machine, and HAProxy as the edge
    Process,
}

/// Which cell, and how it is reached.
#[derive(Debug, Clone, Args)]
pub(crate) struct Cell {
    /// The folder with docker-compose.yml; state is kept below it, in .domicile/
    #[arg(long, value_name = "FOLDER", default_value = ".", env = "DOMICILE_CELL_FOLDER")]
    pub folder: PathBuf,
    /// The cell's variables, COMPOSE_PROJECT_NAME among them; several times for several cells, one after the other
    // A variable that is there and empty is the same as none.
    #[arg(long = "env-file", value_name = "FILE", env = "DOMICILE_ENV_FILE", value_delimiter = ',',
          value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub env_files: Vec<PathBuf>,
    /// Where releases run
    #[arg(long, value_enum, default_value = "compose", env = "DOMICILE_RUNTIME")]
    pub runtime: RuntimeKind,
    /// One JSON object per line instead of words
    #[arg(long)]
    pub json: bool,
    /// With --runtime process: the configuration of every process
    #[arg(long = "config", value_name = "FILE", env = "DOMICILE_CONFIG")]
    pub config: Option<PathBuf>,
    /// With --runtime process: where callers come in
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    pub edge_listen: String,
    /// With --runtime process: HAProxy's configuration
    #[arg(long, value_name = "FILE", default_value = "infrastructure/edge/haproxy.cfg")]
    pub edge_config: PathBuf,
    /// With --runtime process: what runs beside the gateway; several with commas; `gateway` for nothing else
    #[arg(long = "roles", value_enum, value_delimiter = ',', default_value = "relay,forwarder,signer")]
    pub roles: Vec<Role>,
}

/// How an operation is to be done.
#[derive(Debug, Clone, Args)]
pub(crate) struct How {
    /// Do it without asking
    #[arg(long, short)]
    pub yes: bool,
    /// Only say what would be done
    #[arg(long, visible_alias = "plan")]
    pub dry_run: bool,
    /// With --dry-run: exit code 20 when something would be done
    #[arg(long)]
    pub detailed_exitcode: bool,
    /// How many gateways are to serve; by default as many as serve now, or 1
    #[arg(long, value_name = "COUNT")]
    pub instances: Option<u32>,
    /// How long the new release may take to pass the gate, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub gate_timeout: u64,
    /// How long the old release may take to finish what it has, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub drain: u64,
    /// How long the new release is watched while the old one still runs, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub bake: u64,
    /// The shares of requests that the new release gets, in percent
    #[arg(long, value_name = "PERCENT,…", value_delimiter = ',', default_value = "5,25,100")]
    pub steps: Vec<u32>,
    /// How long each share but the last is kept, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub step_time: u64,
    /// From which percentage of 5xx on a release is bad
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0)]
    pub max_5xx: f64,
    /// How many times slower than the old release's its 99th percentile may be
    #[arg(long, value_name = "RATIO", default_value_t = 3.0)]
    pub max_p99_ratio: f64,
    /// Keep the old release running, out of the edge, so that a rollback is instant
    #[arg(long)]
    pub keep_warm: bool,
}

#[derive(Debug, Args)]
pub(crate) struct OpsDeploy {
    #[command(flatten)]
    pub cell: Cell,
    #[command(flatten)]
    pub how: How,
    /// The image (with --runtime process: the program) to deploy
    #[arg(long, value_name = "IMAGE", default_value = "myapp:prod")]
    pub image: String,
    /// Take no backup; the reason is written down
    #[arg(long, value_name = "REASON")]
    pub skip_backup: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct OpsRollback {
    #[command(flatten)]
    pub cell: Cell,
    #[command(flatten)]
    pub how: How,
    /// The release that is to serve; by default the last one that did
    #[arg(long, value_name = "RELEASE")]
    pub to: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct OpsLogs {
    #[command(flatten)]
    pub cell: Cell,
    /// The service
    #[arg(default_value = "web")]
    pub service: String,
    /// How many lines
    #[arg(long, default_value_t = 100)]
    pub tail: u32,
}

/// `domicile ops lock`.
#[derive(Debug, Subcommand)]
pub(crate) enum OpsLock {
    /// Who is at work here
    Status(Cell),
    /// Remove the note of a holder that is gone; a living one is not touched
    Release(Cell),
}

/// `domicile ops migrate`.
#[derive(Debug, Subcommand)]
pub(crate) enum OpsMigrate {
    /// Apply the migrations that take something away, after looking whether anybody could still need it
    Contract(OpsContract),
}

#[derive(Debug, Args)]
pub(crate) struct OpsContract {
    #[command(flatten)]
    pub cell: Cell,
    /// Do it without asking
    #[arg(long, short)]
    pub yes: bool,
    /// How long the serving release must have served, in days
    #[arg(long, value_name = "DAYS", default_value_t = 7)]
    pub soak_days: u32,
    /// A release that can then never serve again; named one by one
    #[arg(long = "abandon-rollback-to", value_name = "RELEASE")]
    pub abandon: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct OpsLease {
    #[command(flatten)]
    pub config: ConfigFile,
    /// Who is at work
    #[arg(long, value_name = "WHO")]
    pub holder: String,
}

#[derive(Debug, Args)]
pub(crate) struct OpsMark {
    #[command(flatten)]
    pub config: ConfigFile,
    /// The release that serves
    #[arg(long)]
    pub release: String,
    /// The release before it
    #[arg(long)]
    pub from: String,
    /// deploy or rollback
    #[arg(long)]
    pub kind: String,
}

/// `domicile smoke`.
#[derive(Debug, Args)]
pub(crate) struct Smoke {
    #[command(flatten)]
    pub config: ConfigFile,
    /// The gateway to prove, e.g. <http://127.0.0.1:8080>
    #[arg(long, value_name = "URL")]
    pub target: String,
    /// How long all of it may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub timeout: u64,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
