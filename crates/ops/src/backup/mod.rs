//! Backups of a region's database: taken in the region, encrypted before they rest, signed, and proven by really
//! restoring them.
//!
//! A backup is two objects at a target, `<database>/<id>/dump.age` and `<database>/<id>/manifest.note`, and it exists
//! when the second one does: that is written last, whole or not at all. What a verification came to is written beside
//! it, signed too. Nothing here reads configuration or prints.

mod catalog;
mod check;
mod create;
mod crypt;
mod error;
mod id;
mod manifest;
mod place;
mod prune;
mod rekey;
pub mod restore;
mod run;
mod source;
mod stream;
pub mod target;
mod verify;

pub use catalog::{Backup, Catalog, Standing};
pub use check::{check, fix};
pub use create::{Created, Kind, Order, create};
pub use crypt::{Identities, Recipients, new_pair};
pub use error::{Error, Refusal};
pub use id::BackupId;
pub use manifest::{Manifest, Mode, Outcome, TableLine, Verdict};
pub use place::Place;
pub use prune::{Fate, Kept, Pruned, Retention, Row, fates, prune};
pub use rekey::rekey;
pub use run::Programs;
pub use source::{Bounds, Clock, Source};
pub use verify::{Sought, Verified, verify, verify_seeking};

use crate::deployment::DatabaseName;

/// What is being done, for whoever watches. Its `Display` is a clause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// What an earlier run left behind was removed: this many things.
    Cleaned(usize),
    /// A table was counted.
    Counted {
        /// Its name.
        table: String,
        /// Its rows.
        rows: u64,
    },
    /// So many bytes of the dump have passed.
    Passed {
        /// Bytes before encryption.
        plain_bytes: u64,
        /// How many there will be, where that is known.
        of: Option<u64>,
    },
    /// A restored copy is being compared.
    Comparing,
    /// What was stored is read back.
    ReadingBack,
    /// It exists.
    Published(BackupId),
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cleaned(count) => write!(f, "removed {count} remains of runs that were cut short"),
            Self::Counted { table, rows } => write!(f, "counted {rows} rows of {table}"),
            Self::Passed { plain_bytes, of: Some(of) } => write!(f, "{plain_bytes} of {of} bytes"),
            Self::Passed { plain_bytes, of: None } => write!(f, "{plain_bytes} bytes dumped"),
            Self::Comparing => f.write_str("comparing the restored copy, table by table"),
            Self::ReadingBack => f.write_str("reading back what was stored"),
            Self::Published(id) => write!(f, "published {id}"),
        }
    }
}

/// Whoever watches: told which database takes which step.
pub type Progress<'a> = &'a (dyn Fn(&DatabaseName, Step) + Send + Sync);
