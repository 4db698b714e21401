//! The last runs, one JSON object a line, so that a regression shows.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::plan::Plan;
use crate::report::{Comparison, median, short};

const FILE: &str = "history.jsonl";
/// Runs that are kept.
const RUNS_MAX: usize = 50;
/// Comparable runs that a figure is held against.
const COMPARED_MAX: usize = 10;
/// A figure this much worse than their median is worth a sentence.
const WORSE: f64 = 0.15;

/// One run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) at: String,
    /// With `+` when files differed from it.
    pub(crate) commit: Option<String>,
    plan: String,
    cores: usize,
    cpu: String,
    busy: bool,
    flush_us: Option<f64>,
    /// By the comparison's name.
    pub(crate) figures: BTreeMap<String, f64>,
}

impl Run {
    pub(crate) fn of(plan: &Plan, machine: &Machine, comparisons: &[Comparison]) -> Self {
        Self {
            at: machine.measured_at.clone(),
            commit: machine.commit.clone(),
            plan: plan.name.to_owned(),
            cores: machine.cores,
            cpu: machine.cpu.clone(),
            busy: machine.is_busy(),
            flush_us: machine.flush_us,
            figures: comparisons.iter().map(|one| (one.name.clone(), one.figure())).collect(),
        }
    }

    /// Whether figures of the two mean the same.
    fn compares_with(&self, other: &Self) -> bool {
        (&self.plan, self.cores, &self.cpu) == (&other.plan, other.cores, &other.cpu)
    }
}

/// The runs in a folder, oldest first. A line that cannot be read is another version's and is left out.
pub(crate) fn read(folder: &Path) -> Vec<Run> {
    let text = fs::read_to_string(folder.join(FILE)).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Adds a run and keeps the last ones.
pub(crate) fn write(folder: &Path, earlier: &[Run], run: &Run) -> Result<()> {
    let kept = earlier.len().saturating_sub(RUNS_MAX - 1);
    let lines = earlier[kept..].iter().chain([run]).map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
    let (path, unfinished) = (folder.join(FILE), folder.join(format!("{FILE}.new")));
    fs::write(&unfinished, lines.join("\n") + "\n").context("the history could not be written")?;
    fs::rename(unfinished, path).context("the history could not be written")
}

/// The earlier runs that a run can be held against, oldest first.
pub(crate) fn comparable<'a>(earlier: &'a [Run], run: &Run) -> Vec<&'a Run> {
    let found: Vec<_> = earlier.iter().filter(|one| one.compares_with(run) && !one.busy).collect();
    found[found.len().saturating_sub(COMPARED_MAX)..].to_vec()
}

/// A sentence for every figure that got worse.
pub(crate) fn worse(comparisons: &[Comparison], earlier: &[&Run]) -> Vec<String> {
    comparisons
        .iter()
        .filter_map(|one| {
            let before: Vec<f64> = earlier.iter().filter_map(|run| run.figures.get(&one.name).copied()).collect();
            let runs = before.len();
            let usual = median(before);
            let change = if one.less_is_better { one.figure() / usual - 1.0 } else { 1.0 - one.figure() / usual };
            // An earlier figure of zero, or none at all, says nothing.
            (runs > 0 && usual > 0.0 && change > WORSE).then(|| {
                format!(
                    "WORSE by {:.0} %: {} is {}, and was {} {} (median of {runs} earlier {})",
                    change * 100.0,
                    one.name,
                    one.in_words(),
                    short(usual),
                    one.unit,
                    if runs == 1 { "run" } else { "runs" },
                )
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Goal;

    fn run(ratio: f64, cpu: f64) -> Run {
        let figures = [("rate".to_owned(), ratio), ("cpu".to_owned(), cpu)].into();
        let plan = "quick".to_owned();
        let (at, cpu) = (String::new(), "a cpu".to_owned());
        Run { at, commit: None, plan, cores: 2, cpu, busy: false, flush_us: None, figures }
    }

    fn now(ratio: f64, cpu: f64) -> [Comparison; 2] {
        [
            Comparison::ratio("rate", ratio, Goal::More, String::new()),
            Comparison::value("cpu", cpu, "us", Goal::AtMost(35.0), String::new()),
        ]
    }

    #[test]
    fn what_got_worse_is_said_on_the_side_where_worse_is() {
        let runs = [run(2.0, 20.0), run(2.2, 22.0), run(0.1, 200.0)];
        let earlier: Vec<&Run> = runs.iter().collect();
        assert!(worse(&now(1.8, 24.0), &earlier).is_empty(), "within 15 % of the median");
        assert!(worse(&now(9.0, 1.0), &earlier).is_empty(), "better is not worse");
        let said = worse(&now(1.0, 44.0), &earlier);
        assert!(said[0].starts_with("WORSE by 50 %: rate is 1 x, and was 2 x"), "{said:?}");
        assert!(said[1].starts_with("WORSE by 100 %: cpu is 44 us"), "{said:?}");
        assert!(worse(&now(1.0, 44.0), &[]).is_empty(), "nothing to compare with");
    }

    #[test]
    fn only_runs_of_one_size_on_one_machine_are_compared() {
        let this = run(1.0, 1.0);
        let runs = [
            Run { plan: "full".into(), ..run(1.0, 1.0) },
            Run { cores: 8, ..run(1.0, 1.0) },
            run(1.0, 2.0),
            Run { busy: true, ..run(1.0, 1.0) },
        ];
        let found = comparable(&runs, &this);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].figures["cpu"], 2.0);
    }

    #[test]
    fn the_last_fifty_runs_are_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        for n in 0..60 {
            let earlier = read(folder.path());
            write(folder.path(), &earlier, &run(f64::from(n), 0.0)).expect("written");
        }
        let kept = read(folder.path());
        assert_eq!((kept.len(), kept[0].figures["rate"], kept[49].figures["rate"]), (50, 10.0, 59.0));
    }
}
