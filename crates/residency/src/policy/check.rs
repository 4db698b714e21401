//! The static proof of a table: every country placed or refused on purpose, no rule dead, nothing where its
//! own law forbids it. What is [`Gravity::Unlawful`] keeps a policy from being loaded at all.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::compile::Entry;
use super::preset::{Column, Row};
use super::weigh::Resolved;
use super::{JurisdictionRule, Outcome, Policy, Region, RegionRule, Rule, RuleId, Unresolved, iso3166};
use crate::words::{Jurisdiction, Place};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gravity {
    /// The table leaves something undone; people it concerns are refused rather than misplaced.
    Incomplete,
    /// The table would put data where it may not be. Such a policy cannot be loaded.
    Unlawful,
}

/// One thing that is wrong with a table: where, what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckFinding {
    /// The stable name of the proof that failed, e.g. `every-country`.
    pub check: &'static str,
    /// How bad it is.
    pub gravity: Gravity,
    /// The key in the policy file, or the code, that it is about.
    pub key: String,
    /// What is wrong, as a sentence.
    pub message: String,
    /// What to do about it, as a sentence.
    pub fix: String,
}

impl fmt::Display for CheckFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.key, self.message, self.fix)
    }
}

/// Where the people of one place are at home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountryPlacement {
    /// The country or subdivision.
    pub place: Place,
    /// Its name in the preset; its code if the preset lost it.
    pub name: Arc<str>,
    /// The rule that decides; absent when none does.
    pub rule: Option<RuleId>,
    /// A home, a refusal, or unresolved.
    pub outcome: Outcome,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckReport {
    /// Every country and every subdivision of the preset, in the order of their codes.
    pub countries: Vec<CountryPlacement>,
    /// Everything that is wrong, in the order of the proofs.
    pub findings: Vec<CheckFinding>,
}

impl CheckReport {
    /// Whether every proof held.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }
}

impl Policy {
    /// The names of the proofs, in their order.
    pub const CHECKS: [&str; 9] = [
        "every-country",
        "no-dead-rule",
        "placement-inside",
        "second-placement",
        "rule-jurisdiction",
        "own-jurisdiction",
        "abroad-because",
        "kept-in-country",
        "doubt-is-named",
    ];

    /// Proves the table. Each finding names its proof:
    ///
    /// - `every-country`: every ISO 3166-1 code and every row of the preset is placed or refused on purpose;
    /// - `no-dead-rule`: every rule decides at least one place, and every code it names;
    /// - `placement-inside`: every placement stands in a country of its region's jurisdiction;
    /// - `second-placement`: every region has a placement that one disaster leaves standing, in another area;
    /// - `rule-jurisdiction`: every rule's region lies in the jurisdiction that the rule names;
    /// - `own-jurisdiction`: who lives under a jurisdiction of the table is placed in it, or refused;
    /// - `abroad-because`: who is placed outside their own country's law is so for a written reason;
    /// - `kept-in-country`: where data must be stored in the country, it is, or the place is refused;
    /// - `doubt-is-named`: a row of low confidence or unknown law is refused, or placed by its code.
    #[must_use]
    pub fn check(&self) -> CheckReport {
        CheckReport { countries: self.countries(), findings: self.findings() }
    }

    /// Every finding, in the order of the proofs.
    pub(super) fn findings(&self) -> Vec<CheckFinding> {
        let mut findings = Vec::new();
        self.every_country(&mut findings);
        self.no_dead_rule(&mut findings);
        self.placements(&mut findings);
        self.rule_jurisdiction(&mut findings);
        for (place, row) in self.places() {
            // A subdivision without a row of its own lives under its country's law.
            let row = row.or_else(|| self.preset.rows.get(&place.whole_country()));
            if let Some((rule, region, found)) = self.home_of(place) {
                self.own_jurisdiction(place, rule, region, found, &mut findings);
                kept_in_country(place, row, rule, region, found, &mut findings);
                doubt_is_named(place, row, rule, &mut findings);
            }
        }
        findings
    }

    /// Every place that could be asked for: the preset's rows, the codes rules name, and the codes of ISO 3166-1.
    fn places(&self) -> Vec<(Place, Option<&Row>)> {
        let mut places: BTreeSet<Place> = self.preset.rows.keys().copied().collect();
        places.extend(self.rules.iter().flat_map(|rule| &rule.selector.codes));
        places.extend(iso3166::CODES.iter().filter_map(|code| Place::new(code).ok()));
        places.into_iter().map(|place| (place, self.preset.rows.get(&place))).collect()
    }

