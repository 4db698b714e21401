//! The log as proof: `audit` and `witness`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};

use super::ConfigFile;
use super::registers::{
    AUDIT_EXPORT_HELP, AUDIT_KEY_RETIRE_HELP, AUDIT_VIOLATIONS_HELP, AuditExport, AuditKeyRetire, AuditKeySucceed,
    AuditTransfers, AuditViolations,
};

pub(super) const AUDIT_HELP: &str = "\
A region's log is signed by the process that has its key ([regions.<name>.signer]). Give the public key to whoever
is to verify the log, by a way that does not lead through this service.

Examples:
  domicile audit key generate eu-central.log.example.com --out /run/secrets/eu-central-log-key
  domicile audit verify https://eu.data.example.com/v1/audit/eu-central --key eu-central.log.example.com+1d048f67+AdPg…
  domicile audit receipt check \"log=…; seq=42; leaf=…\" --proof 42.tlog-proof --key …
  domicile audit export --region eu-central --format parquet --out november.parquet
  domicile audit violations list --region eu-central --open
  domicile audit pack --region eu-central --from 2026-11-01T00:00:00Z --to 2026-12-01T00:00:00Z --out november.zip";

pub(super) const WITNESS_HELP: &str = "\
To be run by whoever is to trust a log: an auditor, a customer, another region. It learns sizes and hashes only.
Put a TLS proxy in front of it; give its public key to the verifiers, and key and URL to the log's operator
([regions.<name>.signer] witnesses). It speaks C2SP tlog-witness: POST /add-checkpoint.

Example:
  domicile audit key generate witness.example.com/w1 --witness --out w1.key
  domicile witness --key w1.key --log eu-central.log.example.com+1d048f67+AdPg… --state /var/lib/witness";

#[derive(Debug, Args)]
pub(crate) struct Witness {
    /// The witness's private key file
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// The public key of a log that it watches; several times for several
    #[arg(long = "log", value_name = "VKEY", required = true)]
    pub logs: Vec<String>,
    /// The folder in which it remembers what it has seen; to be kept as carefully as the key
    #[arg(long, value_name = "DIR")]
    pub state: PathBuf,
    /// Where it listens
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8090")]
    pub listen: std::net::SocketAddr,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Keys that logs and witnesses sign with
    #[command(subcommand)]
    Key(AuditKey),
    /// Verify a log, or a part of one in an evidence pack, against its public key
    #[command(after_help = AUDIT_VERIFY_HELP)]
    Verify(AuditVerify),
    /// Receipts: what `Domicile-Audit` of an answer promises
    #[command(subcommand)]
    Receipt(AuditReceipt),
    /// Make an evidence pack: a part of a log with everything that verifies it offline
    #[command(after_help = AUDIT_PACK_HELP)]
    Pack(AuditPack),
    /// Export a part of a log: the leaves verbatim, a spreadsheet, or typed columns
    #[command(after_help = AUDIT_EXPORT_HELP)]
    Export(AuditExport),
    /// What was not as it should be: list it, answer for it
    #[command(subcommand, after_help = AUDIT_VIOLATIONS_HELP)]
    Violations(AuditViolations),
    /// What crossed a border, newest first
    Transfers(AuditTransfers),
    /// Let go of old lines of a log, as its retention says; their hashes stay
    #[command(after_help = AUDIT_PRUNE_HELP)]
    Prune(AuditPrune),
    /// The identifying details beside one entry, held against what the entry committed to
    #[command(after_help = AUDIT_DETAILS_HELP)]
    Details(AuditDetails),
}

const AUDIT_VERIFY_HELP: &str = "\
Nothing that the log's server says about itself is believed: entries are hashed here, tiles are compared with the
signed root, decisions are taken again from the policies you give. Each check has its own verdict.

Exit codes (of the first check that fails):
  0   nothing failed; what was not checked is named
  1   the log could not be read
  2   the command line is wrong
  10  signed: the checkpoint is not signed by the key
  11  well-formed: an entry, a tile and the signed root do not fit each other, or an entry is no leaf
  12  append-only: the log does not continue the checkpoint you kept
  13  witnessed: too few witnesses cosigned
  14  gapless: a gateway counted a leaf that is not there, or one is there twice
  15  balanced: a transfer across a border stands on one side only
  16  replayed: a policy decides otherwise from the recorded evidence

