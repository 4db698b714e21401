//! What a follower needs of a region log: a few questions. A seam, so that the loops above can be tested without
//! Postgres, and so that a replay can show them a part of the log ([`Range`](crate::Range)).

use std::future::Future;
use std::time::Duration;

use residency::Region;
use storage::{Channel, Log, OutboxRow};
use tokio::sync::watch;

/// Why a question to the log was not answered.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// Another owner holds the cursor now, or the lease ran out.
    #[error("the lease on the cursor was lost")]
    LeaseLost,
    /// Anything else: to be tried again.
    #[error("the region log could not be read or its cursor not be moved")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<storage::Error> for Trouble {
    fn from(error: storage::Error) -> Self {
        match error {
            storage::Error::LeaseLost => Self::LeaseLost,
            error => Self::Failed(Box::new(error)),
        }
    }
}

/// A region log as a follower sees it. Positions count what is done: position `n` means that the entries
/// with `seq <= n` are done, and reading goes on with `seq > n`.
pub trait Source: Send + Sync + 'static {
    /// The right to move the cursor, with its fencing token.
    type Lease: Clone + Send + Sync + 'static;

    /// Whose log it is.
    fn region(&self) -> &Region;

    /// The cursor's name.
    fn cursor(&self) -> &str;

    /// The position behind the newest committed entry.
    fn head(&self) -> impl Future<Output = Result<u64, Trouble>> + Send;

    /// The entries with `seq > after`, in order, at most `limit`.
    fn rows(&self, after: u64, limit: u32) -> impl Future<Output = Result<Vec<OutboxRow>, Trouble>> + Send;

    /// The position of the last entry up to and including `position`; 0 when there is none.
    fn last(&self, position: u64) -> impl Future<Output = Result<u64, Trouble>> + Send;

    /// How long ago the entry at this position was committed; zero when there is none.
    fn age(&self, seq: u64) -> impl Future<Output = Result<Duration, Trouble>> + Send;

    /// Takes the cursor, if nobody else holds it, and says where it stands.
    fn acquire(
        &self,
        owner: &str,
        lease: Duration,
    ) -> impl Future<Output = Result<Option<(Self::Lease, u64)>, Trouble>> + Send;

    /// Moves the cursor and renews the lease.
    fn advance(
        &self,
        lease: &Self::Lease,
        position: u64,
        lease_for: Duration,
    ) -> impl Future<Output = Result<(), Trouble>> + Send;

    /// Changes whenever this process commits to the log.
    fn wakeups(&self) -> watch::Receiver<u64>;
}

/// The region's own log, behind one cursor of it.
#[derive(Clone)]
pub struct LogSource {
    log: Log,
    channel: Channel,
    cursor: &'static str,
}

impl LogSource {
    /// What a channel of the log shows, and a cursor over it.
    #[must_use]
    pub fn new(log: Log, channel: Channel, cursor: &'static str) -> Self {
        Self { log, channel, cursor }
    }
}

impl Source for LogSource {
    type Lease = storage::CursorLease;

    fn region(&self) -> &Region {
        self.log.region()
    }

    fn cursor(&self) -> &str {
        self.cursor
    }

    async fn head(&self) -> Result<u64, Trouble> {
        // The log's size counts its own first leaf, which has sequence number 0.
        Ok(self.log.head().await?.size.saturating_sub(1))
    }

    async fn rows(&self, after: u64, limit: u32) -> Result<Vec<OutboxRow>, Trouble> {
        Ok(self.log.outbox(self.channel, after, limit).await?)
    }

    async fn last(&self, position: u64) -> Result<u64, Trouble> {
        Ok(self.log.last_event(position).await?)
    }

    async fn age(&self, seq: u64) -> Result<Duration, Trouble> {
        Ok(self.log.age(seq).await?.unwrap_or_default())
    }

    async fn acquire(&self, owner: &str, lease: Duration) -> Result<Option<(Self::Lease, u64)>, Trouble> {
        let lease = self.log.acquire_cursor(self.cursor, owner, lease).await?;
        Ok(lease.map(|lease| {
            let position = lease.seq;
            (lease, position)
        }))
    }

    async fn advance(&self, lease: &Self::Lease, position: u64, lease_for: Duration) -> Result<(), Trouble> {
        Ok(self.log.advance_cursor(lease, position, lease_for).await?)
    }

    fn wakeups(&self) -> watch::Receiver<u64> {
        self.log.wakeups()
    }
}
