//! `cargo xtask bench`: domicile against Postgres alone, in one run on one machine.
//!
//! Every figure is a ratio of two loads of the same run: the gateway's through HTTP (driven by `wrk`), and
//! `pgbench` doing the same work on the same cluster with as many clients. A wrong answer voids a figure: after
//! each load it is checked that the log holds a leaf for every answer.

mod compare;
mod machine;
mod outage;
mod pgbench;
mod report;
mod scene;
mod wrk;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;

/// Compares domicile with Postgres alone, in one run on one machine.
#[derive(Parser)]
struct Args {
    /// Fewer, shorter loads over fewer rows: about two minutes.
    #[arg(long)]
    quick: bool,
    /// Only what a region feels while its neighbour is down.
    #[arg(long)]
    only_outage: bool,
    /// The folder for `bench.json`.
    #[arg(long, default_value = "bench-results")]
    out: PathBuf,
}

/// How much is loaded and for how long.
struct Plan {
    /// Rows in `records` beforehand.
    rows: u64,
    /// Subjects they belong to.
    subjects: u64,
    /// How long each load lasts.
    load: Duration,
    /// How often each comparison is repeated; the median counts.
    rounds: usize,
    /// Numbers of clients.
    clients: &'static [u32],
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let plan = if args.quick {
        Plan { rows: 100_000, subjects: 1_000, load: Duration::from_secs(3), rounds: 1, clients: &[16, 256] }
    } else {
        Plan { rows: 1_000_000, subjects: 10_000, load: Duration::from_secs(8), rounds: 3, clients: &[1, 16, 64, 256] }
    };
    let machine = machine::describe().await;
    let mut comparisons = if args.only_outage { Vec::new() } else { compare::all(&plan).await? };
    comparisons.push(outage::neighbour(&plan).await?);
    report::print(&machine, &comparisons);
    report::write(&args.out, &machine, &comparisons)
}
