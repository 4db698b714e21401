//! The table as pictures: ratios beside their goals, CPU of one request, and the last runs.

use std::fs;
use std::path::Path;

use anyhow::{Result, anyhow};
use charts_rs::{Align, HorizontalBarChart, LegendCategory, LineChart, Position, Series, YAxisConfig};

use crate::history::Run;
use crate::report::Comparison;

const WIDTH: f32 = 1_000.0;
/// What one bar and its neighbour need.
const ROW_HEIGHT: f32 = 44.0;
const AROUND: f32 = 130.0;
/// Spaces that no viewer takes away.
const ROOM: &str = "\u{a0}\u{a0}\u{a0}\u{a0}\u{a0}\u{a0}";
/// Fonts about as wide as the first, which is the one that texts are measured with.
const FONTS: &str = "Roboto, Arial, Liberation Sans, Helvetica, sans-serif";
/// Lines in the picture of the last runs: the ratios that have goals, most important first.
const LINES_MAX: usize = 8;

/// Writes `ratios.svg`, `cpu.svg` and, from the second comparable run on, `history.svg`.
pub(crate) fn write(folder: &Path, comparisons: &[Comparison], earlier: &[&Run], run: &Run) -> Result<()> {
    let ratios: Vec<&Comparison> = comparisons.iter().filter(|one| one.ratio.is_some()).collect();
    if !ratios.is_empty() {
        fs::write(folder.join("ratios.svg"), against_goals(&ratios)?)?;
    }
    let costs: Vec<&Comparison> = comparisons.iter().filter(|one| one.gateway_cpu_us.is_some()).collect();
    if !costs.is_empty() {
        fs::write(folder.join("cpu.svg"), cpu(&costs)?)?;
    }
    let runs: Vec<&Run> = earlier.iter().copied().chain([run]).collect();
    let kept: Vec<&Comparison> = ratios.into_iter().filter(|one| one.met.is_some()).take(LINES_MAX).collect();
    if runs.len() > 1 && !kept.is_empty() {
        fs::write(folder.join("history.svg"), history(&kept, &runs)?)?;
    }
    Ok(())
}

fn against_goals(ratios: &[&Comparison]) -> Result<String> {
    let measured = Series::new("measured".into(), ratios.iter().map(|one| short(one.figure())).collect());
    let goals = ratios.iter().map(|one| one.bound.map(short)).collect();
    let mut chart = HorizontalBarChart::new(
        vec![labelled(measured), labelled(Series::new_nullable("goal".into(), goals))],
        names(ratios),
    );
    dress(&mut chart, "domicile as a multiple of PostgreSQL alone", ratios.len());
    chart.sub_title.text = "Goals are lower bounds, but for \"p50\", \"p99\" and \"CPU\", where less is better".into();
    svg(chart.svg())
}

fn cpu(costs: &[&Comparison]) -> Result<String> {
    let series = |name: &str, of: fn(&Comparison) -> Option<f64>| {
        let mut series =
            labelled(Series::new_nullable(name.into(), costs.iter().map(|one| of(one).map(short)).collect()));
        series.stack = Some("cpu".into());
        series
    };
    let mut chart = HorizontalBarChart::new(
        vec![series("gateway", |one| one.gateway_cpu_us), series("PostgreSQL", |one| one.postgres_cpu_us)],
        names(costs),
    );
    dress(&mut chart, "CPU of one request, microseconds", costs.len());
    chart.series_label_position = Some(Position::Inside);
    svg(chart.svg())
}

fn history(kept: &[&Comparison], runs: &[&Run]) -> Result<String> {
    let series = kept.iter().map(|one| {
        let figures = runs.iter().map(|run| run.figures.get(&one.name).copied().map(short)).collect();
        Series::new_nullable(one.name.clone(), figures)
    });
    let label =
        |run: &&Run| run.commit.clone().unwrap_or_else(|| run.at.get(5..16).unwrap_or_default().replace('T', " "));
    let mut chart = LineChart::new(series.collect(), runs.iter().map(label).collect());
    (chart.width, chart.height) = (WIDTH, 520.0);
    chart.title.text = "The last runs: multiples of PostgreSQL alone".into();
    chart.title.align = Align::Left;
    chart.legend.position = Some(Position::Bottom);
    chart.y_axis_configs =
        vec![YAxisConfig { min: Some(0.0), ..chart.y_axis_configs.first().cloned().unwrap_or_default() }];
    svg(chart.svg())
}

fn dress(chart: &mut HorizontalBarChart, title: &str, rows: usize) {
    #[expect(clippy::cast_precision_loss, reason = "a few dozen rows")]
    let rows = rows as f32;
    (chart.width, chart.height) = (WIDTH, AROUND + ROW_HEIGHT * rows);
    chart.title.text = title.into();
    chart.title.align = Align::Left;
    chart.legend.align = Align::Right;
    chart.legend.category = LegendCategory::Rect;
}

/// With room for a viewer whose font is wider than the one that was measured.
fn names(of: &[&Comparison]) -> Vec<String> {
    of.iter().map(|one| format!("{}{ROOM}", one.name)).collect()
}

fn labelled(mut series: Series) -> Series {
    series.label_show = true;
    series
}

/// As precise as a picture is.
#[expect(clippy::cast_possible_truncation, reason = "for the eye")]
fn short(figure: f64) -> f32 {
    ((figure * 100.0).round() / 100.0) as f32
}

fn svg(drawn: Result<String, impl std::fmt::Display>) -> Result<String> {
    let drawn = drawn.map_err(|error| anyhow!("a chart could not be drawn: {error}"))?;
    Ok(drawn.replace("font-family=\"Roboto\"", &format!("font-family=\"{FONTS}\"")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;
    use crate::plan::Plan;
    use crate::report::Goal;

    #[test]
    fn every_ratio_is_in_the_picture_with_its_goal() {
        let machine = Machine {
            cores: 2,
            cpu: "a cpu".into(),
            load_1_min: 0.0,
            cores_in_use: 0.0,
            flush_us: None,
            flush_us_after: None,
            measured_at: "2026-11-24T22:15:24Z".into(),
            commit: None,
        };
        let found = [
            Comparison::ratio("GET at 256", 2.71, Goal::AtLeast(2.5), String::new()).with_cpu(21.0, 17.0),
            Comparison::ratio("GET at 16", 0.57, Goal::More, String::new()),
        ];
        let run = Run::of(&Plan::quick(), &machine, &found);
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), &found, &[&run], &run).expect("drawn");
        let picture = |name: &str| fs::read_to_string(folder.path().join(name)).expect("written");
        for text in ["GET at 256", "GET at 16", "2.7", "2.5", "0.6"] {
            assert!(picture("ratios.svg").contains(text), "{text}");
        }
        assert!(picture("cpu.svg").contains("PostgreSQL") && !picture("cpu.svg").contains("GET at 16"));
        assert!(picture("history.svg").contains("11-24 22:15"));
    }
}
