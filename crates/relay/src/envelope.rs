//! An outbox entry as a Kafka message: CloudEvents 1.0, Kafka protocol binding, binary content mode
//! (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md>).
//!
//! The subject's identifier is in no header: the key is the subject's digest, and a `subject` attribute
//! that an application set is not passed on.

use api::EventSchema;
use rdkafka::message::{Header, OwnedHeaders};
use residency::Region;
use storage::OutboxRow;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::settings::Settings;

/// The header that carries the region log sequence number, for deduplication and gap checks.
pub(crate) const SEQ_HEADER: &str = "domicile_seq";
/// The header that says whose sequence it is: the log's origin. (log, seq) names an event for ever.
pub(crate) const LOG_HEADER: &str = "domicile_log";
/// The header that carries the sequence number of the event before, in whatever topic of the region: who reads all of
/// them sees by it that nothing is missing.
pub(crate) const PREVIOUS_HEADER: &str = "domicile_prev";
/// The header of a message without a payload, whose subject was erased before it was sent.
pub(crate) const ERASED_HEADER: &str = "domicile_erased";
/// The header of a message that an operator sent again.
pub(crate) const REPLAY_HEADER: &str = "domicile_replay";

/// Names that an application's extensions may not take: those that are written here, and `subject`, which
/// applications tend to fill with a person's identifier. `dataschema` is CloudEvents' own as well; it is
/// nobody's but the application's and travels among the extensions.
const RESERVED: [&str; 10] = [
    "specversion",
    "id",
    "source",
    "type",
    "time",
    "datacontenttype",
    "subject",
    "domicileregion",
    "domicilelog",
    "domicileseq",
];

/// The headers of an entry's message.
pub(crate) fn headers(entry: &OutboxRow, previous: u64, region: &Region, settings: &Settings) -> OwnedHeaders {
    let mut headers = OwnedHeaders::new_with_capacity(10 + entry.extensions.len());
    headers = text(headers, "ce_specversion", "1.0");
    headers = text(headers, "ce_id", &entry.event_id);
    headers = text(headers, "ce_source", &entry.source);
    headers = text(headers, "ce_type", &entry.event_type);
    if let Some(time) = rfc3339(entry.time_us) {
        headers = text(headers, "ce_time", &time);
    }
    headers = text(headers, "content-type", &entry.datacontenttype);
    headers = text(headers, "ce_domicileregion", region.as_str());
    if let Some(origin) = &settings.log_origin {
        headers = text(headers, LOG_HEADER, origin);
    }
    if entry.erased {
        headers = text(headers, ERASED_HEADER, "1");
    }
    if settings.replay {
        headers = text(headers, REPLAY_HEADER, "1");
    }
    headers = text(headers, SEQ_HEADER, &entry.seq.to_string());
    headers = text(headers, PREVIOUS_HEADER, &previous.to_string());
    if let Some(traceparent) = &entry.traceparent {
        headers = text(headers, "traceparent", traceparent);
    }
    if let Some(schema) = EventSchema::of(&entry.event_type) {
        headers = text(headers, "ce_dataschema", schema.id);
    }
    for (name, value) in &entry.extensions {
        if is_extension(name) {
            headers = text(headers, &format!("ce_{name}"), value);
        }
    }
    headers
}

/// The headers that a dead letter has besides those of its entry: why, and where it was meant to go.
pub(crate) fn dead_letter_headers(headers: OwnedHeaders, entry: &OutboxRow, reason: &str) -> OwnedHeaders {
    let headers = text(headers, "domicile_reason", reason);
    let headers = text(headers, "domicile_topic", &entry.topic);
    text(headers, "domicile_bytes", &entry.data.len().to_string())
}

/// What a message weighs beside its payload, generously: headers, key and framing.
pub(crate) fn overhead_bytes(entry: &OutboxRow) -> usize {
    let extensions: usize = entry.extensions.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
    512 + entry.event_id.len() + entry.source.len() + entry.event_type.len() + extensions
}

fn text(headers: OwnedHeaders, key: &str, value: &str) -> OwnedHeaders {
    headers.insert(Header { key, value: Some(value) })
}

/// A CloudEvents attribute name (lower-case letters and digits) that is free for applications.
fn is_extension(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && !RESERVED.contains(&name)
        && name != "traceparent"
}

fn rfc3339(time_us: i64) -> Option<String> {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(time_us) * 1_000).ok()?;
    time.format(&Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use rdkafka::message::Headers;

    use super::*;
    use follow::testing::row as entry;

    fn names_and_values(headers: &OwnedHeaders) -> Vec<(String, String)> {
        headers
            .iter()
            .map(|h| (h.key.to_owned(), String::from_utf8_lossy(h.value.unwrap_or_default()).into_owned()))
            .collect()
    }

    #[test]
    fn a_message_carries_cloudevents_binary_mode_headers_region_and_sequence() {
        let region = Region::new("eu-central").unwrap();
        let mut entry = entry(7, "eu-central.shop.order-placed.v1");
        entry.traceparent = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned());
        entry.extensions.insert("channel".to_owned(), "web".to_owned());
        entry.extensions.insert("dataschema".to_owned(), "https://schemas.example.org/order/2".to_owned());
        let mut settings = Settings::plain("127.0.0.1:1");
        settings.log_origin = Some("logs.example/eu-central".to_owned());
        let found = names_and_values(&headers(&entry, 5, &region, &settings));
        for (name, value) in [
            ("ce_specversion", "1.0"),
            ("ce_id", "event-7"),
            ("ce_source", "/test"),
            ("ce_type", "shop.order-placed"),
            ("ce_time", "2026-11-01T00:00:00Z"),
            ("content-type", "application/json"),
            ("ce_domicileregion", "eu-central"),
            ("domicile_log", "logs.example/eu-central"),
            ("domicile_seq", "7"),
            ("domicile_prev", "5"),
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ("ce_channel", "web"),
            ("ce_dataschema", "https://schemas.example.org/order/2"),
        ] {
            assert!(found.contains(&(name.to_owned(), value.to_owned())), "{name} is missing in {found:?}");
        }
    }

    #[test]
    fn a_message_of_somebody_who_was_erased_says_so() {
        let region = Region::new("eu-central").unwrap();
        let settings = Settings::plain("127.0.0.1:1");
        let mut erased = entry(7, "eu-central.shop.order-placed.v1");
        let marked = |entry: &OutboxRow| {
            let found = names_and_values(&headers(entry, 5, &region, &settings));
            found.contains(&(ERASED_HEADER.to_owned(), "1".to_owned()))
        };
        assert!(!marked(&erased));
        erased.erased = true;
        assert!(marked(&erased));
    }

    #[test]
    fn an_application_cannot_put_a_subject_or_another_region_into_the_headers() {
        let region = Region::new("eu-central").unwrap();
        let mut entry = entry(7, "eu-central.shop.order-placed.v1");
        for name in ["subject", "domicileregion", "id", "Mixed-Case"] {
            entry.extensions.insert(name.to_owned(), "anna@example.org".to_owned());
        }
        let found = names_and_values(&headers(&entry, 5, &region, &Settings::plain("127.0.0.1:1")));
        assert!(found.iter().all(|(_, value)| value != "anna@example.org"), "{found:?}");
    }
}
