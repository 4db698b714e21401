//! `POST /v1/batch`: one operation per line, each routed to its own region, each with its own status.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::problem::Problem;
use crate::receipt::AuditReceipt;

/// One line of a batch.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "id": "a", "operation": "record.put", "subject": "customer-4711", "residence": "DE",
    "collection": "profile", "key": "address", "body": {"city": "Köln"}
}))]
pub struct BatchLine {
    /// The caller's name for the line, up to 128 bytes; comes back in its result.
    #[serde(default)]
    pub id: Option<String>,
    /// `subject.read`, `subject.pin`, `record.read`, `record.put`, `record.patch`, `record.delete`,
    /// `event.publish`, `zero_party.read`, `zero_party.put` or `zero_party.delete`.
    pub operation: String,
    /// The subject.
    pub subject: String,
    /// The declared residence, as in `Domicile-Residence`.
    #[serde(default)]
    pub residence: Option<String>,
    /// The tenant, as in `Domicile-Tenant`.
    #[serde(default)]
    pub tenant: Option<String>,
    /// The person's network address, as in `Domicile-Client-Address`.
    #[serde(default)]
    pub client_address: Option<String>,
    /// The collection, for records.
    #[serde(default)]
    pub collection: Option<String>,
    /// The record's key.
    #[serde(default)]
    pub key: Option<String>,
    /// The attribute's name, for zero-party data.
    #[serde(default)]
    pub attribute: Option<String>,
    /// As the header of that name.
    #[serde(default)]
    pub if_match: Option<String>,
    /// As the header of that name.
    #[serde(default)]
    pub if_none_match: Option<String>,
    /// As the header of that name, for events.
    #[serde(default)]
    pub idempotency_key: Option<String>,
    /// What would be the body: the record, the patch, the attribute, or the event in structured mode.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub body: Option<Box<RawValue>>,
}

/// Keeps `"body": null` apart from no body: `null` is a JSON text like any other.
fn present<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(input).map(Some)
}

/// How one line fared. Results come as lines are done, not in the order they were sent.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct BatchResult {
    /// The line's number, from 1.
    pub line: u64,
    /// The line's `id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The HTTP status that the same request by itself would have got.
    pub status: u16,
    /// The home region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// The leaf that records it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditReceipt>,
    /// The ETag, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The answer's body, for a line that succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub body: Option<Box<RawValue>>,
    /// What went wrong, for a line that did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Box<Problem>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_null_body_is_a_body_and_an_unknown_field_is_refused() {
        let line: BatchLine = serde_json::from_str(r#"{"operation":"record.put","subject":"s","body":null}"#).unwrap();
        assert_eq!(line.body.unwrap().get(), "null");
        let misspelt = r#"{"operation":"record.put","subject":"s","ifmatch":"*"}"#;
        assert!(serde_json::from_str::<BatchLine>(misspelt).is_err());
    }
}
