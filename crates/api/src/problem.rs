//! A problem in the form of RFC 9457, with extension members that a program can act on.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::classify::Signal;
use crate::code::Code;
use crate::receipt::AuditReceipt;

/// What went wrong, as `application/problem+json` (RFC 9457).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "type": "urn:domicile:problem:misdirected_region",
    "title": "The subject is at home in another region",
    "status": 421,
    "code": "misdirected_region",
    "detail": "region us-east is served by another gateway",
    "next_step": "Send the request to `home`; nothing of it was read or kept here.",
    "instance": "urn:domicile:request:01935b5e-8a7e-7a0c-9d53-0c2a4e7f9b11",
    "region": "us-east",
    "home": "https://us.data.example.com"
}))]
pub struct Problem {
    /// `urn:domicile:problem:<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What happened, the same words for the same code.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The stable code; a program branches on this.
    pub code: String,
    /// What happened this time. Never holds a subject, a key, a token or a body.
    pub detail: String,
    /// What to do next.
    pub next_step: String,
    /// Names this request in the logs: `urn:domicile:request:<request id>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The decision that went against the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// Where the denial is logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditReceipt>,
    /// The region concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The URL of the gateway that serves the home region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<String>,
    /// The signals that were seen, heaviest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signals: Option<Vec<Signal>>,
    /// The policy's sentence, or the finer reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The scope that is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The ETag that would have matched; absent when nothing is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_etag: Option<String>,
    /// When to try again, seconds; also in `Retry-After`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
    /// What exactly is wrong with the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

/// One thing wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// Where: a header, a path or query parameter, a field, or `body`.
    pub at: String,
    /// The rule that is broken. Never repeats the value.
    pub message: String,
}

impl Problem {
    /// A problem of this code; the rest is filled in by whoever knows it.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:domicile:problem:{}", code.name()),
            title: code.title().to_owned(),
            status: code.status(),
            code: code.name().to_owned(),
            detail: detail.into(),
            next_step: code.next_step().to_owned(),
            instance: None,
            decision: None,
            audit: None,
            region: None,
            home: None,
            signals: None,
            reason: None,
            scope: None,
            current_etag: None,
            retry_after_s: None,
            errors: Vec::new(),
        }
    }

    /// Adds one thing that is wrong.
    #[must_use]
    pub fn error(mut self, at: impl Into<String>, message: impl Into<String>) -> Self {
        self.errors.push(FieldError { at: at.into(), message: message.into() });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_its_type_and_leaves_out_what_it_does_not_know() {
        let problem = Problem::new(Code::RecordNotFound, "nothing here");
        let json = serde_json::to_value(&problem).unwrap();
        assert_eq!(json["type"], "urn:domicile:problem:record_not_found");
        assert_eq!(json["status"], 404);
        assert!(json.get("home").is_none());
        assert!(json.get("errors").is_none());
    }
}
