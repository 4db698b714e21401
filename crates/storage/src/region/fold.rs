//! Doing one deed after the other, in memory: what each does to what stands under its key, what event it
//! publishes, and how much it touches.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

use super::draft::Draft;
use super::entry::Deed;
use super::events::{
    Event, RECORD_CHANGED, RecordChanged, SUBJECT_ERASED, SubjectErased, ZERO_PARTY_CHANGED, ZeroPartyChanged, instant,
    payload, topic_of,
};
use super::outbox::Channel;
use super::slot::{AttributeSlot, RecordSlot};
use super::subjects::Known;
use super::{Shared, idempotency, zero_party};
use crate::deeds::{Change, Effect, Extent, Idempotency, OutgoingEvent};
use crate::error::Error;

/// The state of a fold.
pub(super) struct Fold<'a> {
    pub(super) shared: &'a Shared,
    pub(super) records: Vec<RecordSlot<'a>>,
    pub(super) attributes: Vec<AttributeSlot<'a>>,
    pub(super) keys: Vec<Option<idempotency::Done>>,
    /// What the erasure that this batch is took away.
    pub(super) erased: Option<Extent>,
    /// Subjects that this batch registers and that have their leaf already.
    pub(super) announced: HashSet<&'a str>,
}

/// What one deed did.
pub(super) struct Done<'a> {
    pub(super) effect: Effect,
    pub(super) event: Option<Event<'a>>,
    pub(super) rows: u64,
    pub(super) bytes: usize,
}

