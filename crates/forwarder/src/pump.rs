//! The forwarder's loop: hold the cursor's lease, gather a batch, hand it to the sink, store the cursor.

use std::sync::Arc;
use std::time::Duration;

use residency::Region;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::backoff::Backoff;
use crate::change::{self, Batch};
use crate::error::Error;
use crate::settings::Settings;
use crate::sink::{Applied, Sink};
use crate::source::{Source, SourceError};
use crate::status::{Board, ForwarderState};

/// How often a cursor is stored that moved without anything having been forwarded.
const IDLE_STORE_INTERVAL: Duration = Duration::from_secs(1);

/// Everything that does not change while the forwarder runs.
pub(crate) struct Pump<S> {
    source: S,
    region: Region,
    settings: Arc<Settings>,
    sink: Arc<dyn Sink>,
    board: Board,
    owner: String,
}

/// A lease on the cursor, and where the work under it stands.
struct Tenure<S: Source> {
    lease: S::Lease,
    /// Up to when the lease surely holds.
    valid_until: Instant,
    /// Where the stored cursor stands.
    stored: u64,
    stored_at: Instant,
    /// Up to where everything is in the sink.
    done: u64,
    wakeups: Option<watch::Receiver<u64>>,
    idle_wait: Duration,
}

/// Why work under a lease ended.
enum Trouble {
    Shutdown,
    LeaseLost,
    Failed(Error),
}

impl From<SourceError> for Trouble {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::LeaseLost => Self::LeaseLost,
            SourceError::Failed(source) => Self::Failed(Error::Log(source)),
        }
    }
}

impl<S: Source> Pump<S> {
    pub(crate) fn new(source: S, region: Region, settings: Arc<Settings>, sink: Arc<dyn Sink>, board: Board) -> Self {
        // Distinguishes forwarders in the cursor table; says nothing about the machine.
        let owner = format!("forwarder-{:016x}", rand::random::<u64>());
        Self { source, region, settings, sink, board, owner }
    }

    /// Runs until `shutdown`.
    pub(crate) async fn run(&self, shutdown: CancellationToken) {
        let limits = &self.settings.limits;
        let region = &self.region;
        let mut backoff = Backoff::new(limits.backoff_min, limits.backoff_max);
        // The sink is set up once, and again when it says that something is missing or wrong.
        let mut ready = false;
        while !shutdown.is_cancelled() {
            let trouble = match self.take_cursor().await {
                Ok(Some(mut tenure)) => {
                    let before = tenure.done;
                    let trouble = self.tend(&mut tenure, &mut ready, &shutdown).await;
                    if tenure.done > before {
                        backoff.reset();
                    }
                    self.give_back(&tenure, &trouble).await;
                    trouble
                }
                Ok(None) => {
                    self.board.state(ForwarderState::Standby);
                    // Soon enough to take over when the lease lapses, and never in step with others.
                    pause(limits.lease.mul_f64(0.1 + 0.2 * rand::random::<f64>()), &shutdown).await;
                    continue;
                }
                Err(trouble) => trouble,
            };
            match trouble {
                Trouble::Shutdown => break,
                Trouble::LeaseLost => {
                    warn!(%region, "The forwarder of {region} no longer holds the cursor's lease");
                    pause(limits.backoff_min, &shutdown).await;
                }
                Trouble::Failed(error) => {
                    ready &= !matches!(error, Error::Refused { .. } | Error::Misplaced { .. });
                    let wait = backoff.next();
                    let (attempt, error) = (backoff.attempts(), sentence(&error));
                    warn!(
                        %region, attempt, wait_ms = wait.as_millis() as u64, error,
                        "The forwarder of {region} will try its batch again"
                    );
                    self.board.trouble(error);
                    pause(wait, &shutdown).await;
                }
            }
        }
        self.board.state(ForwarderState::Stopped);
    }

    async fn take_cursor(&self) -> Result<Option<Tenure<S>>, Trouble> {
        let limits = &self.settings.limits;
        let now = Instant::now();
        let Some((lease, position)) = self.source.acquire(&self.owner, limits.lease).await? else {
            return Ok(None);
        };
        Ok(Some(Tenure {
            lease,
            valid_until: now + limits.lease,
            stored: position,
            stored_at: now,
            done: position,
            wakeups: Some(self.source.wakeups()),
            idle_wait: limits.poll_min,
        }))
    }

