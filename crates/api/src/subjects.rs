//! `GET` and `PUT /v1/subjects/{subject}`: where a subject is at home.

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
