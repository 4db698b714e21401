//! The teller keeps double entry: for each decision in one region's log whose data crossed a border, it writes the
//! other side into the log of the region where the data came from or went to. It is a cursor over the first log, so
//! that a crossing is entered once, and is entered even if the gateway that decided died right after.

use std::time::Duration;

use futures::future::{join_all, try_join_all};
use leaf::{Counterpart, Crossing, Fact};
use residency::Region;
use storage::{CursorLease, DecisionRow, Error, FactFilter, Log, RegionStore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Crossings entered together.
const BATCH_MAX: u16 = 200;
/// How long the right to enter them lasts; a teller that dies is followed by another one after it.
const LEASE: Duration = Duration::from_secs(20);
/// The pause after nothing was found: a busy log commits hundreds of times a second, mostly what crosses no border, and
/// each look also calls the index.
const LOOK_MIN: Duration = Duration::from_secs(1);
/// How much later it looks although nobody called, since other gateways write the log, too.
const LOOK_MAX: Duration = Duration::from_secs(1);
/// The pause after something went wrong.
const PAUSE: Duration = Duration::from_secs(1);

/// Writes into the log of `abroad` the other side of crossings in the log of `home`.
pub struct Teller {
    home: RegionStore,
    abroad: RegionStore,
    owner: String,
    now_us: fn() -> i64,
}

impl Teller {
    /// A teller between two regions; `owner` names this process, `now_us` tells the time.
    #[must_use]
    pub fn new(home: RegionStore, abroad: RegionStore, owner: String, now_us: fn() -> i64) -> Self {
        Self { home, abroad, owner, now_us }
    }

    /// Enters crossings until it is told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let work = async {
            let mut told = false;
            loop {
                let Err(error) = self.session().await else { continue };
                if !std::mem::replace(&mut told, true) {
                    let (home, abroad) = (self.home.region(), self.abroad.region());
                    warn!(%home, %abroad, %error, "Transfers are not entered on their other side for now");
                }
                sleep(PAUSE).await;
            }
        };
        tokio::select! {
            () = work => {}
            () = stop.cancelled() => {}
        }
    }

    /// Enters crossings for as long as nothing goes wrong.
    async fn session(&self) -> Result<(), Error> {
        let log = self.home.log();
        let name = format!("transfers/{}", self.abroad.region());
        let mut committed = log.wakeups();
        // What a predecessor entered last, or this one before something went wrong, may be behind the cursor.
        let mut careful = true;
        loop {
            let Some(lease) = log.acquire_cursor(&name, &self.owner, LEASE).await? else {
                careful = true;
                sleep(LOOK_MAX).await;
                continue;
            };
            let filter =
                FactFilter { crossings: true, after_seq: Some(lease.seq), limit: BATCH_MAX, ..FactFilter::default() };
            let rows = log.facts(filter).await?;
            if rows.is_empty() {
                sleep(LOOK_MIN).await;
                drop(timeout(LOOK_MAX, committed.changed()).await);
                continue;
            }
            self.enter(&log, &lease, &rows, careful).await?;
            careful = false;
        }
    }

    async fn enter(&self, log: &Log, lease: &CursorLease, rows: &[DecisionRow], careful: bool) -> Result<(), Error> {
        let mut sides: Vec<Counterpart> = rows.iter().filter_map(|row| other_side(row, self.abroad.region())).collect();
        if careful {
            let found = join_all(sides.iter().map(|side| self.is_entered(side))).await;
            let mut entered = found.into_iter().collect::<Result<Vec<bool>, Error>>()?.into_iter();
            sides.retain(|_| entered.next() != Some(true));
        }
        debug!(home = %self.home.region(), abroad = %self.abroad.region(), transfers = sides.len(), "Entering transfers");
        let now_us = (self.now_us)();
        let enter = |side: &Counterpart| self.abroad.record(Fact::transfer(now_us, self.abroad.region(), side));
        try_join_all(sides.iter().map(enter)).await?;
        let last = rows.last().map_or(lease.seq, |row| row.seq);
        log.advance_cursor(lease, last, LEASE).await
    }

    async fn is_entered(&self, side: &Counterpart) -> Result<bool, Error> {
        let filter = FactFilter { crossing: Some(side.crossing.id), limit: 1, ..FactFilter::default() };
        Ok(!self.abroad.log().facts(filter).await?.is_empty())
    }
}

/// The other side of a decision's crossing, if it is with this region.
fn other_side(row: &DecisionRow, abroad: &Region) -> Option<Counterpart> {
    let parsed = leaf::parse(row.line.as_bytes()).ok()?;
    let transfer = parsed.decision.transfer.filter(|transfer| transfer.from == *abroad || transfer.to == *abroad)?;
    Some(Counterpart {
        crossing: Crossing { id: parsed.decision.id.0, transfer },
        actor: parsed.decision.actor.as_str().to_owned(),
        rows: parsed.rows,
        bytes: parsed.bytes,
        seq: row.seq,
        leaf_hash: row.leaf_hash,
    })
}
