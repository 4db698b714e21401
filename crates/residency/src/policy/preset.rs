//! The presets a policy chooses from: countries with what is known of their law, and the locations of clouds.
//! Both are CSV with a header, and lines that begin with `#` for people.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Problem;
use super::fields::Problems;
use crate::words::{Country, Place};

/// The most rows of a preset that are read.
const ROWS_MAX: usize = 10_000;

/// A column of the jurisdictions preset that a selector may choose by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Column(usize);

impl Column {
    const NAMES: [&str; 9] = [
        "kind",
        "in_eea",
        "in_eu",
        "gdpr_applies",
        "uk_gdpr",
        "eu_adequacy",
        "localization",
        "localization_scope",
        "confidence",
    ];
    pub(super) const LOCALIZATION: Self = Self(6);
    pub(super) const CONFIDENCE: Self = Self(8);

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().position(|n| *n == name).map(Self)
    }

    pub(super) fn names() -> String {
        Self::NAMES.join(", ")
    }
}

/// One country or subdivision.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) name: Arc<str>,
    values: [Box<str>; 9],
}

impl Row {
    pub(super) fn value(&self, column: Column) -> &str {
        &self.values[column.0]
    }
}

/// The jurisdictions preset: every country and subdivision, other codes for them, and codes that are no country.
#[derive(Debug, Default)]
pub(super) struct Preset {
    pub(super) rows: BTreeMap<Place, Row>,
    pub(super) aliases: BTreeMap<Country, Place>,
    pub(super) no_country: Vec<Country>,
}

impl Preset {
    /// Every value a column takes, for advice.
    pub(super) fn values_of(&self, column: Column) -> Vec<&str> {
        let mut values: Vec<&str> = self.rows.values().map(|row| row.value(column)).collect();
        values.sort_unstable();
        values.dedup();
        values
    }

    /// The place a code means: itself, or what it is another name for.
    pub(super) fn resolve(&self, place: Place) -> Place {
        match self.aliases.get(&place.country) {
            Some(meant) => Place { country: meant.country, subdivision: meant.subdivision.or(place.subdivision) },
            None => place,
        }
    }

    pub(super) fn parse(csv: &str, problems: &mut Problems) -> Self {
        const FILE: &str = "jurisdictions.csv";
        let mut preset = Self::default();
        let Some(table) = Table::parse(FILE, csv, &["code", "kind", "name", "parent"], &Column::NAMES, problems) else {
            return preset;
        };
        let mut parents = Vec::new();
        for (key, [code, kind, name, parent], values) in table.rows {
            match (kind.as_str(), Place::new(&code)) {
                // A1, O1 and the like are no places even in form, so nobody can come with one.
                ("pseudo", Err(_)) => {}
                ("pseudo", Ok(place)) => preset.no_country.push(place.country),
                (_, Err(malformed)) => {
                    problems.add(key, format!("The code `{code}` does not do: {malformed}."), "Correct the code.");
                }
                ("alias", Ok(place)) => match Place::new(&parent) {
                    Ok(meant) => {
                        parents.push((key, meant));
                        preset.aliases.insert(place.country, meant);
                    }
                    Err(_) => problems.add(
                        key,
                        format!("The alias `{code}` does not say what it is another name for."),
                        "Name the code in the column `parent`.",
                    ),
                },
                ("country" | "user-assigned" | "eu-oct" | "eu-outermost" | "eu-special" | "subdivision", Ok(place)) => {
                    if place.subdivision.is_some() {
                        parents.push((key.clone(), place.whole_country()));
                    }
                    let row = Row { name: name.as_str().into(), values: values.map(String::into_boxed_str) };
                    if preset.rows.insert(place, row).is_some() {
                        problems.add(key, format!("The code `{code}` has two rows."), "Remove one of them.");
                    }
                }
                (kind, Ok(_)) => problems.add(
                    key,
                    format!("Nobody knows the kind `{kind}`."),
                    "Use country, user-assigned, eu-oct, eu-outermost, eu-special, subdivision, alias or pseudo.",
                ),
            }
        }
        for (key, parent) in parents {
            if !preset.rows.contains_key(&parent) {
                problems.add(key, format!("Its parent `{parent}` has no row."), "Add the row, or correct the parent.");
            }
        }
        preset
    }
}

