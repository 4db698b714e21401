//! The reader: concurrent lookups travel in one SELECT per kind of lookup.
//!
//! Whatever has queued while the last SELECT was under way goes into the next one; there is no timer. The
//! subject's row is read in the same statement, so a lookup sees the state, the epoch and the data of one
//! moment. What was found is not answered here: it is handed to the committer with its leaf, and the
//! caller hears of it when the leaf is durable (or, with buffered audit, at once).

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt as _;
use leaf::{Kind, Out, SubjectTag};
use metrics::{counter, histogram};
use residency::{Permit, Read};
use sqlx::postgres::PgConnection;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::answers;
use super::crew::{Crew, Hand};
use super::entry::{Entry, Grounds, Note, Reply};
use super::lanes::{LONG_MAX, Line, Next};
use super::lookups::{self, Asked, Sight};
use super::queue::Seat;
use super::subjects::why;
use super::tally::{Tally, Usual};
use super::{Shared, history, lists};
use crate::deeds::{Answer, Found, Lookup};
use crate::error::{Error, Trouble};
use crate::link::{Work, within};

/// A lookup in the queue.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) permit: Permit<Read>,
    pub(super) lookup: Lookup,
    pub(super) reply: oneshot::Sender<Result<Answer<Found>, Error>>,
    pub(super) seat: Seat,
    /// With buffered audit: the place for its leaf.
    pub(super) buffered: Option<Seat>,
}

/// What the readers of a region share.
struct Readers {
    shared: Arc<Shared>,
    line: Line,
    entries: mpsc::UnboundedSender<Vec<Entry>>,
}

/// Starts a region's readers.
pub(super) fn spawn(
    shared: &Arc<Shared>,
    line: Line,
    entries: &mpsc::UnboundedSender<Vec<Entry>>,
    connections: u32,
) -> Vec<JoinHandle<()>> {
    let crew = Crew::new("reader");
    let readers = Arc::new(Readers { shared: Arc::clone(shared), line, entries: entries.clone() });
    (0..connections)
        .map(|_| {
            let hand = crew.hand(shared, Work::Lookups);
            let (short, long) = (Usual::default(), Usual::default());
            tokio::spawn(Reader { readers: Arc::clone(&readers), hand, short, long }.run())
        })
        .collect()
}

/// One reader and its connection.
struct Reader {
    readers: Arc<Readers>,
    hand: Hand,
    /// What short lookups find, and what long ones do.
    short: Usual,
    long: Usual,
}

impl Reader {
    async fn run(mut self) {
        let readers = Arc::clone(&self.readers);
        let mut closing = readers.shared.closing.subscribe();
        loop {
            if !self.hand.connected(|error| readers.line.refuse(error)).await {
                if *closing.borrow() {
                    return;
                }
                continue;
            }
            let limits = &readers.shared.limits;
            let many = self.short.fit(limits, limits.batch_lookups_max);
            let few = self.long.fit(limits, LONG_MAX.min(limits.batch_lookups_max));
            match readers.line.next(limits, many, few, &mut closing).await {
                Next::Queries(queries, turn) => {
                    // A panic costs its batch the answers, and not the region a reader.
                    if AssertUnwindSafe(self.look_up(queries, turn.is_some())).catch_unwind().await.is_err() {
                        answers::panicked(&readers.shared.region, "looking up");
                        self.hand.link.cut();
                    }
                    drop(turn);
                }
                Next::Idle => drop(self.hand.link.ping().await),
                Next::Closed => return,
            }
        }
    }

    /// What every lookup of a batch sees, on this reader's connection.
    async fn find(&mut self, queries: &[Query], tally: &mut Tally) -> Result<Option<Vec<Sight>>, Trouble> {
        let readers = Arc::clone(&self.readers);
        let (shared, link) = (&readers.shared, &mut self.hand.link);
        link.connection().await?;
        if link.was_replaced() {
            shared.subjects.forget_all();
        }
        find(shared, link.connection().await?, queries, tally).await
    }

    /// Looks a batch up, again where that helps, and hands every answer on. What the database refuses, or does not find
    /// in time, is looked for again in parts, so that one lookup does not fail the others; so is what is more than may be held
    /// at a time.
    async fn look_up(&mut self, queries: Vec<Query>, long: bool) {
        let readers = Arc::clone(&self.readers);
        let shared = &readers.shared;
        histogram!("domicile_read_batch_lookups", "region" => shared.region.as_str().to_owned())
            .record(queries.len() as f64);
        let mut parts = vec![queries];
        let (mut attempts, mut late) = (0, false);
        while let Some(mut queries) = parts.pop() {
            if late {
                // Every attempt may take as long as a statement may: whoever has given up meanwhile is spared.
                queries.retain(|query| !query.reply.is_closed());
                if queries.is_empty() {
                    continue;
                }
            }
            let mut tally = Tally::of(&shared.limits, queries.len());
            let outcome = self.find(&queries, &mut tally).await;
            let usual = if long { &mut self.long } else { &mut self.short };
            let trouble = match self.hand.link.settle(outcome) {
                Ok(None) => {
                    counter!("domicile_read_batches_broken_off_total", "region" => shared.region.as_str().to_owned())
                        .increment(1);
                    usual.learn(&tally);
                    let fit = usual.fit(&shared.limits, queries.len() / 2);
                    parts.extend(in_parts(queries, fit));
                    // What is a little more is read and dropped by whoever uses the connection next.
                    if tally.is_far_over() {
                        self.hand.link.cut();
                    }
                    continue;
                }
                Ok(Some(sights)) => {
                    usual.learn(&tally);
                    let mut notes = Vec::with_capacity(queries.len());
                    answers::each(&shared.region, queries.into_iter().zip(sights), |(query, sight)| {
                        notes.push(noted(shared, query, sight));
                    });
                    // The committers outlive the readers; if they do not, the replies are dropped and the callers told so.
                    drop(readers.entries.send(notes));
                    continue;
                }
                Err(trouble) => trouble,
            };
            let slow = trouble.took_too_long();
            late |= slow;
            // Of many each half is tried, of a few every single one: a slow lookup may cost its neighbours its own time twice, and
            // no more.
            if (slow || matches!(trouble, Trouble::Refused { .. })) && queries.len() > 1 {
                let size = if queries.len() > LONG_MAX { queries.len().div_ceil(2) } else { 1 };
                parts.extend(in_parts(queries, size));
                continue;
            }
            attempts += 1;
            // What is too slow alone has had its time.
            let again = !slow && matches!(trouble, Trouble::Conflict(_) | Trouble::Lost(_)) && attempts < 3;
            if again && self.hand.link.connection().await.is_ok() {
                counter!("domicile_read_retries_total", "region" => shared.region.as_str().to_owned()).increment(1);
                parts.push(queries);
                continue;
            }
            let error = trouble.into_error(Some(&shared.region));
            for query in queries {
                drop(query.reply.send(Err(error.clone())));
            }
        }
    }
}

