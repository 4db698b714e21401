//! The policies under which decisions were taken.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The policies of a region's log.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PolicyList {
    /// The newest first.
    pub items: Vec<PolicyItem>,
}

/// A policy that was in force.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PolicyItem {
    /// SHA-256 of `text` in hex, as entries name it.
    pub sha256: String,
    /// The policy table, TOML.
    pub text: String,
    /// The table of jurisdictions it chooses from, CSV.
    pub jurisdictions: String,
    /// The table of locations it chooses from, CSV.
    pub locations: String,
}
