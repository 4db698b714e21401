//! The committer: drains what has queued and runs one transaction for all of it.
//!
//! Read the fence and the subjects' states, load what the deeds touch, fold them in memory, write the
//! changes, and last, under the head's lock, leaves, events and the new head; COMMIT; answer everyone.
//! Several committers overlap: while one flushes, the next one loads, folds and writes its changes.
//!
//! What goes wrong stays small: a batch that was overtaken is done again; a deed that the database refuses
//! is found by halving the batch and only leaves a leaf; a connection lost before the COMMIT costs another
//! attempt, and one lost during the COMMIT is cleared up by looking into the log. A bug in the work at a batch costs
//! that batch, and nobody else.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use metrics::{counter, gauge, histogram};
use sqlx::Executor;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{error, warn};

use super::answers;
use super::collector::{Collector, Next};
use super::crew::{Crew, Hand};
use super::doubts::{Doubt, UnderWay};
use super::entry::Entry;
use super::head::Place;
use super::transaction::{Failure, Sealed, transact};
use super::{Shared, head};
use crate::deeds::LogPosition;
use crate::error::{Cause, Error, Trouble};
use crate::link::{Work, within};

/// A connection that was not used for longer may have died unnoticed. It is asked for a sign of life before
/// anything is sent on it whose fate could then not be known.
const FRESH_FOR: Duration = Duration::from_millis(100);

/// From this attempt on, the rows of a batch are locked before they are read.
const CAREFUL_FROM: u32 = 2;

/// So many conflicts with others weigh as much as one attempt that was lost.
const CONFLICTS_PER_ATTEMPT: u32 = 10;

/// What the committers of a region share.
struct Committers {
    shared: Arc<Shared>,
    collector: Collector,
}

/// Starts a region's committers.
pub(super) fn spawn(
    shared: &Arc<Shared>,
    entries: mpsc::UnboundedReceiver<Vec<Entry>>,
    connections: u32,
) -> Vec<JoinHandle<()>> {
    let crew = Crew::new("committer");
    let committers =
        Arc::new(Committers { collector: Collector::new(entries, &shared.limits), shared: Arc::clone(shared) });
    (0..connections)
        .map(|_| {
            let hand = crew.hand(shared, Work::Commits);
            let committers = Arc::clone(&committers);
            let under_way = UnderWay::default();
            tokio::spawn(Committer { committers, hand, used_at: Instant::now(), trying: false, under_way }.run())
        })
        .collect()
}

/// One committer and its connection.
struct Committer {
    committers: Arc<Committers>,
    hand: Hand,
    used_at: Instant,
    /// Whether the last of the parts is being tried, and has not been taken from them yet.
    trying: bool,
    under_way: UnderWay,
}

impl Committer {
    async fn run(mut self) {
        let committers = Arc::clone(&self.committers);
        let shared = &committers.shared;
        let mut closing = shared.closing.subscribe();
        loop {
            if !self.hand.connected(|error| committers.collector.refuse(error)).await {
                if *closing.borrow() {
                    return;
                }
                continue;
            }
            let idle = if *closing.borrow() { super::REFUSAL_PAUSE } else { shared.limits.idle_check_interval };
            match committers.collector.next(idle, &mut closing).await {
                Next::Batch(mut batch) => {
                    // Parts still to be done, the next one last.
                    let mut parts = vec![std::mem::take(&mut batch.entries)];
                    // A panic that ended this task would keep the batch's subjects busy for ever.
                    let mut left = parts.len();
                    while AssertUnwindSafe(self.commit(&mut parts)).catch_unwind().await.is_err() {
                        answers::panicked(&shared.region, "committing");
                        // Each time there is one part less, whatever the panic came from.
                        if std::mem::take(&mut self.trying) || parts.len() >= left {
                            self.give_up(parts.pop().unwrap_or_default()).await;
                        }
                        left = parts.len();
                    }
                    self.used_at = Instant::now();
                    committers.collector.done(batch);
                }
                Next::Idle if *closing.borrow() => {
                    self.clear_up().await;
                    // Reads under way still hold their seats and have leaves to come.
                    if shared.room.deeds() == 0 && shared.buffer.is_empty() {
                        return;
                    }
                    tokio::time::sleep(super::REFUSAL_PAUSE).await;
                }
                Next::Idle => {
                    drop(self.hand.link.ping().await);
                    self.clear_up().await;
                }
                Next::Closed => return,
            }
        }
    }

