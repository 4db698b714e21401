//! The table compiled into a lookup: a code finds its rule by arithmetic, a subdivision by one search.

use super::preset::{Preset, Row};
use super::{Rule, Selector};
use crate::words::{Country, Place};

const LETTERS: usize = 26;

/// What the table says of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// No rule knows it.
    Unknown,
    /// It is no country at all, such as `EU` or `XX`: what network databases say for "unknown".
    NoCountry,
    /// The rule at this index decides.
    Rule(u16),
    /// It is another name of this place. Never handed out.
    Alias(Place),
}

/// Code -> rule.
#[derive(Debug)]
pub(super) struct Lookup {
    countries: Box<[Entry]>,
    /// Sorted by place.
    subdivisions: Vec<(Place, u16)>,
}

impl Lookup {
    /// The first rule in file order that selects a place decides it; a subdivision that no rule selects goes with its country.
    pub(super) fn compile(rules: &[Rule], preset: &Preset) -> Self {
        let mut countries = vec![Entry::Unknown; LETTERS * LETTERS].into_boxed_slice();
        for country in &preset.no_country {
            countries[index(*country)] = Entry::NoCountry;
        }
        for (country, meant) in &preset.aliases {
            countries[index(*country)] = Entry::Alias(*meant);
        }
        let mut places: Vec<Place> = preset.rows.keys().copied().collect();
        places.extend(rules.iter().flat_map(|rule| &rule.selector.codes));
        places.sort_unstable();
        places.dedup();

        let mut subdivisions = Vec::new();
        for place in places {
            let row = preset.rows.get(&place);
            let first = rules.iter().position(|rule| rule.selector.selects(place, row));
            let Some(first) = first.and_then(|at| u16::try_from(at).ok()) else { continue };
            match place.subdivision {
                Some(_) => subdivisions.push((place, first)),
                None => countries[index(place.country)] = Entry::Rule(first),
            }
        }
        Self { countries, subdivisions }
    }

    pub(super) fn find(&self, place: Place) -> Entry {
        match self.countries[index(place.country)] {
            Entry::Alias(meant) => {
                self.find_itself(Place { country: meant.country, subdivision: meant.subdivision.or(place.subdivision) })
            }
            _ => self.find_itself(place),
        }
    }

    fn find_itself(&self, place: Place) -> Entry {
        if place.subdivision.is_some()
            && let Ok(at) = self.subdivisions.binary_search_by(|(known, _)| known.cmp(&place))
        {
            return Entry::Rule(self.subdivisions[at].1);
        }
        match self.countries[index(place.country)] {
            // An alias of an alias is refused with the preset (its parent has no row); it would be unknown here.
            Entry::Alias(_) => Entry::Unknown,
            entry => entry,
        }
    }
}

impl Selector {
    /// Whether it means this very place. A country's subdivisions are places of their own.
    pub(super) fn selects(&self, place: Place, row: Option<&Row>) -> bool {
        self.names(place)
            || (!self.preset.is_empty()
                && row.is_some_and(|row| {
                    self.preset.iter().all(|(column, values)| values.iter().any(|v| v == row.value(*column)))
                }))
    }

    /// Whether it names this very place by its code.
    pub(super) fn names(&self, place: Place) -> bool {
        self.codes.contains(&place)
    }
}

fn index(country: Country) -> usize {
    let [first, second] = country.letters();
    first * LETTERS + second
}
