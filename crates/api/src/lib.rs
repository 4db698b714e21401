//! The wire: bodies, paths, header names, scopes and problem types of domicile's HTTP API, version 1.
//!
//! Domain types are not serde types; this crate has its own and knows nothing of the domain. The
//! gateway converts between the two in `from_wire` and `to_wire`. Input bodies refuse fields they do
//! not know: a misspelt precondition must not pass for none.

#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test may panic"))]

mod batch;
mod classify;
mod code;
mod decisions;
mod details;
mod events;
pub mod headers;
pub mod paths;
mod policies;
mod problem;
mod receipt;
mod records;
mod registers;
mod schemas;
mod scope;
mod subjects;
mod zero_party;

pub use batch::{BatchLine, BatchResult};
pub use classify::{Classification, Classify, Outcome, Signal};
pub use code::Code;
pub use decisions::{DecisionExplanation, DecisionItem, DecisionPage, SearchedRegion};
pub use details::{LeafDetail, LeafDetails};
pub use events::{EventAccepted, StructuredEvent};
pub use policies::{PolicyItem, PolicyList};
pub use problem::{FieldError, Problem};
pub use receipt::{AuditReceipt, Receipt};
pub use records::{RecordItem, RecordPage};
pub use registers::{
    Acknowledge, Acknowledged, OtherSide, RegisterState, TransferItem, TransferPage, TransferSide, ViolationItem,
    ViolationPage,
};
pub use schemas::EventSchema;
pub use scope::Scope;
pub use subjects::{SubjectErasure, SubjectHome};
pub use zero_party::{AttributeChangeItem, AttributeHistory, AttributeItem, AttributeList, ConsentItem, PutAttribute};

/// Media types that the API speaks.
pub mod media {
    /// JSON (RFC 8259).
    pub const JSON: &str = "application/json";
    /// JSON merge patch (RFC 7396).
    pub const MERGE_PATCH: &str = "application/merge-patch+json";
    /// A signed note (C2SP signed-note), or a proof that holds one (C2SP tlog-proof).
    pub const NOTE: &str = "text/plain; charset=utf-8";
    /// Hashes, or entries each behind its length (C2SP tlog-tiles).
    pub const TILE: &str = "application/octet-stream";
    /// Problem details (RFC 9457).
    pub const PROBLEM: &str = "application/problem+json";
    /// One JSON text per line.
    pub const NDJSON: &str = "application/x-ndjson";
    /// Values separated by commas (RFC 4180), UTF-8, with a line of names.
    pub const CSV: &str = "text/csv; charset=utf-8; header=present";
    /// Apache Parquet.
    pub const PARQUET: &str = "application/vnd.apache.parquet";
    /// A CloudEvent in structured mode (CloudEvents 1.0, JSON event format).
    pub const CLOUDEVENT: &str = "application/cloudevents+json";
    /// Several CloudEvents in one body; not accepted: `POST /v1/batch` says how each of them fared.
    pub const CLOUDEVENTS_BATCH: &str = "application/cloudevents-batch+json";
}
