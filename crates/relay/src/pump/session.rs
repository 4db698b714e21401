//! One producer's life: read ahead, send in order, take acknowledgements, store the cursor.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::{Pump, Tenure, source_trouble};
use crate::error::Error;
use crate::producer::{Delivered, Fault, Outlet};
use crate::source::{Entry, Source, SourceError};
use crate::topics;

/// How many fates are taken at once.
const FATES_MAX: usize = 4_096;
/// How long the fates of entries that fell together with a failed one are waited for, to find the cause among them.
const AFTERMATH_MAX: Duration = Duration::from_millis(300);
/// The fewest entries a read asks for, however large entries have been lately.
const READ_ROWS_MIN: u32 = 16;
/// How often a cursor is stored that moved without anything having been sent.
const IDLE_STORE_INTERVAL: Duration = Duration::from_secs(1);

/// Why a session ended.
pub(super) enum End {
    Shutdown,
    LeaseLost,
    Broken(Error),
}

type Task<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A store of the cursor: the position, when it was asked for, and what came of it.
type Stored = (u64, Instant, Result<(), SourceError>);

/// What a read of the log brought, and up to where it covers the log.
struct Read {
    entries: Vec<Entry>,
    asked_rows: u32,
    head: u64,
}

pub(super) struct Session<'a, S: Source> {
    pump: &'a Pump<S>,
    tenure: &'a mut Tenure<S>,
    outlet: Outlet,
    window: crate::window::Window,
    /// Read and not yet sent, oldest first.
    waiting: VecDeque<Entry>,
    /// Up to where the log has been read.
    covered: u64,
    head: u64,
    known_topics: HashSet<String>,
    read: Option<Task<Result<Read, SourceError>>>,
    store: Option<Task<Stored>>,
    topics: Option<Task<Result<HashSet<String>, Error>>>,
    /// `None` once the store has been closed; polling finds out what becomes of it.
    wakeups: Option<watch::Receiver<u64>>,
    /// When the log is looked at next although nobody woke us.
    next_look: Instant,
    idle_wait: Duration,
    stored_at: Instant,
    /// Entries acknowledged since the cursor was last stored.
    sent_since_store: u64,
    /// When an acknowledgement last came, or the window last began to fill.
    heard_at: Instant,
    entry_bytes: usize,
    fates: Vec<Delivered>,
}

impl<'a, S: Source> Session<'a, S> {
    pub(super) fn open(pump: &'a Pump<S>, tenure: &'a mut Tenure<S>) -> Result<Self, Error> {
        let outlet = Outlet::open(&pump.settings, &pump.region)?;
        let now = Instant::now();
        Ok(Self {
            covered: tenure.acknowledged,
            head: tenure.acknowledged,
            outlet,
            window: crate::window::Window::default(),
            waiting: VecDeque::new(),
            known_topics: HashSet::new(),
            read: None,
            store: None,
            topics: None,
            wakeups: Some(pump.source.wakeups()),
            next_look: now,
            idle_wait: pump.settings.limits.poll_min,
            stored_at: now,
            sent_since_store: 0,
            heard_at: now,
            entry_bytes: 1_024,
            fates: Vec::with_capacity(FATES_MAX),
            pump,
            tenure,
        })
    }

    pub(super) async fn run(mut self, shutdown: &CancellationToken) -> End {
        let end = self.relay(shutdown).await;
        if let Some(store) = self.store.take() {
            let _ = store.await;
        }
        if !matches!(end, End::LeaseLost) {
            // The last acknowledgements, so that a restart does not repeat them. A shutdown gives the lease back.
            let lease_for = if matches!(end, End::Shutdown) { Duration::ZERO } else { self.pump.settings.limits.lease };
            let position = self.tenure.acknowledged;
            if self.pump.source.advance(&self.tenure.lease, position, lease_for).await.is_ok() {
                self.tenure.stored = position;
            }
        }
        self.outlet.close().await;
        end
    }