impl<'a> Fold<'a> {
    /// Does one deed, in memory.
    pub(super) fn change(
        &mut self,
        deed: &'a Deed,
        known: &Known,
        place: usize,
        draft: &mut Draft<'a>,
    ) -> Result<Done<'a>, Error> {
        let at = instant(deed.permit.decision().at_us);
        match &deed.change {
            Change::PinSubject => {
                let effect = Effect::Pinned { fresh: false, subject: known.state.clone() };
                Ok(Done { effect, event: None, rows: 0, bytes: 0 })
            }
            Change::EraseSubject => {
                let extent = self.erased.unwrap_or_default();
                let said = SubjectErased::new(&self.shared.region, known.state.epoch.0, at);
                let topic = &self.shared.events.subject_erased;
                // In the channel of declared data, so that the warehouse forgets behind whatever it was told before.
                let event = self.made_here(deed, known, at, Channel::ZeroParty, SUBJECT_ERASED, topic, payload(&said));
                let effect = Effect::Erased { extent, erased_at_us: deed.permit.decision().at_us };
                Ok(Done { effect, event: Some(event), rows: extent.rows(), bytes: 0 })
            }
            Change::PutRecord { collection, key, body, when } => {
                let slot = &mut self.records[place];
                slot.check(when)?;
                let effect = slot.put(Cow::Borrowed(body.get()), at);
                let said = RecordChanged {
                    operation: "put",
                    collection: collection.as_str(),
                    key: key.expose(),
                    version: slot.highest,
                    body: Some(body),
                };
                let event = Some(self.record_changed(deed, known, at, &said));
                Ok(Done { effect, event, rows: 1, bytes: body.get().len() })
            }
            Change::PatchRecord { collection, key, patch, when } => {
                let slot = &mut self.records[place];
                slot.check(when)?;
                let body = match (slot.now, slot.content.as_deref()) {
                    (Some(_), Some(body)) => bounded(merged(body, patch)?, body, self.shared.limits.record_bytes_max)?,
                    _ => return Err(Error::NotFound),
                };
                let bytes = body.get().len();
                let effect = slot.put(Cow::Owned(body.get().to_owned()), at);
                let said = RecordChanged {
                    operation: "patch",
                    collection: collection.as_str(),
                    key: key.expose(),
                    version: slot.highest,
                    body: Some(&body),
                };
                let event = Some(self.record_changed(deed, known, at, &said));
                Ok(Done { effect, event, rows: 1, bytes })
            }
            Change::DeleteRecord { collection, key, when } => {
                let version = self.records[place].delete(when)?;
                let said = RecordChanged {
                    operation: "delete",
                    collection: collection.as_str(),
                    key: key.expose(),
                    version,
                    body: None,
                };
                let event = Some(self.record_changed(deed, known, at, &said));
                Ok(Done { effect: Effect::Deleted, event, rows: 1, bytes: 0 })
            }
            Change::PublishEvent { event, idempotency } => {
                self.publish(deed, known, at, event, idempotency.as_ref(), place, draft)
            }
            Change::PutAttribute { attribute, value, consents, source, when } => {
                let slot = &mut self.attributes[place];
                slot.check(when)?;
                let effect = slot.put(zero_party::Declared { value: value.get(), consents, source }, at);
                let said = ZeroPartyChanged {
                    attribute: attribute.as_str(),
                    value: Some(value),
                    version: slot.highest,
                    source: Some(source.as_str()),
                    consents: consents.iter().map(Into::into).collect(),
                    deleted: false,
                };
                let event = Some(self.zero_party_changed(deed, known, at, &said));
                Ok(Done { effect, event, rows: 1, bytes: value.get().len() })
            }
            Change::DeleteAttribute { attribute, when } => {
                let version = self.attributes[place].delete(when)?;
                draft.taken_back.push((known.state.digest.bytes, attribute.as_str()));
                let said = ZeroPartyChanged {
                    attribute: attribute.as_str(),
                    value: None,
                    version,
                    source: None,
                    consents: Vec::new(),
                    deleted: true,
                };
                let event = Some(self.zero_party_changed(deed, known, at, &said));
                Ok(Done { effect: Effect::Deleted, event, rows: 1, bytes: 0 })
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a deed and everything around it")]
    fn publish(
        &mut self,
        deed: &'a Deed,
        known: &Known,
        at: OffsetDateTime,
        outgoing: &'a OutgoingEvent,
        idempotency: Option<&'a Idempotency>,
        place: usize,
        draft: &mut Draft<'a>,
    ) -> Result<Done<'a>, Error> {
        if let Some(asked) = idempotency
            && let Some(done) = &self.keys[place]
        {
            if done.request_hash != asked.request_hash {
                return Err(Error::IdempotencyReused);
            }
            let effect =
                Effect::Published { event_id: done.event_id.clone(), topic: done.topic.clone(), replayed: true };
            return Ok(Done { effect, event: None, rows: 0, bytes: 0 });
        }
        let time = match &outgoing.time {
            Some(text) => utc(text).ok_or_else(|| Error::RefusedByDatabase {
                sqlstate: "22007".to_owned(),
                message: "a time that is not RFC 3339".to_owned(),
            })?,
            None => at,
        };
        let topic = topic_of(&self.shared.region, &outgoing.event_type);
        if let Some(asked) = idempotency {
            let done = idempotency::Done {
                request_hash: asked.request_hash,
                event_id: outgoing.id.clone(),
                topic: topic.clone(),
            };
            self.keys[place] = Some(done.clone());
            let name = idempotency::Name { subject: deed.permit.subject().expose(), key: &asked.key };
            draft.keys_used.push(idempotency::Used { name, done, at });
        }
        let effect = Effect::Published { event_id: outgoing.id.clone(), topic: topic.clone(), replayed: false };
        let extensions = (!outgoing.extensions.is_empty())
            .then(|| serde_json::to_string(&outgoing.extensions).unwrap_or_else(|_| "{}".to_owned()));
        let event = Event {
            channel: Channel::Events,
            topic: topic.into(),
            key: known.state.digest,
            event_type: &outgoing.event_type,
            event_id: Cow::Borrowed(&outgoing.id),
            source: &outgoing.source,
            time,
            datacontenttype: &outgoing.datacontenttype,
            traceparent: outgoing.traceparent.as_deref().or(deed.traceparent.as_deref()),
            extensions,
            data: Cow::Borrowed(&outgoing.data),
        };
        Ok(Done { effect, event: Some(event), rows: 1, bytes: outgoing.data.len() })
    }

    fn record_changed(
        &self,
        deed: &'a Deed,
        known: &Known,
        time: OffsetDateTime,
        said: &RecordChanged<'_>,
    ) -> Event<'a> {
        let names = &self.shared.events;
        self.made_here(deed, known, time, Channel::Events, RECORD_CHANGED, &names.record_changed, payload(said))
    }

    fn zero_party_changed(
        &self,
        deed: &'a Deed,
        known: &Known,
        time: OffsetDateTime,
        said: &ZeroPartyChanged<'_>,
    ) -> Event<'a> {
        let names = &self.shared.events;
        self.made_here(
            deed,
            known,
            time,
            Channel::ZeroParty,
            ZERO_PARTY_CHANGED,
            &names.zero_party_changed,
            payload(said),
        )
    }

    #[expect(clippy::too_many_arguments, reason = "an event is wide")]
    fn made_here(
        &self,
        deed: &'a Deed,
        known: &Known,
        time: OffsetDateTime,
        channel: Channel,
        event_type: &'static str,
        topic: &'a str,
        data: Vec<u8>,
    ) -> Event<'a> {
        Event {
            channel,
            topic: Cow::Borrowed(topic),
            key: known.state.digest,
            event_type,
            event_id: deed.permit.decision_id().to_string().into(),
            source: &self.shared.events.source,
            time,
            datacontenttype: "application/json",
            traceparent: deed.traceparent.as_deref(),
            extensions: None,
            data: data.into(),
        }
    }
}

