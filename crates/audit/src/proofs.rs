//! Proofs out of a region's log: which tiles they need is read from the database, a handful however large
//! the log is.

use std::collections::BTreeSet;

use storage::Log;
use tlog::{EntryProof, Hash, Note, Tile, TileSet, TreeError, tiles_for_consistency, tiles_for_inclusion};

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum NoProof {
    /// The log has no signed checkpoint, or none that reaches so far yet.
    #[error("the log has no signed checkpoint that reaches so far")]
    NotSigned,
    /// The log lost a part of itself.
    #[error("the log does not hold what its checkpoint speaks of")]
    Incomplete(#[source] Option<TreeError>),
    /// The database did not answer.
    #[error("the log could not be read")]
    Unread(#[from] storage::Error),
}

impl From<TreeError> for NoProof {
    fn from(error: TreeError) -> Self {
        Self::Incomplete(Some(error))
    }
}

/// Reads tiles of a log as it was at one size.
///
/// # Errors
/// [`NoProof::Incomplete`] when one of them is not there.
pub async fn read_tiles(log: &Log, size: u64, needed: BTreeSet<Tile>) -> Result<TileSet, NoProof> {
    let mut set = TileSet::new(size);
    for tile in needed {
        let hashes = log.tile(tile).await?.ok_or(NoProof::Incomplete(Some(TreeError::Missing(tile))))?;
        if !set.insert(tile, hashes) {
            return Err(NoProof::Incomplete(Some(TreeError::Missing(tile))));
        }
    }
    Ok(set)
}

/// The proof that leaf `seq` is in the log, under its newest checkpoint.
///
/// # Errors
/// [`NoProof`].
pub async fn entry_proof(log: &Log, seq: u64) -> Result<EntryProof, NoProof> {
    let checkpoint = log.checkpoint(false).await?.filter(|checkpoint| seq < checkpoint.size);
    let checkpoint = checkpoint.ok_or(NoProof::NotSigned)?;
    let note: Note = checkpoint.note.parse().map_err(|_| NoProof::Incomplete(None))?;
    let set = read_tiles(log, checkpoint.size, tiles_for_inclusion(checkpoint.size, seq)?).await?;
    Ok(EntryProof { extra: None, index: seq, hashes: set.inclusion(seq)?, checkpoint: note })
}

/// The proof that the log of `size` leaves continues its own first `older`.
///
/// # Errors
/// [`NoProof`].
pub async fn consistency_proof(log: &Log, older: u64, size: u64) -> Result<Vec<Hash>, NoProof> {
    let set = read_tiles(log, size, tiles_for_consistency(size, older)?).await?;
    Ok(set.consistency(older)?)
}

/// The number of the first entry whose time is at or behind `at_us` (microseconds since 1970-01-01 UTC), or the size
/// of the log. Times grow along a log but for the few seconds by which clocks differ and commits take.
///
/// # Errors
/// When the database does not answer.
pub async fn seq_at(log: &Log, at_us: i64) -> Result<u64, storage::Error> {
    let (mut from, mut to) = (0, log.head().await?.size);
    while from < to {
        let middle = from + (to - from) / 2;
        let row = log.leaves(middle, 1).await?;
        // What has no time of its own counts as early, so that it is rather in a pack than not.
        let at = row.first().and_then(|row| time_of(&row.line)).unwrap_or(i64::MIN);
        if at < at_us { from = middle + 1 } else { to = middle }
    }
    Ok(from)
}

/// The time of a leaf of any kind.
fn time_of(line: &str) -> Option<i64> {
    #[derive(serde::Deserialize)]
    struct Timed {
        ts: String,
    }
    let timed: Timed = serde_json::from_str(line).ok()?;
    let at = time::OffsetDateTime::parse(&timed.ts, &time::format_description::well_known::Rfc3339).ok()?;
    i64::try_from(at.unix_timestamp_nanos() / 1_000).ok()
}
