//! Time, as the deployer knows it: handed in, so that a test can wait for minutes in no time.

use std::time::{Duration, Instant};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The clock, and waiting.
pub trait Pace {
    /// The time since some moment.
    fn elapsed(&self) -> Duration;
    /// The date and time, RFC 3339.
    fn wall(&self) -> String;
    /// Waits.
    fn sleep(&self, pause: Duration);
}

/// The machine's own.
#[derive(Debug)]
pub struct SystemPace(Instant);

impl SystemPace {
    /// Begins to count now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }
}

impl Pace for SystemPace {
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the deployer's front door of time")]
    fn wall(&self) -> String {
        OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default()
    }

    fn sleep(&self, pause: Duration) {
        std::thread::sleep(pause);
    }
}
