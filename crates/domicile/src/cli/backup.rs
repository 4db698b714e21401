//! `domicile ops backup`: backups, made, listed, proven, restored, thinned out, encrypted anew.

use clap::{Args, Subcommand, ValueEnum};

use super::ConfigFile;

pub(super) const BACKUP_HELP: &str = "\
A backup is taken in its region, encrypted to at least two age recipients, signed, and believed only once it was
restored. Where it may rest is proven by the table of cloud locations ([regions.<name>.backup] location).

Examples:
  domicile ops backup create                              every region served here, and the directory
  domicile ops backup list
  domicile ops backup check                               is every place inside its jurisdiction, and can it be used?
  domicile ops backup verify --from-cipher --identity file:/run/secrets/verify-key
  domicile ops backup restore --region eu-central --to eu_restored --identity file:…     says what it would do
  domicile ops backup restore --region eu-central --to eu_restored --identity file:… --yes

Exit codes:
  0  done
  1  it failed; the sentence says why
  2  the command line or the configuration is wrong
  9  a backup was refused: it must not be believed, or must not be made there";

#[derive(Debug, Subcommand)]
pub(crate) enum Backup {
    /// Make a backup of each database, and prove it by restoring it meanwhile
    Create(BackupCreate),
    /// Show what backups there are, how old they are, and what was proven about each
    List(BackupList),
    /// Try the place of every database's backups: write a small object, read it back, remove it
    Check(BackupList),
    /// Prove a backup: from its encrypted file, with a private key, as an emergency would
    Verify(BackupVerify),
    /// Restore a backup into a new database; open it for traffic
    #[command(after_help = BACKUP_RESTORE_HELP)]
    Restore(BackupRestore),
    /// Remove what no rule of retention keeps
    Prune(BackupPrune),
    /// Encrypt a backup to other recipients, after a key was lost or somebody left
    Rekey(BackupRekey),
}

/// Which databases.
#[derive(Debug, Clone, Args)]
pub(crate) struct Which {
    /// A region, or `directory`; several times for several; by default all that have a [….backup] table
    #[arg(long = "region", value_name = "NAME")]
    pub regions: Vec<String>,
    #[command(flatten)]
    pub config: ConfigFile,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// One database.
#[derive(Debug, Clone, Args)]
pub(crate) struct WhichOne {
    /// The region, or `directory`; needed when there are several
    #[arg(long = "region", value_name = "NAME")]
    pub region: Option<String>,
    #[command(flatten)]
    pub config: ConfigFile,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Why a backup is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackupKind {
    /// Somebody asked for it
    Manual,
    /// The clock did
    Scheduled,
    /// A deployment is about to begin
    PreDeploy,
    /// A migration that takes something away is about to run
    PreContract,
}

#[derive(Debug, Args)]
pub(crate) struct BackupCreate {
    #[command(flatten)]
    pub which: Which,
    /// Why it is made; written into its manifest
    #[arg(long, value_enum, default_value = "manual")]
    pub kind: BackupKind,
    /// The release in force; written into its manifest. Default: this program's version
    #[arg(long, value_name = "RELEASE")]
    pub release: Option<String>,
    /// Do not restore it meanwhile: prove it later, from the encrypted file
    #[arg(long)]
    pub no_verify: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BackupList {
    #[command(flatten)]
    pub which: Which,
}

#[derive(Debug, Args)]
pub(crate) struct BackupVerify {
    #[command(flatten)]
    pub which: Which,
    /// Which backup; the newest by default
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Decrypt the stored file and restore it: the only way after it was made (inline happens in `create`)
    #[arg(long)]
    pub from_cipher: bool,
    /// The private key, an age identity file: file:… or env:NAME
    #[arg(long, value_name = "REFERENCE")]
    pub identity: String,
}

pub(super) const BACKUP_RESTORE_HELP: &str = "\
A restored database is closed: every gateway refuses it until `--open` has replayed what happened since the backup was
taken. That is: subjects that were erased or have moved since are taken out again (by the directory's tombstones), and
the region log is reconciled with what was signed and streamed. A log that lost entries goes on under a new name
(--log-origin): the old key must never sign two histories. Where the signer had not signed more than was restored, or its
memory is not at hand, nothing but --seen tells whether entries were lost.
A restored directory is closed, too, until every region has said who is at home there and who was erased. Where regions
are reached from different cells, `--region directory --open` is said in each; the last one opens it.

Examples:
  domicile ops backup restore --region eu-central --to-scratch --identity file:…    a look at it; drop it when you have seen it
  domicile ops backup restore --region eu-central --to eu_restored --identity file:… --yes
  domicile ops backup restore --region eu-central --open eu_restored                 says what it would do
  domicile ops backup restore --region directory --open pins_restored --yes
  domicile ops backup restore --region eu-central --open eu_restored --seen 120000 --log-origin eu-central-2.log.example.com --yes";

#[derive(Debug, Args)]
pub(crate) struct BackupRestore {
    #[command(flatten)]
    pub which: WhichOne,
    /// Which backup; the newest that is not refused by default
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Restore into a new database of this name, on the region's server
    #[arg(long, value_name = "DATABASE", conflicts_with_all = ["to_scratch", "open"])]
    pub to: Option<String>,
    /// Restore into a new database with a name of its own, to look at
    #[arg(long, conflicts_with = "open")]
    pub to_scratch: bool,
    /// Open a restored database for traffic
    #[arg(long, value_name = "DATABASE")]
    pub open: Option<String>,
    /// The private key, an age identity file: file:… or env:NAME
    #[arg(long, value_name = "REFERENCE", required_unless_present = "open")]
    pub identity: Option<String>,
    /// With --open: the highest log position that anybody has seen (topics, Snowflake, receipts), as well as is known;
    /// needed unless the signer had signed more than was restored
    #[arg(long, value_name = "SEQ", requires = "open")]
    pub seen: Option<u64>,
    /// With --open: how far the relay had come, as the topics show: what lies before is not sent again
    #[arg(long, value_name = "SEQ", requires = "open")]
    pub relayed: Option<u64>,
    /// With --open, when entries of the log were lost: the name under which it goes on, with a new key
    #[arg(long, value_name = "ORIGIN", requires = "open")]
    pub log_origin: Option<String>,
    /// With --region directory --open: a region that exists no more, so that it is not waited for; one by one
    #[arg(long, value_name = "REGION", requires = "open")]
    pub without: Vec<String>,
    /// Who does it; written into the log
    #[arg(long, value_name = "NAME", default_value = "operator")]
    pub actor: String,
    /// Do it; without this only says what would be done
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BackupPrune {
    #[command(flatten)]
    pub which: Which,
    /// Only say what would go
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BackupRekey {
    #[command(flatten)]
    pub which: WhichOne,
    /// Which backup
    #[arg(long, value_name = "ID", required_unless_present = "all")]
    pub id: Option<String>,
    /// All that lack one of the recipients of the configuration
    #[arg(long, conflicts_with = "id")]
    pub all: bool,
    /// A private key that opens it now, an age identity file: file:… or env:NAME
    #[arg(long, value_name = "REFERENCE")]
    pub identity: String,
}
