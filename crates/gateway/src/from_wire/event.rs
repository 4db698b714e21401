//! CloudEvents 1.0: structured mode (JSON event format) and binary mode (HTTP protocol binding).
//!
//! An event is about the subject of the path; its own `subject` attribute is refused, because topics
//! show subjects only as digests.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use storage::{Idempotency, OutgoingEvent};

use super::attribute::micros;
use super::evidence::one;
use super::json::{self, Numbers};
use crate::error::Error;
use crate::layers::trace::{TRACEPARENT, TraceParent};
use crate::settings::EventTypes;

/// Bytes of `id`, `source` and of an extension's value.
const TEXT_BYTES_MAX: usize = 1_024;
/// Characters of a type: with region and version it must fit into a topic's 249.
const TYPE_CHARS_MAX: usize = 150;
/// Extension attributes of one event.
const EXTENSIONS_MAX: usize = 32;
/// Characters of an extension's name (CloudEvents 1.0, naming conventions).
const NAME_CHARS_MAX: usize = 20;

/// Attributes, as text, before they are judged.
type Attributes = BTreeMap<String, String>;

/// Reads an event in structured mode. The text has been checked to be strict JSON.
///
/// # Errors
/// [`Error::Invalid`] names the attribute and its rule.
pub(crate) fn structured(text: &RawValue) -> Result<OutgoingEvent, Error> {
    let members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text.get())
        .map_err(|_| Error::invalid("body", "a CloudEvent in structured mode is a JSON object"))?;
    let (mut attributes, mut data, mut data_base64) = (Attributes::new(), None, None);
    for (name, value) in members {
        match name.as_str() {
            "data" => data = Some(value),
            "data_base64" => data_base64 = Some(value),
            _ => {
                if let Some(value) = attribute_value(&name, &value)? {
                    attributes.insert(name, value);
                }
            }
        }
    }
    let json_type = attributes.get("datacontenttype").is_none_or(|media| is_json(media));
    let data = match (data, data_base64) {
        (Some(_), Some(_)) => return Err(Error::invalid("data_base64", "it cannot stand beside `data`")),
        (None, None) => Vec::new(),
        (Some(data), None) if json_type => data.get().as_bytes().to_vec(),
        (Some(data), None) => serde_json::from_str::<String>(data.get())
            .map_err(|_| Error::invalid("data", "a string, since `datacontenttype` is not JSON; or use `data_base64`"))?
            .into_bytes(),
        (None, Some(data)) => serde_json::from_str::<String>(data.get())
            .ok()
            .and_then(|text| STANDARD.decode(text).ok())
            .ok_or_else(|| Error::invalid("data_base64", "a string of base64 (RFC 4648, section 4)"))?,
    };
    event(attributes, data)
}

/// Reads an event in binary mode: attributes in `ce-…` headers, the data as the body.
///
/// # Errors
/// [`Error::Invalid`] names the attribute and its rule, [`Error::Json`] a body that is not what it says it is.
pub(crate) fn binary(headers: &HeaderMap, content_type: Option<&str>, data: &[u8]) -> Result<OutgoingEvent, Error> {
    let mut attributes = Attributes::new();
    for (header, value) in headers {
        let Some(name) = header.as_str().strip_prefix("ce-") else { continue };
        let value = value.to_str().ok().and_then(percent_decoded).ok_or_else(|| {
            Error::invalid(format!("ce-{name}"), "visible ASCII, everything else percent-encoded as UTF-8")
        })?;
        if name == "datacontenttype" {
            return Err(Error::invalid("ce-datacontenttype", "it is the header `Content-Type` in binary mode"));
        }
        if attributes.insert(name.to_owned(), value).is_some() {
            return Err(Error::invalid(format!("ce-{name}"), "it may stand once"));
        }
    }
    if let Some(media) = content_type {
        attributes.insert("datacontenttype".to_owned(), media.to_owned());
    }
    if !data.is_empty() && content_type.is_none_or(is_json) {
        json::check(data, Numbers::Stored).map_err(Error::Json)?;
    }
    event(attributes, data.to_vec())
}

/// Holds an event against the types that the operator lets callers publish.
///
/// # Errors
/// [`Error::Invalid`] when its type is none of them.
pub(crate) fn allowed(event: OutgoingEvent, types: &EventTypes) -> Result<OutgoingEvent, Error> {
    if types.allow(&event.event_type) {
        Ok(event)
    } else {
        Err(Error::invalid("type", "one of the types that the operator of this gateway lets callers publish"))
    }
}

