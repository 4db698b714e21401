//! The forwarder's loop: hold the cursor's lease, gather a batch, hand it to the sink, store the cursor.

use std::sync::Arc;
use std::time::Duration;

use follow::{Backoff, Lookout, Sight, Source, Tenure, Trouble as LogTrouble, Watchman, pause, sentence};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::change::{self, Batch, Forgotten, Said};
use crate::error::Error;
use crate::ledger::Ledger;
use crate::settings::Settings;
use crate::sink::{Applied, Place, Sink};
use crate::status::{Board, ForwarderState};
use crate::thrift::Thrift;

#[cfg(test)]
mod tests;

/// How often a cursor is stored that moved without anything having been forwarded.
const IDLE_STORE_INTERVAL: Duration = Duration::from_secs(1);

/// How often it is looked how long erasures wait.
const ERASURES_LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Everything that does not change while the forwarder runs.
pub(crate) struct Pump<S> {
    source: Arc<S>,
    settings: Arc<Settings>,
    sink: Arc<dyn Sink>,
    board: Board,
    owner: String,
    place: Place,
    /// Who is told that the sink has forgotten somebody; nobody in a replay.
    ledger: Option<Arc<dyn Ledger>>,
}

/// When batches are gathered, and how long. Kept from lease to lease: what was spent is spent, and a batch that failed
/// has waited already.
struct Rhythm {
    lookout: Lookout,
    thrift: Thrift,
    /// A position, and when the first change behind it was seen.
    waiting: Option<(u64, Instant)>,
}

/// Why work under a lease ended.
enum Trouble {
    Shutdown,
    LeaseLost,
    Failed(Error),
}

impl From<LogTrouble> for Trouble {
    fn from(trouble: LogTrouble) -> Self {
        match trouble {
            LogTrouble::LeaseLost => Self::LeaseLost,
            trouble => Self::Failed(Error::Log(Box::new(trouble))),
        }
    }
}

impl<S: Source> Pump<S> {
    pub(crate) fn new(source: S, settings: Arc<Settings>, sink: Arc<dyn Sink>, board: Board) -> Self {
        // Distinguishes forwarders in the cursor table; says nothing about the machine.
        let owner = format!("forwarder-{:016x}", rand::random::<u64>());
        Self { source: Arc::new(source), settings, sink, board, owner, place: Place::Owner, ledger: None }
    }

    /// The same, with somebody to tell of what the sink has forgotten.
    pub(crate) fn telling(self, ledger: Arc<dyn Ledger>) -> Self {
        Self { ledger: Some(ledger), ..self }
    }

    /// The same for a replay, which holds no lease and works beside whoever does.
    pub(crate) fn beside(self) -> Self {
        Self { place: Place::Beside, ..self }
    }

    /// Runs until `shutdown`, with a watchman beside it who knows the lag even while the work stands still.
    pub(crate) async fn run(&self, shutdown: CancellationToken) {
        self.board.begin();
        let watchman = Watchman::new(Arc::clone(&self.source), self.settings.limits.lag_alarm);
        tokio::select! {
            () = self.work(&shutdown) => {}
            () = watchman.watch(|| self.board.position(), |report| self.board.report(report)) => {}
            () = self.watch_erasures() => {}
        }
        self.board.state(ForwarderState::Stopped);
    }

    /// Knows how long erasures wait, even while the work stands still; raises an alarm when that is too long.
    async fn watch_erasures(&self) {
        let Some(ledger) = &self.ledger else { return std::future::pending().await };
        let region = self.source.region();
        let limit = self.settings.limits.erasure_alarm;
        let (mut alarm, mut told) = (false, false);
        loop {
            tokio::time::sleep(ERASURES_LOOK_INTERVAL).await;
            // Only who forwards says something: a standby would only repeat it, and what it said before is no longer so.
            if self.board.position().is_none() {
                alarm = false;
                if std::mem::take(&mut told) {
                    self.board.open_erasure(Duration::ZERO, false);
                }
                continue;
            }
            let Ok(open) = ledger.oldest_open().await else { continue };
            let late = open.is_some_and(|open| open > limit);
            if late != alarm {
                let (sink, open_s) = (self.sink.name(), open.unwrap_or_default().as_secs());
                if late {
                    error!(%region, open_s, "An erasure in {region} has been waiting for {sink} for {open_s} s");
                } else {
                    info!(%region, "No erasure in {region} waits for {sink} too long any more");
                }
            }
            (alarm, told) = (late, true);
            self.board.open_erasure(open.unwrap_or_default(), alarm);
        }
    }

