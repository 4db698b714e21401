//! When to look at the log next: at once when this process committed something, otherwise after a wait that grows
//! while nothing comes. An idle look is one probe of an index.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// What the last look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// As much as was asked for: there may be more.
    Full,
    /// Something.
    Some,
    /// Nothing.
    Nothing,
}

/// Keeps the time of the next look.
pub struct Lookout {
    /// `None` once the store has been closed; polling finds out what becomes of it.
    wakeups: Option<watch::Receiver<u64>>,
    next: Instant,
    wait: Duration,
    min: Duration,
    max: Duration,
}

impl Lookout {
    /// Looks at once, and then after waits between `min` and `max`.
    #[must_use]
    pub fn new(wakeups: watch::Receiver<u64>, min: Duration, max: Duration) -> Self {
        Self { wakeups: Some(wakeups), next: Instant::now(), wait: min, min, max }
    }

    /// When the next look is due.
    #[must_use]
    pub fn at(&self) -> Instant {
        self.next
    }

    /// To be called before a look: commits up to here need not wake anybody any more.
    pub fn looking(&mut self) {
        if let Some(wakeups) = &mut self.wakeups {
            wakeups.mark_unchanged();
        }
    }

    /// To be called after it.
    pub fn saw(&mut self, sight: Sight) {
        self.wait = if sight == Sight::Nothing { (self.wait * 2).min(self.max) } else { self.min };
        self.next = if sight == Sight::Full { Instant::now() } else { Instant::now() + self.wait };
    }

    /// The next look is due now, and those after it come quickly again.
    pub fn hurry(&mut self) {
        self.next = Instant::now();
        self.wait = self.min;
    }

    /// Waits until this process commits, and makes the next look due.
    pub async fn woken(&mut self) {
        let Some(wakeups) = &mut self.wakeups else { return std::future::pending().await };
        if wakeups.changed().await.is_ok() {
            self.hurry();
        } else {
            self.wakeups = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn looks_become_rare_while_nothing_comes_and_a_commit_makes_one_due() {
        let commits = watch::Sender::new(0);
        let (min, max) = (Duration::from_millis(5), Duration::from_millis(500));
        let mut lookout = Lookout::new(commits.subscribe(), min, max);
        assert!(lookout.at() <= Instant::now());
        for _ in 0..10 {
            lookout.looking();
            lookout.saw(Sight::Nothing);
        }
        assert_eq!(lookout.at() - Instant::now(), max);
        commits.send_replace(1);
        lookout.woken().await;
        assert!(lookout.at() <= Instant::now());
        lookout.saw(Sight::Full);
        assert!(lookout.at() <= Instant::now(), "there may be more at once");
        lookout.saw(Sight::Some);
        assert_eq!(lookout.at() - Instant::now(), min);
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_store_is_no_reason_to_spin() {
        let commits = watch::Sender::new(0);
        let mut lookout = Lookout::new(commits.subscribe(), Duration::from_millis(5), Duration::from_millis(500));
        drop(commits);
        lookout.woken().await;
        let again = tokio::time::timeout(Duration::from_secs(60), lookout.woken()).await;
        assert!(again.is_err());
    }
}
