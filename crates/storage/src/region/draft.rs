//! What a batch of deeds comes to: folded in memory, key by key in the order of arrival, so that the
//! database sees every key at most once.
//!
//! [`Draft::fold`] turns what was loaded into rows to write, leaves, events and answers. Nothing here waits
//! or speaks SQL, and nothing is done before all of it is known.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use leaf::{Fact, Kind, Leaf, Out, SubjectTag};
use residency::{Decision, PinState, Region, SubjectId};

use super::details::{self, Sealer};
use super::entry::{Deed, Entry, Reply};
use super::events::{Event, SUBJECT_PINNED, SubjectPinned, instant, payload};
use super::fold::Fold;
use super::outbox::Channel;
use super::slot::{AttributeSlot, Became, RecordSlot, Slot};
use super::subjects::{Fresh, Known, why};
use super::wants::{Home, Homes, Loaded, Wants};
use super::{Shared, erasures, idempotency, records, zero_party};
use crate::deeds::{Change, Effect};
use crate::error::{Cause, Error, Trouble};

/// What a batch comes to.
#[derive(Debug, Default)]
pub(super) struct Draft<'a> {
    pub(super) registered: Vec<(&'a SubjectId, Arc<Fresh>)>,
    pub(super) records: Vec<records::Written<'a>>,
    pub(super) attributes: Vec<zero_party::Written<'a>>,
    /// What the batch creates and deletes, to be deleted behind the creation. Were neither done, nobody would notice that
    /// another gateway has created it meanwhile.
    pub(super) passed_records: Vec<records::Written<'a>>,
    pub(super) passed_attributes: Vec<zero_party::Written<'a>>,
    /// Attributes that are taken back, by the digest that their subject's events are keyed by.
    pub(super) taken_back: Vec<([u8; 32], &'a str)>,
    pub(super) floors: Vec<(&'a str, u64)>,
    pub(super) keys_used: Vec<idempotency::Used<'a>>,
    pub(super) leaves: Vec<Said<'a>>,
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

/// What a leaf says, without its number.
#[derive(Debug)]
pub(super) enum Said<'a> {
    Decision(LeafDraft<'a>),
    Fact(&'a Fact),
}

impl Said<'_> {
    /// Whether its number is still to be taken.
    pub(super) fn is_unnumbered(&self) -> bool {
        !matches!(self, Self::Decision(LeafDraft { gseq: Some(_), .. }))
    }
}

/// A decision's leaf without its number.
#[derive(Debug)]
pub(super) struct LeafDraft<'a> {
    pub(super) decision: &'a Decision,
    pub(super) kind: Kind,
    pub(super) tag: Option<SubjectTag>,
    pub(super) sealer: Option<Sealer>,
    pub(super) home: Option<&'a Region>,
    pub(super) out: Out,
    pub(super) why: Option<&'static str>,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    /// The number, if it was taken before.
    pub(super) gseq: Option<u64>,
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
            erased: loaded.erased,
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
                    draft.leaves.push(Said::Decision(LeafDraft {
                        decision: note.decision(),
                        kind: note.kind,
                        tag: note.tag,
                        sealer: note.sealer.clone(),
                        home: note.home.as_ref(),
                        out: note.out,
                        why: note.why,
                        rows: note.rows,
                        bytes: note.bytes,
                        gseq,
                    }));
                }
                Entry::Fact(note) => {
                    draft.outcomes.push(Outcome { effect: None, leaf: draft.leaves.len() });
                    draft.leaves.push(Said::Fact(&note.fact));
                }
                Entry::Deed(deed) => draft.deed(&mut fold, deed, homes, *place),
            }
        }
        draft.gather_records(wants, fold.records);
        draft.gather_attributes(wants, fold.attributes);
        // In the order of their keys, so that two gateways' committers cannot wait for each other in a circle.
        draft.registered.sort_unstable_by_key(|(subject, _)| *subject);
        draft.floors.sort_unstable_by(|a, b| a.0.cmp(b.0).then(b.1.cmp(&a.1)));
        draft.floors.dedup_by_key(|(subject, _)| *subject);
        draft.keys_used.sort_unstable_by_key(|used| (used.name.subject, used.name.key));
        draft
    }

    /// Whether anything but leaves is to be written.
    pub(super) fn changes(&self) -> bool {
        !(self.registered.is_empty()
            && self.records.is_empty()
            && self.attributes.is_empty()
            && self.floors.is_empty()
            && self.keys_used.is_empty())
    }

    /// Whether a few records that are created or replaced are all there is to be written beside the log.
    pub(super) fn only_few_records(&self, few: usize) -> bool {
        let others = !(self.registered.is_empty()
            && self.attributes.is_empty()
            && self.floors.is_empty()
            && self.keys_used.is_empty());
        !others && self.records.len() <= few && self.records.iter().all(|written| written.after.is_some())
    }

    /// The leaves as canonical lines, one behind the other, and where each one ends; and the details beside them.
    pub(super) fn lines(
        &self,
        shared: &Shared,
        numbers: &[u64],
    ) -> Result<(String, Vec<usize>, details::Rows), Trouble> {
        let mut bytes = Vec::with_capacity(self.leaves.len() * 640);
        let mut ends = Vec::with_capacity(self.leaves.len());
        let mut numbers = numbers.iter().copied();
        let mut details = details::Rows::default();
        for said in &self.leaves {
            let leaf = match said {
                Said::Decision(leaf) => leaf,
                Said::Fact(fact) => {
                    fact.encode_into(&shared.gateway, numbers.next().unwrap_or_default(), &mut bytes);
                    ends.push(bytes.len());
                    continue;
                }
            };
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
                details: match leaf.sealer.as_ref().zip(leaf.decision.stated.as_ref()) {
                    Some((sealer, stated)) => Some(details.seal(ends.len(), sealer, stated)?),
                    None => None,
                },
            };
            line.encode_into(&mut bytes);
            ends.push(bytes.len());
        }
        // They are written from strings.
        let text = String::from_utf8(bytes).map_err(|_| Trouble::Internal(Cause::new("a leaf is not text")))?;
        Ok((text, ends, details))
    }

    fn deed(&mut self, fold: &mut Fold<'a>, deed: &'a Deed, homes: &Homes<'a>, place: usize) {
        let subject = deed.permit.subject();
        let pins = matches!(deed.change, Change::PinSubject);
        let erases = erasures::erases(deed);
        let mut fresh = false;
        let known = match homes.get(subject.expose()) {
            Some(Home::Known(known)) => Some(known),
            // Whoever is erased before anything was written is not registered for it.
            Some(Home::Fresh(first)) if erases => Some(&first.known),
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
            Some(Home::Nobody | Home::Erased) | None => None,
        };
        let gone = matches!(homes.get(subject.expose()), Some(Home::Erased));
        let outcome = match known {
            // Erased is erased, for whoever erases, too.
            None if gone => Err(Error::NotAtHome { state: PinState::Erased }),
            None => Err(Error::Moved),
            Some(known) => known
                .admits_write(deed.permit.epoch())
                .and_then(|()| deed.refused.clone().map_or(Ok(()), Err))
                .and_then(|()| fold.change(deed, known, place, self)),
        };
        let at_home = !matches!(outcome, Err(Error::Moved));
        let registered = known.filter(|_| !(erases && matches!(homes.get(subject.expose()), Some(Home::Fresh(_)))));
        let mut leaf = LeafDraft {
            decision: deed.permit.decision(),
            kind: if erases && known.is_some() && outcome.is_ok() { Kind::SubjectErase } else { Kind::DecisionWrite },
            tag: registered.map(|known| known.tag),
            // Of whom is erased nothing more is kept.
            sealer: registered.filter(|_| !erases).and_then(|known| known.sealer.clone()),
            home: at_home.then_some(&fold.shared.region),
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
            self.leaves.push(Said::Decision(leaf));
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
            traceparent: deed.traceparent.as_deref(),
            extensions: None,
            data: payload(&said).into(),
        };
        self.events.push((self.leaves.len(), event));
        self.leaves.push(Said::Decision(LeafDraft {
            decision: deed.permit.decision(),
            kind: Kind::SubjectRegister,
            tag: Some(known.tag),
            // What was stated goes with the deed that it was stated for.
            sealer: None,
            home: Some(&shared.region),
            out: Out::Allow,
            why: None,
            rows: 1,
            bytes: 0,
            gseq: None,
        }));
    }

    fn gather_records(&mut self, wants: &Wants<'a>, slots: Vec<RecordSlot<'a>>) {
        for ((name, _), slot) in wants.records.iter().zip(slots).filter(|(_, slot)| slot.touched) {
            let (updated_at, highest) = (slot.updated_at, slot.highest);
            if slot.now.is_none() {
                self.floors.push((name.subject, highest));
            }
            let written = |before, after| records::Written { name: *name, before, after, updated_at };
            match slot.became() {
                Became::Stands { before, after } => self.records.push(written(before, Some(after))),
                Became::Gone { before } => self.records.push(written(before, None)),
                Became::Passed { version, content } => {
                    self.records.push(written(None, Some((version, content))));
                    self.passed_records.push(written(Some(version), None));
                }
            }
        }
        self.records.sort_unstable_by_key(|written| written.name);
        self.passed_records.sort_unstable_by_key(|written| written.name);
    }

    fn gather_attributes(&mut self, wants: &Wants<'a>, slots: Vec<AttributeSlot<'a>>) {
        for (name, slot) in wants.attributes.iter().zip(slots).filter(|(_, slot)| slot.touched) {
            let (updated_at, highest) = (slot.updated_at, slot.highest);
            if slot.now.is_none() {
                self.floors.push((name.subject, highest));
            }
            let written = |before, after| zero_party::Written { name: *name, before, after, updated_at };
            match slot.became() {
                Became::Stands { before, after } => self.attributes.push(written(before, Some(after))),
                Became::Gone { before } => self.attributes.push(written(before, None)),
                Became::Passed { version, content } => {
                    self.attributes.push(written(None, Some((version, content))));
                    self.passed_attributes.push(written(Some(version), None));
                }
            }
        }
        self.attributes.sort_unstable_by_key(|written| written.name);
        self.passed_attributes.sort_unstable_by_key(|written| written.name);
    }
}
