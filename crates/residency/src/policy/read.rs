//! The policy file becomes meaning here, once: form, then references, then law. Each stage reports all of
//! its mistakes; a later stage only runs on what the earlier ones understood.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use toml::{Table, Value};

use super::compile::Lookup;
use super::fields::{Fields, Problems, kind_of, unknown, word};
use super::preset::{Locations, Preset};
use super::rules::{rules, selector};
use super::transfers::transfers;
use super::weigh::BuiltIn;
use super::{
    Conflict, Gravity, JurisdictionRule, POLICY_BYTES_MAX, Placement, Policy, PolicyHashes, Problem, RegionRule,
};
use crate::evidence::Source;
use crate::words::{Jurisdiction, Malformed, Region, Tenant};

/// The sources that may be made weighty; a pin always decides and a default never conflicts.
const MAY_WEIGH: [Source; 4] = [Source::TenantPin, Source::VerifiedClaim, Source::DeclaredResidence, Source::GeoIp];
/// What weighs unless the file says otherwise: GeoIP alone contradicts nobody.
const WEIGHTY: [Source; 3] = [Source::TenantPin, Source::VerifiedClaim, Source::DeclaredResidence];

/// See [`Policy::parse`].
pub(super) fn policy(text: &str, jurisdictions_csv: &str, locations_csv: &str) -> Result<Policy, Vec<Problem>> {
    let mut problems = Problems::default();
    let preset = Preset::parse(jurisdictions_csv, &mut problems);
    let locations = Locations::parse(locations_csv, &mut problems);
    let Some(table) = toml_table(text, &mut problems) else { return Err(problems.0) };

    let mut file = Fields::new("", table);
    let version = file.required_sentence("version", &mut problems);
    let (conflict, weighty) = conflict(&mut file, &mut problems);
    let jurisdictions = jurisdictions(&mut file, &preset, &mut problems);
    let regions = regions(&mut file, &jurisdictions, &locations, &mut problems);
    let rules = rules(&mut file, &jurisdictions, &regions, &preset, &mut problems);
    let tenants = tenants(&mut file, &regions, &mut problems);
    let transfers = transfers(&mut file, &jurisdictions, &mut problems);
    let default_region = default_region(&mut file, &regions, &mut problems);
    file.finish(&mut problems);

    if !problems.0.is_empty() {
        return Err(problems.0);
    }
    let regions = regions.into_iter().filter_map(|(name, rule)| rule.map(|rule| (name, rule))).collect();
    let hashes = PolicyHashes::of(text, jurisdictions_csv, locations_csv);
    let policy = Policy {
        text: text.into(),
        hash_hex: hex::encode(hashes.policy),
        hashes,
        version: version.unwrap_or_default(),
        conflict,
        weighty,
        jurisdictions,
        regions,
        lookup: Lookup::compile(&rules, &preset),
        rules,
        tenants,
        transfers,
        default_region,
        preset,
        locations,
        built_in: BuiltIn::new(),
    };
    let unlawful: Vec<Problem> = policy
        .findings()
        .into_iter()
        .filter(|finding| finding.gravity == Gravity::Unlawful)
        .map(|finding| Problem { key: finding.key, message: finding.message, fix: finding.fix })
        .collect();
    if unlawful.is_empty() { Ok(policy) } else { Err(unlawful) }
}

fn toml_table(text: &str, problems: &mut Problems) -> Option<Table> {
    if text.len() > POLICY_BYTES_MAX {
        problems.add(
            "policy",
            format!("It has {} bytes; at most {POLICY_BYTES_MAX} are read.", text.len()),
            "Shorten it: choose places by preset columns rather than one by one.",
        );
        return None;
    }
    match text.parse::<Table>() {
        Ok(table) => Some(table),
        Err(error) => {
            let line = error.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
            problems.add(
                format!("policy line {line}"),
                format!("This is not TOML: {}.", error.message()),
                "Correct the line; see https://toml.io.",
            );
            None
        }
    }
}

fn conflict(file: &mut Fields, problems: &mut Problems) -> (Conflict, Vec<Source>) {
    let mut conflict = Conflict::Refuse;
    let mut weighty = WEIGHTY.to_vec();
    let Some(table) = file.table("conflict", problems) else {
        problems.add(
            "conflict",
            "The policy does not say what happens when signals contradict each other.",
            "Add `[conflict]` with `rule = \"strictest\"` or `rule = \"refuse\"`.",
        );
        return (conflict, weighty);
    };
    let mut fields = Fields::new("conflict", table);
    match fields.required_sentence("rule", problems).as_deref() {
        Some("strictest") => conflict = Conflict::Strictest,
        Some("refuse") | None => {}
        Some(other) => {
            problems.add(
                "conflict.rule",
                format!("Nobody knows the rule `{other}`."),
                "Write `strictest` or `refuse`.",
            );
        }
    }
    let named = fields.texts("weighty", problems);
    if !named.is_empty() {
        weighty.clear();
    }
    for (key, name) in named {
        match MAY_WEIGH.into_iter().find(|source| source.name() == name) {
            Some(source) if weighty.contains(&source) => {
                problems.add(key, format!("`{name}` is there twice."), "Remove one of them.");
            }
            Some(source) => weighty.push(source),
            None => problems.add(
                key,
                format!("`{name}` is no source that can be weighed against others."),
                format!("Use some of: {}.", MAY_WEIGH.map(Source::name).join(", ")),
            ),
        }
    }
    fields.finish(problems);
    (conflict, weighty)
}

