//! Where a log to be verified comes from. Nothing that comes from there is believed.

use std::ops::Range;

use tlog::{Hash, Tile};

use super::PolicyText;

/// A log to be verified, as somebody serves it.
pub trait Source: Sync {
    /// The newest checkpoint: a signed note.
    ///
    /// # Errors
    /// [`Unread`].
    fn checkpoint(&self) -> Result<String, Unread>;

    /// The hashes of a tile, 32 bytes each.
    ///
    /// # Errors
    /// [`Unread`].
    fn tile(&self, tile: Tile) -> Result<Vec<u8>, Unread>;

    /// The entries beneath a tile of level 0, as a bundle.
    ///
    /// # Errors
    /// [`Unread`].
    fn entries(&self, tile: Tile) -> Result<Vec<u8>, Unread>;

    /// The policies that came with the log.
    ///
    /// # Errors
    /// [`Unread`].
    fn policies(&self) -> Result<Vec<PolicyText>, Unread> {
        Ok(Vec::new())
    }

    /// The SHA-256 of a list that was drawn from the entries, for whoever reads it first; `None` when this source has none.
    /// The entries make `bytes` of it: more than one byte beyond that need not be read, since it is another list then.
    ///
    /// # Errors
    /// [`Unread`].
    fn list(&self, _name: &str, _bytes: u64) -> Result<Option<Hash>, Unread> {
        Ok(None)
    }

    /// Which entries it has, of a log of this size.
    fn range(&self, size: u64) -> Range<u64> {
        0..size
    }
}

/// Why something could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// It is not there: that is a finding about the log.
    #[error("{0} is not there")]
    Missing(String),
    /// The source does not answer: nothing can be said about the log.
    #[error("{0}")]
    Unreachable(String),
}
