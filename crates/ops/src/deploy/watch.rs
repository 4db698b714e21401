//! Watching a release while it serves: it must live, answer without errors, and not be much slower than the one
//! before it. The edge counts the answers; the instances' own histograms tell of latency.

use std::time::Duration;

use super::journal::Begun;
use super::p99::Latency;
use super::release::Instance;
use super::{Deployer, Event, LOOK_EVERY, SAY_EVERY_S};
use crate::edge::Slot;
use crate::exit::{Exit, Trouble};
use crate::runtime::Condition;

/// Below this a 99th percentile is never bad: it may be one slow commit among few.
const P99_FINE_S: f64 = 0.05;
/// The rate of errors may be so many times that of the old release: then the cause is elsewhere.
const ERRORS_RATIO_MAX: f64 = 1.5;

/// Answers of one release since the watch began.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Counted {
    pub(super) answers: u64,
    pub(super) errors: u64,
}

impl Counted {
    fn of(slots: &[Slot], instances: &[Instance]) -> Self {
        let mine = slots.iter().filter(|slot| instances.iter().any(|instance| slot.is_of(instance)));
        mine.fold(Self::default(), |sum, slot| Self {
            answers: sum.answers + slot.answers + slot.broken,
            errors: sum.errors + slot.errors + slot.broken,
        })
    }

    fn since(self, before: Self) -> Self {
        Self { answers: self.answers.saturating_sub(before.answers), errors: self.errors.saturating_sub(before.errors) }
    }

    fn percent(self) -> f64 {
        if self.answers == 0 { 0.0 } else { 100.0 * self.errors as f64 / self.answers as f64 }
    }

    /// Why this is a bad release, if it is; compared with what the old one did meanwhile.
    pub(super) fn verdict(self, old: Self, percent_max: f64, answers_min: u64) -> Option<String> {
        let bad = self.answers >= answers_min
            && self.percent() > percent_max
            && self.percent() > ERRORS_RATIO_MAX * old.percent();
        bad.then(|| {
            format!(
                "{:.1} % of {} answers were 5xx or none at all (allowed are {percent_max} %)",
                self.percent(),
                self.answers
            )
        })
    }
}

impl Deployer<'_> {
    /// Watches the new release for a while. With too few answers to judge by, the smoke test speaks at the end, if
    /// `conclude` says so.
    pub(super) fn watch(
        &self,
        step: &'static str,
        begun: &Begun,
        time: Duration,
        conclude: bool,
    ) -> Result<(), Trouble> {
        let new = self.instances_of(&begun.tag)?;
        let old = match &begun.from {
            Some(from) => self.instances_of(&from.tag)?,
            None => Vec::new(),
        };
        let settings = &begun.settings;
        let slots = self.edge.slots()?;
        let (new_before, old_before) = (Counted::of(&slots, &new), Counted::of(&slots, &old));
        let latency_before = self.latency(&new);
        let started = self.pace.elapsed();
        let mut said_s = 0;
        loop {
            for instance in &new {
                match self.runtime.condition(instance)? {
                    Condition::Ended(how) => {
                        let trouble = Trouble::new(format!("{} has ended while it served: {how}", instance.id));
                        return Err(self.with_last_lines(trouble, instance));
                    }
                    Condition::Unhealthy(why) => {
                        let trouble = Trouble::new(format!("{} is not ready any more: {why}", instance.id));
                        return Err(self.with_last_lines(trouble, instance));
                    }
                    Condition::Starting | Condition::Healthy => {}
                }
            }
            let slots = self.edge.slots()?;
            if let Some(dead) = slots.iter().find(|slot| !slot.alive && new.iter().any(|one| slot.is_of(one))) {
                return Err(Trouble::new(format!("the edge's own check finds {} dead", dead.name)));
            }
            let counted = Counted::of(&slots, &new).since(new_before);
            let others = Counted::of(&slots, &old).since(old_before);
            if let Some(bad) = counted.verdict(others, settings.errors_percent_max, settings.answers_min) {
                return Err(Trouble::new(bad));
            }
            let elapsed = self.pace.elapsed().saturating_sub(started);
            if elapsed >= time {
                if counted.answers < settings.answers_min && conclude {
                    self.note(format!("{} answers are too few to judge by: the smoke test speaks", counted.answers));
                    for instance in &new {
                        self.smoke(&begun.tag, instance)?;
                    }
                }
                break;
            }
            if self.interrupted.load(std::sync::atomic::Ordering::Relaxed) {
                return Err(Trouble::of(Exit::Aborted, "you asked to stop"));
            }
            if elapsed.as_secs() >= said_s + SAY_EVERY_S {
                said_s = elapsed.as_secs();
                let reason = format!("{} answers so far, {:.1} % errors", counted.answers, counted.percent());
                self.teller.tell(Event::Waiting { step, reason, waited_s: said_s, waits_s_max: time.as_secs() });
            }
            self.pace.sleep(LOOK_EVERY);
        }
        self.compare_latency(begun, &self.latency(&new).since(&latency_before), &self.latency(&old))
    }

    /// The old release is measured over its whole life: it gets no requests by now.
    fn compare_latency(&self, begun: &Begun, new: &Latency, old: &Latency) -> Result<(), Trouble> {
        let settings = &begun.settings;
        let enough = |latency: &Latency| latency.count() >= settings.answers_min;
        let (Some(ours), Some(theirs)) = (new.p99_s(), old.p99_s()) else { return Ok(()) };
        let slow = enough(new) && enough(old) && ours > P99_FINE_S && ours > theirs * settings.p99_ratio_max;
        match slow {
            true => Err(Trouble::new(format!(
                "its 99th percentile is {:.0} ms, the old release's is {:.0} ms (allowed is {} times that)",
                ours * 1000.0,
                theirs * 1000.0,
                settings.p99_ratio_max
            ))),
            false => Ok(()),
        }
    }

    /// The histograms of these instances together. One that does not tell is no evidence.
    fn latency(&self, instances: &[Instance]) -> Latency {
        let mut latency = Latency::default();
        for instance in instances {
            if let Ok((200, text)) = self.runtime.ask(instance, "/metrics") {
                latency.add(&text);
            }
        }
        latency
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Counted = Counted { answers: 1000, errors: 0 };

    #[test]
    fn five_percent_of_errors_are_bad_unless_the_old_release_has_them_too() {
        let five = Counted { answers: 1000, errors: 50 };
        assert!(five.verdict(QUIET, 1.0, 50).is_some());
        assert!(five.verdict(Counted::default(), 1.0, 50).is_some());
        assert_eq!(five.verdict(five, 1.0, 50), None, "the cause is elsewhere");
        assert_eq!(Counted { answers: 1000, errors: 9 }.verdict(QUIET, 1.0, 50), None);
    }

    #[test]
    fn a_few_answers_are_no_evidence() {
        assert_eq!(Counted { answers: 49, errors: 49 }.verdict(QUIET, 1.0, 50), None);
        assert!(Counted { answers: 50, errors: 50 }.verdict(QUIET, 1.0, 50).is_some());
    }
}
