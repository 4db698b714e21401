//! The residency policy: `policy`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::ConfigFile;

#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Prove the table: every country placed or refused on purpose, no dead rule, every placement lawful
    #[command(after_help = POLICY_CHECK_HELP)]
    Check(PolicyCheck),
    /// Classify without a server: where would this person be at home, and why
    #[command(after_help = POLICY_EXPLAIN_HELP)]
    Explain(PolicyExplain),
}

const POLICY_CHECK_HELP: &str = "\
Exit code 1 when a proof fails.

Examples:
  domicile policy check                         the policy of the configuration, or the built-in one
  domicile policy check --file candidate.toml
  domicile policy check --countries             also list where each country goes";

const POLICY_EXPLAIN_HELP: &str = "\
Nothing is stored or sent. Every option is a signal; the heaviest that says anything decides.

Examples:
  domicile policy explain --residence DE
  domicile policy explain --client-address 80.67.169.12
  domicile policy explain --residence FR --claim US-CA --json";

/// Which policy.
#[derive(Debug, Clone, Args)]
pub(crate) struct PolicyFile {
    /// A policy table, instead of the configuration's
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The table of jurisdictions to go with it; the built-in one by default
    #[arg(long, value_name = "CSV", requires = "file")]
    pub jurisdictions: Option<PathBuf>,
    /// The table of locations to go with it; the built-in one by default
    #[arg(long, value_name = "CSV", requires = "file")]
    pub locations: Option<PathBuf>,
    #[command(flatten)]
    pub config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyCheck {
    #[command(flatten)]
    pub policy: PolicyFile,
    /// List every country with its region or refusal
    #[arg(long)]
    pub countries: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyExplain {
    #[command(flatten)]
    pub policy: PolicyFile,
    /// The tenant the caller may speak for
    #[arg(long)]
    pub tenant: Option<String>,
    /// The residence in a verified token: DE, US-CA
    #[arg(long, value_name = "PLACE")]
    pub claim: Option<String>,
    /// The residence the person declared: DE, US-CA
    #[arg(long, value_name = "PLACE")]
    pub residence: Option<String>,
    /// The person's network address, looked up in the configured GeoIP database or the bundled one
    #[arg(long, value_name = "IP")]
    pub client_address: Option<IpAddr>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
