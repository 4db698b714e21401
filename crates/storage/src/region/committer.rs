//! The committer: drains what has queued and runs one transaction for all of it.
//!
//! Read the fence and the subjects' states, load what the deeds touch, fold them in memory, write the
//! changes, and last, under the head's lock, leaves, events and the new head; COMMIT; answer everyone.
//! Several committers overlap: while one flushes, the next one loads, folds and writes its changes.
//!
//! What goes wrong stays small: a batch that was overtaken is done again; a deed that the database refuses
//! is found by halving the batch and only leaves a leaf; a connection lost before the COMMIT costs another
//! attempt, and one lost during the COMMIT is cleared up by looking into the log.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use metrics::{counter, gauge, histogram};
use residency::{Epoch, SubjectId};
use sqlx::Executor;
use sqlx::postgres::PgConnection;
use tlog::leaf_hash;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::collector::{Batch, Collector, Next};
use super::draft::{Draft, Home, Homes, Loaded, Outcome, Wants};
use super::entry::{Entry, Reply};
use super::head::{self, Page, Stop};
use super::outbox::Columns;
use super::subjects::{self, Fresh};
use super::{Shared, idempotency, records, zero_party};
use crate::deeds::{Answer, LogPosition};
use crate::error::{Cause, Error, Trouble};
use crate::link::{Link, Work, within};

/// What the committers of a region share.
struct Committers {
    shared: Arc<Shared>,
    collector: Collector,
    up: AtomicUsize,
}

/// Starts a region's committers.
pub(super) fn spawn(
    shared: &Arc<Shared>,
    entries: mpsc::UnboundedReceiver<Entry>,
    connections: u32,
) -> Vec<JoinHandle<()>> {
    let committers = Arc::new(Committers {
        collector: Collector::new(entries, &shared.limits),
        shared: Arc::clone(shared),
        up: AtomicUsize::new(0),
    });
    (0..connections)
        .map(|_| {
            let link = Link::new(Arc::clone(&shared.address), Work::Commits);
            let committer = Committer { committers: Arc::clone(&committers), link, counted_up: false };
            tokio::spawn(committer.run())
        })
        .collect()
}

/// One committer and its connection.
struct Committer {
    committers: Arc<Committers>,
    link: Link,
    counted_up: bool,
}

/// A batch that is in the log: what everybody is to be told.
struct Sealed {
    outcomes: Vec<Outcome>,
    hashes: Vec<[u8; 32]>,
    registered: Vec<(SubjectId, Arc<Fresh>)>,
    fence: u64,
}

/// Why an attempt at a batch did not succeed.
enum Failure {
    /// Nothing of it was done.
    Not(Trouble),
    /// It may have been done; if so, this is what everybody is to be told.
    Unknown { sealed: Box<Sealed>, numbers: Vec<u64>, cause: Cause, seq: u64, hash: [u8; 32] },
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        Self::Not(trouble)
    }
}

impl Committer {
    async fn run(mut self) {
        let committers = Arc::clone(&self.committers);
        let shared = &committers.shared;
        let mut closing = shared.closing.subscribe();
        loop {
            if !self.connected().await {
                if *closing.borrow() {
                    return;
                }
                continue;
            }
            let idle = if *closing.borrow() { super::REFUSAL_PAUSE } else { shared.limits.idle_check_interval };
            match committers.collector.next(idle, &mut closing).await {
                Next::Batch(mut batch) => {
                    self.commit(&mut batch).await;
                    committers.collector.done(&mut batch);
                }
                Next::Idle if *closing.borrow() => {
                    // Reads under way still hold their seats and have leaves to come.
                    if shared.room.deeds() == 0 && shared.buffer.is_empty() {
                        return;
                    }
                    tokio::time::sleep(super::REFUSAL_PAUSE).await;
                }
                Next::Idle => drop(self.link.ping().await),
                Next::Closed => return,
            }
        }
    }

    /// Makes sure of the connection. While no committer has one, everything queued is refused at once.
    async fn connected(&mut self) -> bool {
        let outcome = self.link.connection().await.map(drop);
        let Committers { shared, collector, up } = &*self.committers;
        match outcome {
            Ok(()) => {
                if !std::mem::replace(&mut self.counted_up, true) {
                    up.fetch_add(1, Ordering::AcqRel);
                    info!(region = %shared.region, "A committer of region {} is connected", shared.region);
                }
                return true;
            }
            Err(trouble) => {
                if std::mem::replace(&mut self.counted_up, false) {
                    up.fetch_sub(1, Ordering::AcqRel);
                    warn!(region = %shared.region, cause = %trouble.cause(), "A committer lost its connection");
                }
                let misplaced = matches!(trouble, Trouble::Misplaced(_));
                let error = trouble.into_error(Some(&shared.region));
                let pause = async {
                    if misplaced {
                        // Refused for good: whoever still comes is told so, until the store is closed.
                        shared.closing.subscribe().wait_for(|closing| *closing).await.map(drop).unwrap_or(());
                    } else {
                        self.link.pause().await;
                    }
                };
                let mut pause = std::pin::pin!(pause);
                loop {
                    if up.load(Ordering::Acquire) == 0 {
                        let kept = collector.try_drain().into_iter().filter_map(|entry| entry.fail(&error)).collect();
                        collector.put_back(kept).await;
                    }
                    tokio::select! {
                        () = &mut pause => return false,
                        () = tokio::time::sleep(super::REFUSAL_PAUSE) => {}
                    }
                }
            }
        }
    }

