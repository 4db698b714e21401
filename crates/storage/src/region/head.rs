//! The end of the log. Whoever commits takes the head last and holds it to the COMMIT, so that sequence
//! numbers are dense and become visible in their order, whichever gateway commits.
//!
//! Within this process a pen goes from committer to committer; who holds it knows the head from the last
//! commit and advances it by compare-and-set, in the same statement that writes leaves and events. Only
//! when another gateway was faster is the head locked and read first.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{Executor, Row};
use tlog::Frontier;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::sleep;

use super::page::{self, Appended, Page};
use super::records::{self, column, version};
use super::tiles::Edge;
use super::{Shared, details, erasures};
use crate::error::{Cause, Trouble};
use crate::link::within;

/// A statement that changes records, too, may have to wait for one that is locked by somebody who waits for his own pen.
/// After so long this pen goes to the next one, who looks at the head himself; otherwise two gateways could wait for each
/// other in a circle.
const PEN_HELD_MAX: Duration = Duration::from_millis(250);

/// The pen: whoever holds it is the one in this process who advances the head.
#[derive(Debug)]
pub(super) struct Pen {
    /// The head after the last commit, unless that is not known.
    known: Mutex<Option<Tip>>,
    /// The fence as last seen; 0 before the first look.
    fence: AtomicU64,
    /// Whether other gateways have been writing this log lately: then it is locked first.
    contended: AtomicBool,
}

/// The head row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tip {
    pub(super) frontier: Frontier,
    pub(super) epoch: u64,
    pub(super) fence: u64,
    /// Of the unfinished tile.
    pub(super) edge: Edge,
}

impl Tip {
    pub(super) fn size(&self) -> u64 {
        self.frontier.size()
    }
}

/// Why a page was not appended.
#[derive(Debug)]
pub(super) enum Stop {
    /// It is not in the log.
    Not(Trouble),
    /// The connection was lost during the commit: whether it is in the log shows at this position.
    Unknown { cause: Cause, seq: u64, hash: [u8; 32] },
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Self {
        Self::Not(trouble)
    }
}

impl Pen {
    pub(super) fn new() -> Self {
        Self { known: Mutex::default(), fence: AtomicU64::new(0), contended: AtomicBool::new(false) }
    }

    /// The fence as last seen, if ever.
    pub(super) fn fence(&self) -> Option<u64> {
        Some(self.fence.load(Ordering::Acquire)).filter(|fence| *fence > 0)
    }

    /// The next one looks at the head itself: what is remembered may be the end of another server's log.
    pub(super) async fn forget(&self) {
        *self.known.lock().await = None;
    }

    /// A fence that was seen elsewhere than in the head that is locked. It only grows.
    pub(super) fn saw_fence(&self, fence: u64) {
        self.fence.fetch_max(fence, Ordering::AcqRel);
    }

    fn saw(&self, tip: &Tip) {
        self.fence.store(tip.fence, Ordering::Release);
    }
}

/// Reads the fence, before any subject's state is read.
pub(super) async fn look_at_fence(shared: &Shared, connection: &mut PgConnection) -> Result<u64, Trouble> {
    let tip = read(connection).await?;
    shared.head.saw(&tip);
    Ok(tip.fence)
}

/// The head as it stands.
pub(super) async fn read(connection: &mut PgConnection) -> Result<Tip, Trouble> {
    let row = sqlx::query("SELECT size, frontier, epoch, fence FROM domicile.head WHERE only_row")
        .fetch_one(connection)
        .await?;
    tip(&row)
}

pub(super) async fn lock(connection: &mut PgConnection) -> Result<Tip, Trouble> {
    let row = sqlx::query("SELECT size, frontier, epoch, fence FROM domicile.head WHERE only_row FOR UPDATE")
        .fetch_one(connection)
        .await?;
    tip(&row)
}

