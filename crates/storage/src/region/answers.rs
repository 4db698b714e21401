//! Giving answers, and waiting for them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use metrics::counter;
use residency::Region;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use tracing::error;

use super::draft::Outcome;
use super::entry::{Entry, Reply};
use crate::deeds::{Answer, LogPosition};
use crate::error::{Cause, Error};

/// Waits for an answer for at most `patience`.
pub(super) async fn wait<T>(
    region: &Region,
    closing: &watch::Sender<bool>,
    patience: Duration,
    answer: oneshot::Receiver<Result<T, Error>>,
    too_late: impl FnOnce() -> Error,
) -> Result<T, Error> {
    match timeout(patience, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) if *closing.borrow() => Err(unavailable(region, "the store closed before the deed was begun")),
        // Whoever takes something up answers it; only a panic keeps them from it.
        Ok(Err(_)) => {
            counter!("domicile_answers_lost_total", "region" => region.as_str().to_owned()).increment(1);
            error!(%region, "An answer of region {region} was lost in a panic, which is a bug: the log says what was done");
            Err(Error::Internal(Cause::new("the answer was lost in a panic; the log says what was done")))
        }
        Err(_) => Err(too_late()),
    }
}

pub(super) fn unavailable(region: &Region, why: &'static str) -> Error {
    Error::Unavailable { region: Some(region.clone()), source: Cause::new(why) }
}

/// Tells each of them something. Whoever is woken by that may panic; then the others are told all the same.
pub(super) fn each<T>(region: &Region, whom: impl IntoIterator<Item = T>, mut tell: impl FnMut(T)) {
    let mut whom = whom.into_iter();
    // Every turn takes at least one of them.
    while catch_unwind(AssertUnwindSafe(|| whom.by_ref().for_each(&mut tell))).is_err() {
        panicked(region, "giving an answer");
    }
}

/// Tells whoever waits for an entry what came of it. Whoever does not wait any more is told nothing; the deed is done all
/// the same.
pub(super) fn tell(entry: Entry, outcome: Outcome, position: LogPosition) {
    match entry {
        Entry::Deed(deed) => {
            let effect = outcome.effect.unwrap_or_else(|| Err(Error::Internal(Cause::new("a deed without effect"))));
            drop(deed.reply.send(effect.map(|value| Answer { value, position: Some(position) })));
        }
        Entry::Fact(note) => drop(note.reply.send(Ok(position))),
        Entry::Note(note) => match note.reply {
            Reply::Position(reply) => drop(reply.send(Ok(position))),
            Reply::Found { found, reply } => {
                drop(reply.send(found.map(|value| Answer { value, position: Some(position) })));
            }
            Reply::Nobody { .. } => drop(note.seat),
        },
    }
}

/// Answers all of them with an error. What must be written all the same is left.
pub(super) fn refuse(region: &Region, entries: Vec<Entry>, error: &Error) -> Vec<Entry> {
    let mut kept = Vec::new();
    each(region, entries, |entry| kept.extend(entry.fail(error)));
    kept
}

/// Counts a panic and tells of it.
pub(super) fn panicked(region: &Region, work: &'static str) {
    counter!("domicile_panics_total").increment(1);
    error!(%region, work, "The work of region {region} ended in a panic, which is a bug: {work}");
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[tokio::test]
    async fn an_answer_that_was_lost_is_a_bug_and_not_an_outage_unless_the_store_closes() {
        let (region, closing) = (Region::new("eu-central").unwrap(), watch::Sender::new(false));
        let lost = async || {
            let (reply, answer) = oneshot::channel::<Result<(), Error>>();
            drop(reply);
            wait(&region, &closing, Duration::from_secs(60), answer, || panic!("nobody was waited for")).await
        };
        assert!(matches!(lost().await, Err(Error::Internal(_))));
        closing.send_replace(true);
        assert!(matches!(lost().await, Err(Error::Unavailable { .. })));
    }

    #[test]
    fn everybody_is_told_although_telling_some_of_them_panics() {
        let mut told = Vec::new();
        each(&Region::new("eu-central").unwrap(), 0..5, |n| {
            assert!(n % 2 == 0, "on purpose");
            told.push(n);
        });
        assert_eq!(told, [0, 2, 4]);
    }
}
