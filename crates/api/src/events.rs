//! Events: CloudEvents 1.0, structured or binary mode.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::receipt::AuditReceipt;

/// A CloudEvent in structured mode. Extension attributes stand beside the named ones, as strings,
/// integers or booleans. This type documents; the gateway reads events attribute by attribute.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "specversion": "1.0",
    "id": "e-1001",
    "source": "/shop/checkout",
    "type": "shop.order-placed",
    "time": "2026-11-20T10:30:00Z",
    "datacontenttype": "application/json",
    "data": {"order": 1001}
}))]
pub struct StructuredEvent {
    /// `1.0`.
    pub specversion: String,
    /// Unique per source.
    pub id: String,
    /// A URI reference.
    pub source: String,
    /// The type; names the topic: `<region>.<type without a trailing .vN>.v<N, or 1>`. The prefix `domicile.` is ours.
    #[serde(rename = "type")]
    pub event_type: String,
    /// RFC 3339.
    #[serde(default)]
    pub time: Option<String>,
    /// Media type of `data`; `application/json` when absent.
    #[serde(default)]
    pub datacontenttype: Option<String>,
    /// A URI.
    #[serde(default)]
    pub dataschema: Option<String>,
    /// The payload, any JSON.
    #[serde(default)]
    pub data: Option<serde_json::Value>,
    /// The payload as base64, instead of `data`.
    #[serde(default)]
    pub data_base64: Option<String>,
}

/// The event is durable in its home region, and will reach its topic.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct EventAccepted {
    /// The event's id.
    pub id: String,
    /// The topic it goes to.
    #[schema(example = "eu-central.shop.order-placed.v1")]
    pub topic: String,
    /// Whether this was a repetition under the same idempotency key; nothing was published again.
    pub replayed: bool,
    /// The home region.
    pub region: String,
    /// The decision that allowed it.
    pub decision: String,
    /// The leaf that records it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditReceipt>,
}