fn tip(row: &sqlx::postgres::PgRow) -> Result<Tip, Trouble> {
    let broken = || Trouble::Internal(Cause::new("the head of the log contradicts itself"));
    let size = version(row.try_get(0)?)?;
    let bytes: &[u8] = row.try_get(1)?;
    let frontier = if size == 0 { Frontier::new() } else { Frontier::from_bytes(bytes).map_err(|_| broken())? };
    if frontier.size() != size {
        return Err(broken());
    }
    Ok(Tip { frontier, epoch: version(row.try_get(2)?)?, fence: version(row.try_get(3)?)?, edge: Edge::default() })
}

/// Appends a page and commits: the transaction that is open, or, when there is none, the page alone.
/// Returns the position of its first leaf.
pub(super) async fn append(
    shared: &Shared,
    connection: &mut PgConnection,
    page: &Page<'_>,
    mut in_transaction: bool,
) -> Result<u64, Stop> {
    let patience = shared.address.patience();
    let contended = &shared.head.contended;
    // Where others write, whoever waits for a record must not hold the pen.
    let early = !page.records.is_empty() && contended.load(Ordering::Acquire);
    if early || !page.details.is_empty() {
        begin_unless(&mut in_transaction, connection, shared).await?;
    }
    if early {
        records::change(shared, connection, page.records).await?;
    }
    let mut pen = Some(shared.head.known.lock().await);
    // Whatever goes wrong from here on, the next one looks at the head itself.
    // A head that is remembered with another fence than the page's was moved by another gateway since.
    let current = |tip: &Tip| page.fence.is_none_or(|fence| fence == tip.fence);
    let lock_first = contended.load(Ordering::Acquire) || page.erasing.is_some();
    let remembered = pen.as_mut().and_then(|known| known.take()).filter(|tip| !lock_first && current(tip));
    let mut locked = remembered.is_none();
    let mut tip = match remembered {
        Some(tip) => tip,
        None => {
            begin_unless(&mut in_transaction, connection, shared).await?;
            // Before the head, as everybody does.
            if !early && !page.records.is_empty() {
                drop(pen.take());
                records::change(shared, connection, page.records).await?;
                pen.insert(shared.head.known.lock().await).take();
            }
            within(patience, lock(connection)).await?
        }
    };
    let records = if locked || early { &[] } else { page.records };
    if let Some((erasing, behind)) = page.erasing {
        within(shared.limits.erasure_timeout, erasures::erase(connection, erasing, &shared.origin, behind)).await?;
    }
    loop {
        shared.head.saw(&tip);
        if page.fence.is_some_and(|fence| fence != tip.fence) {
            remember(shared, pen, tip);
            return Err(Trouble::Conflict(Cause::new("a subject's state changed meanwhile")).into());
        }
        let written = {
            let mut writing = pin!(page::write(shared, connection, page, records, &tip));
            tokio::select! {
                written = &mut writing => written,
                () = sleep(PEN_HELD_MAX), if !records.is_empty() => {
                    contended.store(true, Ordering::Release);
                    pen = None;
                    writing.await
                }
            }
        };
        let Appended { first, next, done } = match written {
            Ok(appended) => appended,
            // A statement on its own commits as it ends, so a lost connection leaves the question open.
            Err((Trouble::Lost(cause), first)) if !in_transaction => {
                return Err(Stop::Unknown { cause, seq: first, hash: page.hashes[0] });
            }
            Err((trouble, _)) => {
                // Somebody else moved the head, or changed one of the records: others write, too.
                if !records.is_empty() && matches!(trouble, Trouble::Conflict(_)) {
                    contended.store(true, Ordering::Release);
                }
                return Err(trouble.into());
            }
        };
        if done {
            if !page.details.is_empty() {
                within(patience, details::write(connection, &page.details, first)).await?;
            }
            if in_transaction {
                let committed = within(patience, async { Ok(connection.execute("COMMIT").await?) }).await;
                match committed {
                    Ok(_) => {}
                    Err(Trouble::Lost(cause)) => {
                        return Err(Stop::Unknown { cause, seq: first, hash: page.hashes[0] });
                    }
                    Err(trouble) => return Err(trouble.into()),
                }
            }
            // The head, when it was locked, was another one than this process left behind: others write, too.
            if pen.is_some() && (!locked || *shared.committed.borrow() == tip.size()) {
                contended.store(false, Ordering::Release);
            }
            shared.committed.send_if_modified(|size| raise(size, next.size()));
            remember(shared, pen, next);
            return Ok(first);
        }
        if locked {
            return Err(Trouble::Internal(Cause::new("the head moved under its lock")).into());
        }
        // Another gateway was faster: take the lock first.
        contended.store(true, Ordering::Release);
        locked = true;
        begin_unless(&mut in_transaction, connection, shared).await?;
        tip = within(patience, lock(connection)).await?;
    }
}

