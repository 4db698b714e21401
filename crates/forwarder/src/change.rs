//! From a change in the log to a row that may go out: consent is applied here and nowhere else. Pure.

use std::collections::BTreeMap;

use follow::home_of;
use residency::{Purpose, Region};
use serde::Deserialize;
use serde_json::value::RawValue;
use storage::OutboxRow;

use crate::error::Error;

/// What a sink keeps of one (subject digest, attribute).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The subject's digest, 64 hexadecimal digits. The identifier itself never goes out.
    pub subject_digest: String,
    /// The attribute's name.
    pub attribute: String,
    /// The value as JSON text; `None` in a tombstone.
    pub value: Option<String>,
    /// The granted consents for forwarded purposes, a JSON array; `None` in a tombstone.
    pub consents: Option<String>,
    /// The attribute's version.
    pub version: u64,
    /// The change's position in the region log: the higher one wins.
    pub seq: u64,
    /// The home region.
    pub region: Region,
    /// Whether this is a tombstone: deleted, or not (any longer) consented to.
    pub deleted: bool,
    /// When it was changed, microseconds since 1970-01-01 UTC.
    pub at_us: i64,
}

impl Row {
    /// The same position without anything personal.
    #[must_use]
    pub fn tombstone(&self) -> Self {
        Self { value: None, consents: None, deleted: true, ..self.clone() }
    }

    /// About how many bytes it is.
    pub(crate) fn bytes(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        160 + self.attribute.len() + text(&self.value) + text(&self.consents)
    }

    pub(crate) fn key(&self) -> (String, String) {
        (self.subject_digest.clone(), self.attribute.clone())
    }
}

/// A subject that a sink is to forget, and never to take again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgotten {
    /// The subject's digest, 64 hexadecimal digits.
    pub subject_digest: String,
    /// The same as bytes.
    pub digest: [u8; 32],
    /// The erasure's position in the region log.
    pub seq: u64,
    /// The home region.
    pub region: Region,
    /// When it was erased, microseconds since 1970-01-01 UTC.
    pub at_us: i64,
}

/// What an entry of the log comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// A row, to be taken if it is newer.
    Row(Row),
    /// An erased subject.
    Erased(Forgotten),
    /// A change of somebody who has been erased since: there is nothing left to be said.
    Nothing,
}

/// The type of the event that an erasure leaves.
const SUBJECT_ERASED: &str = "domicile.subject-erased";

/// The event that `storage` writes for a zero-party change.
#[derive(Deserialize)]
struct Change<'a> {
    attribute: String,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
    version: u64,
    #[serde(borrow, default)]
    consents: Vec<&'a RawValue>,
    #[serde(default)]
    deleted: bool,
}

#[derive(Deserialize)]
struct Consent {
    purpose: String,
    granted: bool,
}

/// What goes out for an entry.
///
/// # Errors
/// As [`row`].
pub(crate) fn said(entry: &OutboxRow, region: &Region, purposes: &[Purpose]) -> Result<Said, Error> {
    at_home(entry, region)?;
    if entry.erased {
        return Ok(Said::Nothing);
    }
    if entry.event_type == SUBJECT_ERASED {
        let (subject_digest, region) = (entry.key.to_hex(), region.clone());
        let (digest, seq, at_us) = (entry.key.bytes, entry.seq, entry.time_us);
        return Ok(Said::Erased(Forgotten { subject_digest, digest, seq, region, at_us }));
    }
    row(entry, region, purposes).map(Said::Row)
}

fn at_home(entry: &OutboxRow, region: &Region) -> Result<(), Error> {
    let home = home_of(&entry.topic);
    if home == region.as_str() {
        return Ok(());
    }
    Err(match Region::new(home) {
        Ok(found) => Error::Abroad { region: region.clone(), found },
        Err(_) => Error::Change { seq: entry.seq },
    })
}

