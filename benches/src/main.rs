//! `cargo xtask bench`: domicile against Postgres alone, in one run on one machine.
//!
//! Every figure is a ratio of two loads of the same run: the gateway's through HTTP (driven by `wrk`), and
//! `pgbench` doing the same work on the same cluster with as many clients. A wrong answer voids a figure: after
//! each load it is checked that the log holds a leaf for every answer, and every change once, with its event.

mod batch;
mod ceiling;
mod charts;
mod decision;
mod history;
mod latency;
mod leaves;
mod machine;
mod memory;
mod outage;
mod overload;
mod parts;
mod people;
mod pgbench;
mod plan;
mod population;
mod process;
mod profile;
mod progress;
mod proof;
mod records;
mod report;
mod rounds;
mod scene;
mod streams;
mod wire;
mod wrk;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};

use crate::history::Run;
use crate::machine::Machine;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::report::Comparison;
use crate::scene::Scene;

/// What has to be known to read the table.
const FOOTNOTE: &str = "us: CPU of one request, from /proc. Everything shares the cores: the gateway, PostgreSQL, and wrk or pgbench, which \
    load them in turn. pgbench reaches PostgreSQL by a unix socket, wrk the gateway by TCP. Both sides use one server (512 MB of shared buffers, \
    fsync and synchronous_commit on, a checkpoint before each load); while pgbench runs, no gateway does.";

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
    #[command(subcommand)]
    instead: Option<Instead>,
}

/// What else can be done with a load.
#[derive(Subcommand)]
enum Instead {
    /// Run one load of the gateway under perf, and write where the processor time goes.
    Profile {
        /// The load.
        what: profile::What,
        /// Connections.
        #[arg(long, default_value_t = 256)]
        connections: u32,
        /// How long perf watches.
        #[arg(long, default_value_t = 6)]
        seconds: u64,
        /// The folder for the reports.
        #[arg(long, value_name = "DIR", default_value = "profile-results")]
        out: PathBuf,
    },
}

/// Comparisons that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Group {
    /// An HTTP server that does nothing, and the parts of a read alone, against pgbench: what binds GET and PUT on this machine.
    Ceiling,
    /// GET of a record, its leaf buffered and durable, against pgbench -S -M prepared.
    Get,
    /// PUT of a record with its event and leaf, against pgbench running the same three inserts.
    Put,
    /// POST /v1/classify, against pgbench -S.
    Classify,
    /// One connection, one GET at a time, against the same SELECT on a held connection.
    Latency,
    /// Three times what the gateway can serve: goodput, refusals, memory.
    Overload,
    /// Durable leaves a second through the committer alone.
    Leaves,
    /// A batch over three regions, against COPY of the same rows.
    Batch,
    /// A decision, against a lookup in the country database alone.
    Decision,
    /// Verifying a log, against hashing it; a proof out of ten million leaves.
    Proof,
    /// Resident memory idle, and of a cached pin.
    Memory,
    /// Reads with ten times the regions, and ten thousand times the people.
    Scale,
    /// p99 of a region while its neighbour is down.
    Outage,
    /// A relay that drains a backlog, against a bare producer; an event's way to its topic.
    Streams,
}

impl Group {
    /// Whether it needs the one region with many rows.
    fn needs_rows(self) -> bool {
        matches!(
            self,
            Self::Ceiling | Self::Get | Self::Put | Self::Classify | Self::Latency | Self::Overload | Self::Leaves
        )
    }
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc; // the gateway's: what it takes here, it takes there

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let progress = Progress::new();
    if let Some(Instead::Profile { what, connections, seconds, out }) = args.instead {
        return profile::run(what, connections, seconds, &out, &progress).await;
    }
    let plan = if args.quick { Plan::quick() } else { Plan::full() };
    let every = Group::value_variants().iter().copied();
    let wanted: Vec<Group> = every.filter(|group| args.only.is_empty() || args.only.contains(group)).collect();
    machine::make(&args.out)?;
    progress.now("looking at the machine");
    let mut machine = Machine::look().await;
    progress.say(&machine.in_words());
    let found = every_of(&wanted, &plan, &progress).await?;
    progress.now("looking at the machine again");
    machine.look_again().await;
    progress.end();
    conclude(&args.out, &plan, &machine, &found)
}

/// Prints the table, says what got worse, and writes everything.
fn conclude(out: &Path, plan: &Plan, machine: &Machine, found: &[Comparison]) -> Result<()> {
    let run = Run::of(plan, machine, found);
    let earlier = history::read(out);
    let comparable = history::comparable(&earlier, &run);
    let mut notes = vec![FOOTNOTE.to_owned()];
    notes.extend(history::worse(found, &comparable));
    notes.push(format!("{} earlier runs to compare with; results in {}", comparable.len(), out.display()));
    report::print(machine, found, &notes);
    report::write(out, machine, found)?;
    charts::write(out, found, &comparable, &run)?;
    history::write(out, &earlier, &run)
}

/// One group after the other: two loads at once would measure each other.
async fn every_of(wanted: &[Group], plan: &Plan, progress: &Progress) -> Result<Vec<Comparison>> {
    let wants = |group| wanted.contains(&group);
    let mut found = Vec::new();
    // First, since one figure is by how much this process grows: what others leave it with would be used again.
    let people = people::Wanted { memory: wants(Group::Memory), scale: wants(Group::Scale) };
    let of_people =
        if people.memory || people.scale { people::many(plan, people, progress).await? } else { Vec::new() };
    if wanted.iter().any(|group| group.needs_rows()) {
        let scene = Scene::set(plan, progress).await?;
        for group in wanted {
            found.extend(match group {
                Group::Ceiling => ceiling::http_alone(plan, &scene, progress).await?,
                Group::Get => records::reads(plan, &scene, progress).await?,
                Group::Put => records::writes(plan, &scene, progress).await?,
                Group::Classify => records::classifications(plan, &scene, progress).await?,
                Group::Latency => latency::one_at_a_time(plan, &scene, progress).await?,
                Group::Overload => overload::three_times(plan, &scene, progress).await?,
                Group::Leaves => leaves::durable(plan, &scene, progress).await?,
                Group::Batch
                | Group::Decision
                | Group::Proof
                | Group::Memory
                | Group::Scale
                | Group::Outage
                | Group::Streams => Vec::new(),
            });
        }
        scene.world.shutdown().await;
    }
    if wants(Group::Batch) {
        found.extend(batch::against_copy(plan, progress).await?);
    }
    if wants(Group::Decision) {
        found.extend(decision::decisions(progress).await?);
    }
    if wants(Group::Proof) {
        found.extend(proof::costs(plan, progress).await?);
    }
    found.extend(of_people);
    if wants(Group::Outage) {
        found.extend(outage::neighbour(plan, progress).await?);
    }
    if wants(Group::Streams) {
        found.extend(streams::relay(plan, progress).await?);
    }
    Ok(found)
}
