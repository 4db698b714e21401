//! Who goes into the next batch: whatever has queued, in the order of arrival, without a timer.
//!
//! An idle committer takes one deed at once, a busy one finds thousands. Only leaves that nobody waits for gather
//! for a moment, so that they do not cost a commit for every handful. The deeds of one subject stay in
//! their order although several committers work at a time: while some of them are under way, the next
//! ones wait. Leaves of reads and denials wait for nobody.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex as Latch, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, Notify, mpsc, watch};

use super::entry::{Entry, number};
use super::turns;
use crate::error::Error;
use crate::limits::Limits;

/// The queue of a region's committers.
#[derive(Debug)]
pub(super) struct Collector {
    line: Mutex<Line>,
    /// The subjects whose deeds are under way.
    busy: Latch<HashSet<u64>>,
    /// Some of them have been freed, or entries were put back.
    freed: Notify,
    deeds_max: usize,
    bytes_max: usize,
    gather_turns_max: u32,
    gather_max: Duration,
    gather_leaves_max: usize,
}

#[derive(Debug)]
struct Line {
    arrivals: mpsc::UnboundedReceiver<Vec<Entry>>,
    waiting: VecDeque<Entry>,
    /// Whether somebody may be waiting for one of these.
    awaited: bool,
    /// Since when leaves that nobody waits for have been gathering.
    gathering: Option<Instant>,
}

impl Line {
    /// Takes up what has arrived. How many are waiting then.
    fn take_up(&mut self) -> usize {
        while let Ok(entries) = self.arrivals.try_recv() {
            self.join(entries);
        }
        self.waiting.len()
    }

    fn join(&mut self, entries: Vec<Entry>) {
        self.awaited = self.awaited || entries.iter().any(Entry::is_awaited);
        self.waiting.extend(entries);
    }

    /// How much longer to gather before a commit, at most `longest` and for `enough` leaves.
    fn patience(&mut self, longest: Duration, enough: usize) -> Duration {
        if self.awaited || self.waiting.is_empty() || self.waiting.len() >= enough {
            return Duration::ZERO;
        }
        longest.saturating_sub(self.gathering.get_or_insert_with(Instant::now).elapsed())
    }
}

/// Entries to be committed together, with the subjects that they keep busy.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) entries: Vec<Entry>,
    subjects: Vec<u64>,
}

/// What came of waiting for a batch.
#[derive(Debug)]
pub(super) enum Next {
    Batch(Batch),
    /// Nothing to do for a while.
    Idle,
    /// Nothing will come any more.
    Closed,
}

impl Collector {
    pub(super) fn new(arrivals: mpsc::UnboundedReceiver<Vec<Entry>>, limits: &Limits) -> Self {
        Self {
            line: Mutex::new(Line { arrivals, waiting: VecDeque::new(), awaited: false, gathering: None }),
            busy: Latch::default(),
            freed: Notify::new(),
            deeds_max: limits.batch_deeds_max.max(1),
            bytes_max: limits.batch_bytes_max,
            gather_turns_max: limits.gather_turns_max,
            gather_max: limits.gather_max,
            gather_leaves_max: limits.gather_leaves_max,
        }
    }

    /// The next batch, as soon as there is anything to commit. Cancellation-safe.
    pub(super) async fn next(&self, idle: Duration, closing: &mut watch::Receiver<bool>) -> Next {
        let mut line = self.line.lock().await;
        loop {
            let there = line.take_up();
            let longest = if *closing.borrow() { Duration::ZERO } else { self.gather_max };
            let patience = line.patience(longest, self.gather_leaves_max);
            if patience.is_zero() {
                turns::give(self.gather_turns_max, self.deeds_max, there, || line.take_up()).await;
                let batch = self.take(&mut line.waiting);
                // What is left waits for a subject whose deeds are under way.
                line.awaited = !line.waiting.is_empty();
                line.gathering = None;
                if !batch.entries.is_empty() {
                    return Next::Batch(batch);
                }
                if line.waiting.is_empty() && *closing.borrow() {
                    return Next::Idle;
                }
            }
            let pause = if patience.is_zero() { idle } else { patience };
            tokio::select! {
                arrived = line.arrivals.recv() => match arrived {
                    Some(entries) => line.join(entries),
                    None if line.waiting.is_empty() => return Next::Closed,
                    // Nobody comes any more who could be waited for.
                    None if !patience.is_zero() => line.awaited = true,
                    // The last ones wait for a batch under way.
                    None => self.freed.notified().await,
                },
                () = self.freed.notified() => {}
                _ = closing.changed() => {}
                () = tokio::time::sleep(pause) => {
                    if patience.is_zero() {
                        return Next::Idle;
                    }
                }
            }
        }
    }

    /// Takes from the line what may go now; the rest stays in order.
    fn take(&self, waiting: &mut VecDeque<Entry>) -> Batch {
        let mut batch = Batch::default();
        if waiting.is_empty() {
            return batch;
        }
        // Held over the whole scan, so that nobody is freed between two deeds of one subject.
        let mut busy = self.busy();
        let mut own = HashSet::new();
        let (mut bytes, mut full) = (0, false);
        let mut left = VecDeque::new();
        for entry in waiting.drain(..) {
            let Some(entry) = entry.in_its_turn() else { continue };
            // Once one did not fit, nobody behind it overtakes.
            full |= batch.entries.len() >= self.deeds_max
                || (!batch.entries.is_empty() && bytes + entry.bytes() > self.bytes_max);
            if full {
                left.push_back(entry);
                continue;
            }
            if let Entry::Deed(deed) = &entry {
                let subject = number(deed.permit.subject());
                if busy.contains(&subject) {
                    left.push_back(entry);
                    continue;
                }
                if own.insert(subject) {
                    batch.subjects.push(subject);
                }
            }
            bytes += entry.bytes();
            batch.entries.push(entry);
        }
        busy.extend(&batch.subjects);
        *waiting = left;
        batch
    }

    /// Puts entries back at the front of the line, to be written later all the same.
    pub(super) async fn put_back(&self, entries: Vec<Entry>) {
        if entries.is_empty() {
            return;
        }
        let mut line = self.line.lock().await;
        for entry in entries.into_iter().rev() {
            line.waiting.push_front(entry);
        }
        line.awaited = true;
    }

    /// The batch's subjects are free again.
    pub(super) fn done(&self, batch: &mut Batch) {
        if batch.subjects.is_empty() {
            return;
        }
        let mut busy = self.busy();
        for subject in batch.subjects.drain(..) {
            busy.remove(&subject);
        }
        drop(busy);
        self.freed.notify_one();
    }

    /// Refuses everything that is queued, unless another committer is taking it at this moment. Leaves that
    /// nobody waits for stay.
    pub(super) fn refuse(&self, error: &Error) {
        let Ok(mut line) = self.line.try_lock() else { return };
        line.take_up();
        line.waiting = line.waiting.drain(..).filter_map(|entry| entry.fail(error)).collect();
    }

    fn busy(&self) -> std::sync::MutexGuard<'_, HashSet<u64>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
