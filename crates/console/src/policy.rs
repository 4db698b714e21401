//! The policy page: which country goes where, and whether the table is sound.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use residency::policy::{CountryPlacement, RegionRule};
use residency::{Outcome, Policy, Region};
use serde::Deserialize;

use crate::Console;
use crate::page::{Frame, render};

/// What a visitor wants to see of the table.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Wanted {
    /// Part of a country's code or name.
    q: String,
    /// A region, `refused` or `unresolved`.
    to: String,
}

#[derive(Template)]
#[template(path = "policy.html")]
struct Table<'a> {
    frame: Frame,
    wanted: Wanted,
    hash: &'a str,
    text: &'a str,
    default_region: Option<&'a Region>,
    regions: Vec<RegionView>,
    refused: usize,
    unresolved: usize,
    problems: Vec<String>,
    rows: Vec<Row>,
    all: usize,
}

struct RegionView {
    name: String,
    jurisdiction: String,
    law: String,
    placements: Vec<String>,
    countries: usize,
}

struct Row {
    code: String,
    name: String,
    /// `home`, `refused` or `unresolved`: the class of its mark.
    outcome: &'static str,
    /// The region, or the same word.
    to: String,
    reason: String,
    rule: String,
}

pub(crate) async fn show(State(console): State<Console>, Query(wanted): Query<Wanted>) -> Response {
    let policy = console.policy();
    let report = policy.check();
    let rows: Vec<_> = report.countries.iter().map(row).collect();
    let count = |to: &str| rows.iter().filter(|row| row.to == to).count();
    let regions = policy.regions().map(|(region, rule)| region_view(&policy, region, rule, count(region.as_str())));
    render(&Table {
        frame: Frame::new("policy", &policy),
        hash: policy.hash_hex(),
        text: policy.text(),
        default_region: policy.default_region(),
        regions: regions.collect(),
        refused: count("refused"),
        unresolved: count("unresolved"),
        problems: report.findings.iter().map(ToString::to_string).collect(),
        all: rows.len(),
        rows: rows.into_iter().filter(|row| wanted.means(row)).collect(),
        wanted,
    })
}

impl Wanted {
    fn means(&self, row: &Row) -> bool {
        let q = self.q.trim().to_lowercase();
        (self.to.is_empty() || self.to == row.to)
            && (q.is_empty() || row.code.to_lowercase().starts_with(&q) || row.name.to_lowercase().contains(&q))
    }
}

fn row(placement: &CountryPlacement) -> Row {
    let (outcome, to, reason) = match &placement.outcome {
        Outcome::Home { region, jurisdiction } => ("home", region.to_string(), jurisdiction.to_string()),
        Outcome::Refused { reason, .. } => ("refused", "refused".to_owned(), reason.to_string()),
        Outcome::Unresolved(unresolved) => ("unresolved", "unresolved".to_owned(), unresolved.code().replace('_', " ")),
    };
    Row {
        code: placement.place.to_string(),
        name: placement.name.to_string(),
        outcome,
        to,
        reason,
        rule: placement.rule.as_ref().map_or_else(String::new, ToString::to_string),
    }
}

fn region_view(policy: &Policy, region: &Region, rule: &RegionRule, countries: usize) -> RegionView {
    let (title, law) = policy.jurisdiction(&rule.jurisdiction).unwrap_or_default();
    RegionView {
        name: region.to_string(),
        jurisdiction: title.to_owned(),
        law: law.to_owned(),
        placements: rule.placements.iter().map(|p| format!("{} {} ({})", p.cloud, p.location, p.country)).collect(),
        countries,
    }
}