/// The idempotency of an event, if its request has a key. Two events are the same if every attribute
/// and every byte of data is.
///
/// # Errors
/// [`Error::Header`] when the key cannot be read.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Error> {
    let name = api::headers::IDEMPOTENCY_KEY;
    one(headers, name, KEY_RULE)?
        .map(|key| if good_key(key) { Ok(key.to_owned()) } else { Err(Error::Header { name, rule: KEY_RULE }) })
        .transpose()
}

/// The rule of an idempotency key.
pub(crate) const KEY_RULE: &str = "1 to 128 visible ASCII characters";

/// Whether a text can be an idempotency key.
pub(crate) fn good_key(key: &str) -> bool {
    (1..=api::headers::IDEMPOTENCY_KEY_CHARS_MAX).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Binds a key to an event.
pub(crate) fn idempotency(key: String, event: &OutgoingEvent) -> Idempotency {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(event.event_type.as_bytes());
    part(event.id.as_bytes());
    part(event.source.as_bytes());
    part(event.time.as_deref().unwrap_or_default().as_bytes());
    part(event.datacontenttype.as_bytes());
    for (name, value) in &event.extensions {
        part(name.as_bytes());
        part(value.as_bytes());
    }
    part(&event.data);
    // The trace context is left out on purpose: a repetition is another trace.
    Idempotency { key, request_hash: hash.finalize().into() }
}

/// An attribute's value as text; an absent one may be written as null.
fn attribute_value(name: &str, value: &RawValue) -> Result<Option<String>, Error> {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'"') => serde_json::from_str(text).map(Some).map_err(|_| Error::invalid(name, "a string")),
        Some(b'n') => Ok(None),
        Some(b't' | b'f') => Ok(Some(text.to_owned())),
        _ if text.parse::<i32>().is_ok() => Ok(Some(text.to_owned())),
        _ => Err(Error::invalid(name, "a string, a boolean or a 32-bit integer (CloudEvents 1.0, type system)")),
    }
}

fn event(mut attributes: Attributes, data: Vec<u8>) -> Result<OutgoingEvent, Error> {
    match attributes.remove("specversion").as_deref() {
        Some("1.0") => {}
        _ => return Err(Error::invalid("specversion", "`1.0`")),
    }
    let event_type = required(&mut attributes, "type")?;
    if !topical(&event_type) {
        return Err(Error::invalid(
            "type",
            "1 to 150 characters of A-Z, a-z, 0-9, `.`, `_` and `-`: it names the topic",
        ));
    }
    if event_type.starts_with("domicile.") {
        return Err(Error::invalid("type", "the prefix `domicile.` is for events that domicile makes"));
    }
    let id = required(&mut attributes, "id")?;
    let source = required(&mut attributes, "source")?;
    let time = attributes.remove("time");
    if time.as_deref().is_some_and(|time| micros(time).is_none()) {
        return Err(Error::invalid("time", "a time as in RFC 3339"));
    }
    let datacontenttype = attributes.remove("datacontenttype").unwrap_or_else(|| api::media::JSON.to_owned());
    if !(1..=128).contains(&datacontenttype.len())
        || !datacontenttype.contains('/')
        || !datacontenttype.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
    {
        return Err(Error::invalid("datacontenttype", "a media type (RFC 2046)"));
    }
    let traceparent = attributes.remove(TRACEPARENT);
    if traceparent.as_deref().is_some_and(|context| TraceParent::new(context).is_none()) {
        return Err(Error::invalid(TRACEPARENT, "a W3C trace context, version 00"));
    }
    if attributes.len() > EXTENSIONS_MAX {
        return Err(Error::invalid("body", "at most 32 extension attributes"));
    }
    for (name, value) in &attributes {
        extension(name, value)?;
    }
    Ok(OutgoingEvent { event_type, id, source, time, datacontenttype, extensions: attributes, traceparent, data })
}

fn required(attributes: &mut Attributes, name: &'static str) -> Result<String, Error> {
    match attributes.remove(name) {
        Some(text) if (1..=TEXT_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control) => Ok(text),
        _ => Err(Error::invalid(name, "required: 1 to 1,024 bytes without control characters")),
    }
}

fn extension(name: &str, value: &str) -> Result<(), Error> {
    if name == "subject" {
        return Err(Error::invalid(name, "the path names the subject; topics show it only as a digest"));
    }
    let alphabet = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if !(1..=NAME_CHARS_MAX).contains(&name.len()) || !alphabet || name.starts_with("domicile") {
        let rule = "an extension's name is 1 to 20 characters of a-z and 0-9, and does not begin with `domicile`";
        // A name may hold personal data as well as a value: it is not repeated.
        return Err(Error::invalid("body", rule));
    }
    if value.len() > TEXT_BYTES_MAX || value.chars().any(char::is_control) {
        return Err(Error::invalid(name, "at most 1,024 bytes without control characters"));
    }
    Ok(())
}