/// Where a cloud's location stands.
#[derive(Debug, Clone)]
pub(super) struct Location {
    pub(super) country: Country,
    pub(super) area: Arc<str>,
}

/// The locations preset, by cloud and location.
#[derive(Debug, Default)]
pub(super) struct Locations(HashMap<(String, String), Location>);

impl Locations {
    pub(super) fn find(&self, cloud: &str, location: &str) -> Option<&Location> {
        self.0.get(&(cloud.to_owned(), location.to_owned()))
    }

    pub(super) fn knows_cloud(&self, cloud: &str) -> bool {
        self.0.keys().any(|(known, _)| known == cloud)
    }

    pub(super) fn clouds(&self) -> String {
        let mut clouds: Vec<&str> = self.0.keys().map(|(cloud, _)| cloud.as_str()).collect();
        clouds.sort_unstable();
        clouds.dedup();
        clouds.join(", ")
    }

    pub(super) fn parse(csv: &str, problems: &mut Problems) -> Self {
        const FILE: &str = "locations.csv";
        let mut locations = Self::default();
        let Some(table) = Table::parse(FILE, csv, &["cloud", "location", "country", "area"], &[], problems) else {
            return locations;
        };
        for (key, [cloud, location, country, area], []) in table.rows {
            if cloud.is_empty() || location.is_empty() || area.is_empty() {
                problems.add(key, "A location has a cloud, a name and an area.", "Fill in all three.");
                continue;
            }
            let Ok(country) = Country::new(&country) else {
                problems.add(key, format!("`{country}` is no country."), "Use two letters of ISO 3166-1.");
                continue;
            };
            let entry = Location { country, area: area.as_str().into() };
            if locations.0.insert((cloud, location), entry).is_some() {
                problems.add(key, "This location has two rows.", "Remove one of them.");
            }
        }
        locations
    }
}

/// A CSV file with `N` columns of identity and `V` of values, picked by the names in its header.
struct Table<const N: usize, const V: usize> {
    rows: Vec<(String, [String; N], [String; V])>,
}

impl<const N: usize, const V: usize> Table<N, V> {
    fn parse(file: &str, text: &str, names: &[&str; N], values: &[&str; V], problems: &mut Problems) -> Option<Self> {
        let mut reader =
            csv::ReaderBuilder::new().comment(Some(b'#')).trim(csv::Trim::All).from_reader(text.as_bytes());
        let header = match reader.headers() {
            Ok(header) => header.clone(),
            Err(error) => {
                problems.0.push(unreadable(file, &error));
                return None;
            }
        };
        let at = |name: &&str| header.iter().position(|column| column == *name);
        let missing: Vec<&str> = names.iter().chain(values).filter(|name| at(name).is_none()).copied().collect();
        if !missing.is_empty() {
            problems.add(
                file,
                format!("The header lacks: {}.", missing.join(", ")),
                "Take the header of the bundled preset.",
            );
            return None;
        }
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    problems.0.push(unreadable(file, &error));
                    continue;
                }
            };
            if rows.len() == ROWS_MAX {
                problems.add(file, format!("It has more than {ROWS_MAX} rows."), "Remove the rows nobody needs.");
                break;
            }
            let line = record.position().map_or(0, csv::Position::line);
            let field = |name: &&str| at(name).and_then(|at| record.get(at)).unwrap_or_default().to_owned();
            rows.push((format!("{file} line {line}"), names.each_ref().map(field), values.each_ref().map(field)));
        }
        if rows.is_empty() {
            problems.add(file, "It has no rows.", "Take the bundled preset.");
        }
        Some(Self { rows })
    }
}

fn unreadable(file: &str, error: &csv::Error) -> Problem {
    let line = error.position().map_or(0, csv::Position::line);
    Problem {
        key: format!("{file} line {line}"),
        message: "The line cannot be read as CSV in UTF-8 with as many fields as the header.".to_owned(),
        fix: "Quote fields that hold commas.".to_owned(),
    }
}
