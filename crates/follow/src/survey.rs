//! What a part of a log holds, before anything is done with it.

use std::collections::BTreeMap;

use crate::reading::read;
use crate::source::{Source, Trouble};

/// Entries that are read at once.
const ROWS_MAX: u32 = 5_000;

/// The entries of one topic in a part of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Part {
    /// How many.
    pub entries: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// The first one's position.
    pub first: u64,
    /// The last one's.
    pub last: u64,
}

/// Counts the entries between two positions (both included), by topic.
///
/// # Errors
/// When the log does not answer.
pub async fn survey<S: Source>(source: &S, from: u64, to: u64) -> Result<BTreeMap<String, Part>, Trouble> {
    let mut parts: BTreeMap<String, Part> = BTreeMap::new();
    let mut after = from.saturating_sub(1);
    while after < to {
        let found = read(source, after, ROWS_MAX).await?;
        for row in found.rows.iter().filter(|row| row.seq <= to) {
            let part = parts.entry(row.topic.clone()).or_default();
            part.entries += 1;
            part.bytes += row.data.len() as u64;
            part.first = if part.first == 0 { row.seq } else { part.first };
            part.last = row.seq;
        }
        if !found.full {
            break;
        }
        after = found.covered;
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{MemoryLog, region, row};

    #[tokio::test]
    async fn a_survey_counts_what_lies_between_two_positions_by_topic() {
        let log = MemoryLog::new(&region());
        log.commit((1..=20).map(|seq| row(seq, if seq % 2 == 0 { "eu-central.a.v1" } else { "eu-central.b.v1" })));
        let parts = survey(&log, 5, 9).await.unwrap();
        let of = |topic: &str| (parts[topic].entries, parts[topic].first, parts[topic].last);
        assert_eq!((of("eu-central.a.v1"), of("eu-central.b.v1")), ((2, 6, 8), (3, 5, 9)));
    }
}
