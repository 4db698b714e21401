//! Records: a single one travels as its own JSON body, with its version in `ETag`; a list as items.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// A page of records, in the order of their keys.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RecordPage {
    /// The records.
    pub items: Vec<RecordItem>,
    /// Cursor of the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// One record of a list.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RecordItem {
    /// The key.
    #[schema(example = "address")]
    pub key: String,
    /// The version, as in `ETag`.
    pub version: u64,
    /// When it was last changed, RFC 3339.
    pub updated_at: String,
    /// The record itself.
    #[schema(value_type = serde_json::Value)]
    pub body: Box<RawValue>,
}
