//! A recorded decision, taken again: as it was, and without the signal that decided.

use leaf::Parsed;
use residency::{Evidence, Outcome, Policy, Verdict};

use crate::words;

/// Whether the policy at hand decides the same from the recorded evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replay {
    /// It is the policy that decided, and it decides the same again.
    Same,
    /// It is the policy that decided, and it decides otherwise: the record does not fit its own policy.
    Different {
        /// What it decides now, as a clause.
        now: String,
    },
    /// Another policy was in force, or none is at hand: nothing can be said.
    OtherPolicy,
}

impl Replay {
    /// The same in a sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self {
            Self::Same => "Replayed from the recorded evidence, the same policy decides the same.".to_owned(),
            Self::Different { now } => {
                format!("Replayed from the recorded evidence, the same policy decides otherwise: {now}.")
            }
            Self::OtherPolicy => "The policy that decided is not the one at hand, so this was not replayed.".to_owned(),
        }
    }
}

/// What it would have been without the signal that decided, in a sentence.
pub(super) fn without_winner(parsed: &Parsed, winner: &Evidence, policy: &Policy) -> String {
    let rest = parsed.decision.evidence.iter().filter(|evidence| *evidence != winner).cloned().collect();
    let verdict = policy.classify(rest);
    let by = verdict
        .winner
        .and_then(|at| verdict.evidence.get(usize::from(at)))
        .map_or_else(String::new, |next| format!(" by {}", words::signal(next.source)));
    format!("Without {} it would have been {}{by}.", words::signal(winner.source), outcome(&verdict))
}

/// Takes a recorded decision again, from the recorded evidence.
pub(crate) fn replay(parsed: &Parsed, policy: &Policy) -> Replay {
    let verdict = policy.classify(parsed.decision.evidence.clone());
    let home = match &verdict.outcome {
        Outcome::Home { region, .. } => Some(region),
        Outcome::Unresolved(_) | Outcome::Refused { .. } => None,
    };
    let same_winner = verdict.winner == parsed.decision.winner;
    let same_rule = verdict.rule == parsed.decision.rule;
    let same = match parsed.why.as_deref() {
        // A pin to a region that the policy lost is recorded under the pin's rule, so only the kind must agree.
        Some("residency_unresolved") => same_winner && matches!(verdict.outcome, Outcome::Unresolved(_)),
        Some("residency_refused") => same_winner && same_rule && matches!(verdict.outcome, Outcome::Refused { .. }),
        Some("subject_not_found") => same_winner && same_rule,
        _ => same_winner && same_rule && home == parsed.home.as_ref(),
    };
    if same { Replay::Same } else { Replay::Different { now: outcome(&verdict) } }
}

/// A verdict as a clause: `at home in eu-central (rule eea)`.
fn outcome(verdict: &Verdict) -> String {
    let said = match &verdict.outcome {
        Outcome::Home { region, .. } => format!("at home in {region}"),
        Outcome::Unresolved(unresolved) => format!("unresolved ({})", unresolved.code()),
        Outcome::Refused { place, .. } => format!("refused for {place}"),
    };
    format!("{said} (rule {})", verdict.rule)
}
