//! Identifying details of a decision, with the salts that show that its leaf committed to them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A leaf and the details beside it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LeafDetails {
    /// The region whose log it is.
    pub region: String,
    /// The leaf's index in that log.
    pub seq: u64,
    /// The leaf, verbatim: its `dc` is the commitment to the details. That the leaf is in the log is for a proof to show.
    pub line: String,
    /// The details, by name.
    pub details: Vec<LeafDetail>,
}

/// One detail.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LeafDetail {
    /// What it is.
    #[schema(example = "client_network")]
    pub name: String,
    /// Its salt, 32 hex digits; absent where the detail stays closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
    /// Its value; absent where the detail stays closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "203.0.113.0/24")]
    pub value: Option<String>,
    /// SHA-256 of `domicile/field/v1`, a zero byte, the name's length in two bytes, name, salt and value, in hex: all
    /// that is shown of a detail that stays closed.
    pub commitment: String,
}
