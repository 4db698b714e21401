//! What the relay needs of a region log: four questions. A seam, so that the loop can be tested without
//! Postgres; the one real implementation is at the end.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use storage::{Channel, Log, OutboxRow};
use tokio::sync::watch;

/// The cursor's name in the region's database.
const CURSOR: &str = "relay";

/// An outbox entry, as the relay sends it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) seq: u64,
    pub(crate) topic: String,
    pub(crate) key: Vec<u8>,
    pub(crate) event_type: String,
    pub(crate) event_id: String,
    pub(crate) source: String,
    pub(crate) time_us: i64,
    pub(crate) datacontenttype: String,
    pub(crate) traceparent: Option<String>,
    pub(crate) extensions: BTreeMap<String, String>,
    pub(crate) data: Vec<u8>,
}

/// Why a question to the log was not answered.
#[derive(Debug)]
pub(crate) enum SourceError {
    /// Another owner holds the cursor now.
    LeaseLost,
    /// Anything else: to be tried again.
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

/// A region log as the relay sees it. Positions count what is done: position `n` means that the entries
/// with `seq <= n` are done, and reading goes on with `seq > n`.
pub(crate) trait Source: Send + Sync + 'static {
    /// The right to move the cursor, with its fencing token.
    type Lease: Clone + Send + Sync + 'static;

    /// The position behind the newest committed entry.
    fn head(&self) -> impl Future<Output = Result<u64, SourceError>> + Send;

    /// The entries with `seq > after`, in order, at most `limit`.
    fn outbox(&self, after: u64, limit: u32) -> impl Future<Output = Result<Vec<Entry>, SourceError>> + Send;

    /// Takes the cursor, if nobody else holds it, and says where it stands.
    fn acquire(
        &self,
        owner: &str,
        lease: Duration,
    ) -> impl Future<Output = Result<Option<(Self::Lease, u64)>, SourceError>> + Send;

    /// Moves the cursor and renews the lease.
    fn advance(
        &self,
        lease: &Self::Lease,
        position: u64,
        lease_for: Duration,
    ) -> impl Future<Output = Result<(), SourceError>> + Send;

    /// Changes whenever this process commits to the log.
    fn wakeups(&self) -> watch::Receiver<u64>;
}

/// The region's own log.
pub(crate) struct LogSource {
    log: Log,
}

impl LogSource {
    pub(crate) fn new(log: Log) -> Self {
        Self { log }
    }
}

impl Source for LogSource {
    type Lease = storage::CursorLease;

    async fn head(&self) -> Result<u64, SourceError> {
        // The log's size counts its own first leaf, which has sequence number 0.
        Ok(self.log.head().await.map_err(failed)?.size.saturating_sub(1))
    }

    async fn outbox(&self, after: u64, limit: u32) -> Result<Vec<Entry>, SourceError> {
        let rows = self.log.outbox(Channel::Events, after, limit).await.map_err(failed)?;
        Ok(rows.into_iter().map(Entry::from).collect())
    }

    async fn acquire(&self, owner: &str, lease: Duration) -> Result<Option<(Self::Lease, u64)>, SourceError> {
        let lease = self.log.acquire_cursor(CURSOR, owner, lease).await.map_err(failed)?;
        Ok(lease.map(|lease| {
            let position = lease.seq;
            (lease, position)
        }))
    }

    async fn advance(&self, lease: &Self::Lease, position: u64, lease_for: Duration) -> Result<(), SourceError> {
        self.log.advance_cursor(lease, position, lease_for).await.map_err(failed)
    }

    fn wakeups(&self) -> watch::Receiver<u64> {
        self.log.wakeups()
    }
}

impl From<OutboxRow> for Entry {
    fn from(row: OutboxRow) -> Self {
        Self {
            seq: row.seq,
            topic: row.topic,
            // Hexadecimal, so that an operator's tools show a key and not a screenful of noise.
            key: row.key.to_hex().into_bytes(),
            event_type: row.event_type,
            event_id: row.event_id,
            source: row.source,
            time_us: row.time_us,
            datacontenttype: row.datacontenttype,
            traceparent: row.traceparent,
            extensions: row.extensions,
            data: row.data,
        }
    }
}