    /// Works under a lease until something ends it.
    async fn tend(&self, tenure: &mut Tenure<S>, ready: &mut bool, shutdown: &CancellationToken) -> Trouble {
        if !*ready {
            if let Err(trouble) = self.keeping_the_lease(tenure, self.sink.setup(), shutdown).await {
                return trouble;
            }
            *ready = true;
        }
        let (region, seq) = (&self.region, tenure.done);
        info!(%region, seq, sink = self.sink.name(), "The forwarder of {region} goes on behind entry {seq}");
        self.board.state(ForwarderState::Running);
        loop {
            if let Err(trouble) = self.forward_batch(tenure, shutdown).await {
                return trouble;
            }
        }
    }

    /// Gathers one batch, hands it over and stores the cursor.
    async fn forward_batch(&self, tenure: &mut Tenure<S>, shutdown: &CancellationToken) -> Result<(), Trouble> {
        let (batch, covered) = self.gather(tenure, shutdown).await?;
        if !batch.is_empty() {
            let rows = batch.rows();
            let applied: Applied = self.keeping_the_lease(tenure, self.sink.apply(&rows), shutdown).await?;
            self.board.applied(applied);
        }
        tenure.done = covered;
        let idle =
            batch.is_empty() && tenure.stored_at.elapsed() < IDLE_STORE_INTERVAL.min(self.settings.limits.lease / 3);
        if !idle {
            self.store(tenure).await?;
        }
        self.board.progress(tenure.done, covered);
        Ok(())
    }

    /// Reads changes until the batch is full or old enough, or the log has had nothing for a while.
    async fn gather(&self, tenure: &mut Tenure<S>, shutdown: &CancellationToken) -> Result<(Batch, u64), Trouble> {
        let limits = &self.settings.limits;
        let mut batch = Batch::default();
        let mut covered = tenure.done;
        let mut change_bytes = 1_024;
        let mut oldest: Option<Instant> = None;
        loop {
            if shutdown.is_cancelled() {
                return Err(Trouble::Shutdown);
            }
            if let Some(wakeups) = &mut tenure.wakeups {
                wakeups.mark_unchanged();
            }
            let asked = rows_to_read(limits.read_rows_max, limits.batch_bytes_max, change_bytes);
            // The head first: what is below it is then surely in the answer, if the answer is not full.
            let head = self.source.head().await?;
            let entries = if head > covered { self.source.changes(covered, asked).await? } else { Vec::new() };
            let full = entries.len() >= asked as usize;
            if let Some(last) = entries.last() {
                covered = covered.max(last.seq);
                let average = entries.iter().map(|entry| entry.data.len()).sum::<usize>() / entries.len();
                change_bytes = change_bytes.max(average);
                oldest = oldest.or_else(|| Some(Instant::now()));
            }
            if !full {
                covered = covered.max(head);
            }
            for entry in &entries {
                match change::row(entry, &self.region, &self.settings.purposes) {
                    Ok(row) => batch.add(row),
                    Err(refusal) => self.refuse(entry.seq, &refusal),
                }
            }
            self.board.progress(tenure.done, head);
            let age_left = oldest.map(|oldest| limits.batch_age_max.saturating_sub(oldest.elapsed()));
            let complete = batch.len() >= limits.batch_rows_max
                || batch.bytes() >= limits.batch_bytes_max
                || age_left == Some(Duration::ZERO);
            let idle_but_moved = oldest.is_none() && covered > tenure.done;
            if complete || idle_but_moved {
                tenure.idle_wait = limits.poll_min;
                return Ok((batch, covered));
            }
            if full {
                continue;
            }
            let wait = tenure.idle_wait.min(age_left.unwrap_or(limits.poll_max));
            tenure.idle_wait = (tenure.idle_wait * 2).min(limits.poll_max);
            if self.rest(tenure, wait, shutdown).await {
                tenure.idle_wait = limits.poll_min;
            }
            self.renew_if_due(tenure).await?;
        }
    }