    fn countries(&self) -> Vec<CountryPlacement> {
        let placed = |(place, row): (Place, Option<&Row>)| {
            let resolved = self.resolve_place(place);
            let rule = match resolved {
                Resolved::Home { rule, .. } | Resolved::Refused { rule, .. } => Some(rule.clone()),
                _ => None,
            };
            CountryPlacement {
                place,
                name: row.map_or_else(|| place.to_string().into(), |row| Arc::clone(&row.name)),
                rule,
                outcome: resolved.outcome().unwrap_or(Outcome::Unresolved(Unresolved::UnknownPlace(place))),
            }
        };
        self.places().into_iter().map(placed).collect()
    }

    fn rule_of(&self, place: Place) -> Option<usize> {
        match self.lookup.find(place) {
            Entry::Rule(at) => Some(usize::from(at)),
            Entry::Unknown | Entry::NoCountry | Entry::Alias(_) => None,
        }
    }

    /// The rule and the region of a place that is placed.
    fn home_of(&self, place: Place) -> Option<(&Rule, &Region, &RegionRule)> {
        let rule = &self.rules[self.rule_of(place)?];
        let region = rule.verdict.as_ref().ok()?;
        Some((rule, region, self.regions.get(region)?))
    }

    /// Whether a place lies in a jurisdiction; a subdivision also does where its country does.
    pub(super) fn is_member(&self, place: Place, jurisdiction: &JurisdictionRule) -> bool {
        let selects = |place: Place| jurisdiction.members.selects(place, self.preset.rows.get(&place));
        selects(place) || (place.subdivision.is_some() && selects(place.whole_country()))
    }

    fn jurisdictions_of(&self, place: Place) -> Vec<&Jurisdiction> {
        let member = |(name, rule)| self.is_member(place, rule).then_some(name);
        self.jurisdictions.iter().filter_map(member).collect()
    }

    fn every_country(&self, findings: &mut Vec<CheckFinding>) {
        for (place, row) in self.places() {
            if self.rule_of(place).is_some() {
                continue;
            }
            let (message, fix) = match row {
                Some(row) => (
                    format!("{} is neither placed nor refused.", row.name),
                    "Add it to a rule that places it, or to one that refuses it with a sentence.",
                ),
                None => (
                    "ISO 3166-1 has this code, but the jurisdictions preset has no row for it.".to_owned(),
                    "Add the row to the preset, and a rule for it.",
                ),
            };
            let gravity = Gravity::Incomplete;
            findings.push(CheckFinding {
                check: "every-country",
                gravity,
                key: place.to_string(),
                message,
                fix: fix.into(),
            });
        }
    }

    fn no_dead_rule(&self, findings: &mut Vec<CheckFinding>) {
        let mut alive = vec![false; self.rules.len()];
        for (place, _) in self.places() {
            // Asked of the rules and not of the lookup: a subdivision that goes with its country keeps nothing alive.
            let first = self.rules.iter().position(|rule| rule.selector.selects(place, self.preset.rows.get(&place)));
            if let Some(first) = first {
                alive[first] = true;
            }
        }
        let mut add = |key: String, message: String, fix: &str| {
            let gravity = Gravity::Incomplete;
            findings.push(CheckFinding { check: "no-dead-rule", gravity, key, message, fix: fix.to_owned() });
        };
        for (at, rule) in self.rules.iter().enumerate() {
            let key = format!("rule[{}] ({})", at + 1, rule.name);
            if !alive[at] {
                let message = "The rule decides nothing: earlier rules take every place it means.".to_owned();
                add(key, message, "Remove it, or move it before the rules that take its places.");
                continue;
            }
            for place in &rule.selector.codes {
                if let Some(first) = self.rule_of(*place).filter(|first| *first != at) {
                    let earlier = &self.rules[first].name;
                    let message = format!("It names {place}, but the earlier rule `{earlier}` decides it.");
                    add(key.clone(), message, "Name it in one of the two only.");
                }
            }
        }
    }

