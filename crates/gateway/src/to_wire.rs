//! From domain to wire: the only place where answers get their JSON and their headers.

use std::time::{Duration, UNIX_EPOCH};

use api::{AttributeChangeItem, AttributeItem, AuditReceipt, ConsentItem, RecordItem, Signal, headers};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName, HeaderValue};
use httpdate::fmt_http_date;
use residency::{Evidence, Finding};
use storage::{AttributeChange, AttributeState, Consent, LogPosition, Record};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::app::App;
use crate::error::Told;

/// A log position as a receipt; the log's origin is configuration.
pub(crate) fn audit(app: &App, position: &LogPosition) -> AuditReceipt {
    AuditReceipt { log: app.log_origin(&position.region), seq: position.seq, leaf: hash(&position.leaf_hash) }
}

/// A leaf's hash as text.
pub(crate) fn hash(hash: &[u8; 32]) -> String {
    URL_SAFE_NO_PAD.encode(hash)
}

/// A receipt as the header `Domicile-Audit`.
pub(crate) fn audit_header(audit: &AuditReceipt) -> String {
    format!("log={}; seq={}; leaf={}", audit.log, audit.seq, audit.leaf)
}

/// What accompanies every answer about a subject.
pub(crate) fn told<T>(app: &App, answered: &routing::Answered<T>) -> Told {
    Told {
        region: answered.region.to_string(),
        decision: answered.decision.to_string(),
        audit: answered.position.as_ref().map(|position| audit(app, position)),
    }
}

/// Writes that into an answer's headers.
pub(crate) fn tell(told: Told, mut response: Response) -> Response {
    let to = response.headers_mut();
    set(to, headers::REGION, told.region);
    set(to, headers::DECISION, told.decision);
    if let Some(audit) = &told.audit {
        set(to, headers::AUDIT, audit_header(audit));
    }
    response
}

/// Sets a header whose value is made of our own words.
pub(crate) fn set(headers: &mut HeaderMap, name: &'static str, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// The signals of a decision.
pub(crate) fn signals(evidence: &[Evidence]) -> Vec<Signal> {
    evidence.iter().map(signal).collect()
}

fn signal(evidence: &Evidence) -> Signal {
    let (finding, value) = match &evidence.finding {
        Finding::Home(region) => ("home", region.to_string()),
        Finding::Place(place) => ("place", place.to_string()),
        Finding::Nothing(why) => ("nothing", why.name().to_owned()),
    };
    Signal {
        source: evidence.source.name().to_owned(),
        weight: evidence.source.weight(),
        origin: evidence.origin.name().to_owned(),
        finding: finding.to_owned(),
        value,
    }
}

/// A record of a list.
pub(crate) fn record(record: Record) -> RecordItem {
    RecordItem {
        key: record.key.expose().to_owned(),
        version: record.version,
        updated_at: rfc3339(record.updated_at_us),
        body: record.body,
    }
}

/// A declared attribute.
pub(crate) fn attribute(state: AttributeState) -> AttributeItem {
    AttributeItem {
        attribute: state.attribute.to_string(),
        value: state.value,
        version: state.version,
        source: state.source,
        consents: state.consents.iter().map(consent).collect(),
        updated_at: rfc3339(state.updated_at_us),
    }
}

/// A change of a declared attribute.
pub(crate) fn attribute_change(change: AttributeChange) -> AttributeChangeItem {
    AttributeChangeItem {
        seq: change.seq,
        version: change.version,
        value: change.value,
        consents: change.consents.iter().map(consent).collect(),
        source: change.source,
        deleted: change.deleted,
        changed_at: rfc3339(change.changed_at_us),
    }
}

fn consent(consent: &Consent) -> ConsentItem {
    ConsentItem {
        purpose: consent.purpose.to_string(),
        granted: consent.granted,
        notice_version: consent.notice_version.clone(),
        given_at: Some(rfc3339(consent.given_at_us)),
    }
}

/// Microseconds since 1970 as RFC 3339, UTC.
pub(crate) fn rfc3339(at_us: i64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_us) * 1_000)
        .ok()
        .and_then(|at| at.format(&Rfc3339).ok())
        .unwrap_or_default()
}

/// Microseconds since 1970 as an HTTP date (RFC 9110, section 5.6.7), within the years 1970 to 9999 that it has words for.
pub(crate) fn http_date(at_us: i64) -> String {
    const LAST_S: u64 = 253_402_300_799;
    let since = u64::try_from(at_us / 1_000_000).unwrap_or(0).min(LAST_S);
    fmt_http_date(UNIX_EPOCH + Duration::from_secs(since))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_standards_say() {
        assert_eq!(rfc3339(1_795_000_000_123_456), "2026-11-18T11:06:40.123456Z");
        assert_eq!(http_date(784_111_777_000_000), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(http_date(i64::MIN), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(http_date(i64::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
