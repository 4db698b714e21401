//! What an operation says while it runs: one event a line, for people or for programs.

use std::time::Duration;

use serde::Serialize;

/// One thing that is said.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A step begins.
    StepBegins {
        /// Its name.
        step: &'static str,
        /// What is done in it.
        doing: &'static str,
    },
    /// Something is waited for.
    Waiting {
        /// Its name.
        step: &'static str,
        /// What for.
        reason: String,
        /// For how long by now, in seconds.
        waited_s: u64,
        /// For how long at most, in seconds.
        waits_s_max: u64,
    },
    /// A step is done.
    StepDone {
        /// Its name.
        step: &'static str,
        /// How long it took, in milliseconds.
        took_ms: u64,
    },
    /// Something worth knowing.
    Note {
        /// What.
        text: String,
    },
    /// It is given up and put back.
    TurnsBack {
        /// Why.
        why: String,
    },
    /// A release serves: the marker of a deployment.
    Serving {
        /// Which.
        release: String,
        /// Which one before.
        from: Option<String>,
        /// `deploy` or `rollback`.
        kind: &'static str,
    },
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::StepBegins { step, doing } => write!(f, "{step}: {doing}"),
            Self::Waiting { step, reason, waited_s, waits_s_max } => {
                write!(f, "{step}: waiting, {reason} ({waited_s} s of {waits_s_max} s)")
            }
            Self::StepDone { step, took_ms } => {
                write!(f, "{step}: done in {:.1} s", Duration::from_millis(*took_ms).as_secs_f64())
            }
            Self::Note { text } => f.write_str(text),
            Self::TurnsBack { why } => write!(f, "turning back: {why}"),
            Self::Serving { release, from, kind } => {
                let from = from.as_deref().unwrap_or("nothing");
                write!(f, "{release} serves ({kind}, before it {from})")
            }
        }
    }
}

/// Whoever is told.
pub trait Teller {
    /// Tells it.
    fn tell(&self, event: Event);
}

/// Nobody.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Teller for Silent {
    fn tell(&self, _: Event) {}
}