    fn placements(&self, findings: &mut Vec<CheckFinding>) {
        for (name, region) in &self.regions {
            let key = format!("regions.{name}.placements");
            let Some(jurisdiction) = self.jurisdictions.get(&region.jurisdiction) else { continue };
            for placement in &region.placements {
                if !self.is_member(placement.country.into(), jurisdiction) {
                    findings.push(CheckFinding {
                        check: "placement-inside",
                        gravity: Gravity::Unlawful,
                        key: key.clone(),
                        message: format!(
                            "{} {} stands in {}, outside the jurisdiction {}.",
                            placement.cloud, placement.location, placement.country, region.jurisdiction
                        ),
                        fix: "Take a location inside the jurisdiction.".to_owned(),
                    });
                }
            }
            let first_area = region.placements.first().map(|first| (first.country, &first.area));
            if region.placements.iter().all(|placement| Some((placement.country, &placement.area)) == first_area) {
                findings.push(CheckFinding {
                    check: "second-placement",
                    gravity: Gravity::Incomplete,
                    key,
                    message: "One disaster reaches every placement of this region.".to_owned(),
                    fix: "Add a placement in another area of the same jurisdiction.".to_owned(),
                });
            }
        }
    }

    fn rule_jurisdiction(&self, findings: &mut Vec<CheckFinding>) {
        for (at, rule) in self.rules.iter().enumerate() {
            let (Ok(region), Some(meant)) = (&rule.verdict, &rule.jurisdiction) else { continue };
            let Some(found) = self.regions.get(region).filter(|found| found.jurisdiction != *meant) else { continue };
            findings.push(CheckFinding {
                check: "rule-jurisdiction",
                gravity: Gravity::Unlawful,
                key: format!("rule[{}] ({})", at + 1, rule.name),
                message: format!(
                    "The rule means jurisdiction {meant}, but its region {region} lies in {}.",
                    found.jurisdiction
                ),
                fix: "Name a region of the jurisdiction, or correct the jurisdiction.".to_owned(),
            });
        }
    }

    fn own_jurisdiction(
        &self,
        place: Place,
        rule: &Rule,
        region: &Region,
        found: &RegionRule,
        findings: &mut Vec<CheckFinding>,
    ) {
        let own = self.jurisdictions_of(place);
        if own.contains(&&found.jurisdiction) {
            return;
        }
        if let Some(own) = own.first() {
            findings.push(CheckFinding {
                check: "own-jurisdiction",
                gravity: Gravity::Unlawful,
                key: place.to_string(),
                message: format!(
                    "It lies in jurisdiction {own}, but the rule `{}` places it in {region}, which lies in {}.",
                    rule.name, found.jurisdiction
                ),
                fix: "Place it in a region of its own jurisdiction, or refuse it.".to_owned(),
            });
        } else if rule.because.is_none() {
            findings.push(CheckFinding {
                check: "abroad-because",
                gravity: Gravity::Incomplete,
                key: place.to_string(),
                message: format!(
                    "The rule `{}` places it in {}, a jurisdiction it does not belong to, and does not say why.",
                    rule.name, found.jurisdiction
                ),
                fix: "Add `because = \"…\"` to the rule, after review with counsel, or refuse the place.".to_owned(),
            });
        }
    }
}

fn kept_in_country(
    place: Place,
    row: Option<&Row>,
    rule: &Rule,
    region: &Region,
    found: &RegionRule,
    findings: &mut Vec<CheckFinding>,
) {
    let must = row.is_some_and(|row| row.value(Column::LOCALIZATION) == "must-store-in-country");
    if must && found.placements.iter().any(|placement| placement.country != place.country) {
        findings.push(CheckFinding {
            check: "kept-in-country",
            gravity: Gravity::Unlawful,
            key: place.to_string(),
            message: format!(
                "Its law keeps data in the country, but the rule `{}` places it in {region}, which stands elsewhere.",
                rule.name
            ),
            fix: "Refuse it, or place it in a region whose placements all stand in the country.".to_owned(),
        });
    }
}

fn doubt_is_named(place: Place, row: Option<&Row>, rule: &Rule, findings: &mut Vec<CheckFinding>) {
    let doubtful = row.is_some_and(|row| {
        !matches!(row.value(Column::CONFIDENCE), "high" | "medium") || row.value(Column::LOCALIZATION) == "unknown"
    });
    if doubtful && !rule.selector.names(place) {
        findings.push(CheckFinding {
            check: "doubt-is-named",
            gravity: Gravity::Incomplete,
            key: place.to_string(),
            message: format!(
                "Too little is known of its law (low confidence, or unknown), but the rule `{}` places it unnamed.",
                rule.name
            ),
            fix: "Refuse it, or name its code in the rule after review with counsel.".to_owned(),
        });
    }
}
