//! Decisions: search, one, and told in sentences.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// A page of decisions, newest first, of the regions this gateway serves.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DecisionPage {
    /// The decisions.
    pub items: Vec<DecisionItem>,
    /// Which regions were searched, and how that went. A region that is down is named, not left out silently.
    pub regions: Vec<SearchedRegion>,
    /// Cursor of the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// One region's part in a search.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SearchedRegion {
    /// The region.
    pub region: String,
    /// Whether it answered.
    pub searched: bool,
}

/// One decision as it stands in the log.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DecisionItem {
    /// The region whose log holds it.
    pub region: String,
    /// Its sequence number in that log.
    pub seq: u64,
    /// The leaf's hash (RFC 6962, SHA-256), base64url without padding.
    pub leaf: String,
    /// The leaf itself: the bytes that were hashed are exactly this JSON text.
    #[schema(value_type = serde_json::Value)]
    pub decision: Box<RawValue>,
}

/// One decision, told in sentences.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DecisionExplanation {
    /// The decision.
    pub id: String,
    /// The region whose log holds it.
    pub region: String,
    /// What happened and why, sentence by sentence.
    pub sentences: Vec<String>,
    /// The leaf behind the sentences.
    pub item: DecisionItem,
}
