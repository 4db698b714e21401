//! The probe: a sequence of writes through the same door as everybody's, and a book of what was acknowledged when.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};

/// Writes under way at a time; while nothing is answered, no more are begun.
const UNDER_WAY_MAX: usize = 64;
/// The most writes of one drill: twenty minutes at one in 20 ms.
const WRITES_MAX: u64 = 60_000;

/// Whoever speaks with the gateway.
pub trait Writer: Send + Sync + 'static {
    /// Writes entry `seq` and says whether it was acknowledged. Bounded by a deadline of its own.
    fn write(&self, seq: u64) -> impl Future<Output = bool> + Send;

    /// Says whether entry `seq` is there; `None` when nobody answers.
    fn read(&self, seq: u64) -> impl Future<Output = Option<bool>> + Send;
}

/// What the probe saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// Writes that were begun.
    pub attempted: u64,
    /// Those that were acknowledged: number, and milliseconds since the probe began.
    pub acknowledged: Vec<(u64, u64)>,
    /// When each write that was not acknowledged was given up, milliseconds since the probe began.
    pub refused: Vec<u64>,
}

impl Trace {
    /// The longest time without an acknowledgement that ended at or after `from_ms`: last before, first after. `None` when
    /// nothing was acknowledged before, or nothing after.
    #[must_use]
    pub fn outage(&self, from_ms: u64) -> Option<Duration> {
        let mut times: Vec<u64> = self.acknowledged.iter().map(|(_, at)| *at).collect();
        times.sort_unstable();
        let gaps = times.windows(2).filter(|pair| pair[1] >= from_ms).map(|pair| pair[1] - pair[0]);
        gaps.max().map(Duration::from_millis)
    }

    /// How far before `broken_ms` the oldest of the `missing` entries had been acknowledged: the age of what was lost.
    /// Zero when nothing was.
    #[must_use]
    pub fn loss(&self, missing: &[u64], broken_ms: u64) -> Duration {
        let lost = self.acknowledged.iter().filter(|(seq, _)| missing.contains(seq));
        let oldest = lost.map(|(_, at)| *at).min();
        Duration::from_millis(oldest.map_or(0, |at| broken_ms.saturating_sub(at)))
    }

    /// How many writes were given up at or after `from_ms`.
    #[must_use]
    pub fn refused_since(&self, from_ms: u64) -> u64 {
        self.refused.iter().filter(|at| **at >= from_ms).count() as u64
    }
}

/// A probe at work.
pub struct Probe<W> {
    writer: Arc<W>,
    begun: Instant,
    stop: watch::Sender<bool>,
    trace: Arc<Mutex<Trace>>,
    task: tokio::task::JoinHandle<()>,
}

impl<W: Writer> Probe<W> {
    /// Begins to write, one entry `every` so often.
    #[must_use]
    pub fn begin(writer: W, every: Duration) -> Self {
        let (writer, trace) = (Arc::new(writer), Arc::new(Mutex::new(Trace::default())));
        let (stop, stopped) = watch::channel(false);
        let begun = Instant::now();
        let task = tokio::spawn(write_all(Arc::clone(&writer), Arc::clone(&trace), begun, every, stopped));
        Self { writer, begun, stop, trace, task }
    }

    /// Milliseconds since it began.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        milliseconds(self.begun)
    }

    /// How many writes have been acknowledged so far, and when the last one was.
    #[must_use]
    pub fn acknowledged(&self) -> (usize, Option<u64>) {
        let trace = self.trace.lock().unwrap_or_else(PoisonError::into_inner);
        (trace.acknowledged.len(), trace.acknowledged.iter().map(|(_, at)| *at).max())
    }

    /// Ends the writing. Returns what it saw.
    pub async fn stop(self) -> Trace {
        self.stop.send_replace(true);
        drop(self.task.await);
        self.trace.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the writing, and asks for every entry that was acknowledged. Returns what it saw and the entries that are
    /// missing; an entry that nobody answers for within `patience` counts as missing.
    pub async fn end(self, patience: Duration) -> (Trace, Vec<u64>) {
        let writer = Arc::clone(&self.writer);
        let trace = self.stop().await;
        let until = Instant::now() + patience;
        let mut missing = Vec::new();
        for (seq, _) in &trace.acknowledged {
            let there = loop {
                match writer.read(*seq).await {
                    Some(there) => break there,
                    None if Instant::now() < until => tokio::time::sleep(Duration::from_millis(50)).await,
                    None => break false,
                }
            };
            if !there {
                missing.push(*seq);
            }
        }
        (trace, missing)
    }
}