    async fn relay(&mut self, shutdown: &CancellationToken) -> End {
        let limits = &self.pump.settings.limits;
        let mut drain_until: Option<Instant> = None;
        loop {
            if drain_until.is_none() {
                if let Err(error) = self.send_waiting() {
                    return End::Broken(error);
                }
                self.begin_read();
            }
            self.begin_store();
            if self.tenure.valid_until <= Instant::now() {
                // Renewal did not get through in time: somebody else may hold the cursor already.
                return End::LeaseLost;
            }
            if drain_until.is_some_and(|until| self.window.is_empty() || until <= Instant::now()) {
                return End::Shutdown;
            }
            if !self.window.is_empty() && self.heard_at.elapsed() > limits.stall_max {
                return End::Broken(Error::Stalled { seconds: limits.stall_max.as_secs() });
            }
            let timer = self.next_timer(drain_until);
            let caught_up = self.read.is_none() && self.waiting.is_empty();
            tokio::select! {
                biased;
                () = shutdown.cancelled(), if drain_until.is_none() => {
                    self.read = None;
                    drain_until = Some(Instant::now() + limits.drain_max);
                }
                _ = self.outlet.delivered(&mut self.fates, FATES_MAX), if !self.window.is_empty() => {
                    if let Err(error) = self.take_fates().await {
                        return End::Broken(error);
                    }
                }
                stored = task(&mut self.store) => match stored {
                    (position, asked_at, Ok(())) => {
                        self.tenure.stored = position;
                        self.tenure.valid_until = asked_at + limits.lease;
                    }
                    (_, _, Err(SourceError::LeaseLost)) => return End::LeaseLost,
                    // Sending goes on: the lease still holds, and the cursor only lags behind.
                    (_, _, Err(SourceError::Failed(cause))) => {
                        let region = &self.pump.region;
                        warn!(%region, error = %cause, "The relay's cursor in {region} could not be stored; it will be tried again");
                    }
                },
                topics = task(&mut self.topics) => match topics {
                    Ok(known) => self.known_topics.extend(known),
                    Err(error) => return End::Broken(error),
                },
                read = task(&mut self.read) => match read {
                    Ok(read) => self.take_entries(read),
                    Err(error) => return End::Broken(source_trouble(error)),
                },
                woken = woken(&mut self.wakeups), if caught_up && drain_until.is_none() => {
                    if woken {
                        self.look_now();
                    } else {
                        self.wakeups = None;
                    }
                }
                () = tokio::time::sleep_until(timer) => {}
            }
        }
    }

    /// Sends what is waiting, in order, for as long as there is room. The first entry that cannot go holds the rest.
    fn send_waiting(&mut self) -> Result<(), Error> {
        let limits = &self.pump.settings.limits;
        while let Some(entry) = self.waiting.front() {
            let careful = self.tenure.acknowledged < self.tenure.careful_until;
            let rows_max = if careful { 1 } else { limits.in_flight_rows_max };
            if !self.window.has_room(entry.data.len(), rows_max, limits.in_flight_bytes_max) {
                break;
            }
            let destination = self.pump.destination(entry, self.tenure.poison.as_ref());
            if !self.known_topics.contains(&destination.topic) {
                self.begin_topics();
                break;
            }
            match self.outlet.send(self.pump.message(entry, &destination)) {
                Ok(()) => {}
                Err(fault) if fault.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => break,
                Err(fault) if Fault::of(&fault) == Fault::Poison && destination.dead.is_none() => {
                    // Refused before it was sent, so nothing overtook it: it goes to the dead letters in its own place.
                    self.tenure.poison = Some((entry.seq, fault.to_string()));
                    continue;
                }
                Err(source) => return Err(Error::Unacknowledged { seq: entry.seq, source }),
            }
            if let Some(reason) = &destination.dead {
                self.tell_of_dead_letter(entry.seq, reason);
            }
            if self.window.is_empty() {
                self.heard_at = Instant::now();
            }
            self.window.push(entry.seq, entry.data.len());
            self.waiting.pop_front();
        }
        Ok(())
    }

    fn tell_of_dead_letter(&self, seq: u64, reason: &str) {
        let region = &self.pump.region;
        self.pump.board.dead_letter();
        error!(%region, seq, reason, "Region log entry {seq} of {region} went to the dead letters");
    }