    /// Commits a batch, in parts where it must be, and answers everybody in it. The part under way is the last of them
    /// until it is known what came of it.
    async fn commit(&mut self, parts: &mut Vec<Vec<Entry>>) {
        let committers = Arc::clone(&self.committers);
        let shared = &committers.shared;
        if self.used_at.elapsed() > FRESH_FOR {
            drop(self.hand.link.ping().await);
        }
        let begun = Instant::now();
        let region = shared.region.as_str();
        let deeds: usize = parts.iter().map(Vec::len).sum();
        histogram!("domicile_commit_batch_deeds", "region" => region.to_owned()).record(deeds as f64);
        gauge!("domicile_queue_deeds", "region" => region.to_owned()).set(shared.room.deeds() as f64);
        let mut attempts = 0;
        while let Some(entries) = parts.last() {
            self.trying = true;
            let outcome = self.attempt(entries, attempts >= CAREFUL_FROM).await;
            self.trying = false;
            let mut entries = parts.pop().unwrap_or_default();
            let failure = match outcome {
                Ok((sealed, first)) => {
                    committers.answer(entries, sealed, first);
                    // What was in the way of this part is not in the way of the next one.
                    attempts = 0;
                    continue;
                }
                Err(failure) => failure,
            };
            let trouble = match failure {
                Failure::Not(trouble) => trouble,
                Failure::Heavy => {
                    let second = entries.split_off(entries.len() / 2);
                    parts.extend([second, entries]);
                    continue;
                }
                Failure::Unknown { sealed, cause } => match self.look_up().await {
                    Ok(Some(first)) => {
                        committers.answer(entries, *sealed, first);
                        continue;
                    }
                    Ok(None) => Trouble::Lost(cause),
                    Err(_) => {
                        warn!(%region, %cause, "It is not known whether a batch was committed");
                        self.leave_open(entries).await;
                        continue;
                    }
                },
            };
            if let Trouble::Refused { sqlstate, message } = trouble {
                let error = Error::RefusedByDatabase { sqlstate, message };
                if !halve(parts, &mut entries, &error) {
                    warn!(%region, %error, "The database refused a batch in which there is nothing to refuse");
                    committers.fail(entries, &Error::Internal(Cause::new(error.to_string())));
                }
                continue;
            }
            attempts += 1;
            let again = matches!(trouble, Trouble::Conflict(_) | Trouble::Lost(_));
            let patience = shared.limits.answer_timeout.saturating_sub(shared.address.patience());
            // Whoever is overtaken, as by every erasure in the region, is bounded by the time rather than by a few attempts.
            let overtaken = if matches!(trouble, Trouble::Conflict(_)) { CONFLICTS_PER_ATTEMPT } else { 1 };
            if again && attempts < shared.limits.attempts_max * overtaken && begun.elapsed() < patience {
                counter!("domicile_commit_retries_total", "region" => region.to_owned()).increment(1);
                if self.hand.link.connection().await.is_ok() {
                    if attempts > 1 {
                        self.hand.link.pause().await;
                    }
                    parts.push(entries);
                    continue;
                }
            }
            let error = trouble.into_error(Some(&shared.region));
            warn!(%region, deeds = entries.len(), %error, "A batch could not be committed");
            committers.fail(entries, &error);
            // The rest would fare no better, and must not wait for it.
            if !self.hand.link.is_up() {
                for entries in parts.drain(..) {
                    committers.fail(entries, &error);
                }
            }
        }
        histogram!("domicile_commit_seconds", "region" => region.to_owned()).record(begun.elapsed().as_secs_f64());
    }

    /// Answers the part of a batch whose work has ended in a panic. How far it had come is not known.
    async fn give_up(&mut self, entries: Vec<Entry>) {
        let committers = Arc::clone(&self.committers);
        let region = &committers.shared.region;
        // Whatever was being said on it was not said to its end.
        self.hand.link.cut();
        let deeds = entries.len();
        error!(%region, deeds, "What became of a batch of {deeds} is not known, since the work at it ended in a panic");
        self.leave_open(entries).await;
        // Leaves that nobody waits for come back with the next batch, or when it is known that they are not there.
        self.hand.link.pause().await;
    }

    /// Answers a part of which it is not known whether it is in the log, and leaves the rest of it to be cleared up.
    async fn leave_open(&mut self, entries: Vec<Entry>) {
        let committers = Arc::clone(&self.committers);
        let shared = &committers.shared;
        let region = &shared.region;
        counter!("domicile_commits_unknown_total", "region" => region.as_str().to_owned()).increment(1);
        let kept = answers::refuse(region, entries, &Error::OutcomeUnknown { region: region.clone() });
        let UnderWay { numbers, place } = std::mem::take(&mut self.under_way);
        let back = match place {
            Some(place) => shared.doubts.add(Doubt { place, numbers, kept }),
            None => {
                shared.numbers.give_back(numbers);
                kept
            }
        };
        committers.collector.put_back(back);
    }

    /// Looks for pages that were cut off before. What cannot be found out now is left for the next time.
    async fn clear_up(&mut self) {
        let committers = Arc::clone(&self.committers);
        let shared = &committers.shared;
        while let Some(doubt) = shared.doubts.take() {
            let outcome = match self.hand.link.connection().await {
                Ok(connection) => {
                    within(shared.address.patience(), head::was_committed(shared, connection, doubt.place)).await
                }
                Err(trouble) => Err(trouble),
            };
            match outcome {
                Ok(true) => {
                    if !doubt.kept.is_empty() {
                        drop(doubt.kept);
                        shared.buffer.written();
                    }
                }
                Ok(false) => {
                    shared.numbers.give_back(doubt.numbers);
                    committers.collector.put_back(doubt.kept);
                }
                Err(_) => {
                    // A transaction may be open on it.
                    self.hand.link.cut();
                    let back = shared.doubts.add(doubt);
                    return committers.collector.put_back(back);
                }
            }
        }
    }

