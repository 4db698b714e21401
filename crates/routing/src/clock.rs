//! Time and names come in by the front door, so that a test can hold them still.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use residency::DecisionId;
use uuid::{NoContext, Timestamp, Uuid};

/// Tells the time and names decisions.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Microseconds since 1970-01-01 UTC.
    fn now_us(&self) -> i64;

    /// A fresh decision name: UUID version 7 (RFC 9562) of `now_us`.
    fn decision_id(&self, now_us: i64) -> DecisionId {
        let now_us = u64::try_from(now_us).unwrap_or(0);
        let nanos = u32::try_from(now_us % 1_000_000).unwrap_or(0) * 1_000;
        DecisionId(Uuid::new_v7(Timestamp::from_unix(NoContext, now_us / 1_000_000, nanos)))
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
