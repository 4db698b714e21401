//! Whoever reads the log is in the log: no answer about entries leaves before the leaf that says who asked for them, in
//! which way, and how many there were. A leaf never names a subject: it holds the tag that the subject has in that log.
//!
//! Tiles are read by the thousand when a log is verified, so they are counted by *sitting*: a first leaf when somebody
//! begins to read, further ones each time their number has doubled, and one when a new sitting begins a while later.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use console::{Accounts, Unlogged, Visitor};
use futures::future::BoxFuture;
use leaf::{Fact, Reading};
use residency::{Actor, NO_BASIS, Policy, Region, SubjectId};
use storage::RegionStore;

use crate::app::App;
use crate::callers::Caller;
use crate::error::Error;

/// A sitting in which nothing was read for so long is over, microseconds.
const SITTING_US_MAX: i64 = 600_000_000;
/// Sittings that are remembered; beyond it every read has its own leaf.
const SITTINGS_MAX: usize = 4_096;
/// The longest name of a key or a token's client, bytes.
const ACTOR_NAME_BYTES_MAX: usize = 64;
/// The longest name of a rule, bytes.
const RULE_BYTES_MAX: usize = 40;

/// Who is reading which log right now.
#[derive(Debug, Default)]
pub(crate) struct Sittings(Mutex<HashMap<(Actor, Region), Sitting>>);

#[derive(Debug, Clone, Copy)]
struct Sitting {
    last_us: i64,
    /// Rows that the log knows of: their leaves are written.
    told: u64,
    /// Rows that were shown since, always fewer than it knows of.
    untold: u64,
    /// Leaves under way.
    telling: u32,
}

impl Sittings {
    /// Counts rows that are about to be shown. What a leaf must account for first, if one must: while one is under way,
    /// nobody relies on it.
    fn count(&self, actor: &Actor, region: &Region, rows: u64, now_us: i64) -> Option<Due<'_>> {
        let mut sittings = self.lock();
        let of = (actor.clone(), region.clone());
        let recent = |sitting: &Sitting| sitting.last_us + SITTING_US_MAX > now_us;
        if sittings.len() >= SITTINGS_MAX {
            sittings.retain(|_, sitting| sitting.telling > 0 || recent(sitting));
            if sittings.len() >= SITTINGS_MAX && !sittings.contains_key(&of) {
                return Some(Due { sittings: self, of: None, late: 0, rows });
            }
        }
        let fresh = Sitting { last_us: now_us, told: 0, untold: 0, telling: 0 };
        let sitting = sittings.entry(of.clone()).or_insert(fresh);
        if !recent(sitting) {
            sitting.told = 0;
        }
        sitting.last_us = now_us;
        if sitting.telling == 0 && sitting.untold + rows < sitting.told {
            sitting.untold += rows;
            return None;
        }
        sitting.telling += 1;
        // What the last leaf of this sitting, or of one before it, did not account for is accounted for now.
        let late = std::mem::take(&mut sitting.untold);
        Some(Due { sittings: self, of: Some(of), late, rows })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Actor, Region), Sitting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rows that a leaf must account for before any of them is shown. Unless it is said that it did, also because whoever
/// asked has gone, the rows from before are due again and the others were not shown.
struct Due<'a> {
    sittings: &'a Sittings,
    /// `None` where the sitting is not remembered.
    of: Option<(Actor, Region)>,
    /// Rows that were shown before.
    late: u64,
    /// Rows that are about to be shown.
    rows: u64,
}

impl Due<'_> {
    fn all(&self) -> u64 {
        self.rows + self.late
    }

    /// The leaf is written.
    fn told(mut self) {
        let all = self.all();
        self.settle(|sitting| sitting.told += all);
    }

    fn settle(&mut self, outcome: impl FnOnce(&mut Sitting)) {
        let Some(of) = self.of.take() else { return };
        if let Some(sitting) = self.sittings.lock().get_mut(&of) {
            sitting.telling -= 1;
            outcome(sitting);
        }
    }
}

impl Drop for Due<'_> {
    fn drop(&mut self) {
        let late = self.late;
        self.settle(|sitting| sitting.untold += late);
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
        let actor = &caller.actor;
        let due = self.sittings.count(actor, store.region(), rows, self.clock.now_us());
        let Some(due) = due else { return Ok(()) };
        let rows = Some(due.all());
        let reading = Reading { actor: actor.as_str().to_owned(), what: "entries", rows, ..Reading::default() };
        self.account_for_reading(store, reading).await?;
        due.told();
        Ok(())
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

/// What the log keeps of one part of a filter. A leaf stays for ever and callers write what they like, so what is in no
/// form that such a value has is not repeated: it may name somebody.
pub(crate) fn said(policy: &Policy, name: &str, value: &str) -> String {
    let (fits, otherwise) = match name {
        "actor" => (is_an_actor(value), "(no caller's name)"),
        "rule" => (is_a_rule(value), "(no rule's name)"),
        "basis" => {
            (value == NO_BASIS || policy.transfers().any(|(_, _, basis, _)| basis == value), "(not in the policy)")
        }
        _ => (true, ""), // a time, a number, or one of a few words: the search was refused if it is not
    };
    format!("{name}={}", if fits { value } else { otherwise })
}

/// Whether this can be the name of a caller: of a key, of a token's client, of an operator at a command line.
fn is_an_actor(text: &str) -> bool {
    let (class, name) = text.split_once(':').unwrap_or((text, ""));
    matches!(class, "key" | "token" | "operator")
        && name.len() <= ACTOR_NAME_BYTES_MAX
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b':' | b'/'))
}

