//! What a batch of deeds comes to: folded in memory, key by key in the order of arrival, so that the
//! database sees every key at most once.
//!
//! [`Wants`] says what must be loaded, [`Draft::fold`] turns what was loaded into rows to write, leaves,
//! events and answers. Nothing here waits or speaks SQL, and nothing is done before all of it is known.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use leaf::{Kind, Leaf, Out, SubjectTag};
use residency::{Decision, Region, SubjectId};
use serde_json::Value;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::entry::{Deed, Entry, Reply};
use super::events::{
    Event, RECORD_CHANGED, RecordChanged, SUBJECT_PINNED, SubjectPinned, ZERO_PARTY_CHANGED, ZeroPartyChanged, instant,
    payload, topic_of,
};
use super::outbox::Channel;
use super::subjects::{Fresh, Known, why};
use super::{Shared, idempotency, records, zero_party};
use crate::deeds::{Change, Consent, Effect, Idempotency, OutgoingEvent, Precondition};
use crate::error::{Cause, Error, Trouble};

/// What is known of the subjects of a batch.
pub(super) type Homes<'a> = HashMap<&'a str, Home>;

/// What is known of one subject.
#[derive(Debug)]
pub(super) enum Home {
    /// It is registered.
    Known(Arc<Known>),
    /// It is not, and its first deed may register it.
    Fresh(Arc<Fresh>),
    /// It is not, and the directory said it had been here for long: the directory is wrong.
    Nobody,
}

/// What must be loaded before a batch can be folded.
#[derive(Debug, Default)]
pub(super) struct Wants<'a> {
    /// Records, and whether their bodies are needed.
    pub(super) records: Vec<(records::Name<'a>, bool)>,
    pub(super) attributes: Vec<zero_party::Name<'a>>,
    pub(super) keys: Vec<idempotency::Name<'a>>,
    /// For each entry, where in these lists its thing is.
    places: Vec<usize>,
}

/// What was loaded, in the order of [`Wants`].
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) records: Vec<records::Current>,
    pub(super) attributes: Vec<records::Current>,
    pub(super) keys: Vec<(usize, idempotency::Done)>,
}

impl<'a> Wants<'a> {
    pub(super) fn of(entries: &'a [Entry]) -> Self {
        let mut wants = Self::default();
        wants.places.reserve(entries.len());
        let (mut records, mut attributes, mut keys) = (HashMap::new(), HashMap::new(), HashMap::new());
        for entry in entries {
            let Entry::Deed(deed) = entry else {
                wants.places.push(0);
                continue;
            };
            let subject = deed.permit.subject().expose();
            let place = match &deed.change {
                Change::PutRecord { collection, key, .. }
                | Change::PatchRecord { collection, key, .. }
                | Change::DeleteRecord { collection, key, .. } => {
                    let name = records::Name { subject, collection: collection.as_str(), key: key.expose() };
                    let place = *records.entry(name).or_insert_with(|| {
                        wants.records.push((name, false));
                        wants.records.len() - 1
                    });
                    wants.records[place].1 |= matches!(deed.change, Change::PatchRecord { .. });
                    place
                }
                Change::PutAttribute { attribute, .. } | Change::DeleteAttribute { attribute, .. } => {
                    let name = zero_party::Name { subject, attribute: attribute.as_str() };
                    *attributes.entry(name).or_insert_with(|| {
                        wants.attributes.push(name);
                        wants.attributes.len() - 1
                    })
                }
                Change::PublishEvent { idempotency: Some(Idempotency { key, .. }), .. } => {
                    let name = idempotency::Name { subject, key };
                    *keys.entry(name).or_insert_with(|| {
                        wants.keys.push(name);
                        wants.keys.len() - 1
                    })
                }
                Change::PinSubject | Change::PublishEvent { idempotency: None, .. } => 0,
            };
            wants.places.push(place);
        }
        wants
    }
}

