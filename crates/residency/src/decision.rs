//! A decision: who asked for what, what was considered, and what came of it.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use crate::evidence::EvidenceList;
use crate::policy::{RuleId, Unresolved, Verdict};
use crate::stated::Stated;
use crate::transfer::Transfer;
use crate::words::{Place, Region};

/// Names one decision: UUID version 7 (RFC 9562), made by the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DecisionId(pub Uuid);

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who asked: a class and a name of the caller's credentials, e.g. `key:checkout`. Never a person's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Actor(Arc<str>);

impl Actor {
    /// Wraps the name of a caller, as its credentials give it.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a caller wants to do with a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Read where the subject is at home.
    SubjectRead,
    /// Pin a subject to its home.
    SubjectPin,
    /// Erase a subject.
    SubjectErase,
    /// Count what an erasure would take away.
    SubjectErasePreview,
    /// Read one record.
    RecordRead,
    /// List the records of a collection.
    RecordList,
    /// Create or replace a record.
    RecordPut,
    /// Merge into a record (RFC 7396).
    RecordPatch,
    /// Delete a record.
    RecordDelete,
    /// Publish an event.
    EventPublish,
    /// Read a zero-party attribute.
    ZeroPartyRead,
    /// Declare a zero-party attribute or change its consent.
    ZeroPartyPut,
    /// Withdraw a zero-party attribute.
    ZeroPartyDelete,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 13] = [
        Self::SubjectRead,
        Self::SubjectPin,
        Self::SubjectErase,
        Self::SubjectErasePreview,
        Self::RecordRead,
        Self::RecordList,
        Self::RecordPut,
        Self::RecordPatch,
        Self::RecordDelete,
        Self::EventPublish,
        Self::ZeroPartyRead,
        Self::ZeroPartyPut,
        Self::ZeroPartyDelete,
    ];

    /// The stable name used in leaves and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SubjectRead => "subject.read",
            Self::SubjectPin => "subject.pin",
            Self::SubjectErase => "subject.erase",
            Self::SubjectErasePreview => "subject.erase_preview",
            Self::RecordRead => "record.read",
            Self::RecordList => "record.list",
            Self::RecordPut => "record.put",
            Self::RecordPatch => "record.patch",
            Self::RecordDelete => "record.delete",
            Self::EventPublish => "event.publish",
            Self::ZeroPartyRead => "zero_party.read",
            Self::ZeroPartyPut => "zero_party.put",
            Self::ZeroPartyDelete => "zero_party.delete",
        }
    }

    /// Whether it changes what a region holds. Only such operations may pin a new subject, and an erasure does not.
    #[must_use]
    pub const fn writes(self) -> bool {
        !matches!(
            self,
            Self::SubjectRead | Self::SubjectErasePreview | Self::RecordRead | Self::RecordList | Self::ZeroPartyRead
        )
    }
}

/// One decision about one request, before its outcome in the region is known.
#[derive(Debug, Clone)]
pub struct Decision {
    /// Its name, also sent to the caller.
    pub id: DecisionId,
    /// When it was taken, microseconds since 1970-01-01 UTC, by the gateway's clock.
    pub at_us: i64,
    /// Who asked.
    pub actor: Actor,
    /// What for.
    pub operation: Operation,
    /// The coarse class of what was touched, e.g. the collection's name. Never a key.
    pub resource: Option<Arc<str>>,
    /// The gateway's own region: where the request arrived.
    pub via: Region,
    /// What was considered, heaviest first.
    pub evidence: EvidenceList,
    /// Index into `evidence` of the signal that decided, if one did.
    pub winner: Option<u8>,
    /// The rule that decided.
    pub rule: RuleId,
    /// The hash of the policy in force, [`Policy::hash`](crate::Policy::hash).
    pub policy_hash: [u8; 32],
    /// Build time of the GeoIP database consulted, seconds since 1970-01-01 UTC.
    pub geoip_built_s: Option<u64>,
    /// Where the data crosses from one jurisdiction into another, if it does. Set by [`Policy::permit`](crate::Policy::permit).
    pub transfer: Option<Transfer>,
    /// What was stated that identifies somebody, where compliance wants it: for the sealed row beside the log.
    pub stated: Option<Stated>,
}

impl Decision {
    /// Takes over what a verdict found.
    #[must_use]
    pub fn with_verdict(mut self, verdict: Verdict) -> Self {
        self.evidence = verdict.evidence;
        self.winner = verdict.winner;
        self.rule = verdict.rule;
        self
    }
}

/// A decision that went against the request.
#[derive(Debug, Clone)]
pub struct Denial {
    /// The decision, with its evidence.
    pub decision: Box<Decision>,
    /// Why.
    pub reason: DenialReason,
}

/// Why a request was denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DenialReason {
    /// Nothing says, or not clearly enough, where the person is at home.
    Unresolved(Unresolved),
    /// A law, or the policy on purpose, demands a place that we do not have.
    Refused {
        /// The place that was recognised.
        place: Place,
        /// The policy's sentence.
        reason: Arc<str>,
    },
    /// The subject is at home in a region that this gateway does not serve.
    ElsewhereAtHome(Region),
    /// Nobody knows this subject.
    NotPinned,
    /// The subject is moving between regions.
    Moving(Region),
    /// The subject has been erased.
    Erased(Region),
}

impl DenialReason {
    /// The stable code used in leaves and problem bodies.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unresolved(_) => "residency_unresolved",
            Self::Refused { .. } => "residency_refused",
            Self::ElsewhereAtHome(_) => "misdirected_region",
            Self::NotPinned => "subject_not_found",
            Self::Moving(_) => "subject_moving",
            Self::Erased(_) => "subject_erased",
        }
    }
}
