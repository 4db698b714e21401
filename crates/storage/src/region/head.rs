//! The end of the log. Whoever commits takes the head last and holds it to the COMMIT, so that sequence
//! numbers are dense and become visible in their order, whichever gateway commits.
//!
//! Within this process a pen goes from committer to committer; who holds it knows the head from the last
//! commit and advances it by compare-and-set, in the same statement that writes leaves and events. Only
//! when another gateway was faster is the head locked and read first.

use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::postgres::PgConnection;
use sqlx::{Executor, Row};
use tlog::{Frontier, leaf_hash};
use tokio::sync::Mutex;

use super::Shared;
use super::details;
use super::erasures::{self, Erasing};
use super::events::instant;
use super::outbox::Columns;
use super::records::{column, version};
use super::tiles::{self, Edge};
use crate::error::{Cause, Trouble};
use crate::link::within;

/// The pen: whoever holds it is the one in this process who advances the head.
#[derive(Debug)]
pub(super) struct Pen {
    known: Mutex<Known>,
    /// The fence as last seen; 0 before the first look.
    fence: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    /// The head after the last commit, unless that is not known.
    tip: Option<Tip>,
    /// Whether other gateways have been writing this log lately: then it is locked first.
    contended: bool,
}

/// The head row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tip {
    pub(super) frontier: Frontier,
    pub(super) epoch: u64,
    pub(super) fence: u64,
    /// Of the unfinished tile.
    edge: Edge,
}

impl Tip {
    pub(super) fn size(&self) -> u64 {
        self.frontier.size()
    }
}