/// Whether this can be the name of a rule of a policy.
fn is_a_rule(text: &str) -> bool {
    (1..=RULE_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Tells the console's pages who looks at them, so that they enter it into the logs of what they show.
pub(crate) async fn of_console(State(app): State<App>, mut request: Request, next: Next) -> Response {
    if let Some(caller) = request.extensions().get::<Caller>().cloned() {
        request.extensions_mut().insert(Visitor::new(Desk { app, caller }));
    }
    next.run(request).await
}

/// Where a browser's looks are entered.
struct Desk {
    app: App,
    caller: Caller,
}

impl Accounts for Desk {
    fn account<'a>(
        &'a self,
        store: &'a RegionStore,
        looked: &'a console::Asked,
        rows: u64,
    ) -> BoxFuture<'a, Result<(), Unlogged>> {
        let mut filter = vec![format!("page={}", looked.page)];
        let policy = self.app.routing.policy();
        filter.extend(looked.filter.iter().map(|(name, value)| said(&policy, name, value)));
        let asked = Asked { what: "console", filter, subject: looked.subject.as_ref() };
        Box::pin(async move {
            let accounted = self.app.account_for_search(store, &self.caller, &asked, Some(rows)).await;
            accounted.map_err(|error| Unlogged::answered_with(error.into_response()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts rows and writes the leaf that is due.
    fn told(sittings: &Sittings, actor: &Actor, region: &Region, rows: u64, at_us: i64) -> Option<u64> {
        let due = sittings.count(actor, region, rows, at_us)?;
        let all = due.all();
        due.told();
        Some(all)
    }

    #[test]
    fn a_sitting_is_told_when_it_begins_and_each_time_it_has_doubled() {
        let (sittings, actor) = (Sittings::default(), Actor::new("key:auditor"));
        let region = Region::new("eu-central").expect("a region");
        let leaves: Vec<Option<u64>> = (0..9).map(|at| told(&sittings, &actor, &region, 256, at)).collect();
        assert_eq!(leaves, [Some(256), Some(256), None, Some(512), None, None, None, Some(1_024), None]);
        // The next sitting's first leaf accounts for what the last one's leaves did not.
        assert_eq!(told(&sittings, &actor, &region, 256, 9 + SITTING_US_MAX), Some(512));
        let other = Region::new("us-east").expect("a region");
        assert_eq!(told(&sittings, &actor, &other, 1, 9), Some(1), "another log has its own sitting");
    }

    #[test]
    fn nobody_relies_on_a_leaf_that_is_not_written() {
        let (sittings, actor) = (Sittings::default(), Actor::new("key:auditor"));
        let region = Region::new("eu-central").expect("a region");
        let count = |rows| sittings.count(&actor, &region, rows, 0);
        let all = |due: &Option<Due<'_>>| due.as_ref().map(Due::all);
        let first = count(256);
        let beside = count(1);
        assert_eq!((all(&first), all(&beside)), (Some(256), Some(1)), "the first may still fail");
        drop(first);
        beside.expect("a leaf").told();
        assert_eq!(all(&count(256)), Some(256), "the log knows of one row");

        assert_eq!(told(&sittings, &actor, &region, 1_000, 0), Some(1_000));
        assert_eq!(all(&count(900)), None);
        let failed = count(200);
        assert_eq!(all(&failed), Some(1_100));
        assert_eq!(all(&count(1)), Some(1));
        drop(failed);
        assert_eq!(all(&count(50)), None, "950 rows of 1,001");
        assert_eq!(all(&count(100)), Some(1_050), "what the failed leaf did not say is said by the next");
    }

    #[test]
    fn what_is_in_no_form_of_a_name_is_not_repeated_in_a_leaf() {
        let policy = Policy::parse(
            residency::presets::SHIPPED_POLICY,
            residency::presets::JURISDICTIONS,
            residency::presets::LOCATIONS,
        )
        .expect("the shipped policy");
        let said = |name, value| said(&policy, name, value);
        for (name, value) in [
            ("actor", "key:checkout"),
            ("actor", "token"),
            ("actor", "token:https://shop.example/app"),
            ("actor", "operator:cli"),
            ("rule", "eea"),
            ("rule", "existing-pin"),
            ("basis", NO_BASIS),
            ("from", "2026-11-01T00:00:00Z"),
        ] {
            assert_eq!(said(name, value), format!("{name}={value}"));
        }
        for (_, _, basis, _) in policy.transfers() {
            assert_eq!(said("basis", basis), format!("basis={basis}"));
        }
        for value in ["anna@example.com", "anna", "key:anna@example.com", "Anna Schmidt", "", "+49 30 1234567"] {
            assert_eq!(said("actor", value), "actor=(no caller's name)", "{value}");
        }
        for value in ["anna@example.com", "Anna", "anna schmidt", ""] {
            assert_eq!(said("rule", value), "rule=(no rule's name)", "{value}");
        }
        assert_eq!(said("basis", "anna"), "basis=(not in the policy)");
    }
}
