//! How much a batch of lookups finds. It is counted while the rows come, so that a batch of large records is broken off
//! before it is more than can be held, and what is asked for together next is as much as can be.

use futures::TryStreamExt as _;
use sqlx::Row as _;
use sqlx::postgres::{PgArguments, PgConnection, PgRow, Postgres};
use sqlx::query::Query;

use crate::error::Trouble;
use crate::limits::Limits;

/// What the lookups of one batch have found so far.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    lookups: usize,
    bytes_max: usize,
    rows: usize,
    bytes: usize,
}

impl Tally {
    /// Of a batch of so many lookups. One alone is bounded by what it may ask for.
    pub(super) fn of(limits: &Limits, lookups: usize) -> Self {
        let bytes_max = if lookups > 1 { limits.batch_found_bytes_max } else { usize::MAX };
        Self { lookups, bytes_max, rows: 0, bytes: 0 }
    }

    /// Takes the rows of a statement, of which `content` is the column that may be large, until the batch is more than it
    /// may be: what is still to come then is not taken, and a further statement not begun.
    pub(super) async fn rows(
        &mut self,
        statement: Query<'_, Postgres, PgArguments>,
        connection: &mut PgConnection,
        content: usize,
    ) -> Result<Vec<PgRow>, Trouble> {
        let mut coming = statement.fetch(connection);
        let mut rows = Vec::with_capacity(self.lookups);
        while !self.is_over()
            && let Some(row) = coming.try_next().await?
        {
            self.rows += 1;
            self.bytes += row.try_get_raw(content)?.as_bytes().map_or(0, <[u8]>::len);
            rows.push(row);
        }
        Ok(rows)
    }

    /// Whether the batch is more than it may be.
    pub(super) fn is_over(&self) -> bool {
        self.bytes > self.bytes_max
    }

    /// Whether what the server is still sending is more than is worth waiting for.
    pub(super) fn is_far_over(&self) -> bool {
        self.is_over() && self.lookups.saturating_sub(self.rows).saturating_mul(self.mean()) > self.bytes_max
    }

    /// Bytes of what one lookup found, on the average. Of a list that is every row of it.
    fn mean(&self) -> usize {
        self.bytes / self.rows.clamp(1, self.lookups.max(1))
    }
}

/// What lookups have found lately, in bytes: more is believed at once, less by and by.
#[derive(Debug, Default)]
pub(super) struct Usual {
    bytes: usize,
}

impl Usual {
    pub(super) fn learn(&mut self, tally: &Tally) {
        self.bytes = tally.mean().max(self.bytes / 2);
    }

    /// How many such lookups to ask for together, of `most`: half of what may be held is aimed at, since some are larger.
    pub(super) fn fit(&self, limits: &Limits, most: usize) -> usize {
        (limits.batch_found_bytes_max / 2 / self.bytes.max(1)).min(most).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(lookups: usize, rows: usize, bytes: usize) -> Tally {
        Tally { rows, bytes, ..Tally::of(&Limits::default(), lookups) }
    }

    #[test]
    fn large_records_are_asked_for_in_as_many_as_can_be_held_and_small_ones_by_the_thousand() {
        const MIB: usize = 1 << 20;
        let limits = Limits { batch_found_bytes_max: 32 * MIB, ..Limits::default() };
        let mut usual = Usual::default();
        assert_eq!(usual.fit(&limits, 1_024), 1_024, "nothing is known yet");
        let broken_off = found(1_024, 33, 33 * MIB);
        assert!(broken_off.is_over() && broken_off.is_far_over());
        usual.learn(&broken_off);
        assert_eq!(usual.fit(&limits, 1_024), 16);
        let mut taken = Vec::new();
        for _ in 0..7 {
            usual.learn(&found(16, 16, 16 * 400));
            taken.push(usual.fit(&limits, 1_024));
        }
        assert_eq!(taken, [32, 64, 128, 256, 512, 1_024, 1_024], "less is believed by and by");
    }

    #[test]
    fn one_lookup_alone_is_never_too_much_and_a_little_over_is_waited_for() {
        assert!(!found(1, 1, 1 << 30).is_over());
        let last = found(40, 39, 33 << 20);
        assert!(last.is_over() && !last.is_far_over());
        let mut usual = Usual::default();
        usual.learn(&found(2, 2, 1 << 30));
        assert_eq!(usual.fit(&Limits::default(), 1_024), 1);
    }
}
