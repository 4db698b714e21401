//! What the tour saw, as a table and three sentences; or as JSON.

use std::io::IsTerminal;

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use serde_json::{Value, json};
use world::inspect::Kind;

use super::tour::{Outcome, Seen, Visit};

const HEADER: [&str; 8] = [
    "Who",
    "Seen from",
    "Evidence that won",
    "Region",
    "Partition row @version",
    "Topic partition@offset",
    "Snowflake row",
    "Audit leaf",
];

/// The table of the visits.
pub(super) fn visits(seen: &Seen) -> String {
    let mut table = Table::new();
    let terminal = std::io::stdout().is_terminal();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    table.set_content_arrangement(if terminal { ContentArrangement::Dynamic } else { ContentArrangement::Disabled });
    let coloured = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if !coloured {
        table.force_no_tty();
        if terminal && let Some(width) = terminal_width() {
            table.set_width(width);
        }
    }
    table.set_header(HEADER.map(|title| Cell::new(title).add_attribute(Attribute::Bold)));
    for visit in &seen.visits {
        table.add_row(row(visit));
    }
    table.trim_fmt()
}

fn row(visit: &Visit) -> Vec<Cell> {
    let seen_from = match &visit.country {
        Some(country) => format!("{} ({country})", visit.visitor.address),
        None => format!("{} (no country)", visit.visitor.address),
    };
    let mut cells = vec![Cell::new(visit.visitor.who), Cell::new(seen_from), Cell::new(&visit.evidence)];
    match &visit.outcome {
        Outcome::Kept(traces) => cells.extend([
            Cell::new(&traces.region).fg(colour_of(&traces.region)),
            Cell::new(&traces.row),
            Cell::new(&traces.message),
            Cell::new(&traces.snowflake),
            Cell::new(traces.leaf),
        ]),
        Outcome::TurnedAway { status, code } => {
            cells.push(Cell::new(format!("{status} {code}")).fg(Color::Red));
            cells.extend(["–", "–", "–", "–"].map(Cell::new));
        }
    }
    cells
}

fn colour_of(region: &str) -> Color {
    match region.split('-').next() {
        Some("eu") => Color::Blue,
        Some("uk") => Color::Magenta,
        _ => Color::Green,
    }
}

/// Without styling the table does not ask for the width itself.
fn terminal_width() -> Option<u16> {
    std::env::var("COLUMNS").ok()?.parse().ok()
}

/// The proof in sentences.
pub(super) fn proof(seen: &Seen) -> String {
    let findings = &seen.findings;
    let counts = |of: &dyn Fn(Kind) -> usize| {
        let kinds = [Kind::Database, Kind::Topic, Kind::Snowflake, Kind::Log, Kind::Metrics];
        let parts = kinds.into_iter().filter(|kind| of(*kind) > 0).map(|kind| counted(of(kind), kind));
        parts.collect::<Vec<_>>().join(", ")
    };
    let searched = counts(&|kind| findings.places.get(&kind).copied().unwrap_or_default());
    let at_home: usize = findings.at_home.values().sum();
    let mut lines = vec![
        format!(
            "And nowhere else: {} texts of {} people were looked for in {searched} ({:.1} MB).",
            findings.needles,
            seen.visits.len(),
            findings.bytes as f64 / 1e6
        ),
        format!("Found {at_home} times at home, {} times anywhere else.", findings.leaks.len()),
        format!("Asked by SQL to take a row of another region, {} regions' Postgres refused it.", seen.refusals),
    ];
    lines.extend(seen.broken.iter().map(|sentence| format!("BROKEN: {sentence}.")));
    lines.join("\n")
}

fn counted(count: usize, kind: Kind) -> String {
    if count == 1 { format!("1 {kind}") } else { format!("{count} {kind}s") }
}

/// The same for programs.
pub(super) fn json(seen: &Seen) -> Value {
    let visits = seen.visits.iter().map(|visit| {
        let mut told = json!({
            "who": visit.visitor.who, "address": visit.visitor.address, "country": visit.country,
            "evidence": visit.evidence,
        });
        match &visit.outcome {
            Outcome::Kept(traces) => {
                told["region"] = json!(traces.region);
                told["row"] = json!(traces.row);
                told["message"] = json!(traces.message);
                told["snowflake"] = json!(traces.snowflake);
                told["leaf"] = json!(traces.leaf);
            }
            Outcome::TurnedAway { status, code } => {
                told["status"] = json!(status);
                told["code"] = json!(code);
            }
        }
        told
    });
    let findings = &seen.findings;
    json!({
        "visits": visits.collect::<Vec<_>>(),
        "texts": findings.needles,
        "bytes": findings.bytes,
        "places": findings.places.values().sum::<usize>(),
        "found_at_home": findings.at_home.values().sum::<usize>(),
        "found_elsewhere": findings.leaks,
        "foreign_rows_refused": seen.refusals,
        "broken": seen.broken,
    })
}