async fn write_all<W: Writer>(
    writer: Arc<W>,
    trace: Arc<Mutex<Trace>>,
    begun: Instant,
    every: Duration,
    mut stopped: watch::Receiver<bool>,
) {
    let room = Arc::new(Semaphore::new(UNDER_WAY_MAX));
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    for seq in 0..WRITES_MAX {
        tokio::select! {
            _ = stopped.changed() => break,
            _ = ticks.tick() => {}
        }
        let Ok(seat) = Arc::clone(&room).acquire_owned().await else { break };
        trace.lock().unwrap_or_else(PoisonError::into_inner).attempted += 1;
        let (writer, trace) = (Arc::clone(&writer), Arc::clone(&trace));
        tokio::spawn(async move {
            let acknowledged = writer.write(seq).await;
            let at = milliseconds(begun);
            let mut trace = trace.lock().unwrap_or_else(PoisonError::into_inner);
            match acknowledged {
                true => trace.acknowledged.push((seq, at)),
                false => trace.refused.push(at),
            }
            drop(trace);
            drop(seat);
        });
    }
    // Those under way are waited for: an acknowledgement is not to be missed.
    drop(room.acquire_many(u32::try_from(UNDER_WAY_MAX).unwrap_or(u32::MAX)).await);
}

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn an_outage_is_from_the_last_acknowledgement_before_to_the_first_after() {
        let acknowledged = vec![(1, 20), (0, 10), (2, 500), (3, 2_500), (9, 2_510), (10, 9_000)];
        let trace = Trace { attempted: 11, acknowledged, refused: vec![15, 600] };
        assert_eq!(trace.outage(600), Some(Duration::from_millis(6_490)));
        assert_eq!((trace.refused_since(0), trace.refused_since(16)), (2, 1));
        assert_eq!(Trace { acknowledged: vec![(0, 5)], ..Trace::default() }.outage(0), None);
    }

    #[test]
    fn what_was_lost_is_as_old_as_the_oldest_of_it() {
        let trace = Trace { acknowledged: vec![(0, 100), (1, 400), (2, 450)], ..Trace::default() };
        assert_eq!(trace.loss(&[], 500), Duration::ZERO);
        assert_eq!(trace.loss(&[1, 2], 500), Duration::from_millis(100));
        assert_eq!(trace.loss(&[2], 440), Duration::ZERO, "it was acknowledged after it broke");
    }

    /// Acknowledges what it keeps, but for what it is told to lose.
    struct Store {
        kept: Mutex<Vec<u64>>,
        up: Arc<AtomicBool>,
        loses: u64,
    }

    impl Writer for Store {
        async fn write(&self, seq: u64) -> bool {
            if seq != self.loses && self.up.load(Ordering::SeqCst) {
                self.kept.lock().expect("the store").push(seq);
            }
            self.up.load(Ordering::SeqCst)
        }

        async fn read(&self, seq: u64) -> Option<bool> {
            Some(self.kept.lock().expect("the store").contains(&seq))
        }
    }

    #[tokio::test]
    async fn an_acknowledged_write_that_is_gone_is_found() {
        let up = Arc::new(AtomicBool::new(true));
        let store = Store { kept: Mutex::default(), up: Arc::clone(&up), loses: 3 };
        let probe = Probe::begin(store, Duration::from_millis(1));
        while probe.acknowledged().0 < 10 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        up.store(false, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(20)).await;
        let (before, _) = probe.acknowledged();
        up.store(true, Ordering::SeqCst);
        while probe.acknowledged().0 <= before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (trace, missing) = probe.end(Duration::from_secs(1)).await;
        assert_eq!(missing, [3]);
        assert!(trace.attempted > trace.acknowledged.len() as u64);
        assert!(trace.outage(0).is_some_and(|outage| outage >= Duration::from_millis(10)));
    }
}
