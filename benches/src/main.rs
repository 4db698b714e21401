//! `cargo xtask bench`: domicile against Postgres alone, in one run on one machine.
//!
//! Every figure is a ratio of two loads of the same run: the gateway's through HTTP (driven by `wrk`), and
//! `pgbench` doing the same work on the same cluster with as many clients. A wrong answer voids a figure: after
//! each load it is checked that the log holds a leaf for every answer, and every change once, with its event.

mod machine;
mod outage;
mod pgbench;
mod plan;
mod population;
mod process;
mod progress;
mod records;
mod report;
mod rounds;
mod scene;
mod wrk;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, ValueEnum};

use crate::machine::Machine;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::report::Comparison;
use crate::scene::Scene;

/// Compares domicile with Postgres alone, in one run on one machine.
#[derive(Parser)]
#[command(name = "cargo xtask bench", max_term_width = 100)]
struct Args {
    /// Fewer, shorter loads over fewer rows: two minutes, for a look and not for quoting.
    #[arg(long)]
    quick: bool,
    /// Only these groups of comparisons.
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
    only: Vec<Group>,
    /// The folder for bench.json, machine.json and the rest.
    #[arg(long, value_name = "DIR", default_value = "bench-results")]
    out: PathBuf,
}

/// Comparisons that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Group {
    /// GET of a record, its leaf buffered and durable, against pgbench -S -M prepared.
    Get,
    /// PUT of a record with its event and leaf, against pgbench running the same three inserts.
    Put,
    /// p99 of a region while its neighbour is down.
    Outage,
}

impl Group {
    /// Whether it needs the one region with many rows.
    fn needs_rows(self) -> bool {
        matches!(self, Self::Get | Self::Put)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let plan = if args.quick { Plan::quick() } else { Plan::full() };
    let wanted: Vec<Group> =
        Group::value_variants().iter().copied().filter(|g| args.only.is_empty() || args.only.contains(g)).collect();
    let progress = Progress::new();
    machine::make(&args.out)?;
    progress.now("looking at the machine");
    let mut machine = Machine::look().await;
    progress.say(&machine.in_words());
    let mut found = Vec::new();
    if wanted.iter().any(|group| group.needs_rows()) {
        let scene = Scene::set(&plan, &progress).await?;
        for group in &wanted {
            found.extend(with_rows(*group, &plan, &scene, &progress).await?);
        }
        scene.world.shutdown().await;
    }
    for group in &wanted {
        found.extend(alone(*group, &plan, &progress).await?);
    }
    progress.now("looking at the machine again");
    machine.look_again().await;
    progress.end();
    report::print(&machine, &found, &[]);
    report::write(&args.out, &machine, &found)
}

/// The groups that share the one region with many rows.
async fn with_rows(group: Group, plan: &Plan, scene: &Scene, progress: &Progress) -> Result<Vec<Comparison>> {
    match group {
        Group::Get => records::reads(plan, scene, progress).await,
        Group::Put => records::writes(plan, scene, progress).await,
        Group::Outage => Ok(Vec::new()),
    }
}

/// The groups that bring what they need.
async fn alone(group: Group, plan: &Plan, progress: &Progress) -> Result<Vec<Comparison>> {
    match group {
        Group::Outage => outage::neighbour(plan, progress).await,
        Group::Get | Group::Put => Ok(Vec::new()),
    }
}
