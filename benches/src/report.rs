//! One table for people, one JSON file for machines.

use std::path::Path;

use anyhow::Result;
use comfy_table::{Cell, CellAlignment, Color, Table, presets};
use serde::Serialize;
use serde_json::json;

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
    /// Both sides in absolute figures, for the reader.
    pub(crate) detail: String,
}

/// A bound that a figure should keep.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// Measured to be known.
    None,
}

impl Comparison {
    /// A ratio of two rates.
    pub(crate) fn ratio(name: impl Into<String>, ratio: f64, goal: Goal, detail: String) -> Self {
        let (goal, met) = goal.judge(ratio, "x");
        Self { name: name.into(), ratio: Some(ratio), value: None, unit: "x", goal, met, detail }
    }

    /// A figure with a unit.
    pub(crate) fn value(name: impl Into<String>, value: f64, unit: &'static str, goal: Goal, detail: String) -> Self {
        let (goal, met) = goal.judge(value, unit);
        Self { name: name.into(), ratio: None, value: Some(value), unit, goal, met, detail }
    }
}

impl Goal {
    fn judge(self, figure: f64, unit: &str) -> (String, Option<bool>) {
        match self {
            Self::AtLeast(bound) => (format!(">= {bound} {unit}"), Some(figure >= bound)),
            Self::AtMost(bound) => (format!("<= {bound} {unit}"), Some(figure <= bound)),
            Self::None => ("-".into(), None),
        }
    }
}

#[expect(clippy::print_stdout, reason = "a command speaks to its terminal")]
pub(crate) fn print(machine: &Machine, comparisons: &[Comparison]) {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(["comparison", "figure", "goal", "met", "detail"]);
    for one in comparisons {
        let figure = one.ratio.or(one.value).unwrap_or(f64::NAN);
        let met = match one.met {
            Some(true) => Cell::new("yes").fg(Color::Green),
            Some(false) => Cell::new("no").fg(Color::Red),
            None => Cell::new(""),
        };
        let figure = Cell::new(format!("{figure:.2} {}", one.unit)).set_alignment(CellAlignment::Right);
        table.add_row([Cell::new(&one.name), figure, Cell::new(&one.goal), met, Cell::new(&one.detail)]);
    }
    println!("{machine:?}\n{table}");
}

pub(crate) fn write(folder: &Path, machine: &Machine, comparisons: &[Comparison]) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let report = json!({ "machine": machine, "comparisons": comparisons });
    std::fs::write(folder.join("machine.json"), serde_json::to_vec_pretty(&report["machine"])?)?;
    std::fs::write(folder.join("bench.json"), serde_json::to_vec_pretty(&report["comparisons"])?)?;
    Ok(())
}
