//! The long acceptance runs. The test command plays the short form of each.

mod audit;
mod crash;
mod outage;
mod proxy;
mod race;
mod residency;
mod snowflake;
mod stage;
mod streams;

pub use audit::{Auditor, audit};
pub use crash::crash;
pub use outage::{Outage, broker_away, snowflake_away};
pub use race::race;
pub use residency::residency;
pub use snowflake::snowflake;
pub use streams::streams;

/// How long a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// For the test command: about half a minute.
    Short,
    /// For acceptance: minutes.
    Full,
}

impl Length {
    fn of<T>(self, short: T, full: T) -> T {
        match self {
            Self::Short => short,
            Self::Full => full,
        }
    }
}