/// What a batch comes to.
#[derive(Debug, Default)]
pub(super) struct Draft<'a> {
    pub(super) registered: Vec<(&'a SubjectId, Arc<Fresh>)>,
    pub(super) created: Vec<records::Written<'a>>,
    pub(super) replaced: Vec<records::Written<'a>>,
    pub(super) deleted: Vec<records::Deleted<'a>>,
    pub(super) attributes_written: Vec<zero_party::Written<'a>>,
    pub(super) attributes_deleted: Vec<zero_party::Deleted<'a>>,
    pub(super) floors: Vec<(&'a str, u64)>,
    pub(super) keys_used: Vec<idempotency::Used<'a>>,
    pub(super) leaves: Vec<LeafDraft<'a>>,
    /// Events, each with the index of its leaf.
    pub(super) events: Vec<(usize, Event<'a>)>,
    /// For each entry, what it is answered (a note's answer is ready already) and the index of its leaf.
    pub(super) outcomes: Vec<Outcome>,
}

/// What one entry comes to.
#[derive(Debug)]
pub(super) struct Outcome {
    /// For a deed.
    pub(super) effect: Option<Result<Effect, Error>>,
    pub(super) leaf: usize,
}

/// A leaf without its number.
#[derive(Debug)]
pub(super) struct LeafDraft<'a> {
    pub(super) decision: &'a Decision,
    pub(super) kind: Kind,
    pub(super) tag: Option<SubjectTag>,
    pub(super) home: Option<&'a Region>,
    pub(super) out: Out,
    pub(super) why: Option<&'static str>,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    /// The number, if it was taken before.
    pub(super) gseq: Option<u64>,
}

/// What one deed did.
struct Done<'a> {
    effect: Effect,
    event: Option<Event<'a>>,
    rows: u64,
    bytes: usize,
}

/// What stands under one key, while the batch is folded.
struct Slot<Content> {
    /// The version in the database.
    before: Option<u64>,
    /// The version as folded so far.
    now: Option<u64>,
    /// No version is given twice: a new one is above this.
    highest: u64,
    content: Option<Content>,
    touched: bool,
    updated_at: OffsetDateTime,
}

/// What an attribute is written with.
struct Declared<'a> {
    value: &'a RawValue,
    consents: &'a [Consent],
    source: &'a str,
}

