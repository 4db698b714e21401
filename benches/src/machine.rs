//! What the figures were measured on, and the CPU time of processes, read from the operating system.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use tokio::process::Command;

/// The machine and its mood.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    cores: usize,
    load_1_min: String,
    /// Microseconds of one `fdatasync` of 8 KiB, by `pg_test_fsync`.
    flush_us: Option<f64>,
    measured_at: String,
}

pub(crate) async fn describe() -> Machine {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    Machine {
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        load_1_min: load.split(' ').next().unwrap_or("?").to_owned(),
        flush_us: flush_us().await,
        measured_at: now(),
    }
}

#[expect(clippy::disallowed_methods, reason = "a report is dated by the machine's clock")]
fn now() -> String {
    let now = time::OffsetDateTime::now_utc();
    now.format(&time::format_description::well_known::Rfc3339).unwrap_or_default()
}

async fn flush_us() -> Option<f64> {
    let tool = crate::pgbench::tool("pg_test_fsync").ok()?;
    let file = std::env::temp_dir().join(format!("domicile-fsync-{}", std::process::id()));
    let output = Command::new(tool).args(["--secs-per-test", "1", "--filename"]).arg(&file).output().await.ok()?;
    let _ = fs::remove_file(&file);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.trim_start().starts_with("fdatasync"))?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = words.iter().position(|word| word.starts_with("usecs"))?;
    words.get(at.checked_sub(1)?)?.parse().ok()
}

/// CPU time that a process has used, user and system, with its ended and waited-for children.
pub(crate) fn cpu_of(process: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).context("the process is gone")?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("an odd stat line")?.1.split_whitespace().collect();
    let ticks: u64 = fields[11..=12].iter().map(|field| field.parse::<u64>().unwrap_or(0)).sum();
    Ok(Duration::from_millis(ticks * 10)) // 100 ticks a second on every Linux that matters
}

/// Resident memory of a process, bytes.
pub(crate) fn resident_bytes(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kib * 1024)
}
