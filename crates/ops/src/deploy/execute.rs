//! Going through the steps of a plan, and turning back.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::events::Event;
use super::journal::{Begun, Entry, Journal};
use super::plan::{Kind, Plan};
use super::release::{ReleaseId, tag_of};
use super::state::Deed;
use super::step::Step;
use super::{Deployer, Lock, unfinished};
use crate::exit::{Exit, Failure, Trouble};
use crate::runtime::Held;

/// The pause before a lease is asked for again.
const LEASE_PAUSE: Duration = Duration::from_secs(1);

impl Deployer<'_> {
    /// Does what a plan says.
    ///
    /// # Errors
    /// The failure says what serves now, what became of the data, and what to do next.
    pub fn execute(&self, _lock: &Lock, plan: &Plan) -> Result<ReleaseId, Failure> {
        let begun = self.begin(plan).map_err(|trouble| self.unchanged(trouble))?;
        let mut lease = self.lease(&begun, Duration::ZERO).map_err(|trouble| self.unchanged(trouble))?;
        let journal = Journal::begin(self.store, &begun).map_err(|trouble| self.unchanged(trouble))?;
        self.forward(&journal, &begun, &[], &mut lease)
    }

    fn begin(&self, plan: &Plan) -> Result<Begun, Trouble> {
        if let Some(told) = unfinished(self.store)? {
            let op = told.begun.op;
            return Err(Trouble::of(
                Exit::Unchanged,
                format!("{op} has not ended; `deploy.sh resume` or `deploy.sh abort` ends it"),
            ));
        }
        let state = self.store.state()?;
        if state.serving.as_ref().map(|serving| serving.release) != plan.from {
            return Err(Trouble::of(Exit::Unchanged, "what serves has changed since the plan was made; plan again"));
        }
        let (release, tag) = match (plan.kind, plan.to) {
            (Kind::Rollback, Some(release)) => match self.store.release(release)? {
                Some(kept) => (release, kept.tag),
                None => return Err(Trouble::of(Exit::NotFound, format!("{release} is not kept here"))),
            },
            _ => {
                let release = self.store.next_release()?;
                (release, tag_of(self.project, &plan.reference, release, &plan.image_id))
            }
        };
        let at = self.pace.wall();
        let digits: String = at.chars().filter(char::is_ascii_alphanumeric).collect();
        Ok(Begun {
            op: format!("{digits}-{}-{release}", plan.kind.name()),
            kind: plan.kind,
            release,
            reference: plan.reference.clone(),
            image_id: plan.image_id.clone(),
            tag,
            abilities: plan.abilities.clone(),
            from: state.serving,
            warm: state.warm,
            instances: plan.settings.instances,
            steps: plan.steps.clone(),
            settings: plan.settings.clone(),
            at,
            by: self.holder.by(),
        })
    }

    /// The lease in the databases, by the program that serves: before the first release there are none. A deployer that
    /// was killed has not given its own back yet, so whoever cleans up after it waits for that.
    pub(super) fn lease(&self, begun: &Begun, patience: Duration) -> Result<Option<Box<dyn Held>>, Trouble> {
        let Some(from) = &begun.from else { return Ok(None) };
        let holder = format!("{} {} of {}", self.holder.by(), begun.kind.name(), begun.release);
        let asked_at = self.pace.elapsed();
        loop {
            match self.runtime.hold_lease(&from.tag, &holder) {
                Ok(lease) => return Ok(Some(lease)),
                Err(trouble) if trouble.exit == Exit::Locked => {
                    if self.pace.elapsed().saturating_sub(asked_at) >= patience {
                        return Err(trouble);
                    }
                    self.note(format!("waiting for the lease: {trouble}"));
                    self.pace.sleep(LEASE_PAUSE);
                }
                // A release from before leases, or a database that is down: the steps will say what is wrong.
                Err(trouble) => {
                    self.note(format!("no lease in the databases ({trouble}); the lock on this machine holds"));
                    return Ok(None);
                }
            }
        }
    }

    /// Goes on with the steps that are not done.
    pub(super) fn forward(
        &self,
        journal: &Journal,
        begun: &Begun,
        done: &[Step],
        lease: &mut Option<Box<dyn Held>>,
    ) -> Result<ReleaseId, Failure> {
        for step in begun.steps.iter().filter(|step| !done.contains(step)) {
            let step = *step;
            if !step.is_past_return() {
                if self.interrupted.load(Ordering::Relaxed) {
                    let asked = Trouble::of(Exit::Aborted, "you asked to stop");
                    return Err(self.turn_back(journal, begun, step, &asked));
                }
                if let Some(why) = lease.as_mut().and_then(|lease| lease.lost()) {
                    let lost = Trouble::new(format!("the lease in the databases was lost: {why}"));
                    return Err(self.turn_back(journal, begun, step, &lost));
                }
            }
            let before = self.pace.elapsed();
            self.teller.tell(Event::StepBegins { step: step.name(), doing: step.in_words() });
            let token = lease.as_ref().and_then(|lease| lease.token());
            let outcome = journal
                .write(&Entry::Begin { step })
                .and_then(|()| self.perform(step, begun, token))
                .and_then(|()| journal.write(&Entry::Done { step }));
            if let Err(trouble) = outcome {
                let trouble = trouble.while_doing(step.name());
                return Err(match step {
                    _ if step.is_written_down() => self.unended(begun, &trouble),
                    _ if step.is_past_return() => self.stuck(begun, &trouble),
                    _ => self.turn_back(journal, begun, step, &trouble),
                });
            }
            let took = self.pace.elapsed().saturating_sub(before);
            let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            self.teller.tell(Event::StepDone { step: step.name(), took_ms });
        }
        let ended = journal.write(&Entry::Ended { outcome: "committed".into() });
        ended.map_err(|trouble| self.unended(begun, &trouble))?;
        Ok(begun.release)
    }

    /// Puts everything back to what served before.
    pub(super) fn turn_back(&self, journal: &Journal, begun: &Begun, at: Step, trouble: &Trouble) -> Failure {
        let why = trouble.to_string();
        self.teller.tell(Event::TurnsBack { why: why.clone() });
        // A journal that cannot be written must not keep the old release from coming back.
        let written = journal.write(&Entry::Turned { why: why.clone() });
        let put_back = if at.is_before_start() { Ok(()) } else { self.put_back(begun) };
        let undone = put_back.and(written);
        if let Err(worse) = undone {
            return self.stuck(begun, &Trouble::new(format!("{why}\nPutting it back failed, too: {worse}")));
        }
        let aborted = trouble.exit == Exit::Aborted;
        let outcome = if aborted { "aborted" } else { "undone" };
        if let Err(worse) = self.end(journal, begun, outcome, Some(why.clone())) {
            return self.stuck(begun, &worse);
        }
        let expanded = begun.steps.iter().position(|step| *step == Step::Expand);
        let reached = begun.steps.iter().position(|step| *step == at);
        let grown = matches!((expanded, reached), (Some(expanded), Some(reached)) if reached >= expanded);
        let exit = match at {
            _ if aborted => Exit::Aborted,
            Step::Backup => Exit::Unproven,
            Step::Pin | Step::Stores if trouble.exit == Exit::Failed => Exit::Unchanged,
            Step::Pin | Step::Stores => trouble.exit,
            _ => Exit::Undone,
        };
        Failure {
            exit,
            what: why,
            serving: self.serving_in_words(),
            data: match grown {
                true => "nothing lost; the schema may have grown, which the old release does not mind".into(),
                false => "unchanged".into(),
            },
            next: "mend the cause, then deploy.sh deploy".into(),
        }
    }

    /// Has exactly what served before serve again.
    pub(super) fn put_back(&self, begun: &Begun) -> Result<(), Trouble> {
        // A warm release that was to serve again stays warm.
        self.converge(begun.from.as_ref(), begun.warm.as_ref(), &begun.settings)
    }

    /// Writes down how it ended.
    pub(super) fn end(
        &self,
        journal: &Journal,
        begun: &Begun,
        outcome: &str,
        why: Option<String>,
    ) -> Result<(), Trouble> {
        self.store.add_deed(self.deed(begun, outcome, why))?;
        journal.write(&Entry::Ended { outcome: outcome.into() })
    }

    pub(super) fn deed(&self, begun: &Begun, outcome: &str, why: Option<String>) -> Deed {
        Deed {
            at: self.pace.wall(),
            op: begun.op.clone(),
            kind: begun.kind.name().into(),
            release: begun.release,
            from: begun.from.as_ref().map(|from| from.release),
            outcome: outcome.into(),
            by: begun.by.clone(),
            why,
            previous: String::new(),
        }
    }

    /// It can go neither forward nor back by itself. Whoever looks at it decides which way.
    fn stuck(&self, begun: &Begun, trouble: &Trouble) -> Failure {
        let back = begun.from.as_ref().map_or_else(
            || "have nothing serve, as before".to_owned(),
            |from| format!("have {} serve again", from.release),
        );
        let next = format!("mend the cause, then deploy.sh resume; or deploy.sh abort, to {back}");
        Failure { next, ..self.unended(begun, trouble) }
    }

    /// It did not end, and can only be finished.
    fn unended(&self, begun: &Begun, trouble: &Trouble) -> Failure {
        Failure {
            exit: Exit::NeedsHuman,
            what: format!("{} did not end: {trouble}", begun.op),
            serving: self.serving_in_words(),
            data: "nothing lost".into(),
            next: "mend the cause, then deploy.sh resume".into(),
        }
    }

    /// It was refused before anything was changed.
    pub fn unchanged(&self, trouble: Trouble) -> Failure {
        let exit = if trouble.exit == Exit::Failed { Exit::Unchanged } else { trouble.exit };
        let next = match exit {
            Exit::Locked => "wait for it, then try again; deploy.sh lock status",
            Exit::NotFound => "deploy.sh history",
            Exit::Unreachable => "deploy.sh doctor, then try again",
            _ => "mend the cause, then try again; deploy.sh status",
        };
        Failure {
            exit,
            what: trouble.what,
            serving: self.serving_in_words(),
            data: "unchanged".into(),
            next: next.into(),
        }
    }

    /// What serves, as the edge has it now; what was last written down where the edge does not answer.
    pub fn serving_in_words(&self) -> String {
        let known = |serving: Option<ReleaseId>| serving.map_or_else(|| "nothing".to_owned(), |one| one.to_string());
        let written = || self.store.state().ok().and_then(|state| state.serving).map(|serving| serving.release);
        match self.serving_now() {
            Ok(releases) if releases.len() <= 1 => known(releases.first().copied()),
            Ok(releases) => {
                let names: Vec<String> = releases.iter().map(ToString::to_string).collect();
                format!("{} together", names.join(" and "))
            }
            Err(_) => format!("{}, by what was written down last", known(written())),
        }
    }
}
