//! A region log in memory, with a cursor that is fenced as the real one is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use residency::Region;
use storage::{OutboxRow, SubjectDigest};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::source::{Source, Trouble};

/// The region of tests that need only one.
#[must_use]
pub fn region() -> Region {
    Region::new("eu-central").unwrap()
}

/// An entry with everything that a message needs, of one of seven subjects.
#[must_use]
pub fn row(seq: u64, topic: &str) -> OutboxRow {
    let mut bytes = [0; 32];
    bytes[31] = u8::try_from(seq % 7).unwrap();
    OutboxRow {
        seq,
        topic: topic.to_owned(),
        key: SubjectDigest { key_id: 1, bytes },
        event_type: "shop.order-placed".to_owned(),
        event_id: format!("event-{seq}"),
        source: "/test".to_owned(),
        time_us: 1_793_491_200_000_000,
        datacontenttype: "application/json".to_owned(),
        traceparent: None,
        extensions: BTreeMap::new(),
        data: format!("{{\"n\":{seq}}}").into_bytes(),
        erased: false,
    }
}

/// The log.
#[derive(Clone)]
pub struct MemoryLog {
    region: Region,
    state: Arc<Mutex<State>>,
    wakeups: Arc<watch::Sender<u64>>,
}

#[derive(Default)]
struct State {
    rows: BTreeMap<u64, OutboxRow>,
    /// When a position was committed, by the last position of each commit.
    commits: BTreeMap<u64, Instant>,
    head: u64,
    cursor: u64,
    token: u64,
    owner: Option<(String, Instant)>,
    failing: bool,
}

impl MemoryLog {
    /// An empty log.
    #[must_use]
    pub fn new(region: &Region) -> Self {
        Self { region: region.clone(), state: Arc::default(), wakeups: Arc::new(watch::Sender::new(0)) }
    }

    /// Commits entries; their sequence numbers need not be dense, as in a log with leaves between them.
    pub fn commit(&self, rows: impl IntoIterator<Item = OutboxRow>) {
        let mut state = self.state.lock().unwrap();
        state.rows.extend(rows.into_iter().map(|row| (row.seq, row)));
        let newest = state.rows.keys().next_back().copied().unwrap_or(0);
        self.grow_to(&mut state, newest);
    }

    /// Commits leaves that are no events.
    pub fn commit_leaves(&self, leaves: u64) {
        let mut state = self.state.lock().unwrap();
        let head = state.head + leaves;
        self.grow_to(&mut state, head);
    }

    fn grow_to(&self, state: &mut State, head: u64) {
        state.head = state.head.max(head);
        let head = state.head;
        state.commits.insert(head, Instant::now());
        self.wakeups.send_replace(head);
    }

    /// Where it ends.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.state.lock().unwrap().head
    }

    /// Where the stored cursor stands.
    #[must_use]
    pub fn cursor_position(&self) -> u64 {
        self.state.lock().unwrap().cursor
    }

    /// As if another follower had taken over.
    pub fn steal_lease(&self, owner: &str, lease: Duration) {
        let mut state = self.state.lock().unwrap();
        state.token += 1;
        state.owner = Some((owner.to_owned(), Instant::now() + lease));
    }

    /// As if whoever holds the lease had been silent for so long that it ran out.
    pub fn let_lease_lapse(&self) {
        self.state.lock().unwrap().owner = None;
    }

    /// As if the whole log were to be followed once more.
    pub fn rewind(&self) {
        self.state.lock().unwrap().cursor = 0;
    }

    /// Whether every question from now on fails.
    pub fn fail(&self, failing: bool) {
        self.state.lock().unwrap().failing = failing;
    }

    fn ask<T>(&self, question: impl FnOnce(&mut State) -> T) -> Result<T, Trouble> {
        let mut state = self.state.lock().unwrap();
        if state.failing { Err(Trouble::Failed("the log is away".into())) } else { Ok(question(&mut state)) }
    }
}

impl Source for MemoryLog {
    type Lease = u64;

    fn region(&self) -> &Region {
        &self.region
    }

    fn cursor(&self) -> &str {
        "test"
    }

    async fn head(&self) -> Result<u64, Trouble> {
        self.ask(|state| state.head)
    }

    async fn rows(&self, after: u64, limit: u32) -> Result<Vec<OutboxRow>, Trouble> {
        self.ask(|state| state.rows.range(after + 1..).take(limit as usize).map(|(_, row)| row.clone()).collect())
    }

    async fn last(&self, position: u64) -> Result<u64, Trouble> {
        self.ask(|state| state.rows.range(..=position).next_back().map_or(0, |(seq, _)| *seq))
    }

    async fn age(&self, seq: u64) -> Result<Duration, Trouble> {
        self.ask(|state| state.commits.range(seq..).next().map_or(Duration::ZERO, |(_, at)| at.elapsed()))
    }

    async fn acquire(&self, owner: &str, lease: Duration) -> Result<Option<(u64, u64)>, Trouble> {
        self.ask(|state| {
            let now = Instant::now();
            if state.owner.as_ref().is_some_and(|(holder, until)| holder != owner && *until > now) {
                return None;
            }
            state.token += 1;
            state.owner = Some((owner.to_owned(), now + lease));
            Some((state.token, state.cursor))
        })
    }

    async fn advance(&self, lease: &u64, position: u64, lease_for: Duration) -> Result<(), Trouble> {
        self.ask(|state| {
            if state.token != *lease {
                return Err(Trouble::LeaseLost);
            }
            assert!(position >= state.cursor, "a cursor does not go back");
            state.cursor = position;
            if let Some((_, until)) = &mut state.owner {
                *until = Instant::now() + lease_for;
            }
            Ok(())
        })?
    }

    fn wakeups(&self) -> watch::Receiver<u64> {
        self.wakeups.subscribe()
    }
}