/// The row that goes out for an entry.
///
/// # Errors
/// [`Error::Abroad`] when the entry is of another region, [`Error::Change`] when it cannot be understood.
pub(crate) fn row(entry: &OutboxRow, region: &Region, purposes: &[Purpose]) -> Result<Row, Error> {
    at_home(entry, region)?;
    let change: Change<'_> = serde_json::from_slice(&entry.data).map_err(|_| Error::Change { seq: entry.seq })?;
    let mut granted = Vec::new();
    for text in &change.consents {
        let consent: Consent = serde_json::from_str(text.get()).map_err(|_| Error::Change { seq: entry.seq })?;
        let forwarded = purposes.is_empty() || purposes.iter().any(|purpose| purpose.as_str() == consent.purpose);
        if consent.granted && forwarded {
            granted.push(text.get());
        }
    }
    let consents = format!("[{}]", granted.join(","));
    let row = Row {
        subject_digest: entry.key.to_hex(),
        attribute: change.attribute,
        value: Some(change.value.map_or("null", RawValue::get).to_owned()),
        consents: Some(consents),
        version: change.version,
        seq: entry.seq,
        region: region.clone(),
        deleted: false,
        at_us: entry.time_us,
    };
    Ok(if change.deleted || granted.is_empty() { row.tombstone() } else { row })
}

/// Changes on their way to a sink, reduced to the newest of each (subject digest, attribute).
#[derive(Default)]
pub(crate) struct Batch {
    newest: BTreeMap<(String, String), Row>,
    /// By digest; nothing of theirs is among the rows.
    erased: BTreeMap<String, Forgotten>,
    bytes: usize,
    tombstones: bool,
}

impl Batch {
    pub(crate) fn add(&mut self, row: Row) {
        let key = row.key();
        if self.erased.contains_key(&key.0) {
            return;
        }
        if self.newest.get(&key).is_some_and(|known| known.seq >= row.seq) {
            return;
        }
        self.bytes += row.bytes();
        self.tombstones |= row.deleted;
        if let Some(replaced) = self.newest.insert(key, row) {
            self.bytes -= replaced.bytes();
        }
    }

    /// Whoever was erased is not heard of any more: what came before goes unsent.
    pub(crate) fn erase(&mut self, erased: Forgotten) {
        let digest = erased.subject_digest.clone();
        let of_subject = (digest.clone(), String::new())..;
        let gone: Vec<_> =
            self.newest.range(of_subject).map(|(key, _)| key.clone()).take_while(|key| key.0 == digest).collect();
        for key in gone {
            self.bytes -= self.newest.remove(&key).map_or(0, |row| row.bytes());
        }
        self.erased.insert(digest, erased);
    }

    /// Whom the sink is to forget, in log order.
    pub(crate) fn erased(&self) -> Vec<Forgotten> {
        let mut erased: Vec<Forgotten> = self.erased.values().cloned().collect();
        erased.sort_by_key(|erased| erased.seq);
        erased
    }

