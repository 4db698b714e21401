//! Deploying a cell and rolling it back: plan, steps, a journal that survives a crash, and a way back from every
//! step until the new release has been proven.
//!
//! What serves is decided by two things that are read anew each time, and by nothing remembered: which instances run
//! (their tag says of which release they are) and which of them the edge lets requests to. Undoing is therefore one
//! deed, [`Deployer::abort`] and every failure use it: *converge* on a release.

mod attendants;
mod contract;
mod converge;
mod disk;
mod doctor;
mod events;
mod execute;
mod inspect;
mod journal;
mod lock;
mod p99;
mod pace;
mod places;
mod plan;
mod planning;
mod prune;
mod recover;
mod release;
mod state;
mod step;
mod steps;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::atomic::AtomicBool;
use std::time::Duration;

pub use attendants::{InForce, Stale};
pub use contract::Contract;
pub(crate) use disk::{rewrite_whole, write_whole};
pub use doctor::{Finding, Says, exit_of};
pub use events::{Event, Silent, Teller};
pub use inspect::Report;
pub use journal::{Begun, Entry, Journal, Told, unfinished};
pub use lock::{Holder, Lock};
pub use pace::{Pace, SystemPace};
pub use plan::{DatabaseState, Kind, Pending, Plan, Settings, TableLock};
pub use prune::prunable;
pub use recover::Recovered;
pub use release::{Abilities, Instance, Release, ReleaseId, Serving, tag_of};
pub use state::{Deed, State, Store};
pub use step::Step;

use crate::edge::Edge;
use crate::exit::{Exit, Trouble};
use crate::runtime::Runtime;

/// How often something that is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often it is said what is waited for.
const SAY_EVERY_S: u64 = 5;
/// How long a run of the program may take that only looks.
const LOOK_MAX: Duration = Duration::from_secs(120);

/// Everything that an operation works with.
pub struct Deployer<'a> {
    /// The cell.
    pub project: &'a str,
    /// Where releases run.
    pub runtime: &'a dyn Runtime,
    /// What leads requests to them.
    pub edge: &'a dyn Edge,
    /// What is remembered.
    pub store: &'a Store,
    /// Who is told.
    pub teller: &'a dyn Teller,
    /// Time.
    pub pace: &'a dyn Pace,
    /// Whether somebody asked to stop.
    pub interrupted: &'a AtomicBool,
    /// Who we are.
    pub holder: Holder,
}

/// Whether what is waited for has come.
enum Look {
    Come,
    NotYet(String),
}

impl Deployer<'_> {
    fn note(&self, text: impl Into<String>) {
        self.teller.tell(Event::Note { text: text.into() });
    }

    /// Waits for something, saying now and then what for.
    fn wait(
        &self,
        step: &'static str,
        patience: Duration,
        mut look: impl FnMut() -> Result<Look, Trouble>,
    ) -> Result<(), Trouble> {
        let begun = self.pace.elapsed();
        let mut said_s = 0;
        loop {
            let reason = match look()? {
                Look::Come => return Ok(()),
                Look::NotYet(reason) => reason,
            };
            let waited = self.pace.elapsed().saturating_sub(begun);
            if waited >= patience {
                let exit = Exit::Unreachable;
                return Err(Trouble::of(exit, format!("{reason}, after {} s", waited.as_secs())));
            }
            if waited.as_secs() >= said_s + SAY_EVERY_S {
                said_s = waited.as_secs();
                let waits_s_max = patience.as_secs();
                self.teller.tell(Event::Waiting { step, reason, waited_s: said_s, waits_s_max });
            }
            self.pace.sleep(LOOK_EVERY);
        }
    }
}