    /// Takes what became of messages. The first failure ends the session, after the rest has been heard.
    async fn take_fates(&mut self) -> Result<(), Error> {
        self.heard_at = Instant::now();
        let mut failed: Option<(u64, KafkaError)> = None;
        let mut acknowledged = self.acknowledge_fates(&mut failed);
        if failed.is_some() {
            // The entries that fell with it report too, and so do those that did get through.
            let until = Instant::now() + AFTERMATH_MAX;
            let newest = self.window.newest();
            while let Ok(1..) = tokio::time::timeout_at(until, self.outlet.delivered(&mut self.fates, FATES_MAX)).await
            {
                acknowledged += self.acknowledge_fates(&mut failed);
            }
            while let Some(fate) = self.outlet.try_delivered() {
                self.fates.push(fate);
            }
            acknowledged += self.acknowledge_fates(&mut failed);
            if let Some((seq, fault)) = &failed
                && Fault::of(fault) == Fault::Poison
            {
                let alone = newest == Some(*seq) && self.window.oldest() == newest;
                if alone {
                    self.tenure.poison = Some((*seq, fault.to_string()));
                } else {
                    self.tenure.careful_until = newest.unwrap_or(*seq);
                }
            }
        }
        self.note_progress(acknowledged);
        match failed {
            Some((seq, source)) => Err(Error::Unacknowledged { seq, source }),
            None => Ok(()),
        }
    }

    /// Notes acknowledgements; keeps the most telling failure.
    fn acknowledge_fates(&mut self, failed: &mut Option<(u64, KafkaError)>) -> u64 {
        let mut acknowledged = 0;
        for fate in self.fates.drain(..) {
            match fate.outcome {
                Ok(()) => {
                    self.window.acknowledge(fate.seq);
                    acknowledged += 1;
                }
                Err(fault) => {
                    if failed.as_ref().is_none_or(|(_, known)| Fault::of(known) < Fault::of(&fault)) {
                        *failed = Some((fate.seq, fault));
                    }
                }
            }
        }
        acknowledged
    }

    fn note_progress(&mut self, acknowledged: u64) {
        // Everything below the oldest entry that is still on its way is done; with none, all that was read.
        let oldest = self.window.oldest().or_else(|| self.waiting.front().map(|entry| entry.seq));
        let position = oldest.map_or(self.covered, |seq| seq - 1);
        debug_assert!(position >= self.tenure.acknowledged, "acknowledgements are not taken back");
        self.tenure.acknowledged = self.tenure.acknowledged.max(position);
        self.sent_since_store += acknowledged;
        if self.tenure.poison.as_ref().is_some_and(|(seq, _)| *seq <= self.tenure.acknowledged) {
            self.tenure.poison = None;
        }
        self.pump.board.progress(self.tenure.acknowledged, self.head, self.window.len(), acknowledged);
    }

    fn begin_topics(&mut self) {
        if self.topics.is_some() {
            return;
        }
        let wanted: BTreeSet<String> = self
            .waiting
            .iter()
            .map(|entry| self.pump.destination(entry, self.tenure.poison.as_ref()).topic)
            .filter(|topic| !self.known_topics.contains(topic))
            .collect();
        let (settings, region) = (self.pump.settings.clone(), self.pump.region.clone());
        self.topics =
            Some(Box::pin(async move { topics::ensure(&settings, &region, wanted.into_iter().collect()).await }));
    }

    /// Reads ahead when less than a batch is waiting and there is reason to expect something.
    fn begin_read(&mut self) {
        let limits = &self.pump.settings.limits;
        let rows_max = limits.batch_rows_max.clamp(1, 10_000);
        let rows = u32::try_from(limits.batch_bytes_target / self.entry_bytes.max(1)).unwrap_or(u32::MAX);
        let rows = rows.clamp(READ_ROWS_MIN.min(rows_max), rows_max);
        if self.read.is_some() || self.waiting.len() > rows as usize / 2 || Instant::now() < self.next_look {
            return;
        }
        let (source, after) = (self.pump.source.clone(), self.covered);
        if let Some(wakeups) = &mut self.wakeups {
            wakeups.mark_unchanged();
        }
        self.read = Some(Box::pin(async move {
            // The head first: what is below it is then surely in the answer, if the answer is not full.
            let head = source.head().await?;
            if head <= after {
                return Ok(Read { entries: Vec::new(), asked_rows: rows, head });
            }
            Ok(Read { entries: source.outbox(after, rows).await?, asked_rows: rows, head })
        }));
    }

