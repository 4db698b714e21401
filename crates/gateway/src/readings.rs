//! Whoever reads the log is in the log: no answer about entries leaves before the leaf that says who asked for them, in
//! which way, and how many there were. A leaf never names a subject: it holds the tag that the subject has in that log.
//!
//! Tiles are read by the thousand when a log is verified, so they are counted by *sitting*: a first leaf when somebody
//! begins to read, further ones each time their number has doubled, and one when a new sitting begins a while later.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use leaf::{Fact, Reading};
use residency::{Actor, Region, SubjectId};
use storage::{Health, RegionStore};

use crate::app::App;
use crate::callers::Caller;
use crate::error::Error;
use crate::from_wire::query::Query;

/// A sitting in which nothing was read for so long is over, microseconds.
const SITTING_US_MAX: i64 = 600_000_000;
/// Sittings that are remembered; beyond it every read has its own leaf.
const SITTINGS_MAX: usize = 4_096;

/// Who is reading which log right now.
#[derive(Debug, Default)]
pub(crate) struct Sittings(Mutex<HashMap<(Actor, Region), Sitting>>);

#[derive(Debug, Clone, Copy)]
struct Sitting {
    last_us: i64,
    rows: u64,
    /// Rows that the log knows of.
    told: u64,
}

impl Sittings {
    /// Counts rows that are about to be shown. How many of the sitting's rows a leaf must account for first, if one must.
    fn count(&self, actor: &Actor, region: &Region, rows: u64, now_us: i64) -> Option<u64> {
        let mut sittings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sittings.len() >= SITTINGS_MAX {
            sittings.retain(|_, sitting| sitting.last_us + SITTING_US_MAX > now_us);
            if sittings.len() >= SITTINGS_MAX {
                return Some(rows);
            }
        }
        let fresh = Sitting { last_us: now_us, rows: 0, told: 0 };
        let sitting = sittings.entry((actor.clone(), region.clone())).or_insert(fresh);
        let over = sitting.last_us + SITTING_US_MAX <= now_us;
        let before = if over { std::mem::replace(sitting, fresh) } else { fresh };
        sitting.last_us = now_us;
        sitting.rows += rows;
        // What the last leaf of an ended sitting did not account for is accounted for now.
        let late = before.rows - before.told;
        if sitting.told == 0 || sitting.rows >= sitting.told.saturating_mul(2) {
            let due = sitting.rows - sitting.told + late;
            sitting.told = sitting.rows;
            Some(due)
        } else {
            None
        }
    }

    /// The leaf was not written: the sitting counts as if nothing had been told.
    fn forget(&self, actor: &Actor, region: &Region) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(actor.clone(), region.clone()));
    }
}

impl App {
    /// Writes the leaf of a reading into a region's log.
    ///
    /// # Errors
    /// [`Error::Unaudited`]: nothing may be shown.
    pub(crate) async fn account_for_reading(&self, store: &RegionStore, reading: Reading) -> Result<(), Error> {
        let fact = Fact::audit_read(self.clock.now_us(), &reading);
        let recorded = store.record(fact).await;
        recorded.map(drop).map_err(|source| Error::Unaudited { region: store.region().clone(), source })
    }

    /// The same for entries that are read by the thousand.
    ///
    /// # Errors
    /// [`Error::Unaudited`]: nothing may be shown.
    pub(crate) async fn account_for_tiles(&self, store: &RegionStore, caller: &Caller, rows: u64) -> Result<(), Error> {
        let (actor, region) = (&caller.actor, store.region());
        let Some(rows) = self.sittings.count(actor, region, rows, self.clock.now_us()) else { return Ok(()) };
        let reading =
            Reading { actor: actor.as_str().to_owned(), what: "entries", rows: Some(rows), ..Reading::default() };
        let recorded = self.account_for_reading(store, reading).await;
        if recorded.is_err() {
            self.sittings.forget(actor, region);
        }
        recorded
    }

    /// Writes the leaf of a search into a region's log: the filter without the subject, whose tag stands for it.
    ///
    /// # Errors
    /// [`Error::Unaudited`]: nothing may be shown.
    pub(crate) async fn account_for_search(
        &self,
        store: &RegionStore,
        caller: &Caller,
        asked: &Asked<'_>,
        rows: Option<u64>,
    ) -> Result<(), Error> {
        let tag = match asked.subject {
            None => None,
            Some(subject) => {
                let found = store.log().tag_of(subject).await;
                found.map_err(|source| Error::Unaudited { region: store.region().clone(), source })?
            }
        };
        let mut filter = asked.filter.clone();
        if asked.subject.is_some() && tag.is_none() {
            filter.push("subject=unknown".to_owned()); // nobody here has that name, so no tag can stand for it
        }
        let actor = caller.actor.as_str().to_owned();
        let reading = Reading { actor, what: asked.what, filter, subject: tag, at: None, rows };
        self.account_for_reading(store, reading).await
    }
}

/// What somebody asked of the log.
pub(crate) struct Asked<'a> {
    /// In which way, e.g. `search`.
    pub(crate) what: &'static str,
    /// `name=value`, without a subject.
    pub(crate) filter: Vec<String>,
    /// The subject that was asked for.
    pub(crate) subject: Option<&'a SubjectId>,
}

/// Writes the leaf of a console page that shows entries, before it is made.
pub(crate) async fn of_console(State(app): State<App>, request: Request, next: Next) -> Response {
    const FILTER: [&str; 7] = ["from", "to", "actor", "rule", "outcome", "kind", "operation"];
    let shows_entries = request.uri().path().starts_with("/console/decisions");
    if let Some(caller) = request.extensions().get::<Caller>().filter(|_| shows_entries).cloned() {
        // A query that the page will not understand shows nothing that would have to be named.
        let names: Vec<&str> = FILTER.iter().copied().chain(["subject", "region", "limit", "cursor"]).collect();
        let query = Query::pick(request.uri(), &names).ok();
        let text = |name: &str| query.as_ref().and_then(|query| query.text(name)).filter(|text| !text.is_empty());
        let subject = text("subject").and_then(|text| SubjectId::new(text).ok());
        let page = request.uri().path().trim_start_matches("/console/");
        let mut filter = vec![format!("page={page}")];
        filter.extend(FILTER.iter().filter_map(|name| text(name).map(|value| format!("{name}={value}"))));
        let asked = Asked { what: "console", filter, subject: subject.as_ref() };
        for store in app.routing.regions().filter(|store| store.health() == Health::Up) {
            if let Err(error) = app.account_for_search(store, &caller, &asked, None).await {
                return error.into_response();
            }
        }
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sitting_is_told_when_it_begins_and_each_time_it_has_doubled() {
        let (sittings, actor) = (Sittings::default(), Actor::new("key:auditor"));
        let region = Region::new("eu-central").expect("a region");
        let told: Vec<Option<u64>> = (0..9).map(|at| sittings.count(&actor, &region, 256, at)).collect();
        assert_eq!(told, [Some(256), Some(256), None, Some(512), None, None, None, Some(1_024), None]);
        // The next sitting's first leaf accounts for what the last one's leaves did not.
        assert_eq!(sittings.count(&actor, &region, 256, 9 + SITTING_US_MAX), Some(512));
        let other = Region::new("us-east").expect("a region");
        assert_eq!(sittings.count(&actor, &other, 1, 9), Some(1), "another log has its own sitting");
    }
}