    /// Commits a batch, in parts where it must be, and answers everybody in it.
    async fn commit(&mut self, batch: &mut Batch) {
        let committers = Arc::clone(&self.committers);
        let shared = &committers.shared;
        let begun = Instant::now();
        let region = shared.region.as_str();
        histogram!("domicile_commit_batch_deeds", "region" => region.to_owned()).record(batch.entries.len() as f64);
        gauge!("domicile_queue_deeds", "region" => region.to_owned()).set(shared.room.deeds() as f64);
        // Parts still to be done, the next one last.
        let mut parts = vec![std::mem::take(&mut batch.entries)];
        let mut attempts = 0;
        while let Some(mut entries) = parts.pop() {
            let failure = match self.attempt(&entries).await {
                Ok((sealed, first)) => {
                    committers.answer(entries, sealed, first);
                    continue;
                }
                Err(failure) => failure,
            };
            let trouble = match failure {
                Failure::Not(trouble) => trouble,
                Failure::Unknown { sealed, numbers, cause, seq, hash } => match self.look_up(seq, &hash).await {
                    Ok(true) => {
                        committers.answer(entries, *sealed, seq);
                        continue;
                    }
                    Ok(false) => {
                        shared.numbers.give_back(numbers);
                        Trouble::Lost(cause)
                    }
                    Err(_) => {
                        counter!("domicile_commits_unknown_total", "region" => region.to_owned()).increment(1);
                        warn!(%region, %cause, "It is not known whether a batch was committed");
                        committers.fail(entries, &Error::OutcomeUnknown { region: shared.region.clone() }).await;
                        continue;
                    }
                },
            };
            if let Trouble::Refused { sqlstate, message } = trouble {
                let error = Error::RefusedByDatabase { sqlstate, message };
                if !halve(&mut parts, &mut entries, &error) {
                    warn!(%region, %error, "The database refused a batch in which there is nothing to refuse");
                    committers.fail(entries, &Error::Internal(Cause::new(error.to_string()))).await;
                }
                continue;
            }
            attempts += 1;
            let again = matches!(trouble, Trouble::Conflict(_) | Trouble::Lost(_));
            let patience = shared.limits.answer_timeout.saturating_sub(shared.address.patience());
            if again && attempts < shared.limits.attempts_max && begun.elapsed() < patience {
                counter!("domicile_commit_retries_total", "region" => region.to_owned()).increment(1);
                if self.link.connection().await.is_ok() {
                    if attempts > 1 {
                        self.link.pause().await;
                    }
                    parts.push(entries);
                    continue;
                }
            }
            let error = trouble.into_error(Some(&shared.region));
            warn!(%region, deeds = entries.len(), %error, "A batch could not be committed");
            committers.fail(entries, &error).await;
            // The rest would fare no better, and must not wait for it.
            if !self.link.is_up() {
                for entries in parts.drain(..) {
                    committers.fail(entries, &error).await;
                }
            }
        }
        histogram!("domicile_commit_seconds", "region" => region.to_owned()).record(begun.elapsed().as_secs_f64());
    }

    /// One attempt at committing entries together. Returns what to answer, and the first leaf's position.
    async fn attempt(&mut self, entries: &[Entry]) -> Result<(Sealed, u64), Failure> {
        let shared = &self.committers.shared;
        let connection = self.link.connection().await?;
        let outcome = transact(shared, connection, entries).await;
        match outcome {
            Ok(sealed) => {
                shared.address.health.works();
                Ok(sealed)
            }
            Err(Failure::Not(trouble)) => {
                drop(self.link.settle::<()>(Err(trouble.clone())));
                if self.link.is_up() {
                    self.roll_back().await;
                }
                Err(Failure::Not(trouble))
            }
            Err(unknown @ Failure::Unknown { .. }) => {
                self.link.cut();
                Err(unknown)
            }
        }
    }

