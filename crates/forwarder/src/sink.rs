//! Where zero-party data goes: the promise that every sink keeps.

use async_trait::async_trait;
use residency::Region;

use crate::change::{Forgotten, Row};
use crate::error::Error;
use crate::thrift::Usage;

/// What a batch did to a sink.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Rows that were new or newer.
    pub changed: u64,
    /// Rows whose value the sink would not take; a tombstone stands in their place.
    pub refused: u64,
}

/// Who works with a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Whoever holds the cursor's lease: there is one, and what others like it left is nobody's any more.
    Owner,
    /// A replay, beside the owner: it touches nothing that is on its way.
    Beside,
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

    /// Creates what it needs, makes sure that it is the region's own, and clears what a dead forwarder left between
    /// its steps. Called whenever the cursor was taken: others may have been at work in between. Harmless when repeated.
    ///
    /// # Errors
    /// [`Error::Misplaced`] when it belongs to another region; otherwise why it cannot be reached.
    async fn setup(&self, place: Place) -> Result<(), Error>;

    /// The cursor is held no longer: lets go of what only its owner may hold, and forgets what it knew. Does not wait:
    /// what a dropped call is still doing keeps it until that has ended. What is done next begins with [`Sink::setup`].
    fn leave(&self) {}

    /// Takes rows, each the newest of its (subject digest, attribute).
    ///
    /// # Errors
    /// [`Error::Abroad`] for a foreign row; otherwise why it could not, in which case some rows may have
    /// been taken.
    async fn apply(&self, rows: &[Row]) -> Result<Applied, Error>;

    /// Forgets subjects for ever: nothing of theirs is left, neither in what it shows nor on the way there, and nothing
    /// of theirs is taken again. Returns when that is durable, with the name of what did it, e.g. a query's id.
    ///
    /// # Errors
    /// As for [`Sink::apply`]; may be repeated.
    async fn erase(&self, erased: &[Forgotten]) -> Result<String, Error>;

    /// What it has used since the start, for those who pay for it. Nothing, unless it says otherwise.
    fn usage(&self) -> Usage {
        Usage::default()
    }

    /// What it holds, tombstones included, ordered by subject digest and attribute; of one subject, if a
    /// digest is given. At most `limit` rows.
    ///
    /// # Errors
    /// Why it could not be read.
    async fn rows(&self, subject_digest: Option<&str>, limit: u32) -> Result<Vec<Row>, Error>;
}