Examples:
  domicile audit verify november.zip --key eu-central.log.example.com+1d048f67+AdPg…
  domicile audit verify https://eu.data.example.com/v1/audit/eu-central --token env:AUDIT_KEY --key … \\
      --since october.checkpoint --save november.checkpoint";

#[derive(Debug, Args)]
pub(crate) struct AuditVerify {
    /// An evidence pack, or the URL of a region's log: `https://…/v1/audit/REGION`
    pub source: String,
    /// The log's public key, as you know it by another way
    #[arg(long, value_name = "VKEY")]
    pub key: String,
    /// A checkpoint that you kept: the log must be its continuation
    #[arg(long, value_name = "FILE")]
    pub since: Option<PathBuf>,
    /// Where to keep the checkpoint that was verified, for the next time; written only when nothing failed
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// A file with the age secret key (AGE-SECRET-KEY-1…) that opens an encrypted pack
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// The public key of a witness whose cosignature counts; several times for several
    #[arg(long = "witness", value_name = "VKEY")]
    pub witnesses: Vec<String>,
    /// How many of the witnesses must have cosigned; all of them by default
    #[arg(long, value_name = "K")]
    pub quorum: Option<usize>,
    /// The log of another region, as a pack or a URL: transfers between the two must stand in both; several times for
    /// several
    #[arg(long = "other", value_name = "SOURCE")]
    pub others: Vec<String>,
    /// The public key of each other log, in the same order
    #[arg(long = "other-key", value_name = "VKEY", requires = "others")]
    pub other_keys: Vec<String>,
    /// A policy that was in force, to take its decisions again; several times for several
    #[arg(long = "policy", value_name = "FILE")]
    pub policies: Vec<PathBuf>,
    /// The table of jurisdictions to go with the policies; the built-in one by default
    #[arg(long, value_name = "CSV", requires = "policies")]
    pub jurisdictions: Option<PathBuf>,
    /// The table of locations to go with the policies; the built-in one by default
    #[arg(long, value_name = "CSV", requires = "policies")]
    pub locations: Option<PathBuf>,
    /// The API key or token for a URL, as file:… or env:NAME; it needs the scope audit:read
    #[arg(long, value_name = "REFERENCE", default_value = "env:DOMICILE_TOKEN")]
    pub token: String,
    /// Threads; as many as the machine has by default
    #[arg(long, value_name = "N")]
    pub threads: Option<std::num::NonZeroUsize>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditReceipt {
    /// Check that a log holds the leaf that a receipt promises; offline
    #[command(after_help = AUDIT_RECEIPT_HELP)]
    Check(AuditReceiptCheck),
}

const AUDIT_RECEIPT_HELP: &str = "\
A receipt whose leaf cannot be proven is evidence against the log: keep it. The proof comes from
GET /v1/audit/<region>/proof/<seq>, a second after the answer or later.

Exit codes: 0 the leaf is in the log; 10 the proof is not signed by the key; 12 the log holds another leaf there;
11 the entry is not the one that the receipt promises.";

#[derive(Debug, Args)]
pub(crate) struct AuditReceiptCheck {
    /// The receipt: the value of the header `Domicile-Audit`
    pub receipt: String,
    /// The proof, a .tlog-proof file
    #[arg(long, value_name = "FILE")]
    pub proof: PathBuf,
    /// The log's public key, as you know it by another way
    #[arg(long, value_name = "VKEY")]
    pub key: String,
    /// The entry itself, to see that it is what the receipt promises
    #[arg(long, value_name = "FILE")]
    pub entry: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

const AUDIT_PACK_HELP: &str = "\
A pack is made from the region's own database and belongs into the region: it says who asked for what and why it
was decided so, and names no subject. It holds whole tiles, so up to 255 entries more than asked for at either end.

Examples:
  domicile audit pack --region eu-central --out everything.zip
  domicile audit pack --region eu-central --from 2026-11-01T00:00:00Z --since october.checkpoint --out november.zip
  domicile audit pack --region eu-central --recipient age1… --recipient age1… --out november.zip.age
  python3 verify.py november.zip KEY            (verify.py is in the pack)";

#[derive(Debug, Args)]
pub(crate) struct AuditPack {
    /// The region whose log it is; it must be served by this configuration
    #[arg(long)]
    pub region: String,
    /// From this time (RFC 3339) or entry on; from the beginning by default
    #[arg(long, value_name = "TIME|SEQ")]
    pub from: Option<String>,
    /// Up to this time (RFC 3339) or entry, exclusive; to the newest checkpoint by default
    #[arg(long, value_name = "TIME|SEQ")]
    pub to: Option<String>,
    /// A checkpoint that the auditor holds, so that the pack shows that it is continued
    #[arg(long, value_name = "FILE")]
    pub since: Option<PathBuf>,
    /// An age public key (age1…) of somebody who is to open the pack; several times for several. Without it the pack is not encrypted
    #[arg(long = "recipient", value_name = "AGE1…")]
    pub recipients: Vec<audit::pack::Recipient>,
    /// The new file
    #[arg(long, value_name = "ZIP")]
    pub out: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub config: ConfigFile,
}

const AUDIT_PRUNE_HELP: &str = "\
The retention ([[regions.<name>.retention]]) says how long entries of each kind are kept. Lines go by whole
partitions, the oldest first, once every entry in one has been kept for long enough, its events are in their topics
and it is signed. First an entry says in the log what goes; then the partitions are dropped, by the owner's login
(postgres_owner). Tiles and checkpoints stay: the log verifies as before, and says how much of it was pruned.

Examples:
  domicile audit prune --region eu-central --dry-run
  domicile audit prune --region eu-central --apply";

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("deed").required(true).args(["dry_run", "apply"])))]
pub(crate) struct AuditPrune {
    /// The region whose log it is; it must be served by this configuration
    #[arg(long)]
    pub region: String,
    /// Only say what may go
    #[arg(long)]
    pub dry_run: bool,
    /// Let it go
    #[arg(long)]
    pub apply: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub config: ConfigFile,
}

