//! What the forwarder needs of a region log: four questions. A seam, so that the loop can be tested without
//! Postgres; the one real implementation is below.

use std::future::Future;
use std::time::Duration;

use storage::{Channel, Log};
use tokio::sync::watch;

/// The cursor's name in the region's database.
const CURSOR: &str = "forwarder";

/// A zero-party change as it stands in the log.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) seq: u64,
    pub(crate) topic: String,
    /// Hexadecimal.
    pub(crate) subject_digest: String,
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

/// A region log as the forwarder sees it. Position `n` means that the entries with `seq <= n` are done.
pub(crate) trait Source: Send + Sync + 'static {
    /// The right to move the cursor, with its fencing token.
    type Lease: Clone + Send + Sync + 'static;

    /// The position behind the newest committed entry.
    fn head(&self) -> impl Future<Output = Result<u64, SourceError>> + Send;

    /// The zero-party changes with `seq > after`, in order, at most `limit`.
    fn changes(&self, after: u64, limit: u32) -> impl Future<Output = Result<Vec<Entry>, SourceError>> + Send;

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

    async fn changes(&self, after: u64, limit: u32) -> Result<Vec<Entry>, SourceError> {
        let rows = self.log.outbox(Channel::ZeroParty, after, limit).await.map_err(failed)?;
        let entry = |row: storage::OutboxRow| Entry {
            seq: row.seq,
            topic: row.topic,
            subject_digest: row.key.to_hex(),
            data: row.data,
        };
        Ok(rows.into_iter().map(entry).collect())
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

    use super::*;

    /// A zero-party change as `storage` writes it.
    pub(crate) fn change(seq: u64, digest: &str, attribute: &str, value: &str, consents: &[(&str, bool)]) -> Entry {
        let consents: Vec<String> = consents
            .iter()
            .map(|(purpose, granted)| {
                format!(
                    r#"{{"purpose":"{purpose}","granted":{granted},"notice_version":"3","given_at":"2026-11-01T00:00:00Z"}}"#
                )
            })
            .collect();
        let data = format!(
            r#"{{"attribute":"{attribute}","value":{value},"version":{seq},"consents":[{}],"deleted":false}}"#,
            consents.join(",")
        );
        Entry {
            seq,
            topic: "eu-central.domicile.zero-party-changed.v1".to_owned(),
            subject_digest: digest.to_owned(),
            data: data.into_bytes(),
        }
    }

    #[derive(Clone, Default)]
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
    }

    impl MemoryLog {
        pub(crate) fn commit(&self, entries: impl IntoIterator<Item = Entry>) {
            let mut state = self.state.lock().unwrap();
            state.entries.extend(entries);
            let newest = state.entries.last().map_or(0, |entry| entry.seq);
            state.head = state.head.max(newest);
            self.wakeups.send_replace(state.head);
        }

        pub(crate) fn head(&self) -> u64 {
            self.state.lock().unwrap().head
        }

        pub(crate) fn cursor(&self) -> u64 {
            self.state.lock().unwrap().cursor
        }

        /// As if the whole log were to be forwarded once more.
        pub(crate) fn rewind(&self) {
            self.state.lock().unwrap().cursor = 0;
        }
    }

    impl Source for MemoryLog {
        type Lease = u64;

        async fn head(&self) -> Result<u64, SourceError> {
            Ok(self.head())
        }

        async fn changes(&self, after: u64, limit: u32) -> Result<Vec<Entry>, SourceError> {
            let state = self.state.lock().unwrap();
            Ok(state.entries.iter().filter(|entry| entry.seq > after).take(limit as usize).cloned().collect())
        }

        async fn acquire(&self, _owner: &str, _lease: Duration) -> Result<Option<(u64, u64)>, SourceError> {
            let mut state = self.state.lock().unwrap();
            state.token += 1;
            Ok(Some((state.token, state.cursor)))
        }

        async fn advance(&self, lease: &u64, position: u64, _lease_for: Duration) -> Result<(), SourceError> {
            let mut state = self.state.lock().unwrap();
            if state.token != *lease {
                return Err(SourceError::LeaseLost);
            }
            state.cursor = position;
            Ok(())
        }

        fn wakeups(&self) -> watch::Receiver<u64> {
            self.wakeups.subscribe()
        }
    }
}
