//! Where backups rest: a few objects by name, each there whole or not at all.

mod folder;

use std::io;

use async_trait::async_trait;

pub use folder::Folder;

/// Bytes that are moved at a time.
pub const PIECE_BYTES: usize = 256 << 10;
/// The largest small object (a manifest, a verdict) that is read, bytes.
pub const SMALL_BYTES_MAX: usize = tlog::NOTE_BYTES_MAX;
/// The most objects that one listing may have.
pub const OBJECTS_MAX: usize = 200_000;

/// The place of the backups did not do its part.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// An object could not be written, read, listed or removed.
    #[error("{what} at {target} failed for {name}")]
    Io {
        /// Where.
        target: String,
        /// What was to be done, e.g. `writing`.
        what: &'static str,
        /// The object.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no such object.
    #[error("there is no {name} at {target}")]
    Absent {
        /// Where.
        target: String,
        /// The object.
        name: String,
    },
    /// What was read is not what was written.
    #[error("{target} gave back something else of {name} than was written")]
    Differs {
        /// Where.
        target: String,
        /// The object.
        name: String,
    },
    /// What was removed is still there.
    #[error("{name} at {target} was removed, and is still there")]
    Stays {
        /// Where.
        target: String,
        /// The object.
        name: String,
    },
    /// An object, or a listing, is larger than it can rightly be.
    #[error("{name} at {target} is larger than it may be")]
    TooLarge {
        /// Where.
        target: String,
        /// The object.
        name: String,
    },
}

/// An object as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its name, e.g. `eu-central/20261125T012345Z-3fa9c1d0/dump.age`.
    pub name: String,
    /// Its size, bytes.
    pub bytes: u64,
}

/// A place for backups. Names are made of `a-z`, `A-Z`, `0-9`, `-`, `_`, `.` and `/`.
#[async_trait]
pub trait Target: Send + Sync {
    /// Where it is, for people.
    fn describe(&self) -> String;

    /// Begins an object; it appears under its name when [`Upload::finish`] returns, and not before.
    async fn begin(&self, name: &str) -> Result<Box<dyn Upload>, TargetError>;

    /// Writes a small object, in the place of an older one of the name: afterwards it is the old or the new.
    async fn put(&self, name: &str, content: &[u8]) -> Result<(), TargetError>;

    /// Reads a small object.
    async fn get(&self, name: &str) -> Result<Vec<u8>, TargetError>;

    /// Reads a large object piece by piece.
    async fn open(&self, name: &str) -> Result<Box<dyn Download>, TargetError>;

    /// The objects whose names begin with `prefix` and a slash, by name.
    async fn list(&self, prefix: &str) -> Result<Vec<Object>, TargetError>;

    /// Removes an object; it is no error when there is none.
    async fn remove(&self, name: &str) -> Result<(), TargetError>;

    /// Removes what uploads that were cut short have left beneath `prefix`; says how many there were.
    async fn sweep(&self, prefix: &str) -> Result<usize, TargetError>;
}

/// An object being written. Dropped before [`finish`](Self::finish), it never was.
#[async_trait]
pub trait Upload: Send {
    /// Adds bytes.
    async fn write(&mut self, piece: &[u8]) -> Result<(), TargetError>;

    /// Makes it durable and lets it appear.
    async fn finish(self: Box<Self>) -> Result<(), TargetError>;
}

/// An object being read.
#[async_trait]
pub trait Download: Send {
    /// The next bytes; empty at the end.
    async fn read(&mut self) -> Result<Vec<u8>, TargetError>;
}

/// Whether a text can be the name of an object, or a prefix.
pub(crate) fn is_name(name: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    name.len() <= 512 && name.split('/').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_the_target() {
        assert!(is_name("eu-central/20261125T012345Z-3fa9c1d0/dump.age"));
        for bad in ["", "/etc/passwd", "a//b", "../a", "a/../b", "a/.b", "a b", "a\\b", "a/"] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
