//! What no release replaces and still has settings of its own: whether they changed, and who brings them into force.
//!
//! Collector, Prometheus and Grafana are made anew when a release was committed: nobody's request passes through them.
//! The edge is told of only. A reload (SIGUSR2) keeps its slots, which the new process reads from `server-state`, and
//! loses no request under way; but HAProxy closes the connections that callers keep open at that moment, and a request
//! that is just being sent on one of them fails. Keeping them instead would leave a process behind that goes on
//! sending requests to slots which the deployer cannot reach through the socket any more. So the moment is chosen by
//! whoever types the command.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::state::State;
use super::{Deployer, Lock};
use crate::exit::{Failure, Trouble};
use crate::runtime::{Attendant, TakesUp};

/// How long a restarted one may take to be well.
const WELL_MAX: Duration = Duration::from_secs(60);

/// What was in force when it was last looked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InForce {
    /// The digest of the files.
    pub files: String,
    /// The digest of the definition.
    pub definition: String,
}

/// Settings that are not in force, as a plan tells them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stale {
    /// Whose.
    pub service: String,
    /// The command that brings them into force; `None`: the deployer does it.
    pub by_hand: Option<String>,
}

impl Stale {
    /// What is told of it.
    #[must_use]
    pub fn in_words(&self) -> String {
        let service = &self.service;
        match &self.by_hand {
            None => format!("settings of {service} changed: it will be restarted after the release is committed"),
            Some(command) => format!(
                "settings of {service} changed and are NOT taken up by this, since callers' idle connections are closed: \
                 when it suits, {command}"
            ),
        }
    }
}

/// Whether what runs has its settings, held against what was last in force.
fn stale(attendant: &Attendant, known: Option<&InForce>) -> Option<Stale> {
    let Attendant { files, definition, read_last, made_last, .. } = attendant;
    let files_stale = known.is_none_or(|known| known.files != *files) && !read_last;
    // Before anything is known of it, only its files tell: .env is rewritten by every deployment.
    let definition_stale = known.is_some_and(|known| known.definition != *definition) && !made_last;
    let by_hand = match &attendant.takes_up {
        TakesUp::Restarted => None,
        TakesUp::ByHand { remake, .. } if definition_stale => Some(remake.clone()),
        TakesUp::ByHand { reload, .. } => Some(reload.clone()),
    };
    (files_stale || definition_stale).then(|| Stale { service: attendant.service.clone(), by_hand })
}

impl Deployer<'_> {
    /// The settings that are not in force.
    ///
    /// # Errors
    /// When the runtime does not tell.
    pub(super) fn stale_settings(&self, state: &State) -> Result<Vec<Stale>, Trouble> {
        let attendants = self.runtime.attendants()?;
        Ok(attendants.iter().filter_map(|one| stale(one, state.settings.get(&one.service))).collect())
    }

    /// What is known to be in force, with what was known before of those that are not, or do not run.
    pub(super) fn settings_in_force(&self, state: &State) -> BTreeMap<String, InForce> {
        let mut known = state.settings.clone();
        // Whoever cannot tell now is asked again by the next plan.
        for one in self.runtime.attendants().unwrap_or_default() {
            if stale(&one, known.get(&one.service)).is_none() {
                known.insert(one.service, InForce { files: one.files, definition: one.definition });
            }
        }
        known
    }

    /// Restarts whoever lives by old settings and may be restarted, and writes down what is in force. Nothing here
    /// undoes a release.
    pub(super) fn take_up_settings(&self) -> Result<(), Trouble> {
        let state = self.store.state()?;
        for one in self.stale_settings(&state)? {
            match &one.by_hand {
                Some(_) => self.note(one.in_words()),
                None => {
                    self.note(format!("{} is restarted with its new settings", one.service));
                    if let Err(trouble) = self.runtime.restart(&one.service, WELL_MAX) {
                        self.note(format!("{trouble}; deploy.sh logs {}", one.service));
                    }
                }
            }
        }
        let settings = self.settings_in_force(&state);
        if settings != state.settings {
            self.store.replace_state(State { settings, ..state })?;
        }
        Ok(())
    }

    /// The same, where there is nothing else to do.
    ///
    /// # Errors
    /// When it cannot be found out, or written down.
    pub fn settings_only(&self, _lock: &Lock) -> Result<(), Failure> {
        self.take_up_settings().map_err(|trouble| self.unchanged(trouble))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attendant(takes_up: TakesUp) -> Attendant {
        let (files, definition) = ("f2".into(), "d2".into());
        Attendant { service: "otel".into(), files, definition, read_last: false, made_last: false, takes_up }
    }

    fn known(files: &str, definition: &str) -> InForce {
        InForce { files: files.into(), definition: definition.into() }
    }

    #[test]
    fn what_changed_since_it_was_read_is_stale_and_what_was_only_touched_is_not() {
        let one = attendant(TakesUp::Restarted);
        assert_eq!(stale(&one, Some(&known("f2", "d2"))), None, "touched, and the same");
        let told = stale(&one, Some(&known("f1", "d2"))).expect("files changed");
        assert_eq!(told.by_hand, None);
        assert!(told.in_words().contains("settings of otel changed: it will be restarted"), "{}", told.in_words());
        assert!(stale(&one, Some(&known("f2", "d1"))).is_some(), "a variable changed");
        assert!(stale(&one, None).is_some(), "its files are newer than it is");
        let restarted = Attendant { read_last: true, ..one };
        assert_eq!(stale(&restarted, Some(&known("f1", "d2"))), None, "somebody restarted it");
        assert!(stale(&restarted, Some(&known("f2", "d1"))).is_some(), "a restart does not make it anew");
        assert_eq!(stale(&restarted, None), None, "it began after its files were written");
    }

    #[test]
    fn the_edge_is_left_to_whoever_types_the_command_that_suits_the_change() {
        let by_hand = TakesUp::ByHand { reload: "reload it".into(), remake: "remake it".into() };
        let edge = Attendant { service: "edge".into(), ..attendant(by_hand) };
        let command = |known: &InForce| stale(&edge, Some(known)).and_then(|one| one.by_hand);
        assert_eq!(command(&known("f1", "d2")).as_deref(), Some("reload it"));
        assert_eq!(command(&known("f1", "d1")).as_deref(), Some("remake it"));
        let told = stale(&edge, Some(&known("f1", "d2"))).expect("stale").in_words();
        assert!(told.contains("NOT taken up") && told.ends_with("reload it"), "{told}");
    }
}
