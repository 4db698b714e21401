//! Waits that grow with repeated trouble, with jitter so that followers do not return in step.

use std::time::Duration;

/// The waits of one series of troubles.
#[derive(Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    attempt: u32,
}

impl Backoff {
    /// Waits from about `min` to at most `max`.
    #[must_use]
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, attempt: 0 }
    }

    /// The next wait: between half and all of `min * 2^attempt`, and never above `max`.
    pub fn wait(&mut self) -> Duration {
        let ceiling = self.min.saturating_mul(1 << self.attempt.min(20)).min(self.max);
        self.attempt = self.attempt.saturating_add(1);
        ceiling.mul_f64(0.5 + rand::random::<f64>() / 2.0)
    }

    /// How many waits there were since the last success.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempt
    }

    /// Something succeeded: the next wait is a short one again.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

/// Waits, unless `until` ends first.
pub async fn pause(wait: Duration, until: impl Future<Output = ()>) {
    tokio::select! {
        () = until => {}
        () = tokio::time::sleep(wait) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_their_bound_and_start_over_after_success() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(2));
        let mut backoff = Backoff::new(min, max);
        assert!(backoff.wait() <= min);
        let waits: Vec<_> = (0..40).map(|_| backoff.wait()).collect();
        assert!(waits.iter().all(|wait| *wait <= max));
        assert!(waits[39] >= max / 2);
        backoff.reset();
        assert!(backoff.wait() <= min);
    }
}
