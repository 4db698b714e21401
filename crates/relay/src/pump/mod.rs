//! The relay's loop: hold the cursor's lease, and within it run sessions, each with a producer of its own.
//!
//! A session ends when anything goes wrong. What was acknowledged is kept, the rest is read from the log
//! again by the next session. That one way back covers every trouble: a fatal producer error, a refused
//! batch, a lost authorization, a vanished topic, a stall.

mod destination;
mod session;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use follow::{Backoff, Source, Tenure, Trouble, Watchman, pause, sentence};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::settings::Settings;
use crate::status::{Board, RelayState};
use session::{End, Session};

/// Everything that does not change while the relay runs.
pub(crate) struct Pump<S> {
    source: Arc<S>,
    settings: Arc<Settings>,
    board: Board,
    owner: String,
}

/// What was learnt under a lease about entries that the brokers refuse.
#[derive(Default)]
struct Learnt {
    /// While the position is below this, one entry is in flight at a time, to find out which one is refused.
    careful_until: u64,
    /// The entry that the brokers refused when it was alone, and why.
    poison: Option<(u64, String)>,
}

impl<S: Source> Pump<S> {
    pub(crate) fn new(source: S, settings: Arc<Settings>, board: Board) -> Self {
        // Distinguishes relays in the cursor table; says nothing about the machine.
        let owner = format!("relay-{:016x}", rand::random::<u64>());
        Self { source: Arc::new(source), settings, board, owner }
    }

    /// Runs until `shutdown`, with a watchman beside it who knows the lag even while the work stands still.
    pub(crate) async fn run(&self, shutdown: CancellationToken) {
        self.board.begin();
        let watchman = Watchman::new(Arc::clone(&self.source), self.settings.limits.lag_alarm);
        tokio::select! {
            () = self.work(&shutdown) => {}
            () = watchman.watch(|| self.board.position(), |report| self.board.report(report)) => {}
        }
        self.board.state(RelayState::Stopped);
    }

    async fn work(&self, shutdown: &CancellationToken) {
        let limits = &self.settings.limits;
        let region = self.source.region();
        let mut backoff = Backoff::new(limits.backoff_min, limits.backoff_max);
        while !shutdown.is_cancelled() {
            let wait = match Tenure::take(&self.source, &self.owner, limits.lease).await {
                Ok(Some(mut tenure)) => {
                    backoff.reset();
                    let seq = tenure.position();
                    info!(%region, seq, "The relay of {region} holds the cursor at entry {seq}");
                    self.board.holds(seq);
                    self.tend(&mut tenure, shutdown).await;
                    self.board.holds_no_more();
                    limits.backoff_min
                }
                Ok(None) => {
                    self.board.state(RelayState::Standby);
                    // Soon enough to take over when the lease lapses, and never in step with others.
                    limits.lease.mul_f64(0.1 + 0.2 * rand::random::<f64>())
                }
                Err(trouble) => {
                    self.board.trouble(sentence(&trouble));
                    debug!(%region, error = sentence(&trouble), "The relay of {region} could not take the cursor");
                    backoff.wait()
                }
            };
            pause(wait, shutdown.cancelled()).await;
        }
    }

    /// Runs sessions for as long as the lease holds.
    async fn tend(&self, tenure: &mut Tenure<S>, shutdown: &CancellationToken) {
        let limits = &self.settings.limits;
        let region = self.source.region();
        let mut backoff = Backoff::new(limits.backoff_min, limits.backoff_max);
        let mut learnt = Learnt::default();
        loop {
            let before = tenure.position();
            let end = match Session::open(self, tenure, &mut learnt) {
                Ok(session) => {
                    self.board.state(RelayState::Running);
                    session.run(shutdown).await
                }
                Err(error) => End::Broken(error),
            };
            match end {
                End::Shutdown => return,
                End::LeaseLost => {
                    warn!(%region, "The relay of {region} no longer holds the cursor's lease");
                    return;
                }
                End::Broken(error) => {
                    if tenure.position() > before {
                        backoff.reset();
                    }
                    let wait = backoff.wait();
                    let (seq, attempt) = (tenure.position(), backoff.attempts());
                    self.board.trouble(sentence(&error));
                    warn!(
                        %region, seq, attempt, wait_ms = wait.as_millis() as u64, error = sentence(&error),
                        "The relay of {region} sends everything behind entry {seq} again"
                    );
                    if !self.wait(wait, tenure, shutdown).await {
                        return;
                    }
                }
            }
        }
    }

    /// Keeps the lease over a pause, however long; `false` when it has to be taken again or the relay is to end.
    async fn wait(&self, wait: std::time::Duration, tenure: &mut Tenure<S>, shutdown: &CancellationToken) -> bool {
        let until = tokio::time::Instant::now() + wait;
        loop {
            let renewal = self.settings.limits.lease / 3;
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            pause(left.min(renewal), shutdown.cancelled()).await;
            if shutdown.is_cancelled() {
                tenure.give_back().await;
                return false;
            }
            if tenure.store().await.is_err() {
                return false;
            }
            if left <= renewal {
                return true;
            }
        }
    }
}

fn log_trouble(trouble: Trouble) -> crate::Error {
    crate::Error::Log(Box::new(trouble))
}
