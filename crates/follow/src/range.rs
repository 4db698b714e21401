//! A part of a log, for a replay: the real entries, and a cursor that lives in memory only, so that the follower's
//! own cursor and its lease are left alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use residency::Region;
use storage::OutboxRow;
use tokio::sync::watch;

use crate::source::{Source, Trouble};

/// The entries of a log between two positions, both included.
pub struct Range<S> {
    whole: S,
    position: Arc<AtomicU64>,
    to: u64,
}

impl<S: Source> Range<S> {
    /// The part from one entry to another; the later one must not lie beyond the log's end.
    #[must_use]
    pub fn new(whole: S, from: u64, to: u64) -> Self {
        Self { whole, position: Arc::new(AtomicU64::new(from.saturating_sub(1))), to }
    }
}

impl<S: Source> Source for Range<S> {
    type Lease = ();

    fn region(&self) -> &Region {
        self.whole.region()
    }

    fn cursor(&self) -> &str {
        self.whole.cursor()
    }

    async fn head(&self) -> Result<u64, Trouble> {
        Ok(self.whole.head().await?.min(self.to))
    }

    async fn rows(&self, after: u64, limit: u32) -> Result<Vec<OutboxRow>, Trouble> {
        let mut rows = self.whole.rows(after, limit).await?;
        rows.retain(|row| row.seq <= self.to);
        Ok(rows)
    }

    async fn last(&self, position: u64) -> Result<u64, Trouble> {
        self.whole.last(position).await
    }

    async fn age(&self, _seq: u64) -> Result<Duration, Trouble> {
        Ok(Duration::ZERO)
    }

    async fn acquire(&self, _owner: &str, _lease: Duration) -> Result<Option<((), u64)>, Trouble> {
        Ok(Some(((), self.position.load(Ordering::Acquire))))
    }

    async fn advance(&self, _lease: &(), position: u64, _lease_for: Duration) -> Result<(), Trouble> {
        self.position.fetch_max(position, Ordering::AcqRel);
        Ok(())
    }

    fn wakeups(&self) -> watch::Receiver<u64> {
        self.whole.wakeups()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read;
    use crate::testing::{MemoryLog, region, row};

    #[tokio::test]
    async fn a_range_shows_its_part_and_leaves_the_cursor_alone() {
        let log = MemoryLog::new(&region());
        log.commit((1..=20).map(|seq| row(seq, "eu-central.a.v1")));
        let range = Range::new(log.clone(), 5, 12);
        let (lease, position) = range.acquire("replay", Duration::from_secs(1)).await.unwrap().unwrap();
        let part = read(&range, position, 100).await.unwrap();
        assert_eq!(part.rows.iter().map(|row| row.seq).collect::<Vec<_>>(), (5..=12).collect::<Vec<_>>());
        assert_eq!((part.covered, part.head), (12, 12));
        range.advance(&lease, 12, Duration::ZERO).await.unwrap();
        assert_eq!(read(&range, 12, 100).await.unwrap().rows, []);
        assert_eq!(log.cursor_position(), 0);
    }
}
