//! What can be asked of a region, and what it answers. Domain types: the wire has its own.

use std::collections::BTreeMap;

use residency::{Attribute, Collection, Epoch, PinState, Purpose, RecordKey, Region};
use serde_json::value::RawValue;

use crate::digest::SubjectDigest;

/// Where in a region's log a deed stands: the receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPosition {
    /// The region whose log it is.
    pub region: Region,
    /// The leaf's index in that log, counted from 0; index 0 is the log's own first leaf.
    pub seq: u64,
    /// The RFC 6962 leaf hash.
    pub leaf_hash: [u8; 32],
}

/// A value, and the log position that makes it accountable.
#[derive(Debug, Clone)]
pub struct Answer<T> {
    /// What was asked for.
    pub value: T,
    /// The deed's leaf. `None` only for reads of a region whose reads are audited in a buffer.
    pub position: Option<LogPosition>,
}

/// What to look up about the permit's subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// One record.
    Record {
        /// Its collection.
        collection: Collection,
        /// Its key.
        key: RecordKey,
    },
    /// The records of a collection in the byte order of their keys.
    Records {
        /// The collection.
        collection: Collection,
        /// Begin behind this key.
        after: Option<RecordKey>,
        /// At most this many, 1 to 1,000.
        limit: u16,
    },
    /// One zero-party attribute.
    Attribute(Attribute),
    /// All zero-party attributes; at most 1,000 are kept per subject's answer.
    Attributes,
    /// What one zero-party attribute was, the newest change first.
    History {
        /// Its name.
        attribute: Attribute,
        /// Only below this log position.
        before: Option<u64>,
        /// At most this many, 1 to 100.
        limit: u16,
    },
    /// What the region knows of the subject itself.
    Subject,
    /// What an erasure of the subject would take away.
    Extent,
}

/// What a lookup found.
#[derive(Debug)]
pub enum Found {
    /// One record, if it exists.
    Record(Option<Record>),
    /// A page of records.
    Records {
        /// In the byte order of their keys.
        items: Vec<Record>,
        /// Whether there are more behind the last one.
        more: bool,
    },
    /// One attribute, if it was declared.
    Attribute(Option<AttributeState>),
    /// All attributes, in the byte order of their names.
    Attributes(Vec<AttributeState>),
    /// A page of an attribute's history.
    History {
        /// The newest first.
        items: Vec<AttributeChange>,
        /// Whether there are older ones.
        more: bool,
    },
    /// The subject, if it is registered here.
    Subject(Option<SubjectState>),
    /// What an erasure would take away.
    Extent(Extent),
}

/// A record as it rests.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its key.
    pub key: RecordKey,
    /// Its version, the basis of its ETag.
    pub version: u64,
    /// Its body, JSON.
    pub body: Box<RawValue>,
    /// Of the last change, microseconds since 1970-01-01 UTC.
    pub updated_at_us: i64,
}

/// A zero-party attribute as it rests.
#[derive(Debug, Clone)]
pub struct AttributeState {
    /// Its name.
    pub attribute: Attribute,
    /// Its value, JSON.
    pub value: Box<RawValue>,
    /// Its version.
    pub version: u64,
    /// What it may be used for.
    pub consents: Vec<Consent>,
    /// Who declared it and how, as the application said, e.g. `preference-centre`.
    pub source: String,
    /// Of the last change, microseconds since 1970-01-01 UTC.
    pub updated_at_us: i64,
}

/// One change of a zero-party attribute.
#[derive(Debug, Clone)]
pub struct AttributeChange {
    /// Where it stands in the region log.
    pub seq: u64,
    /// The version that came of it; of a withdrawal, the version that was withdrawn.
    pub version: u64,
    /// The value, JSON; `None` once the attribute was withdrawn, then or later.
    pub value: Option<Box<RawValue>>,
    /// What it could be used for from then on.
    pub consents: Vec<Consent>,
    /// Who declared it and how; `None` of a withdrawal.
    pub source: Option<String>,
    /// Whether it was withdrawn.
    pub deleted: bool,
    /// When, microseconds since 1970-01-01 UTC.
    pub changed_at_us: i64,
}

/// Whether one purpose was consented to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consent {
    /// The purpose.
    pub purpose: Purpose,
    /// Whether it was granted or withdrawn.
    pub granted: bool,
    /// The version of the notice that the person was shown.
    pub notice_version: Option<String>,
    /// When, microseconds since 1970-01-01 UTC.
    pub given_at_us: i64,
}

/// What a region knows of a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectState {
    /// How it is named outside.
    pub digest: SubjectDigest,
    /// Which of its homes this is.
    pub epoch: Epoch,
    /// Whether it is at home.
    pub status: SubjectStatus,
    /// When it was registered here, microseconds since 1970-01-01 UTC.
    pub registered_at_us: i64,
}

/// How much rests about a subject.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extent {
    /// Records.
    pub records: u64,
    /// Zero-party attributes.
    pub attributes: u64,
    /// Entries in their history.
    pub history: u64,
    /// Idempotency keys.
    pub idempotency_keys: u64,
    /// Events that still hold content.
    pub events: u64,
}

impl Extent {
    /// All of it.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.records + self.attributes + self.history + self.idempotency_keys + self.events
    }
}

/// A tombstone: somebody was erased. While peppers rotate, a subject has one for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Erasure {
    /// Who, as a keyed digest.
    pub digest: SubjectDigest,
    /// Which of its homes that was.
    pub epoch: Epoch,
    /// When it was decided, microseconds since 1970-01-01 UTC.
    pub erased_at_us: i64,
}

