//! What a backup says of itself: one line of JSON as the text of a signed note (C2SP signed-note), so that the key
//! format, the signature and the tools are those of the region log. What was signed is compared and read as bytes; it
//! is never written anew from what was understood of it.

use serde::{Deserialize, Serialize};
use storage::admin::{DatabaseState, TableSum};
use tlog::{Note, SignatureError, SigningKey, VerifierKey};

use super::Refusal;

/// The form of the manifest that this program writes.
pub(super) const VERSION: u32 = 1;

/// A backup's manifest. Fields in the order of the alphabet, no floats, hashes in hex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The encrypted file.
    pub cipher: File,
    /// `pg_dump`'s major version.
    pub client_version: u32,
    /// How far each cursor over the region log had come.
    pub cursors: Vec<Cursor>,
    /// The database: `directory`, or the region's name.
    pub database: String,
    /// When the last byte was written, RFC 3339.
    pub finished_at: String,
    /// Its name.
    pub id: String,
    /// The jurisdiction it must stay in.
    pub jurisdiction: String,
    /// Why it was made: `manual`, `scheduled`, `pre-deploy`, `pre-contract`, `drill`.
    pub kind: String,
    /// Where it rests, cloud and location first, then where the provider copies to.
    pub locations: Vec<String>,
    /// The region's log; none in the directory.
    pub log: Option<LogLine>,
    /// The numbers of the migrations the database has.
    pub migrations: Vec<i64>,
    /// The dump before encryption.
    pub plain: File,
    /// Who can open it: age recipients, sorted.
    pub recipients: Vec<String>,
    /// The program's version, or the release that was named.
    pub release: String,
    /// When it was encrypted anew, and what it was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rekeyed: Option<Rekeyed>,
    /// The server it was taken from.
    pub server: Server,
    /// When its snapshot was taken, RFC 3339.
    pub snapshot_at: String,
    /// Every table's content, by name.
    pub tables: Vec<TableLine>,
    /// The form of this manifest.
    pub v: u32,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Its size.
    pub bytes: u64,
    /// Its name beside the manifest; empty for what is not stored.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its SHA-256.
    pub sha256: String,
}

/// A cursor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Its name.
    pub name: String,
    /// How far it had come.
    pub seq: u64,
}

/// A region's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Its epoch.
    pub epoch: u64,
    /// Its origin.
    pub origin: String,
    /// The root of its tree.
    pub root: String,
    /// Its leaves.
    pub size: u64,
}

/// When and from what it was encrypted anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rekeyed {
    /// When, RFC 3339.
    pub at: String,
    /// The SHA-256 of the encrypted file before.
    pub from_sha256: String,
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// The database's name on it.
    pub database: String,
    /// The write-ahead log's position at the snapshot.
    pub lsn: String,
    /// The cluster's identifier; text, since it does not fit a double.
    pub system_identifier: String,
    /// Its timeline.
    pub timeline: i32,
    /// Its version.
    pub version: String,
}

/// A table's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableLine {
    /// Schema and name.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// The sum of its rows' hashes.
    pub sum: String,
}

impl Manifest {
    /// The state of the database as the manifest has it.
    pub(super) fn server_of(state: &DatabaseState) -> Server {
        Server {
            database: state.database.clone(),
            lsn: state.lsn.clone(),
            system_identifier: state.system_identifier.to_string(),
            timeline: state.timeline,
            version: state.server_version.clone(),
        }
    }

    /// Compares what was counted in a restored copy.
    ///
    /// # Errors
    /// [`Refusal::Differs`], with the first table that does.
    pub fn compare(&self, restored: &[TableSum]) -> Result<(), Refusal> {
        let in_words = |rows: u64, sum: &str| format!("{rows} rows of sum {sum}");
        for wanted in &self.tables {
            let found = restored.iter().find(|table| table.name == wanted.name);
            let same = found.is_some_and(|found| (found.rows, &found.sum) == (wanted.rows, &wanted.sum));
            if !same {
                return Err(Refusal::Differs {
                    table: wanted.name.clone(),
                    found: found.map_or_else(|| "nothing".into(), |found| in_words(found.rows, &found.sum)),
                    wanted: in_words(wanted.rows, &wanted.sum),
                });
            }
        }
        match restored.iter().find(|found| self.tables.iter().all(|wanted| wanted.name != found.name)) {
            None => Ok(()),
            Some(more) => Err(Refusal::Differs {
                table: more.name.clone(),
                found: in_words(more.rows, &more.sum),
                wanted: "no such table".into(),
            }),
        }
    }

