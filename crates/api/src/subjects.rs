//! `GET`, `PUT` and `DELETE /v1/subjects/{subject}`: where a subject is at home, and the end of it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::receipt::AuditReceipt;

/// A subject's home, as its region knows it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SubjectHome {
    /// The home region.
    #[schema(example = "eu-central")]
    pub region: String,
    /// `active`, `departing`, `arriving`, `departed` or `erased`.
    #[schema(example = "active")]
    pub state: String,
    /// Which home this is; grows by one at each relocation.
    #[schema(example = 1)]
    pub epoch: u64,
    /// Since when the region knows the subject, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered_at: Option<String>,
    /// The decision that allowed this answer.
    pub decision: String,
    /// The leaf that records it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditReceipt>,
}

/// What an erasure took away, or would take away.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SubjectErasure {
    /// The home region.
    #[schema(example = "eu-central")]
    pub region: String,
    /// Whether this only counted: nothing was erased.
    pub dry_run: bool,
    /// When it was erased, RFC 3339; absent after a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased_at: Option<String>,
    /// Records.
    pub records: u64,
    /// Zero-party attributes.
    pub attributes: u64,
    /// Entries in the history of zero-party attributes.
    pub history: u64,
    /// Events whose content goes from the region log's outbox; their places stay, empty.
    pub events: u64,
    /// When the last message of this person is gone from the region's topics, RFC 3339: nobody can take one person's messages
    /// out of a topic, so they leave by the topics' retention, which is checked. Absent after a dry run, where there are no
    /// topics, and where the operator lets topics keep messages for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "2026-12-23T04:05:06.789012Z")]
    pub topics_forget_by: Option<String>,
    /// Idempotency keys that are still remembered.
    pub idempotency_keys: u64,
    /// The decision that allowed this answer.
    pub decision: String,
    /// The leaf that records it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditReceipt>,
}
