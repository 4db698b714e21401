//! What must be known before a batch can be folded: about its subjects, and about what its deeds touch.

use std::collections::HashMap;
use std::sync::Arc;

use super::entry::Entry;
use super::subjects::{Fresh, Known};
use super::{idempotency, records, zero_party};
use crate::deeds::{Change, Extent, Idempotency};

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
    /// It was erased here.
    Erased,
}

/// What must be loaded before a batch can be folded.
#[derive(Debug, Default)]
pub(super) struct Wants<'a> {
    /// Records, and whether their bodies are needed.
    pub(super) records: Vec<(records::Name<'a>, bool)>,
    pub(super) attributes: Vec<zero_party::Name<'a>>,
    pub(super) keys: Vec<idempotency::Name<'a>>,
    /// For each entry, where in these lists its thing is.
    pub(super) places: Vec<usize>,
}

/// What was loaded, in the order of [`Wants`].
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) records: Vec<records::Current>,
    pub(super) attributes: Vec<records::Current>,
    pub(super) keys: Vec<(usize, idempotency::Done)>,
    /// What an erasure took away.
    pub(super) erased: Option<Extent>,
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
                Change::PinSubject | Change::EraseSubject | Change::PublishEvent { idempotency: None, .. } => 0,
            };
            wants.places.push(place);
        }
        wants
    }
}
