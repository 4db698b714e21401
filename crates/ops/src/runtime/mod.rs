//! Where releases run: containers under Compose, or plain processes. The pipeline knows only this.

mod child;
pub mod compose;
mod files;
pub mod process;

use std::time::Duration;

use crate::deploy::{Abilities, Instance};
use crate::exit::Trouble;

/// A kind of process that the deployer replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// The gateway behind the edge.
    Web,
    /// Region log -> Redpanda.
    Relay,
    /// Region log -> Snowflake.
    Forwarder,
    /// Signs the region logs.
    Signer,
}

impl Service {
    /// Those that take over by lease: one after the other, behind no edge.
    pub const ROLES: [Self; 3] = [Self::Relay, Self::Forwarder, Self::Signer];

    /// Its name in Compose, and of the role that it plays.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::Relay => "relay",
            Self::Forwarder => "forwarder",
            Self::Signer => "signer",
        }
    }
}

/// An image, as the runtime knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its identity: a digest.
    pub id: String,
    /// What the program in it says about itself.
    pub abilities: Abilities,
}

/// How an instance is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// It runs and has not said yet how it is.
    Starting,
    /// It runs and is ready.
    Healthy,
    /// It runs and is not ready.
    Unhealthy(String),
    /// It has ended.
    Ended(String),
}

/// What became of a run of the program in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Its exit code; 128 and more for a signal.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Ran {
    /// The last of its complaints, for a message.
    #[must_use]
    pub fn last_words(&self) -> String {
        let text = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        let lines: Vec<&str> = text.trim().lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

/// A service of a cell that no release replaces and that reads its settings from files of the cell's folder: collector,
/// Prometheus, Grafana, the edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attendant {
    /// Its name.
    pub service: String,
    /// A digest of the files that it reads, as they are now.
    pub files: String,
    /// A digest of how the compose file and its variables define it, as they are now.
    pub definition: String,
    /// Whether it began after the last change of its files, and has therefore read them as they are.
    pub read_last: bool,
    /// Whether it was made after the last change of the compose file and of the variables.
    pub made_last: bool,
    /// How it is brought to take up what changed.
    pub takes_up: TakesUp,
}

/// How an [`Attendant`] takes up changed settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TakesUp {
    /// It is made anew: no caller's request passes through it.
    Restarted,
    /// By somebody who chooses the moment, since callers notice.
    ByHand {
        /// The command after a change of files.
        reload: String,
        /// The command after a change of how it is defined.
        remake: String,
    },
}

/// A lease in the databases, held by a program of ours as long as we live.
pub trait Held {
    /// Why it is held no longer, if so.
    fn lost(&mut self) -> Option<String>;
    /// The tokens by which its databases know it, the highest of them.
    fn token(&self) -> Option<i64>;
    /// Whether every database was old enough to have leases.
    fn is_whole(&self) -> bool;
}

/// Where releases run. Every deed can be done twice: a crash may have come just after the first time.
pub trait Runtime {
    /// What it is, e.g. `compose v1`: releases of one are not touched by the other.
    fn name(&self) -> String;

    /// What it is, with versions.
    fn in_words(&self) -> String;

    /// What stands in the way of deploying, in sentences. Changes nothing.
    ///
    /// # Errors
    /// When it cannot be asked.
    fn obstacles(&self) -> Result<Vec<String>, Trouble>;

    /// An image by what it is called.
    ///
    /// # Errors
    /// When there is none of this name, or its program does not answer.
    fn image(&self, reference: &str) -> Result<Image, Trouble>;

    /// Gives an image a tag that keeps it.
    ///
    /// # Errors
    /// When that fails.
    fn pin(&self, reference: &str, image_id: &str, tag: &str) -> Result<(), Trouble>;

    /// Lets a tag go.
    ///
    /// # Errors
    /// When it is in use, or that fails.
    fn unpin(&self, tag: &str) -> Result<(), Trouble>;

    /// Starts databases, broker and edge, those that do not run; replaces none.
    ///
    /// # Errors
    /// When one does not come up within `patience`.
    fn ensure_stores(&self, tag: &str, patience: Duration) -> Result<(), Trouble>;

    /// What runs beside the releases and reads settings from files.
    ///
    /// # Errors
    /// When it cannot be found out.
    fn attendants(&self) -> Result<Vec<Attendant>, Trouble>;

    /// Makes an attendant anew, so that it reads its settings, and waits until it is well.
    ///
    /// # Errors
    /// When it cannot be made, or is not well within `patience`.
    fn restart(&self, attendant: &str, patience: Duration) -> Result<(), Trouble>;

    /// What runs of a service, from any tag.
    ///
    /// # Errors
    /// When that cannot be found out.
    fn instances(&self, service: Service) -> Result<Vec<Instance>, Trouble>;

    /// The services beside `web` that this cell has.
    fn roles(&self) -> Vec<Service>;

    /// Starts so many more of a service from a tag, beside what runs.
    ///
    /// # Errors
    /// When one cannot be started.
    fn start(&self, service: Service, tag: &str, count: u32) -> Result<(), Trouble>;

    /// Asks an instance to end, ends it after `grace`, and removes it. Does nothing when there is none.
    ///
    /// # Errors
    /// When it cannot be removed.
    fn stop(&self, instance: &Instance, grace: Duration) -> Result<(), Trouble>;

    /// How an instance is.
    ///
    /// # Errors
    /// When that cannot be found out.
    fn condition(&self, instance: &Instance) -> Result<Condition, Trouble>;

    /// The end of its log.
    fn last_lines(&self, instance: &Instance) -> String;

    /// What its admin listener answers: status and body.
    ///
    /// # Errors
    /// When it does not.
    fn ask(&self, instance: &Instance, path: &str) -> Result<(u16, String), Trouble>;

    /// Runs the program of a tag where the databases can be reached.
    ///
    /// # Errors
    /// When it cannot be run, or takes longer than `patience`.
    fn run(&self, tag: &str, args: &[&str], patience: Duration) -> Result<Ran, Trouble>;

    /// Holds the deployer's lease until the result is dropped, or we die.
    ///
    /// # Errors
    /// [`crate::exit::Exit::Locked`] when somebody else has it.
    fn hold_lease(&self, tag: &str, holder: &str) -> Result<Box<dyn Held>, Trouble>;

    /// Kills whatever runs of a service, which nobody starts again by itself: for a drill.
    ///
    /// # Errors
    /// When nothing of this name runs here, or it cannot be killed.
    fn crash(&self, service: &str) -> Result<(), Trouble>;

    /// Starts again what [`Runtime::crash`] killed. Does nothing when it runs.
    ///
    /// # Errors
    /// When it cannot be started.
    fn revive(&self, service: &str) -> Result<(), Trouble>;

    /// Makes a tag the one that is started by whoever starts services by hand.
    ///
    /// # Errors
    /// When that cannot be written.
    fn make_default(&self, tag: &str) -> Result<(), Trouble>;
}