/// Leaves the head to the next one, unless the pen is with somebody else by now.
fn remember(shared: &Shared, pen: Option<MutexGuard<'_, Option<Tip>>>, tip: Tip) {
    if let Some(mut known) = pen {
        shared.head.saw(&tip);
        *known = Some(tip);
    }
}

fn raise(size: &mut u64, to: u64) -> bool {
    let higher = to > *size;
    *size = to.max(*size);
    higher
}

async fn begin_unless(
    in_transaction: &mut bool,
    connection: &mut PgConnection,
    shared: &Shared,
) -> Result<(), Trouble> {
    if !*in_transaction {
        begin(shared, connection).await?;
        *in_transaction = true;
    }
    Ok(())
}

/// Opens a transaction.
pub(super) async fn begin(shared: &Shared, connection: &mut PgConnection) -> Result<(), Trouble> {
    within(shared.address.patience(), async { Ok(connection.execute("BEGIN").await?) }).await?;
    Ok(())
}

/// Where a page would be that may be in the log.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// There, or nowhere: its first leaf's position and hash.
    At { seq: u64, hash: [u8; 32] },
    /// Anywhere from this position on: its first leaf's hash.
    From { seq: u64, hash: [u8; 32] },
}

/// So far back is looked for a page of which only the hash is known, in leaves.
const LOOKED_BACK_MAX: u64 = 1_000_000;

/// Whether a page whose commit was cut off is in the log; if not, it never will be.
///
/// Taking the head's lock waits for a transaction that has advanced the head. A statement on its own may not have come
/// so far: the server may have it wait for a record's lock long after its connection is gone. It finds the head under
/// another fence then, and fails.
pub(super) async fn was_committed(
    shared: &Shared,
    connection: &mut PgConnection,
    place: Place,
) -> Result<bool, Trouble> {
    connection.execute("BEGIN").await?;
    let mut tip = lock(connection).await?;
    let (query, hash) = match place {
        Place::At { seq, hash } => {
            (sqlx::query_scalar("SELECT hash FROM domicile.leaves WHERE seq = $1").bind(column(seq)), hash)
        }
        Place::From { seq, hash } => {
            let from = seq.max(tip.size().saturating_sub(LOOKED_BACK_MAX));
            let sql = "SELECT hash FROM domicile.leaves WHERE seq >= $1 AND hash = $2 LIMIT 1";
            (sqlx::query_scalar(sql).bind(column(from)).bind(hash), hash)
        }
    };
    let found: Option<Vec<u8>> = query.fetch_optional(&mut *connection).await?;
    match found {
        // A backend that was ended while it waited for a synchronous standby has committed here, and perhaps nowhere else. A
        // commit of our own is behind it in the journal, and so whoever has this one has that one, too.
        Some(found) if found == hash => {
            connection.execute("UPDATE domicile.head SET fence = fence WHERE only_row").await?;
            connection.execute("COMMIT").await?;
            return Ok(true);
        }
        // Where another page is, the head has gone on, and nobody finds it where it was.
        Some(_) => {
            connection.execute("ROLLBACK").await?;
            return Ok(false);
        }
        None => {}
    }
    connection.execute("UPDATE domicile.head SET fence = fence + 1 WHERE only_row").await?;
    connection.execute("COMMIT").await?;
    tip.fence += 1;
    shared.head.saw(&tip);
    Ok(false)
}
