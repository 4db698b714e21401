//! Who goes into the next batch: whatever has queued, in the order of arrival, without a timer.
//!
//! An idle committer takes one deed at once, a busy one finds thousands. Only leaves that nobody waits for gather
//! for a moment, so that they do not cost a commit for every handful. The deeds of one subject stay in
//! their order although several committers work at a time: while some of them are under way, the next
//! ones wait. An erasure, which may take long, is a batch of its own, so that nobody waits for it who could go with another
//! committer. Leaves of reads and denials wait for no deed; while others of their kind are being committed they gather,
//! since a second commit beside it would only wait for the first one's end, and with fewer of them.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex as Latch, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, Notify, mpsc, watch};

use super::entry::{Entry, number};
use super::{erasures, turns};
use crate::error::Error;
use crate::limits::Limits;

/// The queue of a region's committers.
#[derive(Debug)]
pub(super) struct Collector {
    line: Mutex<Line>,
    /// Put back, to go first. Not into the line itself, which whoever waits for a batch holds.
    returned: Latch<Vec<Entry>>,
    busy: Latch<Busy>,
    /// Some of it has ended.
    freed: Notify,
    deeds_max: usize,
    bytes_max: usize,
    gather_turns_max: u32,
    gather_max: Duration,
    gather_leaves_max: usize,
}

/// What is under way.
#[derive(Debug, Default)]
struct Busy {
    /// The subjects of deeds.
    subjects: HashSet<u64>,
    /// Batches of nothing but leaves.
    of_leaves: usize,
}

#[derive(Debug)]
struct Line {
    arrivals: mpsc::UnboundedReceiver<Vec<Entry>>,
    waiting: VecDeque<Entry>,
    /// How many of these are deeds.
    deeds: usize,
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

    /// Takes up what was put back.
    fn take_back(&mut self, entries: Vec<Entry>) {
        self.awaited |= !entries.is_empty();
        for entry in entries.into_iter().rev() {
            self.deeds += usize::from(is_deed(&entry));
            self.waiting.push_front(entry);
        }
    }

