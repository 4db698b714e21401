//! The reconciler: double entry in the registers. Each transfer has its other side in the other region's log, or somebody
//! has to answer for it.
//!
//! Every process does it that serves a region, and not only the one that keeps the register: it is the process which
//! decided that can read both logs. Doing it twice changes nothing. What stays without its other side is a violation, and
//! is then looked at rarely, so that a register's old debts do not make each look longer.

use std::time::Duration;

use metrics::gauge;
use residency::Region;
use storage::{FactFilter, FoundViolation, Log, TransferRow};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::registers;
use crate::registrar::{Rule, transfer};

/// How often the other side of recent transfers is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Every so many looks, ten minutes, it is looked for that of every transfer which has none.
const LOOK_AT_ALL_EVERY: u32 = 120;
/// How old a transfer is when its other side must be there: both are written within seconds.
const PAIRED_AFTER_US: i64 = 120_000_000;
/// How old a transfer is when somebody must have looked: whoever took the decision serves both regions.
const LOOKED_AFTER_US: i64 = 3_600_000_000;
/// How old a transfer is when it is no longer looked for in every look: by then it is seen, or a violation that the rare
/// looks at all may still find the other side of.
const RECENT_US: i64 = 2 * LOOKED_AFTER_US;
/// Transfers that are looked at together.
const ROWS: u16 = 200;
/// The most entries about one transfer in one log.
const SIDES_MAX: u16 = 16;

/// What is known of the other side of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherSide {
    /// It was seen in the other region's log.
    Seen,
    /// It may still come.
    Awaited,
    /// It is not in the other region's log.
    Missing,
    /// The other region is not served here, and nobody who serves both has seen it.
    NotServedHere,
}

impl OtherSide {
    /// What the register of the region `here` knows, to whoever serves the regions `served`.
    #[must_use]
    pub fn of(row: &TransferRow, here: &Region, served: &[Region], now_us: i64) -> Self {
        let there = there(row, here);
        if row.matched_us.is_some() {
            Self::Seen
        } else if !is_older(row, PAIRED_AFTER_US, now_us) {
            Self::Awaited
        } else if served.iter().any(|region| region.as_str() == there) {
            Self::Missing
        } else {
            Self::NotServedHere
        }
    }

    /// Its stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Seen => "seen",
            Self::Awaited => "awaited",
            Self::Missing => "missing",
            Self::NotServedHere => "not_served_here",
        }
    }
}

/// The reconciler of one region's register.
pub struct Reconciler {
    log: Log,
    others: Vec<Log>,
    now_us: fn() -> i64,
}

impl Reconciler {
    /// A reconciler of the register of `log`. The other sides of its transfers are looked for in `others`, the logs of the
    /// other regions that are served here; those in other logs are left to processes that serve them, for an hour.
    /// `now_us` tells the time.
    #[must_use]
    pub fn new(log: Log, others: Vec<Log>, now_us: fn() -> i64) -> Self {
        Self { log, others, now_us }
    }

    /// Looks for other sides until it is told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let work = async {
            let mut told = false;
            for look in (0..LOOK_AT_ALL_EVERY).cycle() {
                let now_us = (self.now_us)();
                let since_us = if look == 0 { i64::MIN } else { now_us.saturating_sub(RECENT_US) };
                match self.look_since(since_us, now_us).await {
                    Ok(()) => told = false,
                    Err(cause) if !std::mem::replace(&mut told, true) => {
                        let region = self.log.region();
                        warn!(%region, %cause, "The other sides of transfers are not looked for, for now");
                    }
                    Err(_) => {}
                }
                sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! {
            () = work => {}
            () = stop.cancelled() => {}
        }
    }

    /// Looks once for the other side of every transfer that has none yet, as if it were `now_us`.
    ///
    /// # Errors
    /// When the region's own database does not answer; of another one nothing is said then.
    pub async fn look(&self, now_us: i64) -> Result<(), storage::Error> {
        self.look_since(i64::MIN, now_us).await
    }

    async fn look_since(&self, since_us: i64, now_us: i64) -> Result<(), storage::Error> {
        let mut after = None;
        let mut open = 0_u32;
        loop {
            let rows = self.log.unmatched(after, since_us, ROWS).await?;
            let Some(last) = rows.last() else { break };
            after = Some(last.seq);
            let (mut seen, mut missing) = (Vec::new(), Vec::new());
            for row in &rows {
                let there = there(row, self.log.region());
                match self.others.iter().find(|log| log.region().as_str() == there) {
                    // Where the other log does not answer nothing can be said.
                    Some(log) => match is_in(log, row, is_older(row, PAIRED_AFTER_US, now_us)).await {
                        Ok(true) => seen.push(row.seq),
                        Ok(false) if is_older(row, PAIRED_AFTER_US, now_us) => {
                            missing.push(unmatched(row, &format!("is not in the log of {there}")));
                        }
                        Ok(false) | Err(_) => open += u32::from(!is_older(row, RECENT_US, now_us)),
                    },
                    None if is_older(row, LOOKED_AFTER_US, now_us) => {
                        let why =
                            format!("was looked for by nobody: no process that keeps this register serves {there}");
                        missing.push(unmatched(row, &why));
                    }
                    None => open += 1,
                }
            }
            self.log.match_transfers(&seen, now_us).await?;
            registers::open(&self.log, Rule::TransferUnmatched, &missing).await?;
            if rows.len() < usize::from(ROWS) {
                break;
            }
        }
        gauge!("domicile_transfers_unmatched", "region" => self.log.region().to_string()).set(f64::from(open));
        Ok(())
    }
}

/// Whether a log has the other side of a transfer. Its register knows most of them at once; what is to be there by now is
/// also looked for among its leaves, since that register may be behind.
async fn is_in(log: &Log, row: &TransferRow, must_be: bool) -> Result<bool, storage::Error> {
    if log.transfer(row.id).await?.iter().any(|side| fits(row, side)) {
        return Ok(true);
    }
    if !must_be {
        return Ok(false);
    }
    let filter = FactFilter { crossing: Some(row.id.0), limit: SIDES_MAX, ..FactFilter::default() };
    let leaves = log.facts(filter).await?;
    Ok(leaves.iter().filter_map(transfer).any(|side| fits(row, &side)))
}

/// One is the decision's and one follows from it.
fn fits(one: &TransferRow, other: &TransferRow) -> bool {
    one.counterpart != other.counterpart
        && (other.of_hash == Some(one.leaf_hash) || one.of_hash == Some(other.leaf_hash))
}

/// The region on the other side.
fn there<'a>(row: &'a TransferRow, here: &Region) -> &'a str {
    if row.from == here.as_str() { &row.to } else { &row.from }
}

fn is_older(row: &TransferRow, than_us: i64, now_us: i64) -> bool {
    row.at_us.saturating_add(than_us) < now_us
}

fn unmatched(row: &TransferRow, why: &str) -> FoundViolation {
    let TransferRow { seq, id, from, to, at_us, .. } = row;
    FoundViolation {
        mark: format!("unmatched:{seq}"),
        rule: Rule::TransferUnmatched.name(),
        seq: Some(*seq),
        says: format!("the other side of the transfer {id} from {from} to {to} {why}"),
        at_us: Some(*at_us),
    }
}
