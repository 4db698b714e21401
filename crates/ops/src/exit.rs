//! How a deed of the deployer ends: a stable exit code, and for whoever reads it, what serves now, what became of
//! the data, and what to type next.

use std::fmt;

/// The exit codes of `domicile ops`. They are part of the contract: scripts branch on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    /// Done.
    Done,
    /// Failed in a way that has no number of its own.
    Failed,
    /// The command line or the configuration is wrong.
    Usage,
    /// Refused before anything was changed.
    Unchanged,
    /// Stopped because somebody asked for it; what served before serves.
    Aborted,
    /// There is no such release.
    NotFound,
    /// Somebody else is at work.
    Locked,
    /// Something could not be reached; trying again may help.
    Unreachable,
    /// A backup or the residency of data could not be proven.
    Unproven,
    /// `doctor` found something.
    Findings,
    /// It failed and was undone: the old release serves.
    Undone,
    /// It failed and could not be undone: a human is needed.
    NeedsHuman,
    /// With `--detailed-exitcode`: the plan has changes.
    Changes,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unchanged => 4,
            Self::Aborted => 5,
            Self::NotFound => 6,
            Self::Locked => 7,
            Self::Unreachable => 8,
            Self::Unproven => 9,
            Self::Findings => 10,
            Self::Undone => 11,
            Self::NeedsHuman => 12,
            Self::Changes => 20,
        }
    }

    /// The worse of two, where several cells come to one exit code: what was found, or would change, in one of them is
    /// not hidden by the others.
    #[must_use]
    pub const fn or_worse(self, other: Self) -> Self {
        if other.weight() > self.weight() { other } else { self }
    }

    const fn weight(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Changes => 1,
            Self::Unreachable => 2,
            // A certain no weighs more than what nobody knows.
            Self::Findings => 3,
            Self::Locked => 4,
            Self::NotFound => 5,
            Self::Usage => 6,
            Self::Unchanged => 7,
            Self::Aborted => 8,
            Self::Unproven => 9,
            Self::Failed => 10,
            Self::Undone => 11,
            Self::NeedsHuman => 12,
        }
    }
}

/// A deed that did not succeed. Its last line always says what is true now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What went wrong, in a sentence or several lines.
    pub what: String,
    /// Which release serves now.
    pub serving: String,
    /// What became of the data.
    pub data: String,
    /// What to type next.
    pub next: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, serving, data, next, .. } = self;
        write!(f, "{what}\nServing now: {serving}. Data: {data}. Next: {next}")
    }
}

impl std::error::Error for Failure {}

/// Why a step did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Trouble {
    /// What happened, as a sentence.
    pub what: String,
    /// The exit code it calls for when nothing has been changed yet.
    pub exit: Exit,
}

impl Trouble {
    /// Trouble with no number of its own.
    #[must_use]
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), exit: Exit::Failed }
    }

    /// Trouble that calls for an exit code.
    #[must_use]
    pub fn of(exit: Exit, what: impl Into<String>) -> Self {
        Self { what: what.into(), exit }
    }

    /// The same with what was being done in front.
    #[must_use]
    pub fn while_doing(self, deed: &str) -> Self {
        Self { what: format!("{deed}: {}", self.what), ..self }
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::new(error.to_string())
    }
}

impl From<serde_json::Error> for Trouble {
    fn from(error: serde_json::Error) -> Self {
        Self::new(format!("something written earlier cannot be read: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_never_change_their_meaning() {
        let codes = [
            (Exit::Done, 0),
            (Exit::Failed, 1),
            (Exit::Usage, 2),
            (Exit::Unchanged, 4),
            (Exit::Aborted, 5),
            (Exit::NotFound, 6),
            (Exit::Locked, 7),
            (Exit::Unreachable, 8),
            (Exit::Unproven, 9),
            (Exit::Findings, 10),
            (Exit::Undone, 11),
            (Exit::NeedsHuman, 12),
            (Exit::Changes, 20),
        ];
        for (exit, code) in codes {
            assert_eq!(exit.code(), code, "{exit:?}");
        }
    }

    #[test]
    fn the_worse_of_two_is_what_needs_more_to_be_done() {
        for (one, other, worse) in [
            (Exit::Changes, Exit::Done, Exit::Changes),
            (Exit::Findings, Exit::Done, Exit::Findings),
            (Exit::Unreachable, Exit::Findings, Exit::Findings),
            (Exit::Undone, Exit::NeedsHuman, Exit::NeedsHuman),
            (Exit::Done, Exit::Done, Exit::Done),
        ] {
            assert_eq!((one.or_worse(other), other.or_worse(one)), (worse, worse), "{one:?} and {other:?}");
        }
    }

    #[test]
    fn a_failure_ends_with_what_is_true_now() {
        let failure = Failure {
            exit: Exit::Undone,
            what: "The gate did not open.".into(),
            serving: "rel-1 (unchanged)".into(),
            data: "unchanged".into(),
            next: "deploy.sh deploy".into(),
        };
        let told = failure.to_string();
        let last = told.lines().last().expect("a line");
        assert_eq!(last, "Serving now: rel-1 (unchanged). Data: unchanged. Next: deploy.sh deploy");
    }
}