    /// The rows in log order.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = self.newest.values().cloned().collect();
        rows.sort_by_key(|row| row.seq);
        rows
    }

    /// Whether a deletion, a withdrawal or an erasure is among what was added.
    pub(crate) fn has_tombstones(&self) -> bool {
        self.tombstones || !self.erased.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.newest.len() + self.erased.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn region() -> Region {
        Region::new("eu-central").unwrap()
    }

    fn purposes(names: &[&str]) -> Vec<Purpose> {
        names.iter().map(|name| Purpose::new(name).unwrap()).collect()
    }

    #[test]
    fn a_value_goes_out_only_with_a_granted_consent_for_a_forwarded_purpose() {
        let granted = change(5, 0xa1, "colour", r#""blue""#, &[("recommendations", true), ("research", false)]);
        let row_for = |names: &[&str]| row(&granted, &region(), &purposes(names)).unwrap();
        assert_eq!(row_for(&[]).value.as_deref(), Some(r#""blue""#));
        assert_eq!(row_for(&["recommendations"]).value.as_deref(), Some(r#""blue""#));
        for refused in [&["research"][..], &["advertising"]] {
            let row = row_for(refused);
            assert!(row.deleted && row.value.is_none() && row.consents.is_none(), "{row:?}");
            assert_eq!(row.seq, 5, "the tombstone keeps its place in the log");
        }
    }

    #[test]
    fn consents_that_were_not_granted_do_not_go_out() {
        let mixed = change(5, 0xa1, "colour", "1", &[("recommendations", true), ("health-research", false)]);
        let row = row(&mixed, &region(), &[]).unwrap();
        assert!(!row.consents.unwrap().contains("health-research"));
    }

    #[test]
    fn a_withdrawal_and_a_deletion_are_tombstones() {
        let withdrawn = change(9, 0xa1, "colour", r#""blue""#, &[("recommendations", false)]);
        assert!(row(&withdrawn, &region(), &[]).unwrap().deleted);
        let mut deleted = change(10, 0xa1, "colour", "null", &[]);
        deleted.data = br#"{"attribute":"colour","version":3,"deleted":true}"#.to_vec();
        let row = row(&deleted, &region(), &[]).unwrap();
        assert!(row.deleted && row.version == 3);
    }

    #[test]
    fn a_row_of_another_region_is_refused() {
        for topic in ["us-east.domicile.zero-party-changed.v1", "eu-central-2.domicile.zero-party-changed.v1"] {
            let mut foreign = change(5, 0xa1, "colour", "1", &[("recommendations", true)]);
            foreign.topic = topic.to_owned();
            assert!(matches!(row(&foreign, &region(), &[]), Err(Error::Abroad { .. })), "{topic}");
        }
    }

    #[test]
    fn of_an_erased_subject_a_batch_keeps_the_erasure_only() {
        let mut batch = Batch::default();
        let consents = [("recommendations", true)];
        let read = |entry: &OutboxRow| said(entry, &region(), &[]).unwrap();
        for (seq, subject) in [(3, 0xa1), (4, 0xb2), (5, 0xa1)] {
            let attribute = format!("a{seq}");
            match read(&change(seq, subject, &attribute, "1", &consents)) {
                Said::Row(row) => batch.add(row),
                other => panic!("{other:?}"),
            }
        }
        let mut erasure = change(6, 0xa1, "", "null", &[]);
        erasure.event_type = SUBJECT_ERASED.to_owned();
        match read(&erasure) {
            Said::Erased(erased) => batch.erase(erased),
            other => panic!("{other:?}"),
        }
        let mut blanked = change(7, 0xa1, "late", "1", &consents);
        (blanked.erased, blanked.data) = (true, Vec::new());
        assert_eq!(read(&blanked), Said::Nothing, "an event without content says nothing");
        batch.add(row(&change(2, 0xa1, "older", "1", &consents), &region(), &[]).unwrap());
        assert_eq!(batch.rows().iter().map(|row| row.seq).collect::<Vec<_>>(), [4]);
        assert_eq!(batch.erased().iter().map(|erased| erased.seq).collect::<Vec<_>>(), [6]);
        assert_eq!(batch.bytes(), batch.rows().iter().map(Row::bytes).sum::<usize>());
        assert!(batch.has_tombstones(), "an erasure does not wait for a bill");
    }

    #[test]
    fn a_batch_keeps_the_newest_of_each_attribute() {
        let mut batch = Batch::default();
        for seq in [3, 9, 5] {
            let entry = change(seq, 0xa1, "colour", &seq.to_string(), &[("recommendations", true)]);
            batch.add(row(&entry, &region(), &[]).unwrap());
        }
        let other = change(4, 0xb2, "colour", "4", &[("recommendations", true)]);
        batch.add(row(&other, &region(), &[]).unwrap());
        let seqs: Vec<u64> = batch.rows().iter().map(|row| row.seq).collect();
        assert_eq!(seqs, [4, 9]);
        assert_eq!(batch.bytes(), batch.rows().iter().map(Row::bytes).sum::<usize>());
    }
}
