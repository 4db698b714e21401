//! How far a follower is behind, looked at beside its work, so that it is known even while the work stands still.

use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info};

use crate::source::Source;

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// How far a follower is behind its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lag {
    /// Entries between position and head, whether they concern the follower or not.
    pub entries: u64,
    /// How long ago the oldest of them was committed.
    pub age: Duration,
}

/// What the watchman found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// The newest position.
    pub head: u64,
    /// How far behind.
    pub lag: Lag,
    /// Whether it has been behind for longer than is right. Raised beyond the limit, cleared below half of it.
    pub alarm: bool,
}

/// Looks, every second.
pub struct Watchman<S> {
    source: Arc<S>,
    age_max: Duration,
    every: Duration,
}

impl<S: Source> Watchman<S> {
    /// An alarm is raised when the oldest waiting entry is older than `age_max`.
    #[must_use]
    pub fn new(source: Arc<S>, age_max: Duration) -> Self {
        Self { source, age_max, every: EVERY.min(age_max / 4).max(Duration::from_millis(5)) }
    }

    /// Watches for ever. `position` says how far the follower is, or nothing while it is not this process that follows;
    /// `tell` hears every report, and once `None` when there is nothing more to report: what was said last is no
    /// longer so.
    pub async fn watch(&self, position: impl Fn() -> Option<u64>, mut tell: impl FnMut(Option<Report>)) {
        let (mut alarm, mut told) = (false, false);
        let mut ticks = tokio::time::interval(self.every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let Some(position) = position() else {
                alarm = false;
                if std::mem::take(&mut told) {
                    tell(None);
                }
                continue;
            };
            let Ok(head) = self.source.head().await else { continue };
            let entries = head.saturating_sub(position);
            let age = match entries {
                0 => Duration::ZERO,
                _ => match self.source.age(position + 1).await {
                    Ok(age) => age,
                    Err(_) => continue,
                },
            };
            alarm = self.judge(alarm, Lag { entries, age });
            tell(Some(Report { head, lag: Lag { entries, age }, alarm }));
            told = true;
        }
    }

    fn judge(&self, alarm: bool, lag: Lag) -> bool {
        let (region, cursor, seconds) = (self.source.region(), self.source.cursor(), lag.age.as_secs());
        if !alarm && lag.age > self.age_max {
            error!(%region, cursor, seconds, entries = lag.entries, "The {cursor} of {region} is {seconds} s behind its log");
            return true;
        }
        if alarm && lag.age < self.age_max / 2 {
            info!(%region, cursor, seconds, "The {cursor} of {region} has caught up");
            return false;
        }
        alarm
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use super::*;
    use crate::testing::{MemoryLog, region, row};

    #[tokio::test(start_paused = true)]
    async fn an_alarm_is_raised_when_entries_wait_too_long_and_cleared_when_they_are_done() {
        let log = Arc::new(MemoryLog::new(&region()));
        let (done, last) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(None)));
        let watchman = Watchman::new(Arc::clone(&log), Duration::from_secs(60));
        let task = tokio::spawn({
            let (done, last) = (Arc::clone(&done), Arc::clone(&last));
            async move {
                let tell = |report| *last.lock().unwrap() = report;
                watchman.watch(|| Some(done.load(Ordering::Relaxed)), tell).await;
            }
        });
        let now = |seconds| {
            let last = Arc::clone(&last);
            async move {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                let report: Option<Report> = *last.lock().unwrap();
                report.unwrap()
            }
        };
        assert!(!now(2).await.alarm);
        log.commit((1..=5).map(|seq| row(seq, "eu-central.a.v1")));
        let report = now(30).await;
        assert!(!report.alarm && report.lag.entries == 5, "{report:?}");
        let report = now(40).await;
        assert!(report.alarm && report.lag.age > Duration::from_secs(60), "{report:?}");
        done.store(5, Ordering::Relaxed);
        assert_eq!(now(2).await, Report { head: 5, lag: Lag::default(), alarm: false });
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_reported_is_taken_back_once_when_another_one_follows() {
        let log = Arc::new(MemoryLog::new(&region()));
        log.commit((1..=5).map(|seq| row(seq, "eu-central.a.v1")));
        let follows = Arc::new(AtomicBool::new(false));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let watchman = Watchman::new(Arc::clone(&log), Duration::from_secs(60));
        let task = tokio::spawn({
            let (follows, heard) = (Arc::clone(&follows), Arc::clone(&heard));
            async move {
                let position = || follows.load(Ordering::Relaxed).then_some(0);
                watchman.watch(position, |report| heard.lock().unwrap().push(report.map(|report| report.alarm))).await;
            }
        });
        let after = |seconds| {
            let heard = Arc::clone(&heard);
            async move {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                std::mem::take(&mut *heard.lock().unwrap())
            }
        };
        assert!(after(100).await.is_empty(), "who never followed has nothing to say");
        follows.store(true, Ordering::Relaxed);
        assert_eq!(after(10).await.last(), Some(&Some(true)));
        follows.store(false, Ordering::Relaxed);
        assert_eq!(after(10).await, [None]);
        task.abort();
    }
}