    async fn work(&self, shutdown: &CancellationToken) {
        let limits = &self.settings.limits;
        let region = self.source.region();
        let mut backoff = Backoff::new(limits.backoff_min, limits.backoff_max);
        let credits = self.sink.usage().credits;
        let mut rhythm = Rhythm {
            lookout: self.lookout(),
            thrift: Thrift::new(self.settings.budget, limits.batch_age_max, credits, Instant::now()),
            waiting: None,
        };
        while !shutdown.is_cancelled() {
            let trouble = match Tenure::take(&self.source, &self.owner, limits.lease).await {
                Ok(Some(tenure)) => self.hold(tenure, &mut rhythm, &mut backoff, shutdown).await,
                Ok(None) => {
                    self.board.holds_no_more();
                    self.board.state(ForwarderState::Standby);
                    // Soon enough to take over when the lease lapses, and never in step with others.
                    let wait = limits.lease.mul_f64(0.1 + 0.2 * rand::random::<f64>());
                    pause(wait, shutdown.cancelled()).await;
                    continue;
                }
                Err(trouble) => {
                    self.board.holds_no_more();
                    trouble.into()
                }
            };
            match trouble {
                Trouble::Shutdown => break,
                Trouble::LeaseLost => {
                    warn!(%region, "The forwarder of {region} no longer holds the cursor's lease");
                    pause(limits.backoff_min, shutdown.cancelled()).await;
                }
                Trouble::Failed(error) => {
                    let wait = backoff.wait();
                    let (attempt, error) = (backoff.attempts(), sentence(&error));
                    warn!(
                        %region, attempt, wait_ms = wait.as_millis() as u64, error,
                        "The forwarder of {region} will try its batch again"
                    );
                    self.board.trouble(error);
                    pause(wait, shutdown.cancelled()).await;
                }
            }
        }
    }

    /// Works under a lease until something ends it, and leaves cursor and sink to whoever comes next.
    async fn hold(
        &self,
        mut tenure: Tenure<S>,
        rhythm: &mut Rhythm,
        backoff: &mut Backoff,
        shutdown: &CancellationToken,
    ) -> Trouble {
        let before = tenure.position();
        self.board.holds(before);
        let trouble = self.tend(&mut tenure, rhythm, shutdown).await;
        if tenure.position() > before {
            backoff.reset();
        }
        // Before the cursor is free for others.
        self.sink.leave();
        // What is done is stored; on a shutdown the lease ends with it, so that a successor need not wait.
        match trouble {
            Trouble::LeaseLost => self.board.holds_no_more(),
            Trouble::Shutdown => tenure.give_back().await,
            Trouble::Failed(_) if tenure.position() > tenure.stored() => drop(tenure.store().await),
            Trouble::Failed(_) => {}
        }
        trouble
    }

    async fn tend(&self, tenure: &mut Tenure<S>, rhythm: &mut Rhythm, shutdown: &CancellationToken) -> Trouble {
        // Whoever held the cursor in between may have changed what is there, and may have died over it.
        if let Err(trouble) = self.keeping_the_lease(tenure, self.sink.setup(self.place), shutdown).await {
            return trouble;
        }
        let (region, seq) = (self.source.region(), tenure.position());
        info!(%region, seq, sink = self.sink.name(), "The forwarder of {region} goes on behind entry {seq}");
        self.board.state(ForwarderState::Running);
        rhythm.lookout = self.lookout();
        loop {
            if let Err(trouble) = self.forward_batch(tenure, rhythm, shutdown).await {
                return trouble;
            }
        }
    }

    fn lookout(&self) -> Lookout {
        Lookout::new(self.source.wakeups(), self.settings.limits.poll_min, self.settings.limits.poll_max)
    }

    /// Gathers one batch, hands it over and stores the cursor.
    async fn forward_batch(
        &self,
        tenure: &mut Tenure<S>,
        rhythm: &mut Rhythm,
        shutdown: &CancellationToken,
    ) -> Result<(), Trouble> {
        let (batch, covered) = self.gather(tenure, rhythm, shutdown).await?;
        if !batch.is_empty() {
            let (rows, erased) = (batch.rows(), batch.erased());
            let mut applied = Applied::default();
            if !rows.is_empty() {
                applied = self.keeping_the_lease(tenure, self.sink.apply(&rows), shutdown).await?;
            }
            if !erased.is_empty() {
                self.forget(tenure, &erased, shutdown).await?;
            }
            let usage = self.sink.usage();
            rhythm.thrift.spent(usage.credits, Instant::now());
            self.board.applied(applied, usage, rhythm.thrift.age());
        }
        tenure.reach(covered);
        if !batch.is_empty() || tenure.due_at(IDLE_STORE_INTERVAL) <= Instant::now() {
            tenure.store().await?;
        }
        self.board.progress(covered, covered);
        Ok(())
    }