    fn join(&mut self, entries: Vec<Entry>) {
        self.awaited = self.awaited || entries.iter().any(Entry::is_awaited);
        self.deeds += entries.iter().filter(|entry| is_deed(entry)).count();
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

impl Batch {
    /// Whether it was made of nothing but leaves: every deed keeps a subject busy.
    fn is_of_leaves(&self) -> bool {
        self.subjects.is_empty()
    }
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
            line: Mutex::new(Line { arrivals, waiting: VecDeque::new(), deeds: 0, awaited: false, gathering: None }),
            returned: Latch::default(),
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
            line.take_back(std::mem::take(&mut *self.returned()));
            let there = line.take_up();
            let longest = if *closing.borrow() { Duration::ZERO } else { self.gather_max };
            let patience = line.patience(longest, self.gather_leaves_max);
            let held = line.deeds == 0 && self.busy().of_leaves > 0;
            if patience.is_zero() && !held {
                turns::give(self.gather_turns_max, self.deeds_max, there, || line.take_up()).await;
                let batch = self.take(&mut line);
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
    fn take(&self, line: &mut Line) -> Batch {
        let mut batch = Batch::default();
        if line.waiting.is_empty() {
            return batch;
        }
        // Held over the whole scan, so that nobody is freed between two deeds of one subject.
        let mut busy = self.busy();
        let mut own = HashSet::new();
        let (mut bytes, mut full, mut erasing) = (0, false, false);
        let mut left = VecDeque::new();
        for entry in line.waiting.drain(..) {
            let Some(entry) = entry.in_its_turn() else { continue };
            // Once one did not fit, nobody behind it overtakes.
            full |= erasing
                || batch.entries.len() >= self.deeds_max
                || (!batch.entries.is_empty() && (bytes + entry.bytes() > self.bytes_max || is_erasure(&entry)));
            if full {
                left.push_back(entry);
                continue;
            }
            if let Entry::Deed(deed) = &entry {
                let subject = number(deed.permit.subject());
                if busy.subjects.contains(&subject) {
                    left.push_back(entry);
                    continue;
                }
                if own.insert(subject) {
                    batch.subjects.push(subject);
                }
            }
            bytes += entry.bytes();
            erasing = is_erasure(&entry);
            batch.entries.push(entry);
        }
        busy.subjects.extend(&batch.subjects);
        if !batch.entries.is_empty() {
            busy.of_leaves += usize::from(batch.is_of_leaves());
        }
        line.deeds = left.iter().filter(|entry| is_deed(entry)).count();
        line.waiting = left;
        batch
    }

    /// Puts entries back at the front of the line, to be written later all the same.
    pub(super) fn put_back(&self, entries: Vec<Entry>) {
        if !entries.is_empty() {
            self.returned().extend(entries);
            self.freed.notify_one();
        }
    }

    /// The batch is no longer under way: its subjects are free again.
    pub(super) fn done(&self, batch: Batch) {
        let mut busy = self.busy();
        busy.of_leaves -= usize::from(batch.is_of_leaves());
        for subject in batch.subjects {
            busy.subjects.remove(&subject);
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
        line.deeds = line.waiting.iter().filter(|entry| is_deed(entry)).count();
    }

    fn returned(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.returned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn busy(&self) -> MutexGuard<'_, Busy> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_deed(entry: &Entry) -> bool {
    matches!(entry, Entry::Deed(_))
}

fn is_erasure(entry: &Entry) -> bool {
    matches!(entry, Entry::Deed(deed) if erasures::erases(deed))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use leaf::Fact;
    use tokio::sync::oneshot;

    use super::*;
    use crate::region::entry::FactNote;
    use crate::region::queue::Room;

    const PATIENCE: Duration = Duration::from_millis(50);

    fn leaf() -> Entry {
        let seat = Room::new(8, usize::MAX).enter(0).unwrap();
        Entry::Fact(Box::new(FactNote { fact: Fact::gateway_heartbeat(1, 1), reply: oneshot::channel().0, seat }))
    }

    async fn next(collector: &Collector, closing: &mut watch::Receiver<bool>) -> Option<Batch> {
        match collector.next(PATIENCE, closing).await {
            Next::Batch(batch) => Some(batch),
            Next::Idle | Next::Closed => None,
        }
    }

    #[tokio::test]
    async fn leaves_gather_while_others_of_their_kind_are_being_committed() {
        let (queue, arrivals) = mpsc::unbounded_channel();
        let (_open, mut closing) = watch::channel(false);
        let collector = Collector::new(arrivals, &Limits::default());
        queue.send(vec![leaf()]).unwrap();
        let first = next(&collector, &mut closing).await.unwrap();
        queue.send(vec![leaf()]).unwrap();
        queue.send(vec![leaf()]).unwrap();
        assert!(next(&collector, &mut closing).await.is_none(), "the first is under way");
        collector.done(first);
        let second = next(&collector, &mut closing).await.unwrap();
        assert_eq!(second.entries.len(), 2, "together");
    }

    #[tokio::test]
    async fn what_is_put_back_goes_first_and_needs_nobody_to_leave_the_line() {
        let (queue, arrivals) = mpsc::unbounded_channel();
        let (_open, mut closing) = watch::channel(false);
        let collector = Collector::new(arrivals, &Limits { gather_max: Duration::ZERO, ..Limits::default() });
        queue.send(vec![leaf()]).unwrap();
        let mut first = next(&collector, &mut closing).await.unwrap();
        queue.send(vec![leaf()]).unwrap();
        let waiting = collector.next(Duration::from_secs(3_600), &mut closing);
        let committing = async {
            tokio::task::yield_now().await;
            collector.put_back(std::mem::take(&mut first.entries));
            collector.done(first);
        };
        let begun = tokio::time::Instant::now();
        let (Next::Batch(second), ()) = tokio::join!(waiting, committing) else { panic!("a batch was due") };
        assert_eq!(second.entries.len(), 2);
        assert!(begun.elapsed() < Duration::from_secs(1), "nobody waits for the next arrival");
    }
}
