//! After a crash: going on, or putting back. Either ends with exactly one serving release.

use std::time::Duration;

use super::journal::{Journal, Told};
use super::step::Step;
use super::{Deployer, Lock, ReleaseId, unfinished};
use crate::exit::{Exit, Failure, Trouble};

/// A lease that nobody gave back has run out by then.
const LEASE_PATIENCE: Duration = Duration::from_secs(60);

/// What recovering came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovered {
    /// No operation was under way.
    Nothing,
    /// It was finished: this release serves.
    Finished(ReleaseId),
}

impl Deployer<'_> {
    /// Goes on with the operation that a crash ended, from the step that was under way.
    ///
    /// # Errors
    /// As [`Deployer::execute`].
    pub fn resume(&self, _lock: &Lock) -> Result<Recovered, Failure> {
        let Some((told, journal)) = self.interrupted_operation()? else { return Ok(Recovered::Nothing) };
        if let Some(why) = &told.turned {
            let trouble = Trouble::new(format!("it had been given up before: {why}"));
            return Err(self.turn_back(&journal, &told.begun, reached(&told), &trouble));
        }
        let mut lease = self.lease(&told.begun, LEASE_PATIENCE).map_err(|trouble| self.unchanged(trouble))?;
        self.forward(&journal, &told.begun, &told.done, &mut lease).map(Recovered::Finished)
    }

    /// Puts back what the operation did that a crash ended, or that can not end: the old release is started again from its
    /// tag where it has been stopped. Once it has begun to be written down that the new one serves, it is finished instead.
    ///
    /// # Errors
    /// With [`Exit::Aborted`] when it was put back, as asked.
    pub fn abort(&self, lock: &Lock) -> Result<Recovered, Failure> {
        let Some((told, journal)) = self.interrupted_operation()? else { return Ok(Recovered::Nothing) };
        if told.is_written_down() {
            let release = told.begun.release;
            self.note(format!(
                "It is being written down that {release} serves, so it is finished instead. To go back: deploy.sh rollback"
            ));
            return self.resume(lock);
        }
        let mut lease = self.lease(&told.begun, LEASE_PATIENCE).map_err(|trouble| self.unchanged(trouble))?;
        let asked = Trouble::of(Exit::Aborted, "you asked to put it back");
        let failure = self.turn_back(&journal, &told.begun, reached(&told), &asked);
        drop(lease.take());
        Err(failure)
    }

    fn interrupted_operation(&self) -> Result<Option<(Told, Journal)>, Failure> {
        let told = unfinished(self.store).map_err(|trouble| self.unchanged(trouble))?;
        Ok(told.map(|told| {
            let journal = Journal::of(self.store, &told.begun.op);
            (told, journal)
        }))
    }

    /// Has the edge lead to what is written down, whatever happened to addresses since: after a restart of the machine
    /// containers may have new ones.
    ///
    /// # Errors
    /// When an operation has not ended, or it cannot be done.
    pub fn reconcile(&self, _lock: &Lock) -> Result<Option<ReleaseId>, Failure> {
        if self.interrupted_operation()?.is_some() {
            let what = "an operation has not ended: deploy.sh resume, or deploy.sh abort";
            return Err(self.unchanged(Trouble::of(Exit::Unchanged, what)));
        }
        let done = || -> Result<Option<ReleaseId>, Trouble> {
            let state = self.store.state()?;
            let Some(serving) = &state.serving else { return Ok(None) };
            let settings = super::Settings::default();
            // Whoever came up with the machine is asked before anybody is led there.
            let instances = self.instances_of(&serving.tag)?;
            if !instances.is_empty() {
                self.wait_healthy("reconcile", &instances, &settings)?;
            }
            self.converge(Some(serving), state.warm.as_ref(), &settings)?;
            let instances = self.instances_of(&serving.tag)?;
            if instances != serving.instances {
                let serving = Some(super::Serving { instances, ..serving.clone() });
                self.store.replace_state(super::State { serving, ..state.clone() })?;
            }
            Ok(Some(serving.release))
        };
        done().map_err(|trouble| self.unchanged(trouble))
    }
}

/// The step that was under way, or the last one that is done.
fn reached(told: &Told) -> Step {
    told.under_way.or_else(|| told.done.last().copied()).unwrap_or(told.begun.steps[0])
}