fn failed(error: storage::Error) -> SourceError {
    match error {
        storage::Error::LeaseLost => SourceError::LeaseLost,
        error => SourceError::Failed(Box::new(error)),
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! A region log in memory, with a cursor that is fenced as the real one is.

    use std::sync::{Arc, Mutex};
    use std::time::Instant;

    use super::*;

    /// An entry with everything that a message needs.
    pub(crate) fn entry(seq: u64, topic: &str) -> Entry {
        Entry {
            seq,
            topic: topic.to_owned(),
            key: format!("{:064x}", seq % 7).into_bytes(),
            event_type: "shop.order-placed".to_owned(),
            event_id: format!("event-{seq}"),
            source: "/test".to_owned(),
            time_us: 1_793_491_200_000_000,
            datacontenttype: "application/json".to_owned(),
            traceparent: None,
            extensions: BTreeMap::new(),
            data: format!("{{\"n\":{seq}}}").into_bytes(),
        }
    }

    #[derive(Clone)]
    pub(crate) struct MemoryLog {
        state: Arc<Mutex<State>>,
        wakeups: Arc<watch::Sender<u64>>,
    }

    #[derive(Default)]
    struct State {
        entries: Vec<Entry>,
        head: u64,
        cursor: u64,
        token: u64,
        owner: Option<(String, Instant)>,
        stores: Vec<u64>,
    }

    impl MemoryLog {
        pub(crate) fn new() -> Self {
            Self { state: Arc::default(), wakeups: Arc::new(watch::Sender::new(0)) }
        }

        /// Commits entries; their sequence numbers need not be dense, as in a log with leaves between them.
        pub(crate) fn commit(&self, entries: impl IntoIterator<Item = Entry>) {
            let mut state = self.state.lock().unwrap();
            state.entries.extend(entries);
            let newest = state.entries.last().map_or(0, |entry| entry.seq);
            state.head = state.head.max(newest);
            self.wakeups.send_replace(state.head);
        }

        /// Commits leaves that are no events.
        pub(crate) fn commit_leaves(&self, leaves: u64) {
            let mut state = self.state.lock().unwrap();
            state.head += leaves;
            self.wakeups.send_replace(state.head);
        }

        pub(crate) fn head(&self) -> u64 {
            self.state.lock().unwrap().head
        }

        pub(crate) fn cursor(&self) -> u64 {
            self.state.lock().unwrap().cursor
        }

        /// As if another relay had taken over.
        pub(crate) fn steal_lease(&self, owner: &str, lease: Duration) {
            let mut state = self.state.lock().unwrap();
            state.token += 1;
            state.owner = Some((owner.to_owned(), Instant::now() + lease));
        }
    }

    impl Source for MemoryLog {
        type Lease = u64;

        async fn head(&self) -> Result<u64, SourceError> {
            Ok(self.head())
        }

        async fn outbox(&self, after: u64, limit: u32) -> Result<Vec<Entry>, SourceError> {
            let state = self.state.lock().unwrap();
            Ok(state.entries.iter().filter(|entry| entry.seq > after).take(limit as usize).cloned().collect())
        }

        async fn acquire(&self, owner: &str, lease: Duration) -> Result<Option<(u64, u64)>, SourceError> {
            let mut state = self.state.lock().unwrap();
            let now = Instant::now();
            if state.owner.as_ref().is_some_and(|(holder, until)| holder != owner && *until > now) {
                return Ok(None);
            }
            state.token += 1;
            state.owner = Some((owner.to_owned(), now + lease));
            Ok(Some((state.token, state.cursor)))
        }

        async fn advance(&self, lease: &u64, position: u64, lease_for: Duration) -> Result<(), SourceError> {
            let mut state = self.state.lock().unwrap();
            if state.token != *lease {
                return Err(SourceError::LeaseLost);
            }
            assert!(position >= state.cursor, "a cursor does not go back");
            state.cursor = position;
            state.stores.push(position);
            if let Some((_, until)) = &mut state.owner {
                *until = Instant::now() + lease_for;
            }
            Ok(())
        }

        fn wakeups(&self) -> watch::Receiver<u64> {
            self.wakeups.subscribe()
        }
    }
}
