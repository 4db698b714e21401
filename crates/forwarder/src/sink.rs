//! Where zero-party data goes: the promise that every sink keeps.

use async_trait::async_trait;
use residency::Region;

use crate::change::Row;
use crate::error::Error;

/// What a batch did to a sink.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Rows that were new or newer.
    pub changed: u64,
    /// Rows whose value the sink would not take; a tombstone stands in their place.
    pub refused: u64,
}

/// A place that keeps, for each (subject digest, attribute), the row with the highest log position.
///
/// Every implementation promises: a row is taken only if its log position is above the one that is there;
/// [`Sink::apply`] returns after the rows are durable; a row of another region is refused; a call that
/// failed or was dropped may be repeated with the same or newer rows.
#[async_trait]
pub trait Sink: Send + Sync {
    /// The region whose data it holds.
    fn region(&self) -> &Region;

    /// What it is, in one word, for people and metrics.
    fn name(&self) -> &'static str;

    /// Creates what it needs and makes sure that it is the region's own. Harmless when repeated.
    ///
    /// # Errors
    /// [`Error::Misplaced`] when it belongs to another region; otherwise why it cannot be reached.
    async fn setup(&self) -> Result<(), Error>;

    /// Takes rows, each the newest of its (subject digest, attribute).
    ///
    /// # Errors
    /// [`Error::Abroad`] for a foreign row; otherwise why it could not, in which case some rows may have
    /// been taken.
    async fn apply(&self, rows: &[Row]) -> Result<Applied, Error>;

    /// What it holds, tombstones included, ordered by subject digest and attribute; of one subject, if a
    /// digest is given. At most `limit` rows.
    ///
    /// # Errors
    /// Why it could not be read.
    async fn rows(&self, subject_digest: Option<&str>, limit: u32) -> Result<Vec<Row>, Error>;
}
