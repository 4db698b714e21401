//! One table for people, JSON files for machines.

use std::io::IsTerminal as _;
use std::path::Path;

use anyhow::Result;
use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::machine::Machine;

/// One comparison: what was measured against what, and the goal.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Comparison {
    pub(crate) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<f64>,
    pub(crate) unit: &'static str,
    pub(crate) goal: String,
    pub(crate) met: Option<bool>,
    /// CPU of the gateway for one request, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gateway_cpu_us: Option<f64>,
    /// CPU of PostgreSQL, all its processes, for one request, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) postgres_cpu_us: Option<f64>,
    /// Both sides in absolute figures, for the reader.
    pub(crate) detail: String,
    /// The goal's number.
    #[serde(skip)]
    pub(crate) bound: Option<f64>,
    /// Whether less is better: for telling what got worse.
    #[serde(skip)]
    pub(crate) less_is_better: bool,
}

/// A bound that a figure should keep.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// Measured to be known; more is better.
    More,
    /// Measured to be known; less is better.
    Less,
}

impl Comparison {
    /// A ratio of two figures.
    pub(crate) fn ratio(name: impl Into<String>, ratio: f64, goal: Goal, detail: String) -> Self {
        Self { ratio: Some(ratio), value: None, ..Self::value(name, ratio, "x", goal, detail) }
    }

    /// A figure with a unit.
    pub(crate) fn value(name: impl Into<String>, value: f64, unit: &'static str, goal: Goal, detail: String) -> Self {
        let (bound, less_is_better) = match goal {
            Goal::AtLeast(bound) => (Some(bound), false),
            Goal::AtMost(bound) => (Some(bound), true),
            Goal::More => (None, false),
            Goal::Less => (None, true),
        };
        let met = bound.map(|bound| if less_is_better { value <= bound } else { value >= bound });
        let sign = if less_is_better { "<=" } else { ">=" };
        let goal = bound.map_or_else(|| "-".to_owned(), |bound| format!("{sign} {} {unit}", short(bound)));
        Self {
            name: name.into(),
            ratio: None,
            value: Some(value),
            unit,
            goal,
            met,
            gateway_cpu_us: None,
            postgres_cpu_us: None,
            detail,
            bound,
            less_is_better,
        }
    }

    /// With the CPU that one request took.
    pub(crate) fn with_cpu(self, gateway_us: f64, postgres_us: f64) -> Self {
        Self { gateway_cpu_us: Some(gateway_us), postgres_cpu_us: Some(postgres_us), ..self }
    }

    /// The figure itself.
    pub(crate) fn figure(&self) -> f64 {
        self.ratio.or(self.value).unwrap_or(f64::NAN)
    }

    /// The figure for people.
    pub(crate) fn in_words(&self) -> String {
        format!("{} {}", short(self.figure()), self.unit)
    }

    /// What the goal says of it, for people.
    pub(crate) fn verdict(&self) -> String {
        match self.met {
            Some(true) => format!(" (goal {}: met)", self.goal),
            Some(false) => format!(" (goal {}: not met)", self.goal),
            None => String::new(),
        }
    }
}

/// Three digits or so: more would be noise.
pub(crate) fn short(figure: f64) -> String {
    match figure.abs() {
        0.0..10.0 => {
            let text = format!("{figure:.2}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        10.0..100.0 => {
            let text = format!("{figure:.1}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ => with_separators(figure),
    }
}

fn with_separators(figure: f64) -> String {
    let digits = format!("{:.0}", figure.abs());
    let mut text = if figure < 0.0 { "-".to_owned() } else { String::new() };
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The table on standard output, with what has to be known to read it.
#[expect(clippy::print_stdout, reason = "a command speaks to its terminal")]
pub(crate) fn print(machine: &Machine, comparisons: &[Comparison], notes: &[String]) {
    let mut table = Table::new();
    let terminal = std::io::stdout().is_terminal();
    if terminal {
        table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    } else {
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    }
    table.set_header(["comparison", "figure", "goal", "met", "gateway us", "Postgres us", "detail"]);
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    let us = |cpu: Option<f64>| right(cpu.map_or_else(String::new, |us| format!("{us:.1}")));
    for one in comparisons {
        let met = match one.met {
            Some(true) => Cell::new("yes").fg(Color::Green),
            Some(false) => Cell::new("no").fg(Color::Red),
            None => Cell::new(""),
        };
        table.add_row([
            Cell::new(&one.name),
            right(one.in_words()),
            Cell::new(&one.goal),
            met,
            us(one.gateway_cpu_us),
            us(one.postgres_cpu_us),
            Cell::new(&one.detail),
        ]);
    }
    println!("{}\n{}", machine.in_words(), table.trim_fmt());
    for note in notes {
        println!("{note}");
    }
}

/// `bench.json` and `machine.json`.
pub(crate) fn write(folder: &Path, machine: &Machine, comparisons: &[Comparison]) -> Result<()> {
    std::fs::write(folder.join("machine.json"), serde_json::to_vec_pretty(machine)?)?;
    std::fs::write(folder.join("bench.json"), serde_json::to_vec_pretty(comparisons)?)?;
    Ok(())
}

/// The middle of several figures.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_as_long_as_they_can_be_read() {
        assert_eq!([2.504, 2.0, 31.25, 412.6, 1_234_567.0].map(short), ["2.5", "2", "31.2", "413", "1,234,567"]);
    }

    #[test]
    fn a_goal_is_judged_on_its_own_side() {
        let fast = Comparison::ratio("a", 2.6, Goal::AtLeast(2.5), String::new());
        assert_eq!((fast.met, fast.goal.as_str(), fast.less_is_better), (Some(true), ">= 2.5 x", false));
        let big = Comparison::value("b", 65.0, "MiB", Goal::AtMost(64.0), String::new());
        assert_eq!((big.met, big.ratio, big.less_is_better), (Some(false), None, true));
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
    }
}
