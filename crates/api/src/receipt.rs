//! The receipt for a write: what was done, where, under which decision, and the leaf that proves it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where an audit leaf is; also in the header `Domicile-Audit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditReceipt {
    /// The log's origin, its name in checkpoints.
    #[schema(example = "eu-central.log.example.com")]
    pub log: String,
    /// The leaf's sequence number in that log, from 0.
    pub seq: u64,
    /// The leaf's hash (RFC 6962, SHA-256), base64url without padding.
    pub leaf: String,
}

/// The receipt for a change that is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Receipt {
    /// The home region.
    #[schema(example = "eu-central")]
    pub region: String,
    /// The decision that allowed it.
    pub decision: String,
    /// The leaf that records it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditReceipt>,
    /// The new version, as in `ETag`.
    pub version: u64,
}
