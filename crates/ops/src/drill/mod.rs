//! Drills: a disaster is really made, what it cost is measured, and a dated report is kept. A drill that never failed
//! proves nothing, so one of them must see red.
//!
//! | kind | what is done | what is measured |
//! | --- | --- | --- |
//! | `restore` | the newest encrypted backup is restored and compared | time to a whole copy, age of what would be lost |
//! | `restore`, with a probe | a backup is made under writes and restored | the same, and which acknowledged writes the copy lacks |
//! | `tamper` | bytes of a copy are flipped, cut off, and its manifest changed | whether each is refused |
//! | `crash` | something that serves is killed under writes, and started again | outage, lost acknowledged writes and their age |
//! | `rollback` | the release is rolled back under writes and forward again, by the pipeline of every rollback | the same, and writes that failed |
//!
//! Drills of failing over to another cloud will be further kinds of the last two rows. The speaking with a gateway is the
//! caller's: see [`probe::Writer`].

pub mod probe;
pub mod proofs;
mod report;
mod restore;
mod rpo;
mod tamper;

use std::time::Duration;

pub use report::{Measured, Report, Reports, Targets, Verdict};
pub use restore::{restore, usual_targets};
pub use rpo::restore_under_writes;
pub use tamper::tamper;

/// What is rehearsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Restoring the newest backup.
    Restore,
    /// Killing what serves.
    Crash,
    /// Rolling a release back.
    Rollback,
    /// Refusing what was tampered with.
    Tamper,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Restore, Self::Crash, Self::Rollback, Self::Tamper];

    /// Its word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Restore => "restore",
            Self::Crash => "crash",
            Self::Rollback => "rollback",
            Self::Tamper => "tamper",
        }
    }
}

/// How far apart the probe's writes are.
pub const PROBE_EVERY: Duration = Duration::from_millis(20);
