//! Time and names come in by the front door, so that a test can hold them still.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use rand::RngCore as _;
use residency::DecisionId;
use uuid::Builder;

/// Tells the time and names decisions.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Microseconds since 1970-01-01 UTC.
    fn now_us(&self) -> i64;

    /// A fresh decision name: UUID version 7 (RFC 9562) of `now_us`.
    fn decision_id(&self, now_us: i64) -> DecisionId {
        let now_ms = u64::try_from(now_us / 1_000).unwrap_or(0);
        // From the thread's own generator (a cipher seeded by the system): asking the system each time is a system call each time.
        let mut random = [0; 10];
        rand::rng().fill_bytes(&mut random);
        DecisionId(Builder::from_unix_timestamp_millis(now_ms, &random).into_uuid())
    }
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the front door of time")]
    fn now_us(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    }
}
