//! One read of the log, and up to where it covers the log.

use storage::OutboxRow;

use crate::source::{Source, Trouble};

/// What a read brought.
#[derive(Debug)]
pub struct Read {
    /// Entries in log order.
    pub rows: Vec<OutboxRow>,
    /// Everything up to this position has been read, events or not.
    pub covered: u64,
    /// The newest position when it was asked.
    pub head: u64,
    /// Whether there may be more at once.
    pub full: bool,
}

/// Reads up to `limit` entries behind a position.
///
/// # Errors
/// When the log does not answer.
pub async fn read<S: Source>(source: &S, after: u64, limit: u32) -> Result<Read, Trouble> {
    // The head first: what is below it is then surely in the answer, if the answer is not full.
    let head = source.head().await?;
    if head <= after {
        return Ok(Read { rows: Vec::new(), covered: after, head, full: false });
    }
    let rows = source.rows(after, limit).await?;
    let full = rows.len() >= limit as usize;
    let last = rows.last().map_or(after, |row| row.seq);
    debug_assert!(rows.first().is_none_or(|first| first.seq > after), "no entry twice");
    Ok(Read { covered: if full { last } else { last.max(head) }, rows, head, full })
}
