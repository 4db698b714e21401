//! Reading the rows of the table: the rules, and the places that rules and jurisdictions choose.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use toml::Value;

use super::fields::{Fields, Problems, texts, unknown, word};
use super::preset::{Column, Preset};
use super::{BUILT_IN_RULES, JurisdictionRule, RULES_MAX, RegionRule, Rule, RuleId, Selector};
use crate::words::{Jurisdiction, Place, Region};

/// Reads every `[[rule]]`, in file order.
pub(super) fn rules(
    file: &mut Fields,
    jurisdictions: &BTreeMap<Jurisdiction, JurisdictionRule>,
    regions: &BTreeMap<Region, Option<RegionRule>>,
    preset: &Preset,
    problems: &mut Problems,
) -> Vec<Rule> {
    let items = file.tables("rule", problems);
    if items.is_empty() {
        problems.add("rule", "The policy has no rule.", "Add a `[[rule]]` for each kind of place.");
    }
    if items.len() > RULES_MAX {
        problems.add(
            "rule",
            format!("There are {} rules; at most {RULES_MAX} are read.", items.len()),
            "Join rules that lead to the same region.",
        );
        return Vec::new();
    }
    let mut rules = Vec::new();
    let mut names = BTreeSet::new();
    for mut fields in items {
        let name = fields.required_sentence("name", problems);
        if let Some(name) = &name {
            fields.call_it(name);
            rule_name(&fields.key_of("name"), name, &mut names, problems);
        }
        let selector = selector(&mut fields, preset, problems);
        let jurisdiction = fields.word("jurisdiction", Jurisdiction::new, problems);
        if let Some(named) = jurisdiction.as_ref().filter(|named| !jurisdictions.contains_key(named)) {
            unknown(fields.key_of("jurisdiction"), "jurisdiction", named.as_str(), jurisdictions.keys(), problems);
        }
        let because = fields.sentence("because", problems);
        let verdict = verdict(&mut fields, regions, problems);
        if matches!(verdict, Some(Ok(_))) && jurisdiction.is_none() {
            problems.add(
                fields.key_of("jurisdiction"),
                "A rule that names a region also names the jurisdiction it means to be in.",
                "Add `jurisdiction = \"…\"`.",
            );
        }
        fields.finish(problems);
        if let (Some(name), Some(verdict)) = (name, verdict) {
            rules.push(Rule { name: RuleId::new(&name), selector, verdict, jurisdiction, because });
        }
    }
    rules
}

fn rule_name(key: &str, name: &str, earlier: &mut BTreeSet<String>, problems: &mut Problems) {
    if name.len() > 40
        || !name.starts_with(|c: char| c.is_ascii_lowercase())
        || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        problems.add(
            key,
            "A rule's name is 1 to 40 characters of a-z, 0-9 and hyphens, beginning with a letter.",
            "It is shown with every decision: give it a short name.",
        );
    }
    if BUILT_IN_RULES.contains(&name) {
        problems.add(key, format!("`{name}` is the name of a built-in rule."), "Choose another name.");
    }
    if !earlier.insert(name.to_owned()) {
        problems.add(key, format!("Two rules are called `{name}`."), "Choose another name.");
    }
}

/// Where a rule's people are at home, or the sentence why nowhere: one of the two.
fn verdict(
    fields: &mut Fields,
    regions: &BTreeMap<Region, Option<RegionRule>>,
    problems: &mut Problems,
) -> Option<Result<Region, Arc<str>>> {
    let stated = (fields.has("region"), fields.has("refuse"));
    let region = fields.word("region", Region::new, problems);
    if let Some(named) = region.as_ref().filter(|named| !regions.contains_key(named)) {
        unknown(fields.key_of("region"), "region", named.as_str(), regions.keys(), problems);
    }
    let refuse = fields.sentence("refuse", problems);
    match stated {
        (true, false) => region.map(Ok),
        (false, true) => refuse.map(|reason| Err(reason.into())),
        (true, true) => {
            let fix = "Keep either `region` or `refuse`.";
            problems.add(fields.key_of("refuse"), "The rule both places and refuses.", fix);
            None
        }
        (false, false) => {
            let fix = "Add `region = \"…\"`, or `refuse = \"…\"` with a sentence for the caller.";
            problems.add(fields.key_of("region"), "The rule neither places nor refuses.", fix);
            None
        }
    }
}

/// Reads `codes` and `preset`: at least one of them, and nothing that the preset does not know.
pub(super) fn selector(fields: &mut Fields, preset: &Preset, problems: &mut Problems) -> Selector {
    let mut selector = Selector::default();
    let codes = fields.texts("codes", problems);
    let columns = fields.table("preset", problems);
    if codes.is_empty() && columns.is_none() {
        problems.add(
            fields.key_of("codes"),
            "It means no place.",
            "Add `codes = [\"DE\"]`, or `preset = { gdpr_applies = [\"yes\"] }`, or both.",
        );
    }
    for (key, code) in codes {
        let Some(place) = word(&key, &code, Place::new, problems) else { continue };
        let place = preset.resolve(place);
        if preset.no_country.contains(&place.country) {
            problems.add(key, format!("`{code}` is no country, so nobody lives there."), "Remove it.");
        } else if !preset.rows.contains_key(&place.whole_country()) {
            problems.add(key, format!("The jurisdictions preset has no `{code}`."), "Correct the code.");
        } else if selector.codes.contains(&place) {
            problems.add(key, format!("`{code}` is there twice."), "Remove one of them.");
        } else {
            selector.codes.push(place);
        }
    }
    let columns_key = fields.key_of("preset");
    for (name, value) in columns.unwrap_or_default() {
        let key = format!("{columns_key}.{name}");
        let Some(column) = Column::named(&name) else {
            let fix = format!("Use one of: {}.", Column::names());
            problems.add(key, "The jurisdictions preset has no such column to choose by.", fix);
            continue;
        };
        let Value::Array(items) = value else {
            problems.add(key, "This is not a list.", format!("Write `{name} = [\"…\"]`."));
            continue;
        };
        let known = preset.values_of(column);
        let mut values = Vec::new();
        for (key, value) in texts(&key, items, problems) {
            if known.contains(&value.as_str()) {
                values.push(value);
            } else {
                let known: Vec<&str> = known.iter().copied().filter(|value| !value.is_empty()).collect();
                let fix = format!("Use one of: {}.", known.join(", "));
                problems.add(key, format!("No row of the preset has `{value}` there."), fix);
            }
        }
        selector.preset.push((column, values));
    }
    selector
}
