//! The CPU time and the memory of processes, as the operating system counts them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use world::Cluster;

/// What the kernel counts processor time in: 100 a second on every Linux that matters.
const TICK: Duration = Duration::from_millis(10);
/// How often a cluster is counted anew because a child of it ended meanwhile.
const TRIES_MAX: usize = 100;

/// Ticks of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticks {
    own: u64,
    /// Of its children that ended and were waited for, and of theirs.
    ended_children: u64,
}

/// CPU time of a process, user and system, all threads.
pub(crate) fn cpu_of(process: u32) -> Result<Duration> {
    ticks(process).map(|ticks| in_time(ticks.own))
}

/// CPU time of our own children that have ended: of the load generators, read before and after they run.
pub(crate) fn cpu_of_ended_children() -> Result<Duration> {
    ticks(std::process::id()).map(|ticks| in_time(ticks.ended_children))
}

/// CPU time of a cluster since its start: of the postmaster, of its children, and of those that have ended.
pub(crate) async fn cpu_of_cluster(cluster: &Cluster) -> Result<Duration> {
    let Some(postmaster) = cluster.id().await else { bail!("the cluster {} does not run", cluster.name()) };
    for _ in 0..TRIES_MAX {
        let before = ticks(postmaster)?;
        // A child that ends while we look is gone from the list, and appears with the postmaster a moment later.
        let living: u64 = children(postmaster)?.into_iter().filter_map(|child| ticks(child).ok()).map(|t| t.own).sum();
        let after = ticks(postmaster)?;
        if before.ended_children == after.ended_children {
            return Ok(in_time(after.own + after.ended_children + living));
        }
    }
    bail!("the processes of the cluster {} come and go too fast to be counted", cluster.name())
}

/// Resident memory of a process, bytes.
pub(crate) fn resident_bytes(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kib * 1024)
}

fn in_time(ticks: u64) -> Duration {
    TICK * u32::try_from(ticks).unwrap_or(u32::MAX)
}

fn ticks(process: u32) -> Result<Ticks> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).context("the process is gone")?;
    read_ticks(&stat)
}

/// The fields utime, stime, cutime and cstime of `/proc/PID/stat` (proc(5)), which follow the name in brackets.
fn read_ticks(stat: &str) -> Result<Ticks> {
    let fields: Vec<&str> = stat.rsplit_once(')').context("an odd stat line")?.1.split_whitespace().collect();
    let [user, system, children_user, children_system] = fields
        .get(11..15)
        .context("a short stat line")?
        .iter()
        .map(|f| f.parse())
        .collect::<Result<Vec<u64>, _>>()?[..]
    else {
        bail!("a short stat line")
    };
    Ok(Ticks { own: user + system, ended_children: children_user + children_system })
}

/// The children of a process: those that the main thread started, which is all that a postmaster has.
fn children(process: u32) -> Result<Vec<u32>> {
    let list = Path::new("/proc").join(process.to_string()).join("task").join(process.to_string()).join("children");
    let text = fs::read_to_string(list).context("this kernel does not list a process's children")?;
    Ok(text.split_whitespace().filter_map(|child| child.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let stat = "42 (postgres: (a) b) S 1 42 42 0 -1 4194560 1 2 3 4 110 20 3000 400 20 0 1 0 5 6 7";
        assert_eq!(read_ticks(stat).expect("read"), Ticks { own: 130, ended_children: 3_400 });
        assert!(read_ticks("42 (short) S 1").is_err());
    }

    #[test]
    fn the_time_of_an_ended_child_is_not_lost() {
        let before = cpu_of_ended_children().expect("counted");
        let busy = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        assert!(std::process::Command::new("sh").args(["-c", busy]).status().expect("a shell").success());
        assert!(cpu_of_ended_children().expect("counted") > before);
    }
}