    /// One attempt at committing entries together. Returns what to answer, and the first leaf's position.
    async fn attempt(&mut self, entries: &[Entry], careful: bool) -> Result<(Sealed, u64), Failure> {
        let committers = Arc::clone(&self.committers);
        let shared = &committers.shared;
        self.hand.link.connection().await?;
        self.clear_up().await;
        // After a failover the log may be of the same length and another one, which the length alone does not show.
        if self.hand.link.was_replaced() {
            shared.subjects.forget_all();
            shared.head.forget().await;
        }
        let connection = self.hand.link.connection().await?;
        let outcome = transact(shared, connection, entries, careful, &mut self.under_way).await;
        match outcome {
            Ok(sealed) => {
                self.under_way = UnderWay::default();
                shared.address.health.works();
                Ok(sealed)
            }
            Err(Failure::Not(trouble)) => {
                shared.numbers.give_back(std::mem::take(&mut self.under_way).numbers);
                drop(self.hand.link.settle::<()>(Err(trouble.clone())));
                if self.hand.link.is_up() {
                    self.roll_back().await;
                }
                Err(Failure::Not(trouble))
            }
            // Nothing was begun.
            Err(heavy @ Failure::Heavy) => Err(heavy),
            Err(unknown @ Failure::Unknown { .. }) => {
                self.hand.link.cut();
                Err(unknown)
            }
        }
    }

    async fn roll_back(&mut self) {
        let patience = self.committers.shared.address.patience();
        if let Ok(connection) = self.hand.link.connection().await {
            let outcome = within(patience, async { Ok(connection.execute("ROLLBACK").await?) }).await;
            drop(self.hand.link.settle(outcome));
        }
    }

    /// Looks into the log, on a new connection, for the batch under way, whose commit was cut off: the position of its first
    /// leaf, or `None`. What is not there will not get there later.
    async fn look_up(&mut self) -> Result<Option<u64>, Trouble> {
        let committers = Arc::clone(&self.committers);
        let shared = &committers.shared;
        let Some(place @ Place::At { seq, .. }) = self.under_way.place else {
            return Err(Trouble::Internal(Cause::new("a page was cut off before it was sent")));
        };
        let (limits, patience) = (&shared.limits, shared.address.patience());
        let mut attempts = 0;
        let begun = Instant::now();
        loop {
            attempts += 1;
            let outcome = match self.hand.link.connection().await {
                Ok(connection) => within(patience, head::was_committed(shared, connection, place)).await,
                Err(trouble) => Err(trouble),
            };
            // A transaction may be open on it: a new one is cheaper than thinking about it.
            if outcome.is_err() {
                self.hand.link.cut();
            }
            match outcome {
                Ok(known) => {
                    let UnderWay { numbers, .. } = std::mem::take(&mut self.under_way);
                    if !known {
                        shared.numbers.give_back(numbers);
                    }
                    return Ok(known.then_some(seq));
                }
                Err(trouble) if begun.elapsed() > limits.answer_timeout / 2 || attempts > 50 => return Err(trouble),
                Err(_) => self.hand.link.pause().await,
            }
        }
    }
}

impl Committers {
    /// Tells everybody in a committed batch what came of it.
    fn answer(&self, entries: Vec<Entry>, sealed: Sealed, first: u64) {
        let shared = &self.shared;
        for (subject, fresh) in sealed.registered {
            shared.subjects.insert(subject, sealed.fence, Arc::clone(&fresh.known));
        }
        let mut buffered = false;
        answers::each(&shared.region, entries.into_iter().zip(sealed.outcomes), |(entry, outcome)| {
            let position = LogPosition {
                region: shared.region.clone(),
                seq: first + outcome.leaf as u64,
                leaf_hash: sealed.hashes[outcome.leaf],
            };
            buffered |= !entry.is_awaited();
            answers::tell(entry, outcome, position);
        });
        if buffered {
            shared.buffer.written();
        }
    }

    /// Tells everybody that nothing was done. Leaves that nobody waits for go back into the line.
    fn fail(&self, entries: Vec<Entry>, error: &Error) {
        self.collector.put_back(answers::refuse(&self.shared.region, entries, error));
    }
}

/// Halves a batch that was refused, until the one deed is found that must only leave a leaf. The halves
/// go back onto the stack, the first one on top. `false` when there is no deed that could be the cause.
fn halve(parts: &mut Vec<Vec<Entry>>, entries: &mut Vec<Entry>, error: &Error) -> bool {
    let suspect = |entry: &Entry| matches!(entry, Entry::Deed(deed) if deed.refused.is_none());
    let suspects: Vec<usize> = (0..entries.len()).filter(|&at| suspect(&entries[at])).collect();
    match suspects[..] {
        [] => return false,
        [only] => {
            if let Entry::Deed(deed) = &mut entries[only] {
                deed.refused = Some(error.clone());
            }
        }
        _ => {
            let second = entries.split_off(suspects[suspects.len() / 2]);
            parts.push(second);
        }
    }
    parts.push(std::mem::take(entries));
    true
}
