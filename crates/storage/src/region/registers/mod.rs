//! The registers of a region log: what crossed a border (`transfers`), what was not as it should be (`violations`), and
//! how far gateways have counted (`counts`). Filled by the cursor [`CURSOR`], whose owner knows what leaves say; here is only
//! their SQL.

mod counts;
mod transfers;
mod violations;

use std::time::Duration;

use residency::DecisionId;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::cursors::{self, CursorLease};
use super::log::{Log, ask};
use crate::error::{Error, Trouble};
use crate::link::within;

pub use self::counts::{Counts, Gap};
pub use self::transfers::{TransferFilter, TransferRow};
pub use self::violations::{Acknowledgement, Found, Violation, ViolationFilter};

/// The cursor of whoever fills the registers.
pub const CURSOR: &str = "registers";

/// What some leaves come to in the registers.
#[derive(Debug, Clone, Default)]
pub struct Registered {
    /// What crossed a border.
    pub transfers: Vec<TransferRow>,
    /// What was not as it should be.
    pub violations: Vec<Found>,
    /// How far gateways have counted now: those that changed.
    pub counts: Counts,
    /// Gaps that are none any more: the gateway, and the first count.
    pub closed: Vec<(String, u64)>,
}

impl Log {
    /// Takes the leaves up to and including `seq` into the registers and advances the cursor, in one transaction.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] when somebody else has taken the cursor meanwhile; nothing was registered.
    pub async fn register(
        &self,
        lease: &CursorLease,
        seq: u64,
        what: &Registered,
        lease_for: Duration,
    ) -> Result<(), Error> {
        let kept = ask!(self, connection => register(connection, lease, seq, what, lease_for))?;
        if kept { Ok(()) } else { Err(Error::LeaseLost) }
    }

    /// How far gateways have counted, as it was registered.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn counts(&self) -> Result<Counts, Error> {
        ask!(self, connection => counts::read(connection))
    }

    /// Puts violations into the register that were not found in a leaf. Those that are there already stay as they are. Returns how
    /// many are new.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn open_violations(&self, found: &[Found]) -> Result<u64, Error> {
        ask!(self, connection => violations::open(connection, found))
    }

    /// Violations, newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn violations(&self, filter: &ViolationFilter) -> Result<Vec<Violation>, Error> {
        ask!(self, connection => violations::search(connection, filter))
    }

    /// One violation.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn violation(&self, id: u64) -> Result<Option<Violation>, Error> {
        ask!(self, connection => violations::find(connection, id))
    }

    /// Acknowledges a violation. `false` when it was acknowledged before, or is none: the first acknowledgement stays.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn acknowledge(&self, id: u64, said: &Acknowledgement) -> Result<bool, Error> {
        ask!(self, connection => violations::acknowledge(connection, id, said))
    }

    /// What crossed a border, newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn transfers(&self, filter: &TransferFilter) -> Result<Vec<TransferRow>, Error> {
        ask!(self, connection => transfers::search(connection, filter))
    }

    /// Transfers since a time whose other side was not seen yet, oldest first, behind a position.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn unmatched(
        &self,
        after_seq: Option<u64>,
        since_us: i64,
        limit: u16,
    ) -> Result<Vec<TransferRow>, Error> {
        ask!(self, connection => transfers::unmatched(connection, after_seq, since_us, limit))
    }

    /// The leaves about one transfer in this log; at most 16.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn transfer(&self, id: DecisionId) -> Result<Vec<TransferRow>, Error> {
        ask!(self, connection => transfers::of(connection, id))
    }

    /// Notes that the other sides of these transfers were seen.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn match_transfers(&self, seqs: &[u64], at_us: i64) -> Result<(), Error> {
        ask!(self, connection => transfers::matched(connection, seqs, at_us))
    }
}

async fn register(
    connection: &mut PgConnection,
    lease: &CursorLease,
    seq: u64,
    what: &Registered,
    lease_for: Duration,
) -> Result<bool, Trouble> {
    let mut transaction = connection.begin().await?;
    // First, so that whoever was fenced waits here and writes nothing.
    if !cursors::advance(&mut transaction, lease, seq, lease_for).await? {
        transaction.rollback().await?;
        return Ok(false);
    }
    transfers::insert(&mut transaction, &what.transfers).await?;
    violations::open(&mut transaction, &what.violations).await?;
    counts::write(&mut transaction, &what.counts, &what.closed).await?;
    transaction.commit().await?;
    Ok(true)
}