    fn refuse(&self, seq: u64, refusal: &Error) {
        let (region, reason) = (&self.region, refusal.to_string());
        self.board.refused(1);
        error!(%region, seq, reason, "The forwarder of {region} refused region log entry {seq}; it stays in the log");
    }

    /// Waits until this process commits (`true`) or the time is over.
    async fn rest(&self, tenure: &mut Tenure<S>, wait: Duration, shutdown: &CancellationToken) -> bool {
        let Some(wakeups) = &mut tenure.wakeups else {
            pause(wait, shutdown).await;
            return false;
        };
        let woken = tokio::select! {
            () = shutdown.cancelled() => return false,
            () = tokio::time::sleep(wait) => return false,
            woken = wakeups.changed() => woken.is_ok(),
        };
        if !woken {
            // The store has been closed; polling finds out what becomes of it.
            tenure.wakeups = None;
        }
        woken
    }

    /// Does something slow at the sink while renewing the lease; gives up on it when the lease is lost, when
    /// it takes too long, or when a shutdown has waited long enough.
    async fn keeping_the_lease<T>(
        &self,
        tenure: &mut Tenure<S>,
        work: impl Future<Output = Result<T, Error>> + Send,
        shutdown: &CancellationToken,
    ) -> Result<T, Trouble> {
        let limits = &self.settings.limits;
        let mut work = Box::pin(work);
        let give_up = Instant::now() + limits.apply_max;
        let mut patience: Option<Instant> = None;
        loop {
            let renewal = tenure.stored_at + limits.lease / 3;
            tokio::select! {
                biased;
                outcome = &mut work => return outcome.map_err(Trouble::Failed),
                () = shutdown.cancelled(), if patience.is_none() => {
                    patience = Some(Instant::now() + limits.drain_max);
                }
                () = tokio::time::sleep_until(patience.unwrap_or(give_up).min(give_up)) => {
                    return Err(if patience.is_some() {
                        Trouble::Shutdown
                    } else {
                        Trouble::Failed(Error::OutcomeUnknown(format!("no answer in {} s", limits.apply_max.as_secs())))
                    });
                }
                () = tokio::time::sleep_until(renewal) => self.renew_if_due(tenure).await?,
            }
        }
    }

    async fn renew_if_due(&self, tenure: &mut Tenure<S>) -> Result<(), Trouble> {
        if tenure.stored_at.elapsed() >= self.settings.limits.lease / 3 { self.store(tenure).await } else { Ok(()) }
    }

    /// Stores the cursor and renews the lease. A failure is forgiven for as long as the lease holds.
    async fn store(&self, tenure: &mut Tenure<S>) -> Result<(), Trouble> {
        let lease_for = self.settings.limits.lease;
        let asked_at = Instant::now();
        tenure.stored_at = asked_at;
        match self.source.advance(&tenure.lease, tenure.done, lease_for).await {
            Ok(()) => {
                tenure.stored = tenure.done;
                tenure.valid_until = asked_at + lease_for;
                Ok(())
            }
            Err(SourceError::Failed(cause)) if Instant::now() < tenure.valid_until => {
                let region = &self.region;
                warn!(%region, error = %cause, "The forwarder's cursor in {region} could not be stored; it will be tried again");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Stores what is done; on a shutdown the lease ends with it, so that a successor need not wait.
    async fn give_back(&self, tenure: &Tenure<S>, trouble: &Trouble) {
        let lease_for = match trouble {
            Trouble::LeaseLost => return,
            Trouble::Shutdown => Duration::ZERO,
            Trouble::Failed(_) => self.settings.limits.lease,
        };
        if tenure.done > tenure.stored || lease_for.is_zero() {
            // A failure costs a repetition, which changes nothing.
            let _ = self.source.advance(&tenure.lease, tenure.done, lease_for).await;
        }
    }
}

/// How many changes to read so that they come to about `bytes_max`.
fn rows_to_read(rows_max: u32, bytes_max: usize, change_bytes: usize) -> u32 {
    let rows = u32::try_from(bytes_max / change_bytes.max(1)).unwrap_or(u32::MAX);
    rows.clamp(1, rows_max.clamp(1, 10_000))
}

async fn pause(wait: Duration, shutdown: &CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = tokio::time::sleep(wait) => {}
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