    async fn roll_back(&mut self) {
        let patience = self.committers.shared.address.patience();
        if let Ok(connection) = self.link.connection().await {
            let outcome = within(patience, async { Ok(connection.execute("ROLLBACK").await?) }).await;
            drop(self.link.settle(outcome));
        }
    }

    /// Looks into the log, on a new connection, for a batch whose commit was cut off.
    async fn look_up(&mut self, seq: u64, hash: &[u8; 32]) -> Result<bool, Trouble> {
        let limits = self.committers.shared.limits.clone();
        let patience = self.committers.shared.address.patience();
        let mut attempts = 0;
        let begun = Instant::now();
        loop {
            attempts += 1;
            let outcome = match self.link.connection().await {
                Ok(connection) => within(patience, head::was_committed(connection, seq, hash)).await,
                Err(trouble) => Err(trouble),
            };
            // A transaction may be open on it: a new one is cheaper than thinking about it.
            if outcome.is_err() {
                self.link.cut();
            }
            match outcome {
                Ok(known) => return Ok(known),
                Err(trouble) if begun.elapsed() > limits.answer_timeout / 2 || attempts > 50 => return Err(trouble),
                Err(_) => self.link.pause().await,
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
        for (entry, outcome) in entries.into_iter().zip(sealed.outcomes) {
            let position = LogPosition {
                region: shared.region.clone(),
                seq: first + outcome.leaf as u64,
                leaf_hash: sealed.hashes[outcome.leaf],
            };
            // Whoever does not wait any more is told nothing; the deed is done all the same.
            match entry {
                Entry::Deed(deed) => {
                    let effect =
                        outcome.effect.unwrap_or_else(|| Err(Error::Internal(Cause::new("a deed without effect"))));
                    drop(deed.reply.send(effect.map(|value| Answer { value, position: Some(position) })));
                }
                Entry::Note(note) => match note.reply {
                    Reply::Position(reply) => drop(reply.send(Ok(position))),
                    Reply::Found { found, reply } => {
                        drop(reply.send(found.map(|value| Answer { value, position: Some(position) })));
                    }
                    Reply::Nobody { .. } => {
                        buffered = true;
                        drop(note.seat);
                    }
                },
            }
        }
        if buffered {
            shared.buffer.written();
        }
    }

    /// Tells everybody that nothing was done. Leaves that nobody waits for go back into the line.
    async fn fail(&self, entries: Vec<Entry>, error: &Error) {
        let kept = entries.into_iter().filter_map(|entry| entry.fail(error)).collect();
        self.collector.put_back(kept).await;
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

/// Does a batch in one transaction.
async fn transact(shared: &Shared, connection: &mut PgConnection, entries: &[Entry]) -> Result<(Sealed, u64), Failure> {
    let (homes, fence) = homes(shared, connection, entries).await?;
    let wants = Wants::of(entries);
    let loaded = load(shared, connection, &wants).await?;
    let draft = Draft::fold(shared, entries, &homes, &wants, loaded);
    let changes = draft.changes();
    if changes {
        head::begin(shared, connection).await?;
        write(shared, connection, &draft).await?;
    }
    let numbers = shared.numbers.take(draft.leaves.iter().filter(|leaf| leaf.gseq.is_none()).count());
    let (text, ends) = draft.lines(shared, &numbers);
    let mut start = 0;
    let mut lines = Vec::with_capacity(ends.len());
    for end in ends {
        lines.push(&text[start..end]);
        start = end;
    }
    let hashes: Vec<[u8; 32]> = lines.iter().map(|line| leaf_hash(line.as_bytes())).collect();
    let at_us = entries.first().map_or(0, |entry| entry.decision().at_us);
    let page = Page { lines, hashes, events: Columns::of(&draft.events), fence, at_us };
    let appended = head::append(shared, connection, &page, changes).await;
    let hashes = page.hashes;
    let registered = draft.registered.iter().map(|(subject, fresh)| ((*subject).clone(), Arc::clone(fresh))).collect();
    let fence = fence.unwrap_or_default();
    let sealed = Sealed { outcomes: draft.outcomes, hashes, registered, fence };
    match appended {
        Ok(first) => Ok((sealed, first)),
        Err(Stop::Not(trouble)) => {
            shared.numbers.give_back(numbers);
            Err(Failure::Not(trouble))
        }
        Err(Stop::Unknown { cause, seq, hash }) => {
            Err(Failure::Unknown { sealed: Box::new(sealed), numbers, cause, seq, hash })
        }
    }
}

/// What is known of the batch's subjects, and the fence under which it is true.
async fn homes<'a>(
    shared: &Shared,
    connection: &mut PgConnection,
    entries: &'a [Entry],
) -> Result<(Homes<'a>, Option<u64>), Trouble> {
    let patience = shared.address.patience();
    let mut homes = HashMap::new();
    let deeds = || entries.iter().filter_map(|entry| if let Entry::Deed(deed) = entry { Some(deed) } else { None });
    if deeds().next().is_none() {
        return Ok((homes, None));
    }
    let fence = match shared.head.fence() {
        Some(fence) => fence,
        None => within(patience, head::look_at_fence(shared, connection)).await?,
    };
    let mut missing: HashMap<&str, &super::entry::Deed> = HashMap::new();
    for deed in deeds() {
        let subject = deed.permit.subject();
        if homes.contains_key(subject.expose()) || missing.contains_key(subject.expose()) {
            continue;
        }
        match shared.subjects.get(subject, fence) {
            Some(known) => drop(homes.insert(subject.expose(), Home::Known(known))),
            None => drop(missing.insert(subject.expose(), deed)),
        }
    }
    if !missing.is_empty() {
        let names: Vec<&str> = missing.keys().copied().collect();
        let mut found = within(patience, subjects::load(connection, &names, &shared.origin)).await?;
        for (name, deed) in missing {
            let subject = deed.permit.subject();
            let home = match found.remove(name) {
                Some(known) => {
                    let known = Arc::new(known);
                    shared.subjects.insert(subject.clone(), fence, Arc::clone(&known));
                    Home::Known(known)
                }
                None if deed.permit.epoch() == Epoch::FIRST => {
                    let digest = shared.peppers.digest(subject);
                    Home::Fresh(Arc::new(Fresh::draw(digest, deed.permit.decision().at_us, &shared.origin)))
                }
                None => Home::Nobody,
            };
            homes.insert(name, home);
        }
    }
    Ok((homes, Some(fence)))
}

async fn load(shared: &Shared, connection: &mut PgConnection, wants: &Wants<'_>) -> Result<Loaded, Trouble> {
    let patience = shared.address.patience();
    let mut loaded = Loaded::default();
    if !wants.records.is_empty() {
        loaded.records = within(patience, records::load(connection, &shared.region, &wants.records)).await?;
    }
    if !wants.attributes.is_empty() {
        loaded.attributes = within(patience, zero_party::load(connection, &shared.region, &wants.attributes)).await?;
    }
    if !wants.keys.is_empty() {
        loaded.keys = within(patience, idempotency::load(connection, &wants.keys)).await?;
    }
    Ok(loaded)
}

/// Writes the changes, every table in the same order and every table's rows in the order of their keys.
/// A row that is missing from a count was changed by somebody else since it was loaded.
async fn write(shared: &Shared, connection: &mut PgConnection, draft: &Draft<'_>) -> Result<(), Trouble> {
    let patience = shared.address.patience();
    let region = &shared.region;
    if !draft.registered.is_empty() {
        let fresh: Vec<_> = draft.registered.iter().map(|(subject, fresh)| (*subject, &**fresh)).collect();
        let done = within(patience, subjects::register(connection, &fresh)).await?;
        all(done, fresh.len(), "a subject was registered meanwhile")?;
    }
    if !draft.floors.is_empty() {
        let done = within(patience, subjects::lift_floors(connection, &draft.floors)).await?;
        all(done, draft.floors.len(), "a subject is missing")?;
    }
    if !draft.replaced.is_empty() {
        let done = within(patience, records::replace(connection, region, &draft.replaced)).await?;
        all(done, draft.replaced.len(), "a record was changed meanwhile")?;
    }
    if !draft.created.is_empty() {
        let done = within(patience, records::create(connection, region, &draft.created)).await?;
        all(done, draft.created.len(), "a record was created meanwhile")?;
    }
    if !draft.deleted.is_empty() {
        let done = within(patience, records::delete(connection, region, &draft.deleted)).await?;
        all(done, draft.deleted.len(), "a record was changed meanwhile")?;
    }
    if !draft.attributes_written.is_empty() {
        let done = within(patience, zero_party::write(connection, region, &draft.attributes_written)).await?;
        all(done, draft.attributes_written.len(), "an attribute was changed meanwhile")?;
    }
    if !draft.attributes_deleted.is_empty() {
        let done = within(patience, zero_party::delete(connection, region, &draft.attributes_deleted)).await?;
        all(done, draft.attributes_deleted.len(), "an attribute was changed meanwhile")?;
    }
    if !draft.keys_used.is_empty() {
        let done = within(patience, idempotency::remember(connection, &draft.keys_used)).await?;
        all(done, draft.keys_used.len(), "an idempotency key was used meanwhile")?;
    }
    Ok(())
}

fn all(done: u64, expected: usize, otherwise: &'static str) -> Result<(), Trouble> {
    if done == expected as u64 { Ok(()) } else { Err(Trouble::Conflict(Cause::new(otherwise))) }
}
