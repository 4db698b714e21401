//! `[[transfer]]`: on which legal basis data may cross from one jurisdiction into another. A crossing is never
//! forbidden here, since a person's own application may well stand abroad; but it is logged on both sides with the
//! basis that is written here, or with the plain word that none is.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fields::{Fields, Problems, unknown};
use super::{JurisdictionRule, Policy};
use crate::transfer::{NO_BASIS, Transfer};
use crate::words::{Jurisdiction, Region};

/// The most rows of the table.
const TRANSFERS_MAX: usize = 1_000;
/// The longest basis or instrument, bytes: a leaf has no room for longer ones.
const WORDS_BYTES_MAX: usize = 120;

/// Why data may cross.
#[derive(Debug, Clone)]
pub(super) struct Basis {
    basis: Arc<str>,
    instrument: Option<Arc<str>>,
}

/// Every `[[transfer]]`, by from and to.
pub(super) type Transfers = BTreeMap<(Jurisdiction, Jurisdiction), Basis>;

/// Reads every `[[transfer]]`.
pub(super) fn transfers(
    file: &mut Fields,
    jurisdictions: &BTreeMap<Jurisdiction, JurisdictionRule>,
    problems: &mut Problems,
) -> Transfers {
    let items = file.tables("transfer", problems);
    if items.len() > TRANSFERS_MAX {
        let message = format!("There are {} transfers; at most {TRANSFERS_MAX} are read.", items.len());
        problems.add("transfer", message, "Join jurisdictions that live under the same law.");
        return Transfers::new();
    }
    let mut transfers = Transfers::new();
    for mut fields in items {
        let mut side = |name: &'static str, problems: &mut Problems| {
            let named = fields.required_word(name, Jurisdiction::new, problems)?;
            if !jurisdictions.contains_key(&named) {
                unknown(fields.key_of(name), "jurisdiction", named.as_str(), jurisdictions.keys(), problems);
                return None;
            }
            Some(named)
        };
        let (from, to) = (side("from", problems), side("to", problems));
        let basis = fields.required_sentence("basis", problems);
        let instrument = fields.sentence("instrument", problems);
        for (name, words) in [("basis", &basis), ("instrument", &instrument)] {
            if words.as_ref().is_some_and(|words| words.len() > WORDS_BYTES_MAX) {
                let message =
                    format!("It has more than {WORDS_BYTES_MAX} bytes, and every leaf of a crossing holds it.");
                problems.add(fields.key_of(name), message, "Name the text by its number, and keep it elsewhere.");
            }
        }
        if basis.as_deref() == Some(NO_BASIS) {
            let message = format!("`{NO_BASIS}` is what a log says where no basis is written.");
            problems.add(fields.key_of("basis"), message, "Name the basis, or remove the row.");
        }
        let key = fields.key_of("from");
        fields.finish(problems);
        let (Some(from), Some(to), Some(basis)) = (from, to, basis) else { continue };
        if from == to {
            problems.add(key, "Nothing crosses a border within one jurisdiction.", "Remove the row.");
            continue;
        }
        let why = Basis { basis: basis.into(), instrument: instrument.map(Into::into) };
        if transfers.insert((from, to), why).is_some() {
            problems.add(key, "These two jurisdictions are there twice.", "Remove one of the rows.");
        }
    }
    transfers
}

impl Policy {
    /// The transfer that an operation on data at home in `home` is, when it is asked for in the region `via`: data that
    /// is read leaves its home's jurisdiction, data that is written comes into it. `None` within one jurisdiction.
    #[must_use]
    pub fn crossing(&self, via: &Region, home: &Region, writes: bool) -> Option<Transfer> {
        if via == home {
            return None;
        }
        let (via_rule, home_rule) = (self.regions.get(via)?, self.regions.get(home)?);
        if via_rule.jurisdiction == home_rule.jurisdiction {
            return None;
        }
        let (from, to) = if writes { (via, home) } else { (home, via) };
        let (out_of, into) = if writes { (via_rule, home_rule) } else { (home_rule, via_rule) };
        let why = self.transfers.get(&(out_of.jurisdiction.clone(), into.jurisdiction.clone()));
        Some(Transfer {
            from: from.clone(),
            to: to.clone(),
            basis: why.map_or_else(|| NO_BASIS.into(), |why| Arc::clone(&why.basis)),
            instrument: why.and_then(|why| why.instrument.clone()),
        })
    }

    /// The jurisdictions between which data may cross, in their order: from, to, basis, instrument.
    pub fn transfers(&self) -> impl Iterator<Item = (&Jurisdiction, &Jurisdiction, &str, Option<&str>)> {
        self.transfers.iter().map(|((from, to), why)| (from, to, &*why.basis, why.instrument.as_deref()))
    }
}
