//! Zero-party data: what people knowingly tell about themselves, with purpose and consent.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// Declares an attribute, or changes its consent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "value": "green",
    "source": "preference-centre",
    "consents": [{"purpose": "recommendations", "granted": true, "notice_version": "2026-10"}]
}))]
pub struct PutAttribute {
    /// What the person declared: any JSON, at most 128 KiB of it.
    #[schema(value_type = serde_json::Value)]
    pub value: Box<RawValue>,
    /// Where they declared it, e.g. `preference-centre`; 1 to 64 characters.
    pub source: String,
    /// What it may be used for; 1 to 32, each purpose once. They replace the earlier ones.
    pub consents: Vec<ConsentItem>,
}

/// Consent to one purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsentItem {
    /// The purpose, 1 to 64 characters.
    #[schema(example = "recommendations")]
    pub purpose: String,
    /// Whether consent was given; `false` keeps the refusal.
    pub granted: bool,
    /// Which wording of the notice the person saw, 1 to 64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice_version: Option<String>,
    /// When, RFC 3339; the time of the request when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_at: Option<String>,
}

/// A declared attribute.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AttributeItem {
    /// The attribute's name.
    #[schema(example = "favourite-colour")]
    pub attribute: String,
    /// What the person declared.
    #[schema(value_type = serde_json::Value)]
    pub value: Box<RawValue>,
    /// The version, as in `ETag`.
    pub version: u64,
    /// Where they declared it.
    pub source: String,
    /// What it may be used for.
    pub consents: Vec<ConsentItem>,
    /// When it was last changed, RFC 3339.
    pub updated_at: String,
}

/// Everything a subject has declared.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AttributeList {
    /// The attributes, in the order of their names.
    pub items: Vec<AttributeItem>,
}

/// One change of a declared attribute.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AttributeChangeItem {
    /// Where the change stands in the region's log.
    pub seq: u64,
    /// The version that came of it; of a withdrawal, the version that was withdrawn.
    pub version: u64,
    /// What the person declared; absent once the attribute was withdrawn, then or later.
    #[schema(value_type = Option<serde_json::Value>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Box<RawValue>>,
    /// What it could be used for from then on.
    pub consents: Vec<ConsentItem>,
    /// Where they declared it; absent of a withdrawal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Whether it was withdrawn.
    pub deleted: bool,
    /// When, RFC 3339.
    pub changed_at: String,
}

/// A page of an attribute's history.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AttributeHistory {
    /// The newest change first.
    pub items: Vec<AttributeChangeItem>,
    /// The cursor of the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
