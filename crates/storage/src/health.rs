//! Whether a database can be used, as its connections last found it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use residency::Region;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tracing::{error, info, warn};

use crate::error::Cause;

/// Whether a database can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It answers.
    Up,
    /// It does not answer; connecting is being tried again all the time.
    Down {
        /// Since when.
        since: SystemTime,
        /// Why, as last seen.
        reason: String,
    },
    /// It is not the database it should be. It is never used, and not tried again before a restart.
    Misplaced {
        /// What differs.
        reason: String,
    },
}

/// What the connections of one database report to: the latest report counts. The turns of a region are
/// logged here, once for all of its connections.
#[derive(Debug)]
pub(crate) struct HealthCell {
    /// Whose database it is; `None` for the directory, which tells of itself.
    region: Option<Region>,
    /// The same as `health` being `Up`, for the hot path.
    up: AtomicBool,
    /// Told when it comes back, so that every other connection tries at once.
    revived: Notify,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    health: Health,
    /// Whether it was told that it is down: at the start nobody knows yet.
    told: bool,
}

impl HealthCell {
    /// Before the first connection a database counts as down.
    pub(crate) fn new(region: Option<Region>) -> Self {
        let health = Health::Down { since: now(), reason: "no connection has been made yet".to_owned() };
        Self {
            region,
            up: AtomicBool::new(false),
            revived: Notify::new(),
            state: Mutex::new(State { health, told: false }),
        }
    }

    pub(crate) fn get(&self) -> Health {
        self.lock().health.clone()
    }

    /// The database has just answered.
    pub(crate) fn works(&self) {
        if self.up.load(Ordering::Relaxed) {
            return;
        }
        let mut state = self.lock();
        if let Health::Down { .. } = state.health {
            state.health = Health::Up;
            self.up.store(true, Ordering::Relaxed);
            self.revived.notify_waiters();
            if let Some(region) = &self.region {
                info!(%region, "The database of region {region} is connected");
            }
        }
    }

    /// Waits until the database comes back, from this call on.
    pub(crate) fn revived(&self) -> Notified<'_> {
        self.revived.notified()
    }

    /// A connection could not be established.
    pub(crate) fn fails(&self, cause: &Cause) {
        let mut state = self.lock();
        let turned = match &mut state.health {
            Health::Misplaced { .. } => false,
            Health::Down { reason, .. } => {
                *reason = cause.to_string();
                !state.told
            }
            Health::Up => {
                state.health = Health::Down { since: now(), reason: cause.to_string() };
                true
            }
        };
        self.up.store(false, Ordering::Relaxed);
        if turned {
            state.told = true;
            if let Some(region) = &self.region {
                warn!(%region, %cause, "The database of region {region} cannot be reached; it is tried again");
            }
        }
    }

    /// The database is another one than it should be.
    pub(crate) fn misplaced(&self, reason: &str) {
        let mut state = self.lock();
        let before = std::mem::replace(&mut state.health, Health::Misplaced { reason: reason.to_owned() });
        self.up.store(false, Ordering::Relaxed);
        if let (Some(region), Health::Up | Health::Down { .. }) = (&self.region, before) {
            error!(%region, reason, "The database is not that of region {region} and is not used: {reason}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held; if it did, the last state would still be a true one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(clippy::disallowed_methods, reason = "only shown to operators; nothing is decided by it")]
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_report_counts() {
        let cell = HealthCell::new(None);
        assert!(matches!(cell.get(), Health::Down { .. }));
        cell.works();
        assert_eq!(cell.get(), Health::Up);
        cell.fails(&Cause::new("gone"));
        assert!(matches!(cell.get(), Health::Down { reason, .. } if reason == "gone"));
        cell.works();
        assert_eq!(cell.get(), Health::Up);
    }

    #[test]
    fn a_misplaced_database_stays_refused() {
        let cell = HealthCell::new(None);
        cell.misplaced("another region");
        cell.works();
        assert!(matches!(cell.get(), Health::Misplaced { .. }));
    }
}
