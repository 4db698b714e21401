//! What runs and what prepares it: `serve` and `migrate`.

use clap::{Args, ValueEnum};

use super::ConfigFile;

#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub config: ConfigFile,
    /// What this process does; several with commas
    #[arg(long = "role", value_enum, value_delimiter = ',', default_value = "all")]
    pub roles: Vec<Role>,
}

pub(super) const SERVE_HELP: &str = "\
Examples:
  domicile serve --config /etc/domicile/domicile.toml
  domicile serve --role gateway                 the API alone; relays run elsewhere
  domicile serve --role relay,forwarder         carry the region logs, no API
  DOMICILE__GATEWAY__LISTEN=0.0.0.0:8080 domicile serve

Signals:
  TERM, INT   stop accepting, finish what is in flight (gateway.limits.drain_s_max), flush, end
  HUP         role gateway: read the policy again; one with a mistake is reported and the old one stays in force";

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Everything below
    All,
    /// The HTTP API
    Gateway,
    /// Region log -> Redpanda
    Relay,
    /// Region log -> Snowflake
    Forwarder,
    /// Signs the region logs whose keys are configured; scrubs every log and keeps its registers
    Signer,
}

#[derive(Debug, Args)]
pub(crate) struct Migrate {
    #[command(flatten)]
    pub config: ConfigFile,
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Also create missing databases, and the logins that the configuration's URLs name
    #[arg(long, conflicts_with = "dry_run")]
    pub create: bool,
    /// Only while this lease is the newest: given by `domicile ops`
    #[arg(long, value_name = "TOKEN", hide = true)]
    pub lease_token: Option<i64>,
    /// Apply files that take something away, too: given by `domicile ops migrate contract`, which looks first
    #[arg(long, hide = true)]
    pub contract: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub(super) const MIGRATE_HELP: &str = "\
Uses postgres_owner where it is configured, otherwise postgres. Applies migrations that expand the schema, so
the running version keeps working; those that take something away wait for `deploy.sh migrate contract`. Two migrations
at once wait for each other.

Examples:
  domicile migrate --dry-run                    what is pending, database by database
  domicile migrate
  domicile migrate --create                     a first installation: databases and logins too";