/// What is to be appended to the log.
#[derive(Debug)]
pub(super) struct Page<'a> {
    pub(super) lines: Vec<&'a str>,
    pub(super) hashes: Vec<[u8; 32]>,
    pub(super) events: Columns<'a>,
    /// What lies sealed beside the leaves.
    pub(super) details: details::Rows,
    /// The fence under which the subjects' states were read, if the page depends on any.
    pub(super) fence: Option<u64>,
    /// The time of its first decision, microseconds since 1970: the log's own first leaf takes it over.
    pub(super) at_us: i64,
    /// The erasure that it tells of, and the log position behind which it is still to be swept. It moves the fence.
    pub(super) erasing: Option<(&'a Erasing<'a>, u64)>,
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
        Self { known: Mutex::default(), fence: AtomicU64::new(0) }
    }

    /// The fence as last seen, if ever.
    pub(super) fn fence(&self) -> Option<u64> {
        Some(self.fence.load(Ordering::Acquire)).filter(|fence| *fence > 0)
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

async fn lock(connection: &mut PgConnection) -> Result<Tip, Trouble> {
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
    if !page.details.is_empty() {
        begin_unless(&mut in_transaction, connection, shared).await?;
    }
    let mut known = shared.head.known.lock().await;
    // Whatever goes wrong from here on, the next one looks at the head itself.
    let remembered = known.tip.take().filter(|_| !known.contended && page.erasing.is_none());
    let mut locked = remembered.is_none();
    let mut tip = match remembered {
        Some(tip) => tip,
        None => {
            begin_unless(&mut in_transaction, connection, shared).await?;
            within(patience, lock(connection)).await?
        }
    };
    if let Some((erasing, behind)) = page.erasing {
        within(shared.limits.erasure_timeout, erasures::erase(connection, erasing, behind)).await?;
    }
    loop {
        shared.head.saw(&tip);
        if page.fence.is_some_and(|fence| fence != tip.fence) {
            known.tip = Some(tip);
            return Err(Trouble::Conflict(Cause::new("a subject's state changed meanwhile")).into());
        }
        let (first, next, outcome) = match advance(shared, connection, page, &tip).await {
            Ok(advanced) => advanced,
            // A statement on its own commits as it ends, so a lost connection leaves the question open.
            Err((Trouble::Lost(cause), first)) if !in_transaction => {
                return Err(Stop::Unknown { cause, seq: first, hash: page.hashes[0] });
            }
            Err((trouble, _)) => return Err(trouble.into()),
        };
        if outcome {
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
            known.contended &= locked && *shared.committed.borrow() != tip.size();
            shared.committed.send_if_modified(|size| raise(size, next.size()));
            shared.head.saw(&next);
            known.tip = Some(next);
            return Ok(first);
        }
        if locked {
            return Err(Trouble::Internal(Cause::new("the head moved under its lock")).into());
        }
        // Another gateway was faster: take the lock first.
        known.contended = true;
        locked = true;
        begin_unless(&mut in_transaction, connection, shared).await?;
        tip = within(patience, lock(connection)).await?;
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

/// The statement that advances the head, if it is still where it was, and writes leaves and whatever else is named.
macro_rules! sql {
    ($moves:literal, $($more:expr),*) => {
        concat!(
            "WITH advanced AS ( \
                 UPDATE domicile.head SET size = $1, frontier = $2, fence = fence + ",
            $moves,
            " \
                 WHERE only_row AND size = $3 AND epoch = $4 AND fence = $5 RETURNING 1), \
             written AS ( \
                 INSERT INTO domicile.leaves (seq, hash, line) \
                 SELECT $3 + l.ord - 1, l.hash, l.line FROM unnest($6::bytea[], $7::text[]) WITH ORDINALITY AS l(hash, line, ord) \
                 WHERE EXISTS (SELECT FROM advanced))",
            $($more,)*
            " SELECT count(*) = 1 FROM advanced",
        )
    };
}

/// The part that sends events.
macro_rules! events {
    () => {
        ", sent AS ( \
             INSERT INTO domicile.outbox (seq, channel, topic, key, key_id, event_type, event_id, source, \"time\", \
                                          datacontenttype, traceparent, extensions, data) \
             SELECT $8 + e.at, e.channel, e.topic, e.key, e.key_id, e.event_type, e.event_id, e.source, e.\"time\", \
                    e.datacontenttype, e.traceparent, e.extensions::jsonb, e.data \
             FROM unnest($9::bigint[], $10::smallint[], $11::text[], $12::bytea[], $13::smallint[], $14::text[], \
                         $15::text[], $16::text[], $17::timestamptz[], $18::text[], $19::text[], $20::text[], $21::bytea[]) \
                  AS e(at, channel, topic, key, key_id, event_type, event_id, source, \"time\", datacontenttype, \
                       traceparent, extensions, data) \
             WHERE EXISTS (SELECT FROM advanced))"
    };
}

/// The part that writes the tiles which these leaves fill.
macro_rules! tiles {
    ($level:literal, $n:literal, $hashes:literal, $root:literal) => {
        concat!(
            ", tiled AS ( \
                 INSERT INTO domicile.tiles (level, n, hashes, root) \
                 SELECT t.level, t.n, t.hashes, t.root FROM unnest(",
            $level,
            "::smallint[], ",
            $n,
            "::bigint[], ",
            $hashes,
            "::bytea[], ",
            $root,
            "::bytea[]) \
                      AS t(level, n, hashes, root) \
                 WHERE EXISTS (SELECT FROM advanced) \
                 ON CONFLICT (level, n) DO NOTHING)",
        )
    };
}

/// Writes leaves, events, tiles and the new head in one statement, if the head is still `tip`. Returns the
/// position of the page's first leaf, the head that results, and whether it was so.
async fn advance(
    shared: &Shared,
    connection: &mut PgConnection,
    page: &Page<'_>,
    tip: &Tip,
) -> Result<(u64, Tip, bool), (Trouble, u64)> {
    let mut next = tip.clone();
    let opening = (tip.size() == 0).then(|| opening(shared, page.at_us));
    let (opened_lines, opened_hashes);
    let (lines, hashes) = match &opening {
        None => (&page.lines, &page.hashes),
        Some(line) => {
            opened_lines = std::iter::once(line.as_str()).chain(page.lines.iter().copied()).collect();
            opened_hashes = std::iter::once(leaf_hash(line.as_bytes())).chain(page.hashes.iter().copied()).collect();
            (&opened_lines, &opened_hashes)
        }
    };
    let first = tip.size() + u64::from(opening.is_some());
    for hash in hashes {
        next.frontier.push(*hash);
    }
    let patience = shared.address.patience();
    let grown = within(patience, tiles::grow(connection, tip.size(), &tip.edge, hashes)).await;
    let (filled, edge) = grown.map_err(|trouble| (trouble, first))?;
    next.edge = edge;
    let events = &page.events;
    let moves = page.erasing.is_some();
    next.fence += u64::from(moves);
    let query = sqlx::query(match (moves, events.at.is_empty(), filled.is_empty()) {
        (false, true, true) => sql!("0", ""),
        (false, true, false) => sql!("0", tiles!("$8", "$9", "$10", "$11")),
        (false, false, true) => sql!("0", events!()),
        (false, false, false) => sql!("0", events!(), tiles!("$22", "$23", "$24", "$25")),
        (true, true, true) => sql!("1", ""),
        (true, true, false) => sql!("1", tiles!("$8", "$9", "$10", "$11")),
        (true, false, true) => sql!("1", events!()),
        (true, false, false) => sql!("1", events!(), tiles!("$22", "$23", "$24", "$25")),
    });
    let mut query = query
        .bind(column(next.size()))
        .bind(next.frontier.to_bytes())
        .bind(column(tip.size()))
        .bind(column(tip.epoch))
        .bind(column(tip.fence))
        .bind(hashes)
        .bind(lines);
    if !events.at.is_empty() {
        query = query
            .bind(column(first))
            .bind(&events.at)
            .bind(&events.channel)
            .bind(&events.topic)
            .bind(&events.key)
            .bind(&events.key_id)
            .bind(&events.event_type)
            .bind(&events.event_id)
            .bind(&events.source)
            .bind(&events.time)
            .bind(&events.datacontenttype)
            .bind(&events.traceparent)
            .bind(&events.extensions)
            .bind(&events.data);
    }
    if !filled.is_empty() {
        query = query.bind(&filled.level).bind(&filled.n).bind(&filled.hashes).bind(&filled.root);
    }
    let work = async { Ok(query.fetch_one(connection).await?.try_get(0)?) };
    let advanced = within(patience, work).await.map_err(|trouble| (trouble, first))?;
    Ok((first, next, advanced))
}

/// The log's own first leaf, which says whose log it is. It also makes every deed's position at least 1,
/// so that a cursor at 0 has read nothing yet.
fn opening(shared: &Shared, at_us: i64) -> String {
    let at = instant(at_us);
    format!(
        r#"{{"gw":"{}","home":"{}","k":"log.genesis","origin":{},"ts":"{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z","v":1}}"#,
        shared.gateway,
        shared.region,
        serde_json::Value::from(shared.origin.as_str()),
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.microsecond(),
    )
}

/// Whether a page whose commit was cut off is in the log. Taking the head's lock waits for whoever may
/// still be committing it.
pub(super) async fn was_committed(connection: &mut PgConnection, seq: u64, hash: &[u8; 32]) -> Result<bool, Trouble> {
    connection.execute("BEGIN").await?;
    lock(connection).await?;
    let found: Option<Vec<u8>> = sqlx::query_scalar("SELECT hash FROM domicile.leaves WHERE seq = $1")
        .bind(column(seq))
        .fetch_optional(&mut *connection)
        .await?;
    connection.execute("ROLLBACK").await?;
    Ok(found.is_some_and(|found| found == hash))
}