    /// All rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }

    /// Reads a manifest that `key` has signed.
    ///
    /// # Errors
    /// [`Refusal::OtherKey`], [`Refusal::Changed`], [`Refusal::Unreadable`].
    pub fn read(note: &[u8], key: &VerifierKey) -> Result<Self, Refusal> {
        let manifest: Self = read(note, key, "manifest")?;
        if manifest.v == VERSION { Ok(manifest) } else { Err(Refusal::Unreadable { what: "manifest" }) }
    }

    /// The signed note of this manifest.
    pub(super) fn sign(&self, key: &SigningKey) -> Result<Vec<u8>, Refusal> {
        sign(self, key, "manifest")
    }
}

impl From<&TableSum> for TableLine {
    fn from(sum: &TableSum) -> Self {
        Self { name: sum.name.clone(), rows: sum.rows, sum: sum.sum.clone() }
    }
}

/// How a backup was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Restored while it was dumped, before encryption: no private key was needed.
    Inline,
    /// Restored from the encrypted file, as an emergency would.
    FromCipher,
}

/// What a verification came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "word")]
pub enum Outcome {
    /// Every count and sum was the same.
    Verified,
    /// It must not be believed.
    Refused {
        /// The stable name of the refusal.
        check: String,
        /// The refusal as a sentence.
        sentence: String,
    },
}

/// A verdict about a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// When, RFC 3339.
    pub at: String,
    /// The SHA-256 of the encrypted file in the manifest: the verdict is about this one.
    pub cipher_sha256: String,
    /// The database.
    pub database: String,
    /// The backup.
    pub id: String,
    /// How.
    pub mode: Mode,
    /// What it came to.
    pub outcome: Outcome,
    /// Rows that were compared.
    pub rows: u64,
    /// Tables that were compared.
    pub tables: u64,
    /// How long it took, milliseconds.
    pub took_ms: u64,
}

impl Verdict {
    /// Reads a verdict that `key` has signed.
    ///
    /// # Errors
    /// [`Refusal::OtherKey`], [`Refusal::Changed`], [`Refusal::Unreadable`].
    pub fn read(note: &[u8], key: &VerifierKey) -> Result<Self, Refusal> {
        read(note, key, "verdict")
    }

    /// The signed note of this verdict.
    pub(super) fn sign(&self, key: &SigningKey) -> Result<Vec<u8>, Refusal> {
        sign(self, key, "verdict")
    }

    /// Whether it says that the backup is good.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.outcome == Outcome::Verified
    }
}

fn sign(value: &impl Serialize, key: &SigningKey, what: &'static str) -> Result<Vec<u8>, Refusal> {
    let unreadable = || Refusal::Unreadable { what };
    let line = serde_json::to_string(value).map_err(|_| unreadable())?;
    let mut note = Note::new(format!("{line}\n")).map_err(|_| unreadable())?;
    let signature = key.sign(note.text(), 0);
    note.add(signature);
    Ok(note.to_string().into_bytes())
}

fn read<T: for<'de> Deserialize<'de>>(note: &[u8], key: &VerifierKey, what: &'static str) -> Result<T, Refusal> {
    let unreadable = || Refusal::Unreadable { what };
    let note: Note = std::str::from_utf8(note).map_err(|_| unreadable())?.parse().map_err(|_| unreadable())?;
    key.verify(&note).map_err(|error| match error {
        SignatureError::Absent => Refusal::OtherKey { what, key: key.name().to_owned() },
        SignatureError::Wrong => Refusal::Changed { what },
    })?;
    serde_json::from_str(note.text()).map_err(|_| unreadable())
}
