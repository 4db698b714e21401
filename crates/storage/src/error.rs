//! What can go wrong between us and a database, in the words of the domain.
//!
//! An [`Error`] never repeats data: Postgres quotes values in its messages, so only the SQLSTATE and, for
//! kinds of error that concern the server rather than a row, the message itself are carried on.

use std::sync::Arc;

use residency::{PinState, Region};

/// Why a database could not be asked, as a sentence free of data. Cheap to clone: one lost connection
/// answers a whole batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Cause(Arc<str>);

impl Cause {
    /// Wraps a sentence. It must hold no data.
    #[must_use]
    pub fn new(sentence: impl Into<Arc<str>>) -> Self {
        Self(sentence.into())
    }
}

/// What a deed at a database came to, if not to its effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The database cannot be reached or did not answer in time. Nothing happened.
    #[error("the database of {} cannot be reached", place(region.as_ref()))]
    Unavailable {
        /// The region, or `None` for the directory.
        region: Option<Region>,
        /// Why.
        source: Cause,
    },
    /// The connection was lost while the commit was under way, and what became of it could not be determined.
    #[error("it is not known whether {region} committed the deed")]
    OutcomeUnknown {
        /// The region.
        region: Region,
    },
    /// The region's queue is full. Nothing was executed.
    #[error("{region} has more work queued than it may hold")]
    Overloaded {
        /// The region.
        region: Region,
    },
    /// The database behind the connection string is not the one of this region; it is not used.
    #[error("the database configured for {region} is not its own: {reason}")]
    Misplaced {
        /// The region.
        region: Region,
        /// What differs.
        reason: String,
    },
    /// The record is not in the state that the caller demanded.
    #[error("the precondition does not hold")]
    PreconditionFailed {
        /// The current version, if the thing exists.
        current: Option<u64>,
    },
    /// There is no such thing to change.
    #[error("there is nothing by this name")]
    NotFound,
    /// The subject has moved: the directory's answer was out of date. Ask it again.
    #[error("the subject is no longer at home here")]
    Moved,
    /// The subject is on its way to another region, or erased.
    #[error("the subject is not served here at present")]
    NotAtHome {
        /// What the region says of the subject.
        state: PinState,
    },
    /// The idempotency key was used before, for another request.
    #[error("the idempotency key belongs to another request")]
    IdempotencyReused,
    /// The database does not accept the content; other deeds were not affected.
    #[error("the database refused the content ({sqlstate}): {message}")]
    RefusedByDatabase {
        /// The SQLSTATE (PostgreSQL, appendix A).
        sqlstate: String,
        /// What that code means. Holds no data.
        message: String,
    },
    /// One deed alone is larger than a batch may be.
    #[error("the deed is larger than {max_bytes} bytes")]
    TooLarge {
        /// The bound.
        max_bytes: usize,
    },
    /// A record would become larger than one may be, by its patch.
    #[error("with the patch the record would have more than {max_bytes} bytes")]
    GrownTooLarge {
        /// The bound.
        max_bytes: usize,
    },
    /// The lease on a cursor has gone to somebody else.
    #[error("the lease on the cursor was lost")]
    LeaseLost,
    /// The database answered something that it cannot have been asked for: a bug or a broken store.
    #[error("storage does not understand the database")]
    Internal(#[source] Cause),
}

fn place(region: Option<&Region>) -> &str {
    region.map_or("the directory", Region::as_str)
}

/// What there is to say of a statement that the server ended.
const TOOK_TOO_LONG: &str = "the statement took too long (SQLSTATE 57014)";

/// What an sqlx error means for the one who ran the statement.
#[derive(Debug, Clone)]
pub(crate) enum Trouble {
    /// The connection is of no further use; the statement may or may not have run.
    Lost(Cause),
    /// The database is not the region's own. Never tried again.
    Misplaced(String),
    /// A conflict with somebody else's transaction: the same again may succeed.
    Conflict(Cause),
    /// The content was refused; the same again will be refused again.
    Refused { sqlstate: String, message: String },
    /// Neither: we misunderstand each other.
    Internal(Cause),
}

impl Trouble {
    /// The error for a caller who asked for one thing and got this.
    pub(crate) fn into_error(self, region: Option<&Region>) -> Error {
        match self {
            Self::Lost(source) | Self::Conflict(source) => Error::Unavailable { region: region.cloned(), source },
            Self::Misplaced(reason) => match region {
                Some(region) => Error::Misplaced { region: region.clone(), reason },
                None => Error::Internal(Cause::new(reason)),
            },
            Self::Refused { sqlstate, message } => Error::RefusedByDatabase { sqlstate, message },
            Self::Internal(cause) => Error::Internal(cause),
        }
    }

