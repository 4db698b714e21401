//! What the figures were measured on, and in which mood it was.

use std::fs;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;
use tokio::process::Command;

/// More than this share of the cores in use by others before we began, and the machine is called busy.
const BUSY_SHARE: f64 = 0.25;

/// The machine and its mood.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) cpu: String,
    /// The load average of the last minute, before we began.
    pub(crate) load_1_min: f64,
    /// Cores' worth of work that others did in the second before we began.
    pub(crate) cores_in_use: f64,
    /// Microseconds of one `fdatasync` of 8 KiB, by `pg_test_fsync`, before and after the run.
    pub(crate) flush_us: Option<f64>,
    pub(crate) flush_us_after: Option<f64>,
    pub(crate) measured_at: String,
    /// The commit that was measured, with `+` when files differ from it; where there is a repository.
    pub(crate) commit: Option<String>,
}

impl Machine {
    pub(crate) async fn look() -> Self {
        let (load, in_use) = (load_1_min(), cores_in_use().await.unwrap_or(0.0));
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            cpu: cpu(),
            load_1_min: load,
            cores_in_use: in_use,
            flush_us: flush_us().await,
            flush_us_after: None,
            measured_at: now(),
            commit: commit().await,
        }
    }

    /// The flush once more: a disk's mood changes.
    pub(crate) async fn look_again(&mut self) {
        self.flush_us_after = flush_us().await;
    }

    #[expect(clippy::cast_precision_loss, reason = "a handful of cores")]
    pub(crate) fn is_busy(&self) -> bool {
        self.cores_in_use > BUSY_SHARE * self.cores as f64
    }

    /// One line, and another if the machine was busy.
    pub(crate) fn in_words(&self) -> String {
        let ms = |us: Option<f64>| us.map_or_else(|| "?".to_owned(), |us| format!("{:.2}", us / 1e3));
        let commit = self.commit.as_ref().map_or_else(String::new, |commit| format!(", commit {commit}"));
        let mut words = format!(
            "{} cores ({}), flush {} ms before and {} ms after (pg_test_fsync), load average {:.2} before, {}{commit}",
            self.cores,
            self.cpu,
            ms(self.flush_us),
            ms(self.flush_us_after),
            self.load_1_min,
            self.measured_at,
        );
        if self.is_busy() {
            words.push_str(&format!(
                "\nThe machine was BUSY: others used {:.1} of its {} cores. These figures are no basis for a judgement.",
                self.cores_in_use, self.cores
            ));
        }
        words
    }
}

#[expect(clippy::disallowed_methods, reason = "a report is dated by the machine's clock")]
fn now() -> String {
    let now = time::OffsetDateTime::now_utc();
    let now = now.replace_nanosecond(0).unwrap_or(now);
    now.format(&time::format_description::well_known::Rfc3339).unwrap_or_default()
}

fn cpu() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

fn load_1_min() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}

/// How many cores were at work in one second in which we do nothing.
async fn cores_in_use() -> Option<f64> {
    let (total, idle) = core_ticks()?;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let (total_after, idle_after) = core_ticks()?;
    let passed = total_after.checked_sub(total).filter(|passed| *passed > 0)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    Some((passed.saturating_sub(idle_after.saturating_sub(idle))) as f64 / passed as f64 * cores as f64)
}

/// Ticks of all cores since the system's start: in all, and idle or waiting for a disk.
fn core_ticks() -> Option<(u64, u64)> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let fields: Vec<u64> = text.lines().next()?.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    Some((fields.iter().take(8).sum(), fields.get(3)? + fields.get(4)?))
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

async fn commit() -> Option<String> {
    let git = async |args: &[&str]| {
        let output = Command::new("git").args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().await.ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=10", "HEAD"]).await?;
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"]).await?.is_empty();
    Some(if changed { format!("{commit}+") } else { commit })
}

/// Makes the folder that the results go to.
pub(crate) fn make(folder: &Path) -> Result<()> {
    Ok(fs::create_dir_all(folder)?)
}
