//! The writing that goes on through an outage, and how it went before and meanwhile.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};
use world::Client;

use super::{Alarm, Outage, SUBJECTS};
use crate::soak::stage::PATIENCE;
use crate::{batch, person, until};

/// Batches of changes a second, while the writing is steady.
const BATCHES: u32 = 10;
/// Changes of a batch, while it is not.
const LINES_FLAT_OUT: u64 = 200;

/// One caller who writes by batches, the next when the last was answered: so many changes a second, or flat out.
pub(super) struct Writing {
    shared: Arc<Shared>,
    begun: Instant,
    task: JoinHandle<Result<Vec<Batch>>>,
}

#[derive(Default)]
struct Shared {
    changes: AtomicU64,
    flat_out: AtomicBool,
    stop: AtomicBool,
}

/// When a batch was sent, since the beginning, how long its answer took, and how many changes it had.
struct Batch {
    at: Duration,
    took: Duration,
    lines: u64,
}

/// A stretch of the writing: the batches that were sent in it count.
struct Stretch {
    from: Duration,
    to: Duration,
}

/// How a stretch went.
pub(super) struct Pace {
    changes_per_s: f64,
    p50: Duration,
    p99: Duration,
}

/// The same writing before and while something was away.
pub(super) struct Compared {
    before: Pace,
    away: Pace,
}

/// What came of it.
pub(super) struct Told {
    pub(super) changes: u64,
    steady: Compared,
    flat_out: Option<Compared>,
    backlog: u64,
    drained: Duration,
}

impl Writing {
    pub(super) fn start(client: Client, rate: u32, line: fn(u64) -> Value) -> Self {
        let (shared, begun) = (Arc::new(Shared::default()), Instant::now());
        let task = tokio::spawn(write(client, rate, line, Arc::clone(&shared), begun));
        Self { shared, begun, task }
    }

    /// Writes before, during and a while after the outage; waits for alarms and for the backlog.
    pub(super) async fn through(
        self,
        alarm: &Alarm<'_>,
        outage: Outage,
        leave: impl AsyncFn() -> Result<()>,
        come_back: impl AsyncFn() -> Result<()>,
    ) -> Result<Told> {
        // The first batches register their subjects, and the first carrying makes topics or tables.
        until("The first changes", PATIENCE, || async { self.count() > 2 * SUBJECTS }).await?;
        alarm.clears().await?;
        let before = self.stretch(outage.before(), false).await;
        let before_flat_out = self.stretch(outage.flat_out, true).await;
        leave().await?;
        let away = self.stretch(outage.away.saturating_sub(outage.flat_out), false).await;
        let away_flat_out = self.stretch(outage.flat_out, true).await;
        alarm.fires().await?;
        let backlog = alarm.behind().await?;
        ensure!(backlog > 0, "nothing waited during the outage");
        come_back().await?;
        let returned = Instant::now();
        alarm.clears().await?;
        self.shared.stop.store(true, Ordering::Relaxed);
        let batches = self.task.await??;
        alarm.caught_up().await?;
        let compared =
            |before: &Stretch, away: &Stretch| Compared { before: before.pace(&batches), away: away.pace(&batches) };
        Ok(Told {
            changes: self.shared.changes.load(Ordering::Relaxed),
            steady: compared(&before, &away),
            flat_out: (!outage.flat_out.is_zero()).then(|| compared(&before_flat_out, &away_flat_out)),
            backlog,
            drained: returned.elapsed(),
        })
    }

    /// Lets it write for so long.
    async fn stretch(&self, length: Duration, flat_out: bool) -> Stretch {
        self.shared.flat_out.store(flat_out && !length.is_zero(), Ordering::Relaxed);
        let from = self.begun.elapsed();
        sleep(length).await;
        let to = self.begun.elapsed();
        self.shared.flat_out.store(false, Ordering::Relaxed);
        Stretch { from, to }
    }

    fn count(&self) -> u64 {
        self.shared.changes.load(Ordering::Relaxed)
    }
}

async fn write(
    client: Client,
    rate: u32,
    line: fn(u64) -> Value,
    shared: Arc<Shared>,
    begun: Instant,
) -> Result<Vec<Batch>> {
    let mut ticks = interval(Duration::from_secs(1) / BATCHES);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Subjects of this run.
    let prefix = person("outage");
    let line = |n: u64| {
        let mut line = line(n);
        line["subject"] = format!("{prefix}-{}", line["subject"].as_str().unwrap_or_default()).into();
        line
    };
    let (mut n, mut batches) = (0, Vec::new());
    while !shared.stop.load(Ordering::Relaxed) {
        let lines = if shared.flat_out.load(Ordering::Relaxed) {
            LINES_FLAT_OUT
        } else {
            ticks.tick().await;
            u64::from((rate / BATCHES).max(1))
        };
        let sent = Instant::now();
        for told in batch(&client, (n..n + lines).map(line)).await? {
            let status = told["status"].as_u64().unwrap_or_default();
            ensure!((200..300).contains(&status), "a write was not accepted: {told}");
        }
        batches.push(Batch { at: sent.duration_since(begun), took: sent.elapsed(), lines });
        n += lines;
        shared.changes.store(n, Ordering::Relaxed);
    }
    Ok(batches)
}

impl Stretch {
    fn pace(&self, batches: &[Batch]) -> Pace {
        let within = || batches.iter().filter(|batch| (self.from..self.to).contains(&batch.at));
        let changes: u64 = within().map(|batch| batch.lines).sum();
        let mut took: Vec<Duration> = within().map(|batch| batch.took).collect();
        took.sort_unstable();
        let at = |part: usize| took.get(took.len().saturating_sub(1) * part / 100).copied().unwrap_or_default();
        Pace { changes_per_s: changes as f64 / (self.to - self.from).as_secs_f64(), p50: at(50), p99: at(99) }
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |duration: Duration| duration.as_secs_f64() * 1_000.0;
        let (p50, p99) = (ms(self.p50), ms(self.p99));
        write!(f, "{:.0} changes/s (a batch: p50 {p50:.1} ms, p99 {p99:.1} ms)", self.changes_per_s)
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ratio = self.away.changes_per_s / self.before.changes_per_s;
        write!(f, "{} before, {} meanwhile: {ratio:.2}x", self.before, self.away)
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "written steadily: {}", self.steady)?;
        if let Some(flat_out) = &self.flat_out {
            write!(f, "; as fast as one caller is answered: {flat_out}")?;
        }
        let (backlog, drained) = (self.backlog, self.drained.as_secs_f64());
        write!(f, "; the alarm fired and cleared; {backlog} entries waited and were carried {drained:.1} s after")
    }
}
