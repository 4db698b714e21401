//! One producer's life: read ahead, send in order, take acknowledgements, store the cursor.

mod fates;
mod sending;

use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use follow::{Lookout, Read, Sight, Source, Tenure, Trouble};
use storage::OutboxRow;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{Learnt, Pump, log_trouble};
use crate::arrived::Arrived;
use crate::error::Error;
use crate::producer::{Delivered, Outlet};
use crate::window::Window;

/// How many fates are taken at once.
const FATES_MAX: usize = 4_096;
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

/// An entry on its way out, the one before it, and since when it may be of yesterday.
struct Waiting {
    entry: OutboxRow,
    previous: u64,
    asked_at: Instant,
}

/// A read, the rows it asked for, and the entry before the first.
type Reading = (Read, u32, u64);

pub(super) struct Session<'a, S: Source> {
    pump: &'a Pump<S>,
    tenure: &'a mut Tenure<S>,
    learnt: &'a mut Learnt,
    outlet: Outlet,
    window: Window,
    /// Read and not yet sent, oldest first.
    waiting: VecDeque<Waiting>,
    /// The last entry that was read, or lies before what is read; not known before the first read.
    last: Option<u64>,
    /// Up to where the log has been read.
    covered: u64,
    head: u64,
    /// Topics that exist and whose tail is in `arrived`.
    known_topics: HashSet<String>,
    arrived: Arrived,
    read: Option<Task<Result<Reading, Trouble>>>,
    /// When the read under way, or the last one, began.
    asked_at: Instant,
    topics: Option<Task<Looked>>,
    lookout: Lookout,
    /// Entries acknowledged since the cursor was last stored.
    sent_since_store: u64,
    /// When an acknowledgement last came, or the window last began to fill.
    heard_at: Instant,
    entry_bytes: usize,
    fates: Vec<Delivered>,
}

/// What a look at topics came to: those that exist, and what their tails hold.
type Looked = Result<(Vec<String>, Arrived), Error>;

impl<'a, S: Source> Session<'a, S> {
    pub(super) fn open(pump: &'a Pump<S>, tenure: &'a mut Tenure<S>, learnt: &'a mut Learnt) -> Result<Self, Error> {
        let limits = &pump.settings.limits;
        let outlet = Outlet::open(&pump.settings, pump.source.region())?;
        Ok(Self {
            covered: tenure.position(),
            head: tenure.position(),
            outlet,
            window: Window::default(),
            waiting: VecDeque::new(),
            last: None,
            known_topics: HashSet::new(),
            arrived: Arrived::default(),
            read: None,
            asked_at: Instant::now(),
            topics: None,
            lookout: Lookout::new(pump.source.wakeups(), limits.poll_min, limits.poll_max),
            sent_since_store: 0,
            heard_at: Instant::now(),
            entry_bytes: 1_024,
            fates: Vec::with_capacity(FATES_MAX),
            pump,
            tenure,
            learnt,
        })
    }

    pub(super) async fn run(mut self, shutdown: &CancellationToken) -> End {
        let end = self.relay(shutdown).await;
        match end {
            // The last acknowledgements are stored, so that a restart does not repeat them.
            End::Shutdown => self.tenure.give_back().await,
            // The pause before the next session stores them.
            End::Broken(_) | End::LeaseLost => {}
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
            if !self.tenure.is_storing() && self.tenure.due_at(self.store_interval()) <= Instant::now() {
                self.tenure.begin_store();
                self.sent_since_store = 0;
            }
            if self.tenure.valid_until() <= Instant::now() {
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
                stored = self.tenure.stored_now() => {
                    if stored.is_err() {
                        return End::LeaseLost;
                    }
                }
                topics = task(&mut self.topics) => match topics {
                    Ok((known, arrived)) => {
                        self.known_topics.extend(known);
                        self.arrived.extend(arrived);
                    }
                    Err(error) => return End::Broken(error),
                },
                read = task(&mut self.read) => match read {
                    Ok((read, asked_rows, last)) => self.take_entries(read, asked_rows, last),
                    Err(trouble) => return End::Broken(log_trouble(trouble)),
                },
                () = self.lookout.woken(), if caught_up && drain_until.is_none() => {}
                () = tokio::time::sleep_until(timer) => {}
            }
        }
    }