const AUDIT_DETAILS_HELP: &str = "\
What identifies somebody is no part of the log: it lies sealed beside it, where the configuration wants it
(audit_details), until the subject is erased. An entry only holds a commitment. Asking for details needs the scope
audit:details and is itself logged. What was answered can be kept and checked again offline; that the entry is in the
log is for a receipt or a proof to show.

Exit codes: 0 the entry committed to these details; 11 it did not; 1 they could not be read.

Examples:
  domicile audit details https://eu.data.example.com/v1/audit/eu-central/details/42 --token env:AUDITOR
  domicile audit details 42.json";

#[derive(Debug, Args)]
pub(crate) struct AuditDetails {
    /// The URL of an entry's details, `https://…/v1/audit/REGION/details/SEQ`, or a file with such an answer
    pub source: String,
    /// The API key or token for a URL, as file:… or env:NAME; it needs the scope audit:details
    #[arg(long, value_name = "REFERENCE", default_value = "env:DOMICILE_TOKEN")]
    pub token: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditKey {
    /// Make a key: the private half into a new file, the public half to standard output
    Generate(AuditKeyGenerate),
    /// Print the public half of a private key's file
    Show(AuditKeyShow),
    /// End a log whose key is to be replaced: its last leaf and its last checkpoint
    #[command(after_help = AUDIT_KEY_RETIRE_HELP)]
    Retire(AuditKeyRetire),
    /// Begin the log that succeeds it: its first leaf names the old key and its last checkpoint
    Succeed(AuditKeySucceed),
}

#[derive(Debug, Args)]
pub(crate) struct AuditKeyGenerate {
    /// The name it signs under: a log's origin (log_origin), or a witness's name
    pub name: String,
    /// The file for the private key, which must not exist yet; it is readable by its owner only
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// A key for a witness instead of a log
    #[arg(long)]
    pub witness: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AuditKeyShow {
    /// The private key's file
    pub file: PathBuf,
}
