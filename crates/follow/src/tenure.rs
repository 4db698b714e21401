//! A lease on a cursor, and where the work under it stands.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use crate::source::{Source, Trouble};

type Store = Pin<Box<dyn Future<Output = (u64, Instant, Result<(), Trouble>)> + Send>>;

/// The right to move a cursor, for as long as it is renewed. Dropped without [`Tenure::give_back`] it runs out by
/// itself, and a successor goes on from what was stored.
pub struct Tenure<S: Source> {
    source: Arc<S>,
    lease: S::Lease,
    lease_for: Duration,
    /// Up to when the lease surely holds: reckoned from before it was asked for.
    valid_until: Instant,
    stored: u64,
    /// When the cursor was last asked to be stored.
    asked_at: Instant,
    position: u64,
    store: Option<Store>,
}

impl<S: Source> Tenure<S> {
    /// Takes the cursor; `None` while somebody else has it.
    ///
    /// # Errors
    /// When the log does not answer.
    pub async fn take(source: &Arc<S>, owner: &str, lease_for: Duration) -> Result<Option<Self>, Trouble> {
        let asked_at = Instant::now();
        let Some((lease, position)) = source.acquire(owner, lease_for).await? else { return Ok(None) };
        Ok(Some(Self {
            source: Arc::clone(source),
            lease,
            lease_for,
            valid_until: asked_at + lease_for,
            stored: position,
            asked_at,
            position,
            store: None,
        }))
    }

    /// Everything up to here is done.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Where the cursor in the database stands, as far as is known.
    #[must_use]
    pub fn stored(&self) -> u64 {
        self.stored
    }

    /// Notes that everything up to a position is done. It becomes durable with the next store.
    pub fn reach(&mut self, position: u64) {
        debug_assert!(position >= self.position, "what is done is not undone");
        self.position = self.position.max(position);
    }

    /// Until when the lease surely holds. Past that, somebody else may have it.
    #[must_use]
    pub fn valid_until(&self) -> Instant {
        self.valid_until
    }

    /// Whether a store is under way.
    #[must_use]
    pub fn is_storing(&self) -> bool {
        self.store.is_some()
    }

    /// When the cursor is to be stored next, if it is to be stored at least every `interval`. A lease wants
    /// renewal well before it runs out, whatever the interval.
    #[must_use]
    pub fn due_at(&self, interval: Duration) -> Instant {
        self.asked_at + interval.min(self.lease_for / 3)
    }

    /// Begins to store the cursor beside other work; [`Tenure::stored_now`] tells what came of it.
    pub fn begin_store(&mut self) {
        if self.store.is_none() {
            self.store = Some(self.storing(self.lease_for));
        }
    }

    /// Waits for the store under way; without one it never ends. Trouble with the database is forgiven for as
    /// long as the lease holds: the cursor only lags behind.
    ///
    /// # Errors
    /// [`Trouble::LeaseLost`] when the lease is no longer ours.
    pub async fn stored_now(&mut self) -> Result<(), Trouble> {
        let Some(store) = &mut self.store else { return std::future::pending().await };
        let outcome = store.await;
        self.store = None;
        self.note(outcome)
    }

    /// Stores the cursor and renews the lease.
    ///
    /// # Errors
    /// As [`Tenure::stored_now`].
    pub async fn store(&mut self) -> Result<(), Trouble> {
        self.settle().await?;
        let outcome = self.storing(self.lease_for).await;
        self.note(outcome)
    }

    /// Stores the cursor and ends the lease, so that a successor need not wait. What could not be stored is
    /// done once more by the successor.
    pub async fn give_back(&mut self) {
        if self.settle().await.is_ok() {
            let outcome = self.storing(Duration::ZERO).await;
            let _ = self.note(outcome);
        }
    }

    async fn settle(&mut self) -> Result<(), Trouble> {
        if self.store.is_some() { self.stored_now().await } else { Ok(()) }
    }

    fn storing(&mut self, lease_for: Duration) -> Store {
        let (source, lease, position) = (Arc::clone(&self.source), self.lease.clone(), self.position);
        let asked_at = Instant::now();
        self.asked_at = asked_at;
        Box::pin(async move { (position, asked_at + lease_for, source.advance(&lease, position, lease_for).await) })
    }

    fn note(&mut self, (position, valid_until, outcome): (u64, Instant, Result<(), Trouble>)) -> Result<(), Trouble> {
        match outcome {
            Ok(()) => {
                self.stored = position;
                self.valid_until = valid_until;
                Ok(())
            }
            Err(Trouble::Failed(cause)) if Instant::now() < self.valid_until => {
                let (region, cursor) = (self.source.region(), self.source.cursor());
                warn!(%region, cursor, error = %cause, "The cursor {cursor} of {region} could not be stored; it will be tried again");
                Ok(())
            }
            Err(_) => Err(Trouble::LeaseLost),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{MemoryLog, region};

    const LEASE: Duration = Duration::from_secs(15);

    #[tokio::test(start_paused = true)]
    async fn one_owner_at_a_time_and_a_slow_one_is_fenced() {
        let log = Arc::new(MemoryLog::new(&region()));
        let mut first = Tenure::take(&log, "first", LEASE).await.unwrap().unwrap();
        assert!(Tenure::take(&log, "second", LEASE).await.unwrap().is_none());
        first.reach(7);
        first.store().await.unwrap();
        tokio::time::advance(LEASE * 2).await;
        let mut second = Tenure::take(&log, "second", LEASE).await.unwrap().unwrap();
        assert_eq!(second.position(), 7);
        first.reach(9);
        assert!(matches!(first.store().await, Err(Trouble::LeaseLost)));
        assert_eq!(log.cursor_position(), 7);
        second.reach(8);
        second.give_back().await;
        assert_eq!(log.cursor_position(), 8);
        assert!(Tenure::take(&log, "third", LEASE).await.unwrap().is_some(), "what was given back is free at once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_database_that_is_away_is_forgiven_while_the_lease_holds_and_no_longer() {
        let log = Arc::new(MemoryLog::new(&region()));
        let mut tenure = Tenure::take(&log, "first", LEASE).await.unwrap().unwrap();
        log.fail(true);
        tenure.reach(3);
        tenure.store().await.unwrap();
        assert_eq!(tenure.stored(), 0);
        tokio::time::advance(LEASE).await;
        assert!(matches!(tenure.store().await, Err(Trouble::LeaseLost)));
    }
}