    /// Reads changes until the batch is full or old enough, or the log has had nothing for a while.
    async fn gather(
        &self,
        tenure: &mut Tenure<S>,
        rhythm: &mut Rhythm,
        shutdown: &CancellationToken,
    ) -> Result<(Batch, u64), Trouble> {
        let limits = &self.settings.limits;
        let Rhythm { lookout, thrift, waiting } = rhythm;
        let (rows_max, bytes_max) = (limits.batch_rows_max * thrift.growth(), limits.batch_bytes_max * thrift.growth());
        let mut batch = Batch::default();
        let mut covered = tenure.position();
        let mut change_bytes = 1_024;
        let mut oldest = waiting.filter(|(behind, _)| *behind == covered).map(|(_, seen)| seen);
        loop {
            if shutdown.is_cancelled() {
                return Err(Trouble::Shutdown);
            }
            lookout.looking();
            let asked = rows_to_read(limits.read_rows_max, limits.batch_bytes_max, change_bytes);
            let read = follow::read(&*self.source, covered, asked).await?;
            covered = read.covered;
            if !read.rows.is_empty() {
                let average = read.rows.iter().map(|entry| entry.data.len()).sum::<usize>() / read.rows.len();
                change_bytes = change_bytes.max(average);
                let seen = *oldest.get_or_insert_with(Instant::now);
                *waiting = Some((tenure.position(), seen));
            }
            for entry in &read.rows {
                match change::said(entry, self.source.region(), &self.settings.purposes) {
                    Ok(Said::Row(row)) => batch.add(row),
                    Ok(Said::Erased(erased)) => batch.erase(erased),
                    Ok(Said::Nothing) => {}
                    Err(refusal) => self.refuse(entry.seq, &refusal),
                }
            }
            self.board.progress(tenure.position(), read.head);
            // A withdrawal does not wait for a bill.
            let age_max = if batch.has_tombstones() { limits.batch_age_max } else { thrift.age() };
            let complete_at = oldest.map(|oldest| oldest + age_max);
            let complete = batch.len() >= rows_max
                || batch.bytes() >= bytes_max
                || complete_at.is_some_and(|at| at <= Instant::now());
            let idle_but_moved = oldest.is_none() && covered > tenure.position();
            lookout.saw(match (read.full, read.rows.is_empty()) {
                (true, _) => Sight::Full,
                (false, false) => Sight::Some,
                (false, true) => Sight::Nothing,
            });
            if complete || idle_but_moved {
                return Ok((batch, covered));
            }
            if read.full {
                continue;
            }
            let until = complete_at.map_or(lookout.at(), |at| at.min(lookout.at()));
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep_until(until) => {}
                () = lookout.woken() => {}
            }
            if tenure.due_at(Duration::MAX) <= Instant::now() {
                tenure.store().await?;
            }
        }
    }

    /// Lets the sink forget, and the region log know that it has.
    async fn forget(
        &self,
        tenure: &mut Tenure<S>,
        erased: &[Forgotten],
        shutdown: &CancellationToken,
    ) -> Result<(), Trouble> {
        let by = self.keeping_the_lease(tenure, self.sink.erase(erased), shutdown).await?;
        let region = self.source.region();
        let (sink, subjects) = (self.sink.name(), erased.len());
        info!(%region, subjects, by, "The {sink} of {region} has forgotten {subjects} erased subjects");
        self.board.erased(erased.len() as u64);
        if let Some(ledger) = &self.ledger {
            self.keeping_the_lease(tenure, ledger.forgotten(self.sink.name(), &by, erased), shutdown).await?;
        }
        Ok(())
    }

    fn refuse(&self, seq: u64, refusal: &Error) {
        let (region, reason) = (self.source.region(), refusal.to_string());
        self.board.refused(1);
        error!(%region, seq, reason, "The forwarder of {region} refused region log entry {seq}; it stays in the log");
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
            let renewal = tenure.due_at(Duration::MAX);
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
                () = tokio::time::sleep_until(renewal) => tenure.store().await?,
            }
        }
    }
}

/// How many changes to read so that they come to about `bytes_max`.
fn rows_to_read(rows_max: u32, bytes_max: usize, change_bytes: usize) -> u32 {
    let rows = u32::try_from(bytes_max / change_bytes.max(1)).unwrap_or(u32::MAX);
    rows.clamp(1, rows_max.clamp(1, 10_000))
}
