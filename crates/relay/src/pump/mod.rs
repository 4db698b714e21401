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
use std::time::Duration;

use residency::Region;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::backoff::Backoff;
use crate::settings::Settings;
use crate::source::{Source, SourceError};
use crate::status::{Board, RelayState};
use session::{End, Session};

/// Everything that does not change while the relay runs.
pub(crate) struct Pump<S> {
    source: Arc<S>,
    region: Region,
    settings: Arc<Settings>,
    board: Board,
    owner: String,
}

/// A lease on the cursor, and what was learnt under it.
struct Tenure<S: Source> {
    lease: S::Lease,
    /// Up to when the lease surely holds.
    valid_until: Instant,
    /// Where the stored cursor stands.
    stored: u64,
    /// Up to where everything is acknowledged; never below `stored`.
    acknowledged: u64,
    /// While the position is below this, one entry is in flight at a time, to find out which one is refused.
    careful_until: u64,
    /// The entry that the brokers refused when it was alone, and why.
    poison: Option<(u64, String)>,
}

impl<S: Source> Pump<S> {
    pub(crate) fn new(source: S, region: Region, settings: Arc<Settings>, board: Board) -> Self {
        // Distinguishes relays in the cursor table; says nothing about the machine.
        let owner = format!("relay-{:016x}", rand::random::<u64>());
        Self { source: Arc::new(source), region, settings, board, owner }
    }

    /// Runs until `shutdown`.
    pub(crate) async fn run(&self, shutdown: CancellationToken) {
        let limits = &self.settings.limits;
        let region = &self.region;
        let mut backoff = Backoff::new(limits.backoff_min, limits.backoff_max);
        while !shutdown.is_cancelled() {
            let asked_at = Instant::now();
            let wait = match self.source.acquire(&self.owner, limits.lease).await {
                Ok(Some((lease, position))) => {
                    backoff.reset();
                    info!(%region, seq = position, "The relay of {region} holds the cursor at entry {position}");
                    let mut tenure = Tenure {
                        lease,
                        valid_until: asked_at + limits.lease,
                        stored: position,
                        acknowledged: position,
                        careful_until: 0,
                        poison: None,
                    };
                    self.tend(&mut tenure, &shutdown).await;
                    limits.backoff_min
                }
                Ok(None) => {
                    self.board.state(RelayState::Standby);
                    // Soon enough to take over when the lease lapses, and never in step with others.
                    limits.lease.mul_f64(0.1 + 0.2 * rand::random::<f64>())
                }
                Err(error) => {
                    let error = source_trouble(error);
                    self.board.trouble(sentence(&error));
                    debug!(%region, error = sentence(&error), "The relay of {region} could not take the cursor");
                    backoff.next()
                }
            };
            pause(wait, &shutdown).await;
        }
        self.board.state(RelayState::Stopped);
    }

    /// Runs sessions for as long as the lease holds.
    async fn tend(&self, tenure: &mut Tenure<S>, shutdown: &CancellationToken) {
        let limits = &self.settings.limits;
        let region = &self.region;
        let mut backoff = Backoff::new(limits.backoff_min, limits.backoff_max);
        loop {
            let before = tenure.acknowledged;
            let end = match Session::open(self, tenure) {
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
                    if tenure.acknowledged > before {
                        backoff.reset();
                    }
                    let wait = backoff.next();
                    let (seq, attempt) = (tenure.acknowledged, backoff.attempts());
                    self.board.trouble(sentence(&error));
                    warn!(
                        %region, seq, attempt, wait_ms = wait.as_millis() as u64, error = sentence(&error),
                        "The relay of {region} sends everything behind entry {seq} again"
                    );
                    pause(wait, shutdown).await;
                    if shutdown.is_cancelled() || !self.renew(tenure).await {
                        return;
                    }
                }
            }
        }
    }

    /// Keeps the lease over a pause; `false` when it has to be taken again.
    async fn renew(&self, tenure: &mut Tenure<S>) -> bool {
        let lease = self.settings.limits.lease;
        let asked_at = Instant::now();
        let renewed = self.source.advance(&tenure.lease, tenure.acknowledged, lease).await;
        if renewed.is_ok() {
            tenure.stored = tenure.acknowledged;
            tenure.valid_until = asked_at + lease;
        }
        renewed.is_ok()
    }
}

async fn pause(wait: Duration, shutdown: &CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = tokio::time::sleep(wait) => {}
    }
}

fn source_trouble(error: SourceError) -> crate::Error {
    match error {
        SourceError::LeaseLost => crate::Error::Log("the lease on the cursor was lost".into()),
        SourceError::Failed(source) => crate::Error::Log(source),
    }
}

/// An error and its causes as one line.
fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