fn topical(event_type: &str) -> bool {
    (1..=TYPE_CHARS_MAX).contains(&event_type.len())
        && event_type.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
        && event_type.bytes().any(|byte| byte.is_ascii_alphanumeric())
}

/// Whether a media type is JSON, or says so by its suffix.
fn is_json(media: &str) -> bool {
    let essence = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || essence == "text/json" || essence.ends_with("+json")
}

/// Decodes `%XX` (CloudEvents HTTP binding, section 3.1.3.2).
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, tail @ ..] = rest else { return None };
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        bytes.push(digit(*high)? << 4 | digit(*low)?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<OutgoingEvent, Error> {
        structured(&json::raw(text.as_bytes(), Numbers::Stored).unwrap())
    }

    #[test]
    fn a_structured_event_keeps_its_data_digit_by_digit() {
        let event = read(
            r#"{"specversion":"1.0","id":"1","source":"/s","type":"shop.order-placed.v2","priority":3,"vip":true,
                "data":{"amount":12345678901234567890.10}}"#,
        )
        .unwrap();
        assert_eq!(event.data, br#"{"amount":12345678901234567890.10}"#);
        assert_eq!(event.datacontenttype, "application/json");
        assert_eq!(event.extensions["priority"], "3");
        assert_eq!(event.extensions["vip"], "true");
    }

    #[test]
    fn data_is_text_or_base64_when_it_is_not_json() {
        let head = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"text/plain","#;
        assert_eq!(read(&format!(r#"{head}"data":"hello"}}"#)).unwrap().data, b"hello");
        assert_eq!(read(&format!(r#"{head}"data_base64":"aGVsbG8="}}"#)).unwrap().data, b"hello");
        assert!(read(&format!(r#"{head}"data":{{}}}}"#)).is_err());
        assert!(read(&format!(r#"{head}"data_base64":"%"}}"#)).is_err());
        assert!(read(&format!(r#"{head}"data":"a","data_base64":"YQ=="}}"#)).is_err());
    }

    #[test]
    fn what_is_missing_or_misshapen_is_named() {
        for (text, at) in [
            (r#"{"id":"1","source":"/s","type":"t"}"#, "specversion"),
            (r#"{"specversion":"0.3","id":"1","source":"/s","type":"t"}"#, "specversion"),
            (r#"{"specversion":"1.0","source":"/s","type":"t"}"#, "id"),
            (r#"{"specversion":"1.0","id":"","source":"/s","type":"t"}"#, "id"),
            (r#"{"specversion":"1.0","id":"1","type":"t"}"#, "source"),
            (r#"{"specversion":"1.0","id":"1","source":"/s","type":"a/b"}"#, "type"),
            (r#"{"specversion":"1.0","id":"1","source":"/s","type":"domicile.record-changed"}"#, "type"),
            (r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","time":"now"}"#, "time"),
            (r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","time":"9999-12-31T23:59:59-23:59"}"#, "time"),
            (r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","subject":"anna"}"#, "subject"),
            (r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","x":1.5}"#, "x"),
            (r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","x":{}}"#, "x"),
            (r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","X":"1"}"#, "body"),
            (r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","domicileregion":"us-east"}"#, "body"),
            ("[]", "body"),
        ] {
            match read(text) {
                Err(Error::Invalid(errors)) => assert_eq!(errors[0].at, at, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_binary_event_is_made_of_headers_and_body() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("ce-specversion", "1.0"),
            ("ce-id", "1"),
            ("ce-source", "/s%20%C3%BC"),
            ("ce-type", "t"),
            ("ce-channel", "web"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        let event = binary(&headers, Some("application/json"), b"{\"a\":1}").unwrap();
        assert_eq!(event.source, "/s ü");
        assert_eq!(event.extensions["channel"], "web");
        assert!(matches!(binary(&headers, Some("application/json"), b"{"), Err(Error::Json(_))));
        assert_eq!(binary(&headers, Some("image/png"), b"{").unwrap().data, b"{");
        headers.append("ce-id", "2".parse().unwrap());
        assert!(binary(&headers, None, b"").is_err());
    }

    #[test]
    fn the_same_key_with_another_event_is_another_request() {
        let one = read(r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":1}"#).unwrap();
        let two = read(r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":2}"#).unwrap();
        let hash = |event: &OutgoingEvent| idempotency("k".to_owned(), event).request_hash;
        assert_ne!(hash(&one), hash(&two));
        let traced = OutgoingEvent { traceparent: Some("00-…".to_owned()), ..one.clone() };
        assert_eq!(hash(&one), hash(&traced));
    }

    proptest! {
        #[test]
        fn no_percent_sign_makes_it_panic(text in "[%0-9a-fA-F\\PC]{0,20}") {
            let _ = percent_decoded(&text);
        }
    }
}
