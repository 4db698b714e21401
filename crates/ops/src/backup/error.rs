//! Why a backup was not made, not believed or not restored. No sentence here holds a key, a connection string or
//! anything out of a row.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::BackupId;
use super::target::TargetError;

/// Why a deed about backups was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It must not be done, or what is there must not be believed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The database did not do its part.
    #[error(transparent)]
    Database(#[from] storage::admin::Error),
    /// The place of the backups did not do its part.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Somebody else is at it.
    #[error("another backup of this database is under way; wait for it, or look for a process that hangs")]
    Busy,
    /// A program of PostgreSQL is not there.
    #[error("{program} was not found{}; install PostgreSQL's client programs, or name their folder in backup.pg_bin",
            looked_in.as_ref().map(|folder| format!(" in {}", folder.display())).unwrap_or_default())]
    NoProgram {
        /// Which.
        program: &'static str,
        /// Where it was to be.
        looked_in: Option<PathBuf>,
    },
    /// A program is older than the server.
    #[error(
        "{program} is of PostgreSQL {client} and the server is {server}: install client programs of at least that version"
    )]
    OldProgram {
        /// Which.
        program: &'static str,
        /// Its major version.
        client: u32,
        /// The server's.
        server: u32,
    },
    /// A program of PostgreSQL failed.
    #[error("{program} failed ({how}): {said}")]
    Program {
        /// Which.
        program: &'static str,
        /// Its exit status.
        how: String,
        /// Its first complaint, without anything it quoted.
        said: String,
    },
    /// A program could not be run or spoken to.
    #[error("{program} could not be run")]
    Run {
        /// Which.
        program: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It took longer than it may.
    #[error("it took longer than {} minutes, which is the bound; nothing was published", limit.as_secs() / 60)]
    TooLong {
        /// The bound.
        limit: Duration,
    },
    /// The encryption failed.
    #[error("the backup could not be encrypted")]
    Encrypt(#[source] io::Error),
    /// There is no such backup.
    #[error("there is no backup {0} of this database; `domicile ops backup list` shows what there is")]
    NoSuchBackup(BackupId),
    /// There is none at all.
    #[error(
        "there is no backup of this database that is believed; `domicile ops backup list` shows what there is, `create` makes one"
    )]
    NoBackup,
}

