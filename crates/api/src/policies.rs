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
    /// The hash by which entries name it, in hex: over the line `domicile/policy/v2` and the SHA-256 of each of the three
    /// texts in hex, every one on a line of its own; in logs of older versions SHA-256 of `text`.
    pub sha256: String,
    /// The policy table, TOML.
    pub text: String,
    /// The table of jurisdictions it chooses from, CSV.
    pub jurisdictions: String,
    /// The table of locations it chooses from, CSV.
    pub locations: String,
}