impl<Content> Slot<Content> {
    fn new(current: &records::Current, content: Option<Content>) -> Self {
        Self {
            before: current.version,
            now: current.version,
            highest: current.version.unwrap_or(current.floor),
            content,
            touched: false,
            updated_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    fn check(&self, when: &Precondition) -> Result<(), Error> {
        if when.holds(self.now) { Ok(()) } else { Err(Error::PreconditionFailed { current: self.now }) }
    }

    /// Takes over new content, under the next version.
    fn put(&mut self, content: Content, updated_at: OffsetDateTime) -> Effect {
        let existed = self.now.is_some();
        let version = self.highest + 1;
        *self = Self {
            before: self.before,
            now: Some(version),
            highest: version,
            content: Some(content),
            touched: true,
            updated_at,
        };
        if existed { Effect::Replaced { version } } else { Effect::Created { version } }
    }

    /// Deletes; the version that is gone.
    fn delete(&mut self, when: &Precondition) -> Result<u64, Error> {
        self.check(when)?;
        let gone = self.now.take().ok_or(Error::NotFound)?;
        self.content = None;
        self.touched = true;
        Ok(gone)
    }
}

impl<'a> Draft<'a> {
    /// Folds a batch.
    pub(super) fn fold(
        shared: &'a Shared,
        entries: &'a [Entry],
        homes: &Homes<'a>,
        wants: &Wants<'a>,
        loaded: Loaded,
    ) -> Self {
        let mut draft = Self::default();
        draft.leaves.reserve(entries.len());
        draft.outcomes.reserve(entries.len());
        draft.events.reserve(entries.len());
        let mut fold = Fold {
            shared,
            records: loaded.records.into_iter().map(RecordSlot::loaded).collect(),
            attributes: loaded.attributes.iter().map(|current| Slot::new(current, None)).collect(),
            keys: wants.keys.iter().map(|_| None).collect(),
            announced: HashSet::new(),
        };
        for (at, done) in loaded.keys {
            if let Some(key) = fold.keys.get_mut(at) {
                *key = Some(done);
            }
        }
        for (entry, place) in entries.iter().zip(&wants.places) {
            match entry {
                Entry::Note(note) => {
                    let gseq = match note.reply {
                        Reply::Nobody { gseq } => Some(gseq),
                        Reply::Position(_) | Reply::Found { .. } => None,
                    };
                    draft.outcomes.push(Outcome { effect: None, leaf: draft.leaves.len() });
                    draft.leaves.push(LeafDraft {
                        decision: entry.decision(),
                        kind: note.kind,
                        tag: note.tag,
                        home: note.home.as_ref(),
                        out: note.out,
                        why: note.why,
                        rows: note.rows,
                        bytes: note.bytes,
                        gseq,
                    });
                }
                Entry::Deed(deed) => draft.deed(&mut fold, deed, homes, *place),
            }
        }
        draft.gather_records(wants, fold.records);
        draft.gather_attributes(wants, fold.attributes);
        // In the order of their keys, so that two gateways' committers cannot wait for each other in a circle.
        draft.registered.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        draft.floors.sort_unstable_by(|a, b| a.0.cmp(b.0).then(b.1.cmp(&a.1)));
        draft.floors.dedup_by_key(|(subject, _)| *subject);
        draft.keys_used.sort_unstable_by_key(|used| (used.name.subject, used.name.key));
        draft
    }

    /// Whether anything but leaves is to be written.
    pub(super) fn changes(&self) -> bool {
        !(self.registered.is_empty()
            && self.created.is_empty()
            && self.replaced.is_empty()
            && self.deleted.is_empty()
            && self.attributes_written.is_empty()
            && self.attributes_deleted.is_empty()
            && self.floors.is_empty()
            && self.keys_used.is_empty())
    }

    /// The leaves as canonical lines, one behind the other, and where each one ends.
    pub(super) fn lines(&self, shared: &Shared, numbers: &[u64]) -> Result<(String, Vec<usize>), Trouble> {
        let mut bytes = Vec::with_capacity(self.leaves.len() * 640);
        let mut ends = Vec::with_capacity(self.leaves.len());
        let mut numbers = numbers.iter().copied();
        for leaf in &self.leaves {
            let line = Leaf {
                decision: leaf.decision,
                kind: leaf.kind,
                gateway: &shared.gateway,
                gseq: leaf.gseq.or_else(|| numbers.next()).unwrap_or_default(),
                subject: leaf.tag,
                home: leaf.home,
                out: leaf.out,
                why: leaf.why,
                rows: leaf.rows,
                bytes: leaf.bytes,
            };
            line.encode_into(&mut bytes);
            ends.push(bytes.len());
        }
        // They are written from strings.
        let text = String::from_utf8(bytes).map_err(|_| Trouble::Internal(Cause::new("a leaf is not text")))?;
        Ok((text, ends))
    }

    fn deed(&mut self, fold: &mut Fold<'a>, deed: &'a Deed, homes: &Homes<'a>, place: usize) {
        let subject = deed.permit.subject();
        let pins = matches!(deed.change, Change::PinSubject);
        let mut fresh = false;
        let known = match homes.get(subject.expose()) {
            Some(Home::Known(known)) => Some(known),
            Some(Home::Fresh(first)) => {
                fresh = fold.announced.insert(subject.expose());
                if fresh {
                    self.registered.push((subject, Arc::clone(first)));
                    // The registration has its own leaf; when it is all that was asked for, it is the deed's.
                    if !pins {
                        self.register(fold.shared, deed, &first.known);
                    }
                }
                Some(&first.known)
            }
            Some(Home::Nobody) | None => None,
        };
        let outcome = match known {
            None => Err(Error::Moved),
            Some(known) => known
                .admits_write(deed.permit.epoch())
                .and_then(|()| deed.refused.clone().map_or(Ok(()), Err))
                .and_then(|()| fold.change(deed, known, place, self)),
        };
        let at_home = known.filter(|_| !matches!(outcome, Err(Error::Moved)));
        let mut leaf = LeafDraft {
            decision: deed.permit.decision(),
            kind: Kind::DecisionWrite,
            tag: known.map(|known| known.tag),
            home: at_home.map(|_| &fold.shared.region),
            out: Out::Allow,
            why: None,
            rows: 0,
            bytes: 0,
            gseq: None,
        };
        let effect = match outcome {
            Ok(done) => {
                leaf.rows = done.rows;
                leaf.bytes = done.bytes as u64;
                if let Some(event) = done.event {
                    self.events.push((self.leaves.len(), event));
                }
                Ok(done.effect)
            }
            Err(error) => {
                leaf.out = Out::Error;
                leaf.why = Some(why(&error));
                Err(error)
            }
        };
        if let (true, true, Some(known)) = (pins, fresh, known) {
            self.register(fold.shared, deed, known);
            let effect = effect.map(|effect| match effect {
                Effect::Pinned { subject, .. } => Effect::Pinned { fresh: true, subject },
                other => other,
            });
            self.outcomes.push(Outcome { effect: Some(effect), leaf: self.leaves.len() - 1 });
        } else {
            self.outcomes.push(Outcome { effect: Some(effect), leaf: self.leaves.len() });
            self.leaves.push(leaf);
        }
    }

    /// The leaf and the event of a registration.
    fn register(&mut self, shared: &'a Shared, deed: &'a Deed, known: &Known) {
        let said = SubjectPinned { region: shared.region.as_str(), epoch: known.state.epoch.0 };
        let event = Event {
            channel: Channel::Events,
            topic: Cow::Borrowed(&shared.events.subject_pinned),
            key: known.state.digest,
            event_type: SUBJECT_PINNED,
            // The deed's own event has the decision's id already.
            event_id: format!("{}-pin", deed.permit.decision_id()).into(),
            source: &shared.events.source,
            time: instant(deed.permit.decision().at_us),
            datacontenttype: "application/json",
            traceparent: None,
            extensions: None,
            data: payload(&said).into(),
        };
        self.events.push((self.leaves.len(), event));
        self.leaves.push(LeafDraft {
            decision: deed.permit.decision(),
            kind: Kind::SubjectRegister,
            tag: Some(known.tag),
            home: Some(&shared.region),
            out: Out::Allow,
            why: None,
            rows: 1,
            bytes: 0,
            gseq: None,
        });
    }

    fn gather_records(&mut self, wants: &Wants<'a>, slots: Vec<RecordSlot<'a>>) {
        for ((name, _), slot) in wants.records.iter().zip(slots) {
            if !slot.touched {
                continue;
            }
            match (slot.before, slot.now, slot.content) {
                (before, Some(version), Some(body)) => {
                    let written = records::Written { name: *name, before, version, body, updated_at: slot.updated_at };
                    if before.is_some() { self.replaced.push(written) } else { self.created.push(written) }
                }
                (before, ..) => {
                    self.floors.push((name.subject, slot.highest));
                    self.deleted.extend(before.map(|before| records::Deleted { name: *name, before }));
                }
            }
        }
        self.created.sort_unstable_by_key(|written| written.name);
        self.replaced.sort_unstable_by_key(|written| written.name);
        self.deleted.sort_unstable_by_key(|deleted| deleted.name);
    }

    fn gather_attributes(&mut self, wants: &Wants<'a>, slots: Vec<AttributeSlot<'a>>) {
        for (name, slot) in wants.attributes.iter().zip(slots) {
            if !slot.touched {
                continue;
            }
            match (slot.before, slot.now, slot.content) {
                (before, Some(version), Some(declared)) => self.attributes_written.push(zero_party::Written {
                    name: *name,
                    before,
                    version,
                    value: declared.value.get(),
                    consents: declared.consents,
                    source: declared.source,
                    updated_at: slot.updated_at,
                }),
                (before, ..) => {
                    self.floors.push((name.subject, slot.highest));
                    self.attributes_deleted.extend(before.map(|before| zero_party::Deleted { name: *name, before }));
                }
            }
        }
        self.attributes_written.sort_unstable_by_key(|written| written.name);
        self.attributes_deleted.sort_unstable_by_key(|deleted| deleted.name);
    }
}

type RecordSlot<'a> = Slot<Cow<'a, str>>;
type AttributeSlot<'a> = Slot<Declared<'a>>;

impl RecordSlot<'_> {
    fn loaded(mut current: records::Current) -> Self {
        let body = current.body.take().map(Cow::Owned);
        Self::new(&current, body)
    }
}

/// The state of a fold.
struct Fold<'a> {
    shared: &'a Shared,
    records: Vec<RecordSlot<'a>>,
    attributes: Vec<AttributeSlot<'a>>,
    keys: Vec<Option<idempotency::Done>>,
    /// Subjects that this batch registers and that have their leaf already.
    announced: HashSet<&'a str>,
}