/// The tables under `[name.…]`, each with its checked name.
fn named_tables<T>(
    file: &mut Fields,
    name: &'static str,
    make: impl Fn(&str) -> Result<T, Malformed>,
    problems: &mut Problems,
) -> Vec<(T, Fields)> {
    let mut named = Vec::new();
    for (own_name, value) in file.table(name, problems).unwrap_or_default() {
        let key = format!("{name}.{own_name}");
        let word = word(&key, &own_name, &make, problems);
        match value {
            Value::Table(table) => named.extend(word.map(|word| (word, Fields::new(key, table)))),
            other => {
                problems.add(key, format!("This is {}, not a table.", kind_of(&other)), "Write it as a table.");
            }
        }
    }
    if named.is_empty() {
        problems.add(name, "The policy names none.", format!("Add `[{name}.…]`."));
    }
    named
}

fn jurisdictions(
    file: &mut Fields,
    preset: &Preset,
    problems: &mut Problems,
) -> BTreeMap<Jurisdiction, JurisdictionRule> {
    let mut jurisdictions = BTreeMap::new();
    for (name, mut fields) in named_tables(file, "jurisdictions", Jurisdiction::new, problems) {
        let title = fields.required_sentence("title", problems);
        let law = fields.required_sentence("law", problems);
        let strictness = fields.required_degree("strictness", problems);
        let members = selector(&mut fields, preset, problems);
        fields.finish(problems);
        // An incomplete one keeps its name, so that the regions naming it are not reported for its sake.
        jurisdictions.insert(
            name,
            JurisdictionRule {
                title: title.unwrap_or_default(),
                law: law.unwrap_or_default(),
                strictness: strictness.unwrap_or_default(),
                members,
            },
        );
    }
    jurisdictions
}

fn regions(
    file: &mut Fields,
    jurisdictions: &BTreeMap<Jurisdiction, JurisdictionRule>,
    locations: &Locations,
    problems: &mut Problems,
) -> BTreeMap<Region, Option<RegionRule>> {
    let mut regions = BTreeMap::new();
    for (name, mut fields) in named_tables(file, "regions", Region::new, problems) {
        let jurisdiction = fields.required_word("jurisdiction", Jurisdiction::new, problems);
        let jurisdiction = jurisdiction.filter(|named| {
            let known = jurisdictions.contains_key(named);
            if !known {
                unknown(fields.key_of("jurisdiction"), "jurisdiction", named.as_str(), jurisdictions.keys(), problems);
            }
            known
        });
        let mut placements = Vec::new();
        for mut item in fields.tables("placements", problems) {
            let key = item.key_of("location");
            let cloud = item.required_sentence("cloud", problems);
            let location = item.required_sentence("location", problems);
            item.finish(problems);
            let (Some(cloud), Some(location)) = (cloud, location) else { continue };
            let Some(found) = locations.find(&cloud, &location) else {
                let fix = if locations.knows_cloud(&cloud) {
                    "Correct the name, or add a row with its country to the locations preset.".to_owned()
                } else {
                    format!("The locations preset knows these clouds: {}.", locations.clouds())
                };
                problems.add(key, format!("The locations preset has no `{location}` of `{cloud}`."), fix);
                continue;
            };
            let placement = Placement {
                cloud: cloud.into(),
                location: location.into(),
                country: found.country,
                area: Arc::clone(&found.area),
            };
            if placements.contains(&placement) {
                problems.add(key, "This placement is there twice.", "Remove one of them.");
            } else {
                placements.push(placement);
            }
        }
        if placements.is_empty() {
            problems.add(
                fields.key_of("placements"),
                "The region has no placement.",
                "Add `placements = [{ cloud = \"…\", location = \"…\" }]`, the first preferred.",
            );
        }
        fields.finish(problems);
        regions.insert(name, jurisdiction.map(|jurisdiction| RegionRule { jurisdiction, placements }));
    }
    regions
}

fn tenants(
    file: &mut Fields,
    regions: &BTreeMap<Region, Option<RegionRule>>,
    problems: &mut Problems,
) -> HashMap<Tenant, Region> {
    let mut tenants = HashMap::new();
    for mut fields in file.tables("tenant", problems) {
        let name = fields.required_word("name", Tenant::new, problems);
        let region = fields.required_word("region", Region::new, problems);
        if let Some(named) = region.as_ref().filter(|named| !regions.contains_key(named)) {
            unknown(fields.key_of("region"), "region", named.as_str(), regions.keys(), problems);
        }
        if let Some(name) = name.as_ref().filter(|name| tenants.contains_key(*name)) {
            problems.add(fields.key_of("name"), format!("The tenant `{name}` is there twice."), "Remove one of them.");
        }
        fields.finish(problems);
        if let (Some(name), Some(region)) = (name, region) {
            tenants.insert(name, region);
        }
    }
    tenants
}

fn default_region(
    file: &mut Fields,
    regions: &BTreeMap<Region, Option<RegionRule>>,
    problems: &mut Problems,
) -> Option<Region> {
    let mut fields = Fields::new("default", file.table("default", problems)?);
    let region = fields.required_word("region", Region::new, problems);
    if let Some(named) = region.as_ref().filter(|named| !regions.contains_key(named)) {
        unknown(fields.key_of("region"), "region", named.as_str(), regions.keys(), problems);
    }
    fields.finish(problems);
    region
}
