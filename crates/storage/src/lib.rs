//! All SQL: the directory of pins, the API keys, and each region's database with its readers, its
//! committer and its log. Concrete on purpose: there is no mock of a database here, and no trait for one.
//!
//! A region is opened with [`RegionStore::open`] and touched only through a
//! [`Permitted`](residency::Permitted) deed: the permit is made by the policy, names the region, and is spent.
//! Nothing here falls back to another region, and nothing is answered before it is durable.

mod deeds;
mod digest;
mod directory;
mod error;
mod health;
mod keys;
mod limits;
mod link;
mod region;

pub mod admin;

pub use deeds::{
    Answer, AttributeChange, AttributeState, Change, Consent, Effect, Erasure, Extent, Found, Idempotency, LogPosition,
    Lookup, OutgoingEvent, Precondition, Record, SubjectState, SubjectStatus,
};
pub use digest::{Pepper, Peppers, SubjectDigest};
pub use directory::*;
pub use error::{Cause, Error};
pub use health::Health;
pub use keys::*;
pub use limits::Limits;
pub use region::{
    Acknowledgement, AuditReads, CLOSE_LEAVES, Channel, Counts, CursorLease, CursorState, DecisionFilter, DecisionRow,
    DetailedLeaf, FactFilter, FoundViolation, Gap, Head, Identity, KeptPolicy, Log, OutboxRow, PublishedCheckpoint,
    REGISTERS_CURSOR, RegionSettings, RegionStore, Registered, TransferFilter, TransferRow, Violation, ViolationFilter,
    topic_of,
};