/// The parts of so many at most that a batch is tried in after it failed as a whole, the first last.
fn in_parts<T>(mut whole: Vec<T>, size: usize) -> Vec<Vec<T>> {
    let size = size.max(1);
    let mut parts = Vec::new();
    while whole.len() > size {
        parts.push(whole.split_off(whole.len() - size));
    }
    parts.push(whole);
    parts
}

/// What was found, and its leaf, for the committer. With buffered audit the caller is answered here.
pub(super) fn noted(shared: &Shared, query: Query, sight: Sight) -> Entry {
    let Query { permit, lookup: _, reply, seat, buffered } = query;
    let tag: Option<SubjectTag> = sight.tag;
    let (out, why) = match &sight.found {
        Ok(_) => (Out::Allow, None),
        Err(error) => (Out::Error, Some(why(error))),
    };
    // Who is no longer at home here has no home that this region could name.
    let home = (!matches!(sight.found, Err(Error::Moved))).then(|| shared.region.clone());
    let (rows, bytes) = sight.found.as_ref().map_or((0, 0), lookups::size);
    let (reply, seat) = match buffered {
        None => (Reply::Found { found: sight.found, reply }, seat),
        Some(place) => {
            let gseq = shared.numbers.take(1).pop().unwrap_or_default();
            drop(reply.send(sight.found.map(|value| Answer { value, position: None })));
            (Reply::Nobody { gseq }, place)
        }
    };
    let note = Note {
        grounds: Grounds::Permit(permit),
        kind: Kind::DecisionRead,
        tag,
        sealer: sight.sealer,
        home,
        out,
        why,
        rows,
        bytes,
        reply,
        seat,
    };
    Entry::Note(Box::new(note))
}

/// What every lookup of a batch sees, in their order; `None` when together that is more than the tally allows.
pub(super) async fn find(
    shared: &Shared,
    connection: &mut PgConnection,
    queries: &[Query],
    tally: &mut Tally,
) -> Result<Option<Vec<Sight>>, Trouble> {
    let patience = shared.address.patience();
    let mut sights: Vec<Option<Sight>> = queries.iter().map(|_| None).collect();
    let asked = Asked::of(queries);
    let Asked { records, lists, attributes, all_attributes, subjects, extents, histories } = &asked;
    if !records.is_empty() {
        within(patience, lookups::records(shared, connection, records, &mut sights, tally)).await?;
    }
    if !attributes.is_empty() {
        within(patience, lookups::attributes(shared, connection, attributes, &mut sights, tally)).await?;
    }
    for lists in lists.chunks(LONG_MAX) {
        within(patience, lists::pages(shared, connection, lists, &mut sights, tally)).await?;
    }
    for all in all_attributes.chunks(LONG_MAX) {
        within(patience, lookups::all_attributes(shared, connection, all, &mut sights, tally)).await?;
    }
    for histories in histories.chunks(LONG_MAX) {
        within(patience, history::pages(shared, connection, histories, &mut sights, tally)).await?;
    }
    if tally.is_over() {
        return Ok(None);
    }
    if !subjects.is_empty() {
        within(patience, lookups::subjects(shared, connection, subjects, &mut sights)).await?;
    }
    if !extents.is_empty() {
        within(shared.limits.erasure_timeout, lookups::extents(shared, connection, extents, &mut sights)).await?;
    }
    if sights.iter().any(Option::is_none) {
        within(patience, lookups::erased(shared, connection, queries, &mut sights)).await?;
    }
    // Of whoever is not registered here nothing was seen: there is nothing.
    let seen = |(sight, query): (Option<Sight>, &Query)| {
        sight.unwrap_or_else(|| Sight { tag: None, sealer: None, found: Ok(lookups::nothing(&query.lookup)) })
    };
    Ok(Some(sights.into_iter().zip(queries).map(seen).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_cut_into_parts_and_the_first_is_taken_from_the_end() {
        let parts = in_parts((0..1_001).collect(), 501);
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [501, 500]);
        assert_eq!(parts.concat().len(), 1_001);
        assert_eq!(in_parts(vec![1, 2, 3], 1), [[3], [2], [1]]);
        assert_eq!(in_parts(vec![1, 2, 3], 0), [[3], [2], [1]], "a part holds something");
    }
}
