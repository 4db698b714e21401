//! `cargo xtask`: what a person does in this repository, each as one command that installs what it lacks and says what
//! it is doing. It depends on next to nothing, so that it is built in seconds on an empty machine.

mod ci;
mod docker;
mod install;
mod machine;
mod run;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use run::Cargo;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Builds, shows, tests and measures domicile.
///
/// Begin with `cargo xtask demo`: it stands up regions on this machine and shows where people's data goes.
/// Everything it installs is a system package (with apt, as root or by sudo) or lies in ~/.cache/domicile/tools.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Stand up a throw-away world on this machine and watch people's data being put, and kept, where it belongs.
    ///
    /// Installs PostgreSQL and what the build needs, builds the binary and runs `domicile demo` with the arguments
    /// behind it, for example `cargo xtask demo --once` (stop after the tour) or `--data-dir DIR` (keep everything).
    Demo {
        /// Arguments of `domicile demo`: see `cargo xtask demo -- --help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Install everything the demo and the tests can use, and build nothing.
    ///
    /// PostgreSQL and the build's needs from the system; the Kafka-protocol broker nisshi (compiled once, about 20
    /// minutes on two cores) and the Snowflake stand-in fakesnow into ~/.cache/domicile/tools. Where one of the last
    /// two cannot be had, demo and tests use simpler stand-ins and say so.
    Tools,
    /// Install everything, then run every test of the workspace, the short form of each soak among them.
    Test {
        /// Instead: build the image, and play the runbook (deploy, logs, rollback, all under load) with a Docker engine.
        #[arg(long)]
        docker: bool,
        /// With --docker: no `docker build` of a release, but its last stage with the binary that the tests use.
        #[arg(long, requires = "docker")]
        ready: bool,
        /// Only these tests: passed to `cargo test`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Make stand-ins for the images of others, where no registry can be reached, and name them in .env.
    ///
    /// Debian by debootstrap; Rust from this machine's toolchain; PostgreSQL, HAProxy and Prometheus from Debian's packages;
    /// nisshi in Redpanda's place. Then `docker build -t myapp:prod .` and the compose file work as they stand.
    Images,
    /// Run one long acceptance run, or its short form.
    Soak {
        /// Which one.
        name: Soak,
        /// The form that `cargo xtask test` runs: a minute or two rather than many.
        #[arg(long)]
        short: bool,
        /// Further options of the run, e.g. `--outage 10` of `streams` and `snowflake`: away for ten minutes under load.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Measure domicile against Postgres alone, in the same run on this machine.
    ///
    /// Builds for release, starts PostgreSQL servers of its own, loads the data, and prints one table of comparisons.
    /// Give it a quiet machine: the load generators share its cores. `--only help` lists the groups of comparisons.
    Bench {
        /// Shorter runs over fewer rows, two minutes: for a look, not for quoting.
        #[arg(long)]
        quick: bool,
        /// Only these groups of comparisons, for example `get,put`.
        #[arg(long, value_name = "NAME,NAME")]
        only: Option<String>,
        /// Where bench.json, machine.json, the charts and the history go [default: bench-results].
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Run one load of a release gateway under `perf`, and write where the processor time goes.
    ///
    /// For example `cargo xtask profile put --connections 64 --seconds 10 --out DIR`.
    Profile {
        /// The load (get-buffered, get-durable or put) and its options: see `cargo xtask profile help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        args: Vec<String>,
    },
    /// Look for inputs that make a reader of what strangers write panic: leaves, notes, bundles, proofs, packs, policies,
    /// receipts, keys.
    ///
    /// With a nightly toolchain, cargo-fuzz (installed into ~/.cache/domicile/tools) drives each reader; what it finds lies in
    /// fuzz/artifacts. Without one, the bounded run of the tests takes its place, and says so.
    Fuzz {
        /// How long each reader is driven.
        #[arg(long, default_value_t = 60, value_name = "N")]
        seconds: u32,
        /// Only these readers, for example `leaf`.
        targets: Vec<String>,
    },
    /// Everything a change must pass: format, lints, documentation, licences, tests; then, where a Docker engine answers and
    /// enough of 90 minutes is left, the runbook on containers.
    Ci,
}

#[derive(Clone, Copy, ValueEnum)]
enum Soak {
    /// The gateway is killed again and again under write load: nothing acknowledged is lost.
    Crash,
    /// Canaries of every region are looked for in everything every other region keeps.
    Residency,
    /// The broker and the relay are killed again and again: no event is lost, no subject out of order.
    Streams,
    /// The forwarder is killed and its network is bad: the table in Snowflake equals what was declared.
    Snowflake,
    /// Two gateways classify the same new subject differently at the same instant.
    Race,
    /// A region's log under load and kills is verified again and again from outside; an edit is caught.
    Audit,
}

impl Soak {
    fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Residency => "residency",
            Self::Streams => "streams",
            Self::Snowflake => "snowflake",
            Self::Race => "race",
            Self::Audit => "audit",
        }
    }
}

fn main() -> ExitCode {
    match act(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("\nxtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(command: Command) -> Result<ExitCode> {
    let cargo = Cargo::find()?;
    match command {
        Command::Demo { args } => {
            install::for_the_build()?;
            install::postgres()?;
            install::fakesnow_if_python();
            run::step("Building the binary", cargo.command(["build", "--bin", "domicile"]))?;
            if install::nisshi_path().is_none() {
                eprintln!(
                    "  The demo uses the broker inside its own process; `cargo xtask tools` installs one that stands alone."
                );
            }
            // `run` finds the target folder, wherever the configuration puts it.
            let demo = ["run", "--quiet", "--bin", "domicile", "--", "demo"];
            run::last(cargo.command(demo).args(args))
        }
        Command::Tools => {
            install::everything()?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Test { docker: true, ready, args: _ } => {
            install::for_the_build()?;
            let image = if ready { docker::Image::Ready } else { docker::Image::Built };
            match docker::rehearse(&cargo, image) {
                Ok(()) => Ok(ExitCode::SUCCESS),
                Err(error) if error.is::<docker::Unprepared>() => {
                    eprintln!("\nNOT RUN: {error:#}");
                    Ok(ExitCode::from(ci::UNPREPARED))
                }
                Err(error) => Err(error),
            }
        }
        Command::Test { docker: false, ready: _, args } => {
            install::everything()?;
            test(&cargo, &args)
        }
        Command::Images => {
            docker::images(&cargo, cargo.root(), docker::Needs::Everything)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Soak { name, short, args } => {
            install::for_the_build()?;
            install::postgres()?;
            if matches!(name, Soak::Streams | Soak::Snowflake) {
                install::everything()?;
            }
            run::step("Building the binary", cargo.command(["build", "--bin", "domicile"]))?;
            soak(&cargo, name, short, &args)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Bench { quick, only, out } => {
            let mut bench = benches(&cargo)?;
            if quick {
                bench = bench.arg("--quick");
            }
            if let Some(only) = only {
                bench = bench.arg("--only").arg(only);
            }
            if let Some(out) = out {
                bench = bench.arg("--out").arg(out);
            }
            run::last(bench)
        }
        Command::Profile { args } => {
            install::perf()?;
            run::last(benches(&cargo)?.arg("profile").args(args))
        }
        Command::Fuzz { seconds, targets } => {
            install::for_the_build()?;
            fuzz(&cargo, seconds, &targets)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Ci => {
            let began = Instant::now();
            install::everything()?;
            run::step("Checking the format", cargo.command(["fmt", "--all", "--check"]))?;
            let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
            run::step("Looking for lints", cargo.command(clippy))?;
            let doc = cargo.command(["doc", "--workspace", "--no-deps"]);
            run::step("Building the documentation", doc.env("RUSTDOCFLAGS", "-D warnings"))?;
            deny(&cargo)?;
            // The fuzzer takes long on an empty machine, with all that it drives. The bounded run of the fuzzed readers is
            // among the tests.
            if std::env::var_os(ci::LONG_CI).is_some() {
                fuzz(&cargo, FUZZ_IN_CI_S, &[])?;
            } else {
                eprintln!("NOT RUN: libFuzzer, because {} is not set", ci::LONG_CI);
            }
            ci::tests_and_rehearsal(&cargo, began)
        }
    }
}

/// The program that measures, and everything it needs, built for release; with what it measures.
fn benches(cargo: &Cargo) -> Result<run::CommandLine> {
    install::for_the_build()?;
    install::postgres()?;
    install::wrk()?;
    // Both from the top of the workspace: asked for by package, their common crates are built twice, with fewer features.
    let build = cargo.command(["build", "--release", "--bin", "domicile", "--bin", "benches"]);
    run::step("Building for release", build)?;
    Ok(cargo.command(["run", "--release", "--quiet", "--bin", "benches", "--"]))
}

/// How long the database of advisories, some ten megabytes, may take to come.
const ADVISORIES_MAX: Duration = Duration::from_secs(120);

/// The walls of `deny.toml`: which crate may depend on what, under which licence and from where.
fn deny(cargo: &Cargo) -> Result<()> {
    let Some(cargo_deny) = install::cargo_deny() else {
        eprintln!("» Without cargo-deny, dependencies and licences are not checked");
        return Ok(());
    };
    let check = |what: &[&str]| cargo.tool(&cargo_deny).args(["--locked", "check"]).args(what);
    run::step("Checking dependencies, licences and sources", check(&["bans", "licenses", "sources"]))?;
    // The database of advisories lies on another host than the registry, and may be out of reach where that is not.
    let fetch = cargo.tool(&cargo_deny).args(["fetch", "db"]);
    if run::within(ADVISORIES_MAX, "Fetching the database of advisories", fetch) {
        run::step("Checking advisories", check(&["advisories"]))?;
    } else {
        eprintln!("  The database of advisories cannot be fetched: advisories are not checked");
    }
    Ok(())
}

/// How long each reader is driven in ci, seconds.
const FUZZ_IN_CI_S: u32 = 15;
/// The readers, as `crates/fuzzed` has them; each has a file in fuzz/fuzz_targets.
const FUZZ_TARGETS: [&str; 9] = ["leaf", "note", "bundle", "proof", "pack", "pack_files", "policy", "receipt", "key"];

/// Drives readers with libFuzzer, or with the bounded run where that cannot be had.
fn fuzz(cargo: &Cargo, seconds: u32, targets: &[String]) -> Result<()> {
    if let Some(unknown) = targets.iter().find(|target| !FUZZ_TARGETS.contains(&target.as_str())) {
        bail!("{unknown} is no reader; known: {}", FUZZ_TARGETS.join(", "));
    }
    let bounded = ["test", "--quiet", "-p", "fuzzed"];
    let Some(cargo_fuzz) = install::cargo_fuzz() else {
        eprintln!(
            "» THERE IS NO NIGHTLY TOOLCHAIN OR NO cargo-fuzz: libFuzzer does not run, only the bounded run of the tests"
        );
        return run::step("Driving the readers, bounded", cargo.command(bounded));
    };
    let seeds = ["run", "--quiet", "-p", "fuzzed", "--example", "seeds", "--", "fuzz/corpus"];
    run::step("Writing what is known to be good", cargo.command(seeds))?;
    // No sanitizer: there is no unsafe code of ours, and what is looked for is a panic.
    let nightly = |args: &[&str]| {
        cargo.tool(&cargo_fuzz).args(args).args(["--sanitizer", "none"]).env("RUSTUP_TOOLCHAIN", "nightly")
    };
    run::step("Building the readers for libFuzzer", nightly(&["build"]))?;
    for target in FUZZ_TARGETS.into_iter().filter(|known| targets.is_empty() || targets.iter().any(|one| one == known))
    {
        let time = format!("-max_total_time={seconds}");
        let drive =
            nightly(&["run", target]).args(["--", &time, "-max_len=20000", "-timeout=20", "-rss_limit_mb=4096"]);
        run::step(&format!("Driving {target} for {seconds} s"), drive)?;
    }
    Ok(())
}

/// The tests come last, so that their result is what stands at the end.
fn test(cargo: &Cargo, args: &[String]) -> Result<ExitCode> {
    // Also builds the binary that the system tests start: its own package has tests that need it.
    run::step("Building the tests", cargo.command(["test", "--workspace", "--no-run", "--quiet"]))?;
    run::last(cargo.command(["test", "--workspace", "--no-fail-fast"]).args(args))
}

fn soak(cargo: &Cargo, name: Soak, short: bool, args: &[String]) -> Result<()> {
    let mut soak = cargo.command(["run", "--quiet", "-p", "system-tests", "--bin", "soak", "--", name.name()]);
    if short {
        soak = soak.arg("--short");
    }
    run::step(&format!("The {} soak{}", name.name(), if short { ", short" } else { "" }), soak.args(args))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_stands_behind_demo_is_passed_on_as_it_is() {
        let cli = Cli::try_parse_from(["cargo xtask", "demo", "--once", "--data-dir", "/tmp/x"]).expect("it parses");
        let Command::Demo { args } = cli.command else { panic!("another command") };
        assert_eq!(args, ["--once", "--data-dir", "/tmp/x"]);
    }
}
