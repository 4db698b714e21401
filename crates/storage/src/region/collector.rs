//! Who goes into the next batch: whatever has queued, in the order of arrival, without a timer.
//!
//! An idle committer takes one deed at once, a busy one finds thousands. The deeds of one subject stay in
//! their order although several committers work at a time: while some of them are under way, the next
//! ones wait. Leaves of reads and denials wait for nobody.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex as Latch, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex, Notify, mpsc, watch};

use super::entry::{Entry, number};
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
}

#[derive(Debug)]
struct Line {
    arrivals: mpsc::UnboundedReceiver<Vec<Entry>>,
    waiting: VecDeque<Entry>,
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
            line: Mutex::new(Line { arrivals, waiting: VecDeque::new() }),
            busy: Latch::default(),
            freed: Notify::new(),
            deeds_max: limits.batch_deeds_max.max(1),
            bytes_max: limits.batch_bytes_max,
        }
    }

    /// The next batch, as soon as there is anything to commit. Cancellation-safe.
    pub(super) async fn next(&self, idle: Duration, closing: &mut watch::Receiver<bool>) -> Next {
        let mut line = self.line.lock().await;
        loop {
            let Line { arrivals, waiting } = &mut *line;
            while let Ok(entries) = arrivals.try_recv() {
                waiting.extend(entries);
            }
            let batch = self.take(waiting);
            if !batch.entries.is_empty() {
                return Next::Batch(batch);
            }
            if waiting.is_empty() && *closing.borrow() {
                return Next::Idle;
            }
            tokio::select! {
                arrived = arrivals.recv() => match arrived {
                    Some(entries) => waiting.extend(entries),
                    None if waiting.is_empty() => return Next::Closed,
                    // The last ones wait for a batch under way.
                    None => self.freed.notified().await,
                },
                () = self.freed.notified() => {}
                _ = closing.changed() => {}
                () = tokio::time::sleep(idle) => return Next::Idle,
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
        let Line { arrivals, waiting } = &mut *line;
        while let Ok(entries) = arrivals.try_recv() {
            waiting.extend(entries);
        }
        *waiting = waiting.drain(..).filter_map(|entry| entry.fail(error)).collect();
    }

    fn busy(&self) -> std::sync::MutexGuard<'_, HashSet<u64>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
