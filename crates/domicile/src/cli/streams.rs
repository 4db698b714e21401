//! What leaves the region log: `relay`, `forwarder` and `snowflake`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::ConfigFile;

#[derive(Debug, Subcommand)]
pub(crate) enum Stream {
    /// Cursor, head and lag of each region served here, by its database; and, if a process answers on the admin
    /// listener, its rate, retries and dead letters
    Status(StatusArgs),
    /// Carry a part of a region's log once more; the cursor stays where it is
    Replay(Replay),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Snowflake {
    /// Create what the forwarder needs in a region's account, each statement with its reason
    #[command(after_help = SNOWFLAKE_SETUP_HELP)]
    Setup(SnowflakeSetup),
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("how").required(true))]
pub(crate) struct SnowflakeSetup {
    #[command(flatten)]
    pub config: ConfigFile,
    /// The region; may be left out where only one is served
    #[arg(long)]
    pub region: Option<String>,
    /// Log in as this user rather than as the forwarder, which should not be able to create roles
    #[arg(long, value_name = "USER", requires = "admin_login")]
    pub admin_user: Option<String>,
    /// That user's unencrypted PKCS#8 key: a file
    #[arg(long, value_name = "FILE", group = "admin_login")]
    pub admin_key: Option<PathBuf>,
    /// A variable that holds that user's password
    #[arg(long, value_name = "VARIABLE", group = "admin_login")]
    pub admin_password: Option<String>,
    /// The role to work under; the user's own by default
    #[arg(long, value_name = "ROLE")]
    pub admin_role: Option<String>,
    /// Only print the statements, with their reasons: they can be run elsewhere as they are
    #[arg(long, group = "how")]
    pub dry_run: bool,
    /// Run them
    #[arg(long, group = "how")]
    pub apply: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

const SNOWFLAKE_SETUP_HELP: &str = "\
Tables are transient with at most a day of Time Travel, because what is erased has to be gone: permanent tables keep it
for seven days more. Roles and grants are made when the configuration names a role. Every statement may be repeated.

Examples:
  domicile snowflake setup --region eu-central --dry-run > setup.sql
  domicile snowflake setup --region eu-central --admin-user ADMIN --admin-key admin.p8 --admin-role ACCOUNTADMIN --apply";

pub(super) const RELAY_HELP: &str = "\
A replay sends what is in the topics already: consumers skip what they have seen of (domicile_log, domicile_seq), and
see the header domicile_replay. Only an emptied or lost topic, or a new consumer of old events, needs one. Where a
consumer keeps only the newest sequence per key, end the relay first (domicile serve --role gateway,forwarder).

Examples:
  domicile relay status
  domicile relay replay --region eu-central --from 120000 --dry-run
  domicile relay replay --region eu-central --from 120000 --to 130000 --apply";

pub(super) const FORWARDER_HELP: &str = "\
A replay changes nothing that is there: a row wins only over an older position of the log, and a tombstone stays. It
repairs a table that was restored from an older state, or fills a new one.

Examples:
  domicile forwarder status --json
  domicile forwarder replay --region eu-central --from 1 --dry-run
  domicile forwarder replay --region eu-central --from 1 --apply";

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("how").required(true))]
pub(crate) struct Replay {
    #[command(flatten)]
    pub config: ConfigFile,
    /// The region; may be left out where only one is served
    #[arg(long)]
    pub region: Option<String>,
    /// The first position of the log
    #[arg(long, value_name = "SEQ")]
    pub from: u64,
    /// The last position; the log's end by default
    #[arg(long, value_name = "SEQ")]
    pub to: Option<u64>,
    /// Only say what would be carried
    #[arg(long, group = "how")]
    pub dry_run: bool,
    /// Do it
    #[arg(long, group = "how")]
    pub apply: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub config: ConfigFile,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
