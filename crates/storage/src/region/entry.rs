//! What stands in the committer's queue: deeds to be done, and leaves of what was done elsewhere.

use std::hash::{BuildHasher, RandomState};
use std::mem::size_of_val;
use std::sync::LazyLock;

use leaf::{Fact, Kind, Out, SubjectTag};
use residency::{Decision, Denial, DenialReason, Permit, Read, Region, SubjectId, Write};
use tokio::sync::oneshot;

use super::details::Sealer;
use super::queue::Seat;
use crate::deeds::{Answer, Change, Effect, Found, LogPosition};
use crate::error::{Cause, Error};

/// One place in the queue.
#[derive(Debug)]
pub(super) enum Entry {
    Deed(Box<Deed>),
    Note(Box<Note>),
    Fact(Box<FactNote>),
}

/// A leaf to be written about no decision.
#[derive(Debug)]
pub(super) struct FactNote {
    pub(super) fact: Fact,
    pub(super) reply: oneshot::Sender<Result<LogPosition, Error>>,
    pub(super) seat: Seat,
}

/// A change to be made.
#[derive(Debug)]
pub(super) struct Deed {
    pub(super) permit: Permit<Write>,
    pub(super) change: Change,
    /// The trace that it is a part of.
    pub(super) traceparent: Option<String>,
    pub(super) reply: oneshot::Sender<Result<Answer<Effect>, Error>>,
    pub(super) seat: Seat,
    /// Set once the database has refused the content: the deed then only leaves a leaf.
    pub(super) refused: Option<Error>,
}

/// A leaf to be written about something that changes nothing here.
#[derive(Debug)]
pub(super) struct Note {
    pub(super) grounds: Grounds,
    pub(super) kind: Kind,
    pub(super) tag: Option<SubjectTag>,
    pub(super) sealer: Option<Sealer>,
    pub(super) home: Option<Region>,
    pub(super) out: Out,
    pub(super) why: Option<&'static str>,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) reply: Reply,
    pub(super) seat: Seat,
}

/// The decision behind a note.
#[derive(Debug)]
pub(super) enum Grounds {
    Permit(Permit<Read>),
    Denial(Box<Decision>),
}

/// Who waits for a note's leaf.
#[derive(Debug)]
pub(super) enum Reply {
    /// Whoever was denied.
    Position(oneshot::Sender<Result<LogPosition, Error>>),
    /// A reader, whose answer is ready and waits for its leaf.
    Found { found: Result<Found, Error>, reply: oneshot::Sender<Result<Answer<Found>, Error>> },
    /// Nobody: the reader has been answered, and counted under this number.
    Nobody { gseq: u64 },
}

impl Entry {
    /// When it was decided or happened, microseconds since 1970-01-01 UTC.
    pub(super) fn at_us(&self) -> i64 {
        match self {
            Self::Deed(deed) => deed.permit.decision().at_us,
            Self::Note(note) => note.decision().at_us,
            Self::Fact(note) => note.fact.at_us(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Deed(deed) => deed.seat.bytes,
            Self::Note(note) => note.seat.bytes,
            Self::Fact(note) => note.seat.bytes,
        }
    }

    /// Whether somebody waits for it.
    pub(super) fn is_awaited(&self) -> bool {
        match self {
            Self::Deed(_) | Self::Fact(_) => true,
            Self::Note(note) => !matches!(note.reply, Reply::Nobody { .. }),
        }
    }

    /// What is to be done of it when its turn comes. A change that nobody waits for any more is not made, but its
    /// permit leaves its leaf and a new subject is registered, since its pin stands in the directory already. A read
    /// that nobody waits for disclosed nothing and goes away.
    pub(super) fn in_its_turn(mut self) -> Option<Self> {
        match &mut self {
            Self::Deed(deed) if deed.reply.is_closed() && deed.refused.is_none() => {
                let region = Some(deed.permit.region().clone());
                deed.refused = Some(Error::Unavailable { region, source: Cause::new("the caller has gone") });
            }
            Self::Note(note) if matches!(&note.reply, Reply::Found { reply, .. } if reply.is_closed()) => return None,
            Self::Deed(_) | Self::Note(_) | Self::Fact(_) => {}
        }
        Some(self)
    }

    /// Answers with an error, or gives back what must be written all the same.
    pub(super) fn fail(self, error: &Error) -> Option<Self> {
        match self {
            Self::Deed(deed) => drop(deed.reply.send(Err(error.clone()))),
            Self::Fact(note) => drop(note.reply.send(Err(error.clone()))),
            Self::Note(note) => match note.reply {
                Reply::Position(reply) => drop(reply.send(Err(error.clone()))),
                // The read was not answered, so nothing was disclosed, and "unknown" would say too little.
                Reply::Found { reply, .. } => drop(reply.send(Err(undisclosed(error)))),
                Reply::Nobody { .. } => return Some(Self::Note(note)),
            },
        }
        None
    }
}

fn undisclosed(error: &Error) -> Error {
    match error {
        Error::OutcomeUnknown { region } => Error::Unavailable {
            region: Some(region.clone()),
            source: crate::error::Cause::new("the leaf of the read could not be confirmed"),
        },
        other => other.clone(),
    }
}

impl Note {
    /// The decision that it is about.
    pub(super) fn decision(&self) -> &Decision {
        match &self.grounds {
            Grounds::Permit(permit) => permit.decision(),
            Grounds::Denial(decision) => decision,
        }
    }

    /// The leaf of a denial: evidence classes, and nothing that identifies anybody.
    pub(super) fn of_denial(denial: Denial, reply: oneshot::Sender<Result<LogPosition, Error>>, seat: Seat) -> Self {
        let why = denial.reason.code();
        let home = match denial.reason {
            DenialReason::ElsewhereAtHome(region) | DenialReason::Moving(region) | DenialReason::Erased(region) => {
                Some(region)
            }
            DenialReason::Unresolved(_) | DenialReason::Refused { .. } | DenialReason::NotPinned => None,
        };
        Self {
            grounds: Grounds::Denial(denial.decision),
            kind: Kind::DecisionDeny,
            tag: None,
            sealer: None,
            home,
            out: Out::Deny,
            why: Some(why),
            rows: 0,
            bytes: 0,
            reply: Reply::Position(reply),
            seat,
        }
    }
}

/// What a change weighs in the queue, in bytes. The record that a patch is merged into is loaded in its turn only, and
/// measured then.
pub(super) fn weight(change: &Change) -> usize {
    let content = match change {
        Change::PinSubject | Change::EraseSubject | Change::DeleteRecord { .. } | Change::DeleteAttribute { .. } => 0,
        Change::PutRecord { body, .. } => body.get().len(),
        Change::PatchRecord { patch, .. } => json_weight(patch),
        Change::PublishEvent { event, .. } => {
            let extensions: usize = event.extensions.iter().map(|(name, value)| name.len() + value.len()).sum();
            event.data.len() + extensions + event.event_type.len() + event.id.len() + event.source.len()
        }
        Change::PutAttribute { value, consents, .. } => value.get().len() + consents.len() * 128,
    };
    super::LEAF_BYTES + size_of_val(change) + content
}

fn json_weight(value: &serde_json::Value) -> usize {
    use serde_json::Value;
    let held = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(json_weight).sum(),
        Value::Object(fields) => fields.iter().map(|(name, value)| name.len() + json_weight(value)).sum(),
    };
    held + size_of_val(value)
}

/// A subject's number within this process, for keeping the order of its deeds. Two subjects with one
/// number only wait for each other.
pub(super) fn number(subject: &SubjectId) -> u64 {
    static KEYED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    KEYED.hash_one(subject.expose())
}