/// A time as the database takes it: in UTC, and within the years 0000 to 9999 there, too.
fn utc(text: &str) -> Option<OffsetDateTime> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?.checked_to_offset(UtcOffset::UTC)?;
    (time.year() >= 0).then_some(time)
}

/// A body with a merge patch applied (RFC 7396). Only what the patch names is read: every other value stays as it was
/// written, whatever digits it has.
fn merged(body: &str, patch: &Value) -> Result<Box<RawValue>, Error> {
    let whole = serde_json::from_str(body);
    whole.and_then(|whole| merge(Some(whole), patch)).map_err(|_| Error::RefusedByDatabase {
        sqlstate: "22P02".to_owned(),
        message: "the record cannot be read as JSON".to_owned(),
    })
}

fn merge(target: Option<&RawValue>, patch: &Value) -> serde_json::Result<Box<RawValue>> {
    let Value::Object(changes) = patch else { return to_raw_value(patch) };
    // What is no object gives way to one.
    let mut fields: BTreeMap<String, Cow<'_, RawValue>> = match target {
        Some(object) if object.get().starts_with('{') => {
            let fields: BTreeMap<String, &RawValue> = serde_json::from_str(object.get())?;
            fields.into_iter().map(|(name, value)| (name, Cow::Borrowed(value))).collect()
        }
        _ => BTreeMap::new(),
    };
    for (name, change) in changes {
        if change.is_null() {
            fields.remove(name);
        } else {
            let value = merge(fields.get(name).map(Cow::as_ref), change)?;
            fields.insert(name.clone(), Cow::Owned(value));
        }
    }
    to_raw_value(&fields)
}

/// Refuses a record that would grow by its patch above what could be put. One that is larger already may shrink.
fn bounded(merged: Box<RawValue>, before: &str, max_bytes: usize) -> Result<Box<RawValue>, Error> {
    let is_too_large = merged.get().len() > max_bytes && {
        let bytes = compact_len(merged.get());
        bytes > max_bytes && bytes > compact_len(before)
    };
    if is_too_large { Err(Error::GrownTooLarge { max_bytes }) } else { Ok(merged) }
}

/// How many bytes a JSON text has without the blanks between its parts, which the database puts where it likes.
fn compact_len(text: &str) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    let mut counts = |byte: &u8| {
        let blank = !quoted && matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        if *byte == b'"' && !escaped {
            quoted = !quoted;
        }
        escaped = *byte == b'\\' && !escaped;
        !blank
    };
    text.as_bytes().iter().filter(|byte| counts(byte)).count()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_merge_patch_does_what_rfc_7396_shows() {
        // RFC 7396, appendix A.
        for (target, patch, result) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a":"b"}), json!(["c"]), json!(["c"])),
            (json!({"a":"foo"}), json!(null), json!(null)),
            (json!({"a":"foo"}), json!("bar"), json!("bar")),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!([1, 2]), json!({"a":"b","c":null}), json!({"a":"b"})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ] {
            let merged = merged(&target.to_string(), &patch).unwrap();
            assert_eq!(serde_json::from_str::<Value>(merged.get()).unwrap(), result, "{target} with {patch}");
        }
    }

    #[test]
    fn a_merge_patch_leaves_every_digit_of_what_it_does_not_name() {
        let body = r#" {"account": 12345678901234567890123, "far": 1e400, "in": {"exact": 0.10, "x": [1.0]}, "x": 1}"#;
        for (patch, result) in [
            (
                json!({"x": 2}),
                r#"{"account":12345678901234567890123,"far":1e400,"in":{"exact": 0.10, "x": [1.0]},"x":2}"#,
            ),
            (
                json!({"in": {"y": null, "x": "z"}, "x": null}),
                r#"{"account":12345678901234567890123,"far":1e400,"in":{"exact":0.10,"x":"z"}}"#,
            ),
            (json!({"account": 1, "far": null, "in": {}}), r#"{"account":1,"in":{"exact":0.10,"x":[1.0]},"x":1}"#),
        ] {
            assert_eq!(merged(body, &patch).unwrap().get(), result);
        }
        assert!(merged("{", &json!({})).is_err());
    }

    #[test]
    fn blanks_between_the_parts_do_not_count() {
        for text in [r#"{"a":[1,2,"b \" c"],"d e":"\\"}"#, "7", r#"" ""#] {
            assert_eq!(compact_len(text), text.len());
        }
        assert_eq!(compact_len("{\"a\" : [1, 2],\n\t\"b\": \"\\\\\" }"), r#"{"a":[1,2],"b":"\\"}"#.len());
    }
}
