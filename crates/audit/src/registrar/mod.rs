//! The registrar: fills the registers of transfers and of violations from a region's log, behind a cursor. One process per
//! log does it at a time.
//!
//! It works at leisure, so the registers may be a little behind the log; a leaf is never later in them because nobody
//! looked, and nothing is ever left out. When the log grows faster than that, it hurries.

mod ledger;
mod said;

use std::time::Duration;

use metrics::counter;
use storage::{CLOSE_LEAVES, CursorLease, Log, REGISTERS_CURSOR};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::ledger::Ledger;
pub(crate) use self::ledger::transfer;

/// Leaves in one step.
const STEP_LEAVES: u32 = 2_000;
/// How long another process waits before it takes over.
const LEASE: Duration = Duration::from_secs(60);
/// It works at most one part in so many of the time.
const LEISURE: u32 = 8;
/// The longest pause while there is nothing to do: other gateways write the log, too.
const PAUSE: Duration = Duration::from_secs(1);

/// A rule that a violation breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Somebody asked for what the policy denies.
    Denied,
    /// A gateway counted leaves that are not in the log.
    Gap,
    /// A gateway's count leapt further than any queue is long.
    Jump,
    /// A count is in the log twice.
    Repeated,
    /// A transfer has no other side in the other region's log, or another one, or nobody could look for it.
    TransferUnmatched,
    /// A leaf cannot be read.
    Unreadable,
    /// The scrubber found the log damaged.
    Damage,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 7] =
        [Self::Denied, Self::Gap, Self::Jump, Self::Repeated, Self::TransferUnmatched, Self::Unreadable, Self::Damage];

    /// Its stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Gap => "gap",
            Self::Jump => "jump",
            Self::Repeated => "repeated",
            Self::TransferUnmatched => "transfer_unmatched",
            Self::Unreadable => "unreadable",
            Self::Damage => "damage",
        }
    }

    /// The rule with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.name() == name)
    }
}

/// The registrar of one region's log.
pub struct Registrar {
    log: Log,
    owner: String,
    now_us: fn() -> i64,
}

impl Registrar {
    /// A registrar of `log`. `owner` names this process among those that could do it, `now_us` tells the time.
    #[must_use]
    pub fn new(log: Log, owner: impl Into<String>, now_us: fn() -> i64) -> Self {
        Self { log, owner: owner.into(), now_us }
    }

    /// Fills the registers until it is told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let region = self.log.region().to_string();
        info!(region, "The registers of the region log are kept");
        let work = async {
            loop {
                match self.log.acquire_cursor(REGISTERS_CURSOR, &self.owner, LEASE).await {
                    Ok(Some(lease)) => {
                        if let Err(cause) = self.keep(lease).await {
                            warn!(region, %cause, "The registers of the region log are not continued");
                        }
                    }
                    Ok(None) => {}
                    Err(cause) => warn!(region, %cause, "The registers of the region log are not continued"),
                }
                sleep(PAUSE * 5).await;
            }
        };
        tokio::select! {
            () = work => {}
            () = stop.cancelled() => {}
        }
    }

    /// Goes on for as long as the lease holds.
    async fn keep(&self, mut lease: CursorLease) -> Result<(), storage::Error> {
        let mut wakeups = self.log.wakeups();
        let mut ledger = Ledger::from(self.log.counts().await?, lease.seq);
        let mut renewed = Instant::now();
        loop {
            let begun = Instant::now();
            let (seq, more) = self.step(&lease, &mut ledger).await?;
            let moved = seq != lease.seq;
            lease.seq = seq;
            if moved {
                renewed = begun;
            } else if renewed.elapsed() > LEASE / 3 {
                self.log.advance_cursor(&lease, lease.seq, LEASE).await?;
                renewed = Instant::now();
            }
            if more {
                let worked = begun.elapsed();
                if self.log.head().await?.size.saturating_sub(seq) <= CLOSE_LEAVES {
                    sleep(worked * (LEISURE - 1)).await;
                }
            } else {
                sleep(PAUSE / 4).await;
                drop(timeout(PAUSE, wakeups.changed()).await);
            }
        }
    }

    /// Registers everything that is in the log now, as if it were `at_us`. For tests and for who wants to see the registers
    /// complete. `false` when another process keeps them.
    ///
    /// # Errors
    /// When a database does not answer.
    pub async fn catch_up(&self, at_us: i64) -> Result<bool, storage::Error> {
        let Some(mut lease) = self.log.acquire_cursor(REGISTERS_CURSOR, &self.owner, LEASE).await? else {
            return Ok(false);
        };
        let mut ledger = Ledger::from(self.log.counts().await?, lease.seq);
        loop {
            let (seq, more) = self.step_at(&lease, &mut ledger, at_us).await?;
            lease.seq = seq;
            if !more {
                break;
            }
        }
        Ok(true)
    }

    async fn step(&self, lease: &CursorLease, ledger: &mut Ledger) -> Result<(u64, bool), storage::Error> {
        self.step_at(lease, ledger, (self.now_us)()).await
    }

    /// Registers the next leaves: how far that is, and whether there are more.
    async fn step_at(
        &self,
        lease: &CursorLease,
        ledger: &mut Ledger,
        at_us: i64,
    ) -> Result<(u64, bool), storage::Error> {
        let rows = self.log.leaves(lease.seq + 1, STEP_LEAVES).await?;
        let more = rows.len() == STEP_LEAVES as usize;
        for row in &rows {
            ledger.take(row);
        }
        // A gap may be filled by a leaf that was not read yet.
        if !more {
            ledger.settle(at_us);
        }
        let seq = rows.last().map_or(lease.seq, |row| row.seq);
        let what = ledger.draw();
        if seq != lease.seq || !what.violations.is_empty() {
            self.log.register(lease, seq, &what, LEASE).await?;
            for violation in &what.violations {
                let region = self.log.region().to_string();
                counter!("domicile_violations_total", "region" => region, "rule" => violation.rule).increment(1);
            }
        }
        Ok((seq, more))
    }
}
