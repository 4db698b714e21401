//! The region log for those who work with it: `audit export`, `audit violations`, `audit transfers`, and a key's succession.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::ConfigFile;

pub(super) const AUDIT_EXPORT_HELP: &str = "\
An export is made from the region's own database and belongs into the region. It says who asked for what and why it was
decided so, and names no subject. The log says that it was made, with its hash, before the file has its name.

  jsonl    the leaves verbatim, one per line: what the log's tree holds
  csv      for spreadsheets; a cell that one would take for a formula (= + - @ tab …) begins with an apostrophe
  parquet  typed columns, for DuckDB, pyarrow and the like; `line` is the leaf verbatim

Examples:
  domicile audit export --region eu-central --format parquet --out everything.parquet
  domicile audit export --region eu-central --from 2026-11-01T00:00:00Z --to 2026-12-01T00:00:00Z \\
      --kind decision.deny --kind transfer.out --format csv --out november.csv";

pub(super) const AUDIT_VIOLATIONS_HELP: &str = "\
Rules: denied (somebody asked for what the policy denies), gap, jump, repeated (a gateway's count), transfer_unmatched,
unreadable, damage (found by the scrubber).

Examples:
  domicile audit violations list --region eu-central --open
  domicile audit violations acknowledge 17 --region eu-central --reason \"A test of the new checkout; ticket 4711\"";

pub(super) const AUDIT_KEY_RETIRE_HELP: &str = "\
A key and an origin belong together for ever, so a new key is a new log in a new database:
  1. domicile audit key generate NEW-ORIGIN --out new.key
  2. stop every gateway of the region; with the old configuration:
     domicile audit key retire --region R --next NEW-PUBLIC-KEY --out last.checkpoint          (--dry-run first)
  3. make a pack of the old log, which writes nothing into it any more, and keep its database: it stays verifiable
     with the old key
  4. found a database with the new log_origin (domicile migrate) and bring subjects, records and zero-party data into it
  5. with the new configuration: domicile audit key succeed --region R --was OLD-PUBLIC-KEY --checkpoint last.checkpoint
  6. start the gateways; give auditors and witnesses the new public key";

/// The form of an export.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum ExportFormat {
    /// The leaves verbatim, one per line
    Jsonl,
    /// For spreadsheets
    Csv,
    /// Typed columns
    Parquet,
}

#[derive(Debug, Args)]
pub(crate) struct AuditExport {
    /// The region whose log it is; it must be served by this configuration
    #[arg(long)]
    pub region: String,
    /// From this time (RFC 3339) or entry on; from the beginning by default
    #[arg(long, value_name = "TIME|SEQ")]
    pub from: Option<String>,
    /// Up to this time (RFC 3339) or entry, exclusive; to what is committed now by default
    #[arg(long, value_name = "TIME|SEQ")]
    pub to: Option<String>,
    /// Only this kind of entry; several times for several
    #[arg(long = "kind", value_name = "KIND")]
    pub kinds: Vec<String>,
    /// The form
    #[arg(long, value_enum)]
    pub format: ExportFormat,
    /// The new file
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub config: ConfigFile,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditViolations {
    /// List them, newest first
    List(AuditViolationsList),
    /// Answer for one of them: the log and the register say who, when and why
    Acknowledge(AuditViolationsAcknowledge),
}

#[derive(Debug, Args)]
pub(crate) struct AuditViolationsList {
    /// The region; it must be served by this configuration
    #[arg(long)]
    pub region: String,
    /// Only those that break this rule
    #[arg(long)]
    pub rule: Option<String>,
    /// Only those that nobody has answered for
    #[arg(long)]
    pub open: bool,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub limit: u16,
    /// Only those with a lower number: where the last list ended
    #[arg(long, value_name = "NUMBER")]
    pub before: Option<u64>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct AuditViolationsAcknowledge {
    /// Its number
    pub number: u64,
    /// The region; it must be served by this configuration
    #[arg(long)]
    pub region: String,
    /// What is to be said about it, at most 500 characters; the log holds its salted hash only
    #[arg(long)]
    pub reason: String,
    #[command(flatten)]
    pub config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct AuditTransfers {
    /// The region; it must be served by this configuration
    #[arg(long)]
    pub region: String,
    /// Only those whose other side was not seen in the other region's log
    #[arg(long)]
    pub unmatched: bool,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub limit: u16,
    /// Only entries below this one: where the last list ended
    #[arg(long, value_name = "SEQ")]
    pub before: Option<u64>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct AuditKeyRetire {
    /// The region whose log ends; its signer must be configured here
    #[arg(long)]
    pub region: String,
    /// The public key of the log that succeeds it
    #[arg(long, value_name = "VKEY")]
    pub next: String,
    /// The new file for the last checkpoint
    #[arg(long, value_name = "FILE", required_unless_present = "dry_run")]
    pub out: Option<PathBuf>,
    /// Only say what would be done, and whether it can be
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct AuditKeySucceed {
    /// The region whose new log begins; its signer must be configured here, with the new key
    #[arg(long)]
    pub region: String,
    /// The public key of the log before it
    #[arg(long, value_name = "VKEY")]
    pub was: String,
    /// The last checkpoint of the log before it
    #[arg(long, value_name = "FILE")]
    pub checkpoint: PathBuf,
    /// Only say what would be done, and whether it can be
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub config: ConfigFile,
}