    /// Whether the server ended the statement because it took too long. Of several things asked for in one statement, the
    /// others may be found without the one that is slow.
    pub(crate) fn took_too_long(&self) -> bool {
        matches!(self, Self::Conflict(cause) if *cause.0 == *TOOK_TOO_LONG)
    }

    /// The sentence of it.
    pub(crate) fn cause(&self) -> Cause {
        match self {
            Self::Lost(cause) | Self::Conflict(cause) | Self::Internal(cause) => cause.clone(),
            Self::Misplaced(reason) => Cause::new(reason.as_str()),
            Self::Refused { sqlstate, message } => Cause::new(format!("{message} (SQLSTATE {sqlstate})")),
        }
    }
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        match &error {
            E::Database(refusal) => {
                let sqlstate = refusal.code().unwrap_or_default().into_owned();
                from_sqlstate(&sqlstate, refusal.message())
            }
            E::Io(_) | E::Tls(_) | E::Protocol(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed => {
                Self::Lost(Cause::new(format!("the connection failed: {error}")))
            }
            E::Configuration(_) => Self::Lost(Cause::new("the connection string cannot be understood")),
            E::ColumnDecode { index, .. } => {
                Self::Internal(Cause::new(format!("column {index} holds what it cannot hold")))
            }
            // The other messages name columns and types, never values; an encoding error may quote, so it is not repeated.
            E::RowNotFound => Self::Internal(Cause::new("a row that must exist does not")),
            _ => Self::Internal(Cause::new("a statement could not be sent or its answer not be read")),
        }
    }
}

/// Sorts a SQLSTATE (PostgreSQL documentation, appendix A) by what is to be done about it.
fn from_sqlstate(sqlstate: &str, message: &str) -> Trouble {
    // Messages of these classes speak of servers, roles, relations or our own guards, never of a row's content.
    let told = || Cause::new(format!("{message} (SQLSTATE {sqlstate})"));
    match sqlstate.get(..2).unwrap_or_default() {
        // serialization failure, deadlock
        "40" => Trouble::Conflict(told()),
        // unique violation: every insert here is prepared for what it knows of, so somebody else was faster
        "23" if sqlstate == "23505" => {
            Trouble::Conflict(Cause::new("somebody else wrote the same key (SQLSTATE 23505)"))
        }
        // lock not available
        "55" => Trouble::Conflict(told()),
        "57" if sqlstate == "57014" => Trouble::Conflict(Cause::new(TOOK_TOO_LONG)),
        // connection, authorization, resources, operator intervention, unknown database, read-only standby
        "08" | "28" | "3D" | "53" | "57" | "58" | "25" | "42" | "3F" => Trouble::Lost(told()),
        "22" | "23" | "54" | "44" => {
            Trouble::Refused { sqlstate: sqlstate.to_owned(), message: meaning(sqlstate).to_owned() }
        }
        _ => Trouble::Internal(Cause::new(format!("SQLSTATE {sqlstate}"))),
    }
}

fn meaning(sqlstate: &str) -> &'static str {
    match sqlstate {
        "22P05" => "a character that a document may not hold, such as NUL",
        "22021" => "text that is not valid UTF-8, or holds NUL",
        "22003" => "a number out of range",
        "22P02" | "22032" => "text that is not valid JSON",
        "54001" => "a document nested too deeply",
        s if s.starts_with("54") => "a document larger than the database takes",
        s if s.starts_with("23") => "a rule of the table does not hold",
        _ => "content of the wrong kind",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_never_repeats_the_content() {
        let Trouble::Refused { message, .. } = from_sqlstate("22P02", "invalid input syntax for type json: \"Anna\"")
        else {
            panic!("class 22 is a refusal");
        };
        assert!(!message.contains("Anna"));
    }

    #[test]
    fn a_statement_that_took_too_long_is_told_from_other_conflicts() {
        assert!(from_sqlstate("57014", "canceling statement due to statement timeout").took_too_long());
        assert!(!from_sqlstate("55P03", "canceling statement due to lock timeout").took_too_long());
    }

    #[test]
    fn a_deadlock_is_tried_again_and_a_lost_server_is_not_blamed_on_the_deed() {
        assert!(matches!(from_sqlstate("40P01", "deadlock detected"), Trouble::Conflict(_)));
        assert!(matches!(from_sqlstate("57P01", "terminating connection"), Trouble::Lost(_)));
    }
}