    /// Notes how far everything is done: up to the oldest entry that is still on its way, or all that was read.
    fn note_progress(&mut self, acknowledged: u64) {
        let oldest = self.window.oldest().or_else(|| self.waiting.front().map(|waiting| waiting.entry.seq));
        let position = oldest.map_or(self.covered, |seq| seq - 1);
        self.tenure.reach(position.max(self.tenure.position()));
        self.sent_since_store += acknowledged;
        let position = self.tenure.position();
        if self.learnt.poison.as_ref().is_some_and(|(seq, _)| *seq <= position) {
            self.learnt.poison = None;
        }
        self.arrived.forget_up_to(position);
        self.pump.board.progress(position, self.head, self.window.len(), acknowledged);
    }

    /// Reads ahead when less than a batch is waiting and there is reason to expect something. It is a task of its own, so
    /// that rows are taken apart on one core while they are sent on another.
    fn begin_read(&mut self) {
        let limits = &self.pump.settings.limits;
        let rows_max = limits.batch_rows_max.clamp(1, 10_000);
        let rows = u32::try_from(limits.batch_bytes_target / self.entry_bytes.max(1)).unwrap_or(u32::MAX);
        let rows = rows.clamp(READ_ROWS_MIN.min(rows_max), rows_max);
        if self.read.is_some() || self.waiting.len() > rows as usize || Instant::now() < self.lookout.at() {
            return;
        }
        let (source, after, last) = (Arc::clone(&self.pump.source), self.covered, self.last);
        self.lookout.looking();
        self.asked_at = Instant::now();
        let reading = AbortOnDropHandle::new(tokio::spawn(async move {
            let last = match last {
                Some(last) => last,
                None => source.last(after).await?,
            };
            Ok((follow::read(&*source, after, rows).await?, rows, last))
        }));
        self.read =
            Some(Box::pin(async { reading.await.unwrap_or_else(|ended| Err(Trouble::Failed(Box::new(ended)))) }));
    }

    fn take_entries(&mut self, read: Read, asked_rows: u32, mut last: u64) {
        debug_assert!(read.rows.len() <= asked_rows as usize, "no more than was asked for");
        self.head = self.head.max(read.head);
        self.covered = read.covered;
        if !read.rows.is_empty() {
            let bytes: usize = read.rows.iter().map(|entry| entry.data.len() + 256).sum();
            let average = bytes / read.rows.len();
            // Grows at once, shrinks slowly: one batch of large entries is read carefully for a while.
            self.entry_bytes = average.max((self.entry_bytes * 7 + average) / 8);
        }
        self.lookout.saw(match (read.full, read.rows.is_empty()) {
            (true, _) => Sight::Full,
            (false, false) => Sight::Some,
            (false, true) => Sight::Nothing,
        });
        for entry in read.rows {
            let previous = std::mem::replace(&mut last, entry.seq);
            self.waiting.push_back(Waiting { entry, previous, asked_at: self.asked_at });
        }
        self.last = Some(last);
        self.note_progress(0);
    }

    /// Acknowledged entries are soon stored, so that a crash repeats few. A cursor that only passed over
    /// entries that are no events has time, and a lease wants renewal well before it lapses.
    fn store_interval(&self) -> Duration {
        if self.tenure.position() == self.tenure.stored() {
            Duration::MAX
        } else if self.sent_since_store == 0 {
            IDLE_STORE_INTERVAL
        } else {
            self.pump.settings.limits.cursor_interval
        }
    }

    /// When the loop has to look around although nothing happened.
    fn next_timer(&self, drain_until: Option<Instant>) -> Instant {
        let limits = &self.pump.settings.limits;
        let mut timer = self.tenure.valid_until();
        if !self.tenure.is_storing() {
            timer = timer.min(self.tenure.due_at(self.store_interval()));
        }
        if self.read.is_none() && self.waiting.is_empty() && drain_until.is_none() {
            timer = timer.min(self.lookout.at());
        }
        if !self.window.is_empty() {
            timer = timer.min(self.heard_at + limits.stall_max + Duration::from_millis(1));
        }
        drain_until.map_or(timer, |until| timer.min(until))
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