/// Whether a subject is at home in a region. The region is the authority on this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SubjectStatus {
    /// At home.
    Active,
    /// Leaving: read, no longer written.
    Departing,
    /// Coming: not yet served.
    Arriving,
    /// Gone to another region.
    Departed,
    /// Erased.
    Erased,
}

impl SubjectStatus {
    /// The name in the table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Departing => "departing",
            Self::Arriving => "arriving",
            Self::Departed => "departed",
            Self::Erased => "erased",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Active, Self::Departing, Self::Arriving, Self::Departed, Self::Erased]
            .into_iter()
            .find(|status| status.name() == name)
    }

    /// The same in the directory's words, or `None` when the subject is elsewhere.
    #[must_use]
    pub const fn pin_state(self) -> Option<PinState> {
        match self {
            Self::Active => Some(PinState::Active),
            Self::Departing | Self::Arriving => Some(PinState::Moving),
            Self::Erased => Some(PinState::Erased),
            Self::Departed => None,
        }
    }
}

/// What to change about the permit's subject. A subject that the region does not know yet is registered
/// by its first change.
#[derive(Debug)]
pub enum Change {
    /// Nothing but the registration itself.
    PinSubject,
    /// Take away everything about the subject, for ever: its identifier is not accepted again.
    EraseSubject,
    /// Create or replace a record.
    PutRecord {
        /// Its collection.
        collection: Collection,
        /// Its key.
        key: RecordKey,
        /// Its body, JSON.
        body: Box<RawValue>,
        /// Under which condition.
        when: Precondition,
    },
    /// Merge into an existing record (RFC 7396).
    PatchRecord {
        /// Its collection.
        collection: Collection,
        /// Its key.
        key: RecordKey,
        /// The merge patch.
        patch: serde_json::Value,
        /// Under which condition.
        when: Precondition,
    },
    /// Delete an existing record.
    DeleteRecord {
        /// Its collection.
        collection: Collection,
        /// Its key.
        key: RecordKey,
        /// Under which condition.
        when: Precondition,
    },
    /// Publish an event about the subject.
    PublishEvent {
        /// The event.
        event: OutgoingEvent,
        /// Makes a repetition harmless.
        idempotency: Option<Idempotency>,
    },
    /// Declare or change a zero-party attribute.
    PutAttribute {
        /// Its name.
        attribute: Attribute,
        /// Its value, JSON.
        value: Box<RawValue>,
        /// What it may be used for; replaces what was said before.
        consents: Vec<Consent>,
        /// Who declared it and how.
        source: String,
        /// Under which condition.
        when: Precondition,
    },
    /// Withdraw a zero-party attribute.
    DeleteAttribute {
        /// Its name.
        attribute: Attribute,
        /// Under which condition.
        when: Precondition,
    },
}

/// A CloudEvent (CloudEvents 1.0) on its way to the region's topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingEvent {
    /// `type`, e.g. `shop.order-placed`.
    pub event_type: String,
    /// `id`, unique within `source`.
    pub id: String,
    /// `source`, a URI reference.
    pub source: String,
    /// `time`, RFC 3339; the decision's time if absent.
    pub time: Option<String>,
    /// `datacontenttype`.
    pub datacontenttype: String,
    /// Extension attributes.
    pub extensions: BTreeMap<String, String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// The payload.
    pub data: Vec<u8>,
}

/// Names a request, so that its repetition is answered with the first one's effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The caller's key, 1 to 128 characters.
    pub key: String,
    /// SHA-256 of what makes the request the same request.
    pub request_hash: [u8; 32],
}

/// What must hold of the current state for a change to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing.
    None,
    /// It exists (`If-Match: *`).
    Exists,
    /// It exists in one of these versions (`If-Match`).
    VersionIn(Vec<u64>),
    /// It does not exist (`If-None-Match: *`).
    Absent,
}

impl Precondition {
    /// Whether it holds of the current version, `None` being absence.
    #[must_use]
    pub fn holds(&self, current: Option<u64>) -> bool {
        match (self, current) {
            (Self::None, _) | (Self::Exists, Some(_)) | (Self::Absent, None) => true,
            (Self::VersionIn(versions), Some(current)) => versions.contains(&current),
            (Self::Exists | Self::VersionIn(_), None) | (Self::Absent, Some(_)) => false,
        }
    }
}

/// What a change did.
///
/// A version starts at 1 and grows by 1 with each change. What is created again after a deletion goes on
/// above every version that the subject's deleted things ever had, so that no ETag ever means two contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The subject is registered.
    Pinned {
        /// Whether this deed did it.
        fresh: bool,
        /// What the region knows.
        subject: SubjectState,
    },
    /// Everything about the subject is gone.
    Erased {
        /// What went.
        extent: Extent,
        /// When it was decided, microseconds since 1970-01-01 UTC.
        erased_at_us: i64,
    },
    /// Created.
    Created {
        /// The version it has now.
        version: u64,
    },
    /// Replaced or merged into.
    Replaced {
        /// The version it has now.
        version: u64,
    },
    /// Deleted.
    Deleted,
    /// The event is committed for the topic.
    Published {
        /// Its id.
        event_id: String,
        /// Its topic.
        topic: String,
        /// Whether an earlier request with the same idempotency key did it.
        replayed: bool,
    },
}
