//! The events that a region publishes: their topics, and what the ones made here say.

use std::borrow::Cow;
use std::sync::Arc;

use residency::Region;
use serde::Serialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::outbox::Channel;
use crate::deeds::Consent;
use crate::digest::SubjectDigest;

/// `domicile.record-changed`
pub(super) const RECORD_CHANGED: &str = "domicile.record-changed";
/// `domicile.zero-party-changed`
pub(super) const ZERO_PARTY_CHANGED: &str = "domicile.zero-party-changed";
/// `domicile.subject-erased`
pub(super) const SUBJECT_ERASED: &str = "domicile.subject-erased";
/// `domicile.subject-pinned`
pub(super) const SUBJECT_PINNED: &str = "domicile.subject-pinned";

/// Kafka takes no longer topic names.
const TOPIC_BYTES_MAX: usize = 249;

/// The topic of an event type in a region: `<region>.<type without a trailing .vN>.v<N, or 1>`, e.g.
/// `eu-central.shop.order-placed.v1`. Characters that Kafka does not take become hyphens; a name longer
/// than 249 bytes is cut.
#[must_use]
pub fn topic_of(region: &Region, event_type: &str) -> String {
    let (name, version) = match event_type.rsplit_once(".v") {
        Some((name, version)) if !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit()) => (name, version),
        _ => (event_type, "1"),
    };
    let version = &version[..version.len().min(9)];
    let mut topic = format!("{region}.");
    let room = TOPIC_BYTES_MAX.saturating_sub(topic.len() + ".v".len() + version.len());
    let lawful = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
    topic.extend(name.chars().map(lawful).take(room));
    topic.push_str(".v");
    topic.push_str(version);
    topic
}

/// The names of the events made here, which depend on the region only.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) source: String,
    pub(super) record_changed: Arc<str>,
    pub(super) zero_party_changed: Arc<str>,
    pub(super) subject_pinned: Arc<str>,
    pub(super) subject_erased: Arc<str>,
}

impl Names {
    pub(super) fn of(region: &Region) -> Self {
        let topic = |event_type| Arc::from(topic_of(region, event_type));
        Self {
            source: format!("/domicile/{region}"),
            record_changed: topic(RECORD_CHANGED),
            zero_party_changed: topic(ZERO_PARTY_CHANGED),
            subject_pinned: topic(SUBJECT_PINNED),
            subject_erased: topic(SUBJECT_ERASED),
        }
    }
}

/// An event on its way into the outbox.
#[derive(Debug)]
pub(super) struct Event<'a> {
    pub(super) channel: Channel,
    pub(super) topic: Cow<'a, str>,
    pub(super) key: SubjectDigest,
    pub(super) event_type: &'a str,
    pub(super) event_id: Cow<'a, str>,
    pub(super) source: &'a str,
    pub(super) time: OffsetDateTime,
    pub(super) datacontenttype: &'a str,
    pub(super) traceparent: Option<&'a str>,
    pub(super) extensions: Option<String>,
    pub(super) data: Cow<'a, [u8]>,
}

/// What `domicile.record-changed` says.
#[derive(Serialize)]
pub(super) struct RecordChanged<'a> {
    pub(super) operation: &'static str,
    pub(super) collection: &'a str,
    pub(super) key: &'a str,
    pub(super) version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) body: Option<&'a RawValue>,
}

/// What `domicile.zero-party-changed` says.
#[derive(Serialize)]
pub(super) struct ZeroPartyChanged<'a> {
    pub(super) attribute: &'a str,
    pub(super) value: Option<&'a RawValue>,
    pub(super) version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<&'a str>,
    pub(super) consents: Vec<ConsentSaid<'a>>,
    pub(super) deleted: bool,
}

/// A consent as an event says it.
#[derive(Serialize)]
pub(super) struct ConsentSaid<'a> {
    purpose: &'a str,
    granted: bool,
    notice_version: Option<&'a str>,
    given_at: String,
}

impl<'a> From<&'a Consent> for ConsentSaid<'a> {
    fn from(consent: &'a Consent) -> Self {
        Self {
            purpose: consent.purpose.as_str(),
            granted: consent.granted,
            notice_version: consent.notice_version.as_deref(),
            given_at: instant(consent.given_at_us).format(&Rfc3339).unwrap_or_default(),
        }
    }
}

/// What `domicile.subject-pinned` says.
#[derive(Serialize)]
pub(super) struct SubjectPinned<'a> {
    pub(super) region: &'a str,
    pub(super) epoch: u64,
}

/// What `domicile.subject-erased` says.
#[derive(Serialize)]
pub(super) struct SubjectErased<'a> {
    pub(super) region: &'a str,
    pub(super) epoch: u64,
    pub(super) erased_at: String,
}

impl<'a> SubjectErased<'a> {
    pub(super) fn new(region: &'a Region, epoch: u64, at: OffsetDateTime) -> Self {
        Self { region: region.as_str(), epoch, erased_at: at.format(&Rfc3339).unwrap_or_default() }
    }
}

/// The payload of an event made here.
pub(super) fn payload(said: &impl Serialize) -> Vec<u8> {
    // Strings, integers and JSON that was parsed before: there is nothing in it that cannot be written.
    serde_json::to_vec(said).unwrap_or_default()
}

/// Microseconds since 1970 as an instant; what no calendar knows becomes 1970.
pub(crate) fn instant(at_us: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_us) * 1_000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// An instant as microseconds since 1970.
pub(crate) fn microseconds(instant: OffsetDateTime) -> i64 {
    i64::try_from(instant.unix_timestamp_nanos() / 1_000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_topic_is_region_type_and_version() {
        let region = Region::new("eu-central").unwrap();
        for (event_type, topic) in [
            ("shop.order-placed", "eu-central.shop.order-placed.v1"),
            ("shop.order-placed.v2", "eu-central.shop.order-placed.v2"),
            ("shop.order-placed.vx", "eu-central.shop.order-placed.vx.v1"),
            ("shop order/placed", "eu-central.shop-order-placed.v1"),
        ] {
            assert_eq!(topic_of(&region, event_type), topic);
        }
        assert_eq!(topic_of(&region, &"x".repeat(500)).len(), TOPIC_BYTES_MAX);
    }

    #[test]
    fn microseconds_come_back_as_they_went() {
        for at_us in [0, 1, 1_795_392_000_123_456, -1_000_000] {
            assert_eq!(microseconds(instant(at_us)), at_us);
        }
    }
}
