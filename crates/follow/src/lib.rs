//! Following a region log: what every reader behind a cursor needs, whatever it does with what it reads.
//!
//! A follower holds the lease on its cursor ([`Tenure`]), looks at the log when something was committed or after
//! a while ([`Lookout`]), reads what is behind its position ([`read`]), and says how far behind it is
//! ([`Watchman`]). The relay and the forwarder stand on this; neither knows the other.
//!
//! What holds: a cursor is moved by one owner at a time (a lease with a fencing token), never back, and never
//! past what [`read`] has shown to be read. What is deliberately absent: notifications from the database (they
//! cost writers an order of magnitude), claims and deletes of rows.

#![cfg_attr(any(test, feature = "testing"), expect(clippy::unwrap_used, reason = "a test may panic"))]

mod backoff;
mod lookout;
mod range;
mod reading;
mod source;
mod survey;
mod tenure;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod watchman;

pub use backoff::{Backoff, pause};
pub use lookout::{Lookout, Sight};
pub use range::Range;
pub use reading::{Read, read};
pub use source::{LogSource, Source, Trouble};
pub use survey::{Part, survey};
pub use tenure::Tenure;
pub use watchman::{Lag, Report, Watchman};

/// The region whose topic this is: what stands before its first dot. `eu-central-2.…` is not `eu-central`.
#[must_use]
pub fn home_of(topic: &str) -> &str {
    topic.split_once('.').map_or("", |(home, _)| home)
}

/// An error and its causes as one line.
#[must_use]
pub fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