/// Why something must not be done, or must not be believed. Each has a stable name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The target stands elsewhere.
    #[error(
        "the target stands in {location} ({country}), which is outside the jurisdiction {jurisdiction}: a backup stays inside"
    )]
    OutsideJurisdiction {
        /// Cloud and location.
        location: String,
        /// The country.
        country: String,
        /// The region's jurisdiction.
        jurisdiction: String,
    },
    /// Nobody knows where the target stands.
    #[error(
        "nothing proves where {location:?} is: write cloud/location as in presets/locations.csv, or add it there with its country"
    )]
    UnknownLocation {
        /// What was written.
        location: String,
    },
    /// Fewer than two people could open it.
    #[error(
        "a backup is encrypted to at least 2 different recipients, and {given} are given: one lost key must not lose the data"
    )]
    TooFewRecipients {
        /// How many.
        given: usize,
    },
    /// A recipient cannot be read.
    #[error("recipient {position} is not an age recipient (age1…)")]
    NotARecipient {
        /// Which, counted from 1.
        position: usize,
    },
    /// The backup is not encrypted to somebody who should be able to open it.
    #[error("the backup is not encrypted to {recipient}: `domicile ops backup rekey` encrypts it anew")]
    MissingRecipient {
        /// The recipient.
        recipient: String,
    },
    /// The key at hand opens nothing.
    #[error("the identity at hand is not among the recipients of the backup")]
    NotForThisIdentity,
    /// The identity file cannot be used.
    #[error("the identity file holds no age identity (AGE-SECRET-KEY-1…)")]
    NotAnIdentity,
    /// The manifest is not signed by the key that signs here.
    #[error("the {what} is not signed by the key {key}")]
    OtherKey {
        /// What, e.g. `manifest`.
        what: &'static str,
        /// The key's name.
        key: String,
    },
    /// The manifest was changed after it was signed.
    #[error("the {what} was changed after it was signed")]
    Changed {
        /// What.
        what: &'static str,
    },
    /// The manifest cannot be read.
    #[error("the {what} is not one that this program can read")]
    Unreadable {
        /// What.
        what: &'static str,
    },
    /// The manifest is another backup's or another database's.
    #[error("the manifest is of {found}, and this should be {wanted}")]
    Mistaken {
        /// What it says.
        found: String,
        /// What it should say.
        wanted: String,
    },
    /// The encrypted file is shorter or longer than the manifest says.
    #[error("the encrypted file has {found} bytes and the manifest says {wanted}: it was cut off or added to")]
    Size {
        /// Bytes found.
        found: u64,
        /// Bytes in the manifest.
        wanted: u64,
    },
    /// The encrypted file has other bytes than the manifest says.
    #[error("the encrypted file is not the one that was signed: its SHA-256 differs")]
    CipherHash,
    /// It does not decrypt.
    #[error("the encrypted file does not decrypt: it was damaged or tampered with")]
    DoesNotDecrypt,
    /// It decrypts to something else.
    #[error("the decrypted dump is not the one that was signed: its SHA-256 differs")]
    PlainHash,
    /// What was restored differs.
    #[error("the restored {table} has {found} and the backup says {wanted}")]
    Differs {
        /// The table.
        table: String,
        /// What was found.
        found: String,
        /// What was expected.
        wanted: String,
    },
    /// A restore would overwrite what it was taken from.
    #[error("{database} on this server is what the backup was taken from: restore beside it, never over it")]
    TargetIsSource {
        /// The database.
        database: String,
    },
    /// A new database cannot be called this.
    #[error("{database:?} is no name for a new database: a-z, 0-9 and _, beginning with a letter, at most 63")]
    DatabaseName {
        /// The name.
        database: String,
    },
    /// A database that is not a restored one, or is open already.
    #[error("{database} was not restored from a backup, or is open already")]
    NotRestored {
        /// The database.
        database: String,
    },
    /// A region and a restored directory say different things, and nobody can say by this who is right.
    #[error(
        "{subjects} subjects are at home in {region} by its own word, and elsewhere by the directory's, which is not older: \
         if {region} was restored, open it first; otherwise these subjects have to be looked at"
    )]
    Contradicted {
        /// The region.
        region: String,
        /// How many.
        subjects: u64,
    },
    /// Nobody can say what was lost.
    #[error(
        "nothing says how long the log was when it was lost: {memory}. Look at the newest `domicile_seq` of the          topics and of the receipts, and give it with --seen; 0 when nobody ever saw an entry"
    )]
    UnknownLoss {
        /// What the signer remembers.
        memory: String,
    },
    /// The log lost entries that were seen.
    #[error(
        "the restored log of {origin} has {restored} entries; {signed} were signed, and up to {seen} may have been seen. Its          key must not sign two histories: give the log a new name with --log-origin, and a new key"
    )]
    LogLost {
        /// Entries in the restored database.
        restored: u64,
        /// The end of what was seen.
        seen: u64,
        /// Entries that were signed.
        signed: u64,
        /// The log.
        origin: String,
    },
    /// The log is not the one that was signed.
    #[error(
        "the restored log does not begin with the {size} entries that were signed: this backup is of another history"
    )]
    LogRewritten {
        /// The size that was signed.
        size: u64,
    },
    /// The database behind the connection string is another one.
    #[error("the database is {found} and the configuration says {wanted}")]
    OtherDatabase {
        /// What it says it is.
        found: String,
        /// What it should be.
        wanted: String,
    },
}

impl Refusal {
    /// A word for it, for reports and tests.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::OutsideJurisdiction { .. } => "outside_jurisdiction",
            Self::UnknownLocation { .. } => "unknown_location",
            Self::TooFewRecipients { .. } => "too_few_recipients",
            Self::NotARecipient { .. } => "not_a_recipient",
            Self::MissingRecipient { .. } => "missing_recipient",
            Self::NotForThisIdentity => "not_for_this_identity",
            Self::NotAnIdentity => "not_an_identity",
            Self::OtherKey { .. } => "other_key",
            Self::Changed { .. } => "changed",
            Self::Unreadable { .. } => "unreadable",
            Self::Mistaken { .. } => "mistaken",
            Self::Size { .. } => "size",
            Self::CipherHash => "cipher_hash",
            Self::DoesNotDecrypt => "does_not_decrypt",
            Self::PlainHash => "plain_hash",
            Self::Differs { .. } => "differs",
            Self::TargetIsSource { .. } => "target_is_source",
            Self::DatabaseName { .. } => "database_name",
            Self::NotRestored { .. } => "not_restored",
            Self::Contradicted { .. } => "contradicted",
            Self::UnknownLoss { .. } => "unknown_loss",
            Self::LogLost { .. } => "log_lost",
            Self::LogRewritten { .. } => "log_rewritten",
            Self::OtherDatabase { .. } => "other_database",
        }
    }
}

impl Error {
    /// Whether what was looked at must not be believed, as opposed to not being reachable.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}
