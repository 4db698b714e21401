//! Whether a database can be used, as its connections last found it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

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

/// What the connections of one database report to: the latest report counts.
#[derive(Debug)]
pub(crate) struct HealthCell {
    /// The same as `health` being `Up`, for the hot path.
    up: AtomicBool,
    health: Mutex<Health>,
}

impl HealthCell {
    /// Before the first connection a database counts as down.
    pub(crate) fn new() -> Self {
        let health = Health::Down { since: now(), reason: "no connection has been made yet".to_owned() };
        Self { up: AtomicBool::new(false), health: Mutex::new(health) }
    }

    pub(crate) fn get(&self) -> Health {
        self.lock().clone()
    }

    /// The database has just answered.
    pub(crate) fn works(&self) {
        if self.up.load(Ordering::Relaxed) {
            return;
        }
        let mut health = self.lock();
        if !matches!(*health, Health::Misplaced { .. }) {
            *health = Health::Up;
            self.up.store(true, Ordering::Relaxed);
        }
    }

    /// A connection could not be established.
    pub(crate) fn fails(&self, cause: &Cause) {
        let mut health = self.lock();
        match &mut *health {
            Health::Misplaced { .. } => {}
            Health::Down { reason, .. } => *reason = cause.to_string(),
            Health::Up => *health = Health::Down { since: now(), reason: cause.to_string() },
        }
        self.up.store(false, Ordering::Relaxed);
    }

    /// The database is another one than it should be.
    pub(crate) fn misplaced(&self, reason: &str) {
        *self.lock() = Health::Misplaced { reason: reason.to_owned() };
        self.up.store(false, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Health> {
        // Nothing panics while the lock is held; if it did, the last state would still be a true one.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
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
        let cell = HealthCell::new();
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
        let cell = HealthCell::new();
        cell.misplaced("another region");
        cell.works();
        assert!(matches!(cell.get(), Health::Misplaced { .. }));
    }
}