    fn take_entries(&mut self, read: Read) {
        let limits = &self.pump.settings.limits;
        self.head = self.head.max(read.head);
        let full = read.entries.len() >= read.asked_rows as usize;
        if let Some(last) = read.entries.last() {
            debug_assert!(read.entries.first().is_some_and(|first| first.seq > self.covered), "no entry twice");
            self.covered = self.covered.max(last.seq);
            let bytes: usize = read.entries.iter().map(|entry| entry.data.len() + 256).sum();
            let average = bytes / read.entries.len();
            // Grows at once, shrinks slowly: one batch of large entries is read carefully for a while.
            self.entry_bytes = average.max((self.entry_bytes * 7 + average) / 8);
        }
        if !full {
            self.covered = self.covered.max(read.head);
        }
        self.idle_wait =
            if read.entries.is_empty() { (self.idle_wait * 2).min(limits.poll_max) } else { limits.poll_min };
        self.next_look = if full { Instant::now() } else { Instant::now() + self.idle_wait };
        self.waiting.extend(read.entries);
        self.note_progress(0);
    }

    fn look_now(&mut self) {
        self.next_look = Instant::now();
        self.idle_wait = self.pump.settings.limits.poll_min;
    }

    /// Stores the cursor when it moved and the last store is a while ago, and in any case often enough to keep the lease.
    fn begin_store(&mut self) {
        let limits = &self.pump.settings.limits;
        if self.store.is_some() || self.stored_at.elapsed() < self.store_interval() {
            return;
        }
        let (source, lease, lease_for) = (self.pump.source.clone(), self.tenure.lease.clone(), limits.lease);
        let position = self.tenure.acknowledged;
        let asked_at = Instant::now();
        self.stored_at = asked_at;
        self.sent_since_store = 0;
        self.store =
            Some(Box::pin(async move { (position, asked_at, source.advance(&lease, position, lease_for).await) }));
    }

    /// Acknowledged entries are soon stored, so that a crash repeats few. A cursor that only passed over
    /// entries that are no events has time, and a lease wants renewal well before it lapses.
    fn store_interval(&self) -> Duration {
        let limits = &self.pump.settings.limits;
        if self.tenure.acknowledged == self.tenure.stored {
            limits.lease / 3
        } else if self.sent_since_store == 0 {
            IDLE_STORE_INTERVAL.min(limits.lease / 3)
        } else {
            limits.cursor_interval
        }
    }

    /// When the loop has to look around although nothing happened.
    fn next_timer(&self, drain_until: Option<Instant>) -> Instant {
        let limits = &self.pump.settings.limits;
        let mut timer = self.tenure.valid_until;
        if self.store.is_none() {
            timer = timer.min(self.stored_at + self.store_interval());
        }
        if self.read.is_none() && self.waiting.is_empty() && drain_until.is_none() {
            timer = timer.min(self.next_look);
        }
        if !self.window.is_empty() {
            timer = timer.min(self.heard_at + limits.stall_max + Duration::from_millis(1));
        }
        drain_until.map_or(timer, |until| timer.min(until))
    }
}

/// Waits for this process to commit; `false` when it never will again.
async fn woken(wakeups: &mut Option<watch::Receiver<u64>>) -> bool {
    match wakeups {
        Some(wakeups) => wakeups.changed().await.is_ok(),
        None => std::future::pending().await,
    }
}

/// The outcome of a task that may not be under way; then it never comes.
async fn task<T>(task: &mut Option<Task<T>>) -> T {
    match task {
        Some(future) => {
            let outcome = future.await;
            *task = None;
            outcome
        }
        None => std::future::pending().await,
    }
}