impl<'a> Fold<'a> {
    fn change(
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
                    (Some(_), Some(body)) => merged(body, patch)?,
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
                let effect = slot.put(Declared { value, consents, source }, at);
                let said = ZeroPartyChanged {
                    attribute: attribute.as_str(),
                    value: Some(value),
                    version: slot.highest,
                    consents: consents.iter().map(Into::into).collect(),
                    deleted: false,
                };
                let event = Some(self.zero_party_changed(deed, known, at, &said));
                Ok(Done { effect, event, rows: 1, bytes: value.get().len() })
            }
            Change::DeleteAttribute { attribute, when } => {
                let version = self.attributes[place].delete(when)?;
                let said = ZeroPartyChanged {
                    attribute: attribute.as_str(),
                    value: None,
                    version,
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
            Some(text) => OffsetDateTime::parse(text, &Rfc3339).map_err(|_| Error::RefusedByDatabase {
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
            traceparent: outgoing.traceparent.as_deref(),
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
            traceparent: None,
            extensions: None,
            data: data.into(),
        }
    }
}

/// A body with a merge patch applied (RFC 7396).
fn merged(body: &str, patch: &Value) -> Result<Box<RawValue>, Error> {
    let unreadable = || Error::RefusedByDatabase {
        sqlstate: "22P02".to_owned(),
        message: "the record cannot be read as JSON".to_owned(),
    };
    let mut value: Value = serde_json::from_str(body).map_err(|_| unreadable())?;
    merge(&mut value, patch);
    serde_json::value::to_raw_value(&value).map_err(|_| unreadable())
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    if let Value::Object(fields) = target {
        for (name, change) in changes {
            if change.is_null() {
                fields.remove(name);
            } else {
                merge(fields.entry(name.as_str()).or_insert(Value::Null), change);
            }
        }
    }
}

#[cfg(test)]
mod tests {
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
            let mut merged = target.clone();
            merge(&mut merged, &patch);
            assert_eq!(merged, result, "{target} with {patch}");
        }
    }

    #[test]
    fn what_is_created_again_goes_on_above_what_was_deleted() {
        let mut slot: RecordSlot<'_> = Slot::new(&records::Current { version: Some(7), body: None, floor: 0 }, None);
        assert_eq!(slot.delete(&Precondition::None), Ok(7));
        assert_eq!(slot.put("{}".into(), OffsetDateTime::UNIX_EPOCH), Effect::Created { version: 8 });
        let mut later: RecordSlot<'_> = Slot::new(&records::Current { version: None, body: None, floor: 8 }, None);
        assert_eq!(later.put("{}".into(), OffsetDateTime::UNIX_EPOCH), Effect::Created { version: 9 });
    }
}
