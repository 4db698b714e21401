//! `cargo xtask profile`: where one load's processor time goes, by `perf`. The release build is profiled as it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use tokio::process::{Child, Command};

use crate::plan::Plan;
use crate::progress::Progress;
use crate::scene::{Reads, Scene};
use crate::wrk::{self, Shape};

/// Samples a second of the gateway, with stacks, and of the whole machine.
const GATEWAY_HZ: &str = "997";
const MACHINE_HZ: &str = "499";

/// What is profiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// GET of a record, its leaf buffered.
    GetBuffered,
    /// GET of a record, its leaf durable.
    GetDurable,
    /// PUT of a record.
    Put,
}

/// Runs one load of the gateway under `perf` and writes what it saw into `out`.
pub(crate) async fn run(what: What, connections: u32, seconds: u64, out: &Path, progress: &Progress) -> Result<()> {
    std::fs::create_dir_all(out)?;
    let scene = Scene::set(&Plan::quick(), progress).await?;
    let reads = if what == What::GetBuffered { Reads::Buffered } else { Reads::Durable };
    let gateway = scene.gateway(reads);
    gateway.start_again().await?;
    let process = gateway.id().await.context("the gateway has ended")?;
    let shape = match what {
        What::GetBuffered | What::GetDurable => Shape::get(gateway.url(), scene.token(), scene.subjects, scene.keys),
        What::Put => Shape::put(gateway.url(), scene.token(), scene.subjects),
    };
    progress.now("warming up");
    wrk::drive(&shape, connections, Duration::from_secs(2)).await?;
    progress.now(format!("{connections} connections for {seconds} s, watched by perf"));
    let (stacks, machine) = (out.join("gateway.data"), out.join("machine.data"));
    let (pid, during) = (process.to_string(), seconds.to_string());
    let by_stacks = ["-e", "cpu-clock", "-F", GATEWAY_HZ, "--call-graph", "dwarf,16384", "-p", &pid];
    let by_machine = ["-e", "cpu-clock", "-F", MACHINE_HZ, "-a"];
    let recorders = [record(&by_stacks, &stacks, &during)?, record(&by_machine, &machine, &during)?];
    let load = wrk::drive(&shape, connections, Duration::from_secs(seconds + 1)).await?;
    for recorder in recorders {
        let done = recorder.wait_with_output().await?;
        ensure!(done.status.success(), "perf said: {}", String::from_utf8_lossy(&done.stderr));
    }
    scene.world.shutdown().await;

    progress.now("reading what perf wrote; stacks take a while");
    let machine_wide = ["report", "--stdio", "--no-children", "--sort", "comm,dso,sym", "--percent-limit", "0.2"];
    let all = said(&machine_wide, &machine).await?;
    let flat = [
        "report",
        "--stdio",
        "--no-children",
        "--no-inline",
        "-g",
        "none",
        "--sort",
        "dso,sym",
        "--percent-limit",
        "0.1",
    ];
    let gateway_alone = said(&flat, &stacks).await?;
    let folded = fold(&said(&["script", "--no-inline", "-F", "comm,ip,sym"], &stacks).await?);
    let written = [("machine.txt", all), ("gateway.txt", gateway_alone), ("gateway.folded", folded)];
    let mut paths: Vec<PathBuf> = Vec::new();
    for (name, text) in written {
        std::fs::write(out.join(name), text)?;
        paths.push(out.join(name));
    }
    progress.say(&format!(
        "{:.0} answers/s while perf watched. The machine by process and function: {}; the gateway alone: {}; its stacks, folded for flame graphs: {}",
        load.rate,
        paths[0].display(),
        paths[1].display(),
        paths[2].display()
    ));
    Ok(())
}

fn record(args: &[&str], into: &Path, seconds: &str) -> Result<Child> {
    let mut command = Command::new("perf");
    command.arg("record").args(args).arg("-o").arg(into).args(["--", "sleep", seconds]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command.spawn().context("perf does not run; install the package `linux-perf`")
}

async fn said(args: &[&str], from: &Path) -> Result<String> {
    let done = Command::new("perf").args(args).arg("-i").arg(from).stdin(Stdio::null()).output().await?;
    if !done.status.success() {
        bail!("perf said: {}", String::from_utf8_lossy(&done.stderr));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// The samples of `perf script` as `outermost;…;innermost count`, the form that flame graphs are drawn from.
fn fold(script: &str) -> String {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for sample in script.split("\n\n") {
        let mut lines = sample.lines().filter(|line| !line.trim().is_empty());
        let Some(thread) = lines.next() else { continue };
        // A frame is `address symbol`; the innermost comes first.
        let mut frames: Vec<&str> =
            lines.filter_map(|line| line.trim().split_once(' ').map(|(_, symbol)| symbol.trim())).collect();
        frames.push(thread.trim());
        frames.reverse();
        *counts.entry(frames.join(";")).or_default() += 1;
    }
    counts.into_iter().map(|(stack, count)| format!("{stack} {count}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_stacks_are_one_line_with_their_number() {
        let script = "tokio-rt\n\t 55d0 inner\n\t 55d1 outer (closure)\n\ntokio-rt\n\t 99 inner\n\t 98 outer (closure)\n\nother\n\t 1 f\n";
        assert_eq!(fold(script), "other;f 1\ntokio-rt;outer (closure);inner 2\n");
    }
}
