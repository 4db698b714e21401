//! Erasing a subject, and the table `erasures`: what remains of it, a digest and a time.
//!
//! An erasure is a batch of its own (`collector`). What rests about the subject goes in the transaction that writes its
//! leaf: first everything that is there, while others commit; then, under the head's lock, what they committed meanwhile;
//! and the fence moves, so that whoever read the subject's state before looks again and finds it erased.
//!
//! Nothing of the subject survives that, whatever other gateways do meanwhile and whatever they remember. A write of theirs
//! is committed before the erasure has the head's lock, or it is not yet.
//! - If it is, the second sweep sees it: each of its statements looks anew, and until COMMIT nobody else has the lock.
//!   Records, attributes, history, keys and details are swept whole each time; events, which are found by reading, from the
//!   end of the log on that was read before the first sweep.
//! - If it is not, it cannot be any more. Every page that holds a deed advances the head under the fence that the subjects'
//!   states were read under, and only there: a compare-and-set, so that a gateway with the pen and a remembered head finds
//!   another fence as well. Its transaction, or its statement with everything in it, fails as a whole, and the next attempt
//!   reads the states again and finds the tombstone. Rows that it has written but not committed, which no sweep can see, go
//!   with it. If it holds rows that a sweep waits for while it waits for the head, one of the two is told so by the
//!   server, and tried again.
//! - A page without deeds advances the head under any fence: leaves of reads and denials, which name nobody. Details beside
//!   them are written behind that, under the head's lock, and only of who is still registered.
//!
//! So every new way of writing about a subject needs either the fence in its page or a look at `subjects` under the lock.

use std::collections::HashSet;
use std::time::Duration;

use residency::Epoch;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Executor, Row};
use time::OffsetDateTime;

use super::Shared;
use super::entry::{Deed, Entry};
use super::events::{instant, microseconds};
use super::origins;
use super::records::{column, version};
use super::subjects::Known;
use super::wants::{Home, Homes};
use crate::deeds::{Change, Erasure, Extent};
use crate::digest::SubjectDigest;
use crate::error::{Cause, Trouble};

/// An erasure on its way.
#[derive(Debug)]
pub(super) struct Erasing<'a> {
    pub(super) subject: &'a str,
    /// Under every pepper in use, and the one that the events are keyed by.
    pub(super) digests: Vec<SubjectDigest>,
    pub(super) events: SubjectDigest,
    pub(super) epoch: Epoch,
    pub(super) at: OffsetDateTime,
}

impl<'a> Erasing<'a> {
    /// The erasure that these entries are, unless they are something else or it will not be done: an erasure comes alone.
    pub(super) fn of(shared: &Shared, entries: &'a [Entry], homes: &Homes<'a>) -> Option<Self> {
        let [Entry::Deed(deed)] = entries else { return None };
        if !erases(deed) || deed.refused.is_some() {
            return None;
        }
        let subject = deed.permit.subject();
        let known: &Known = match homes.get(subject.expose())? {
            Home::Known(known) => known,
            Home::Fresh(fresh) => &fresh.known,
            Home::Erased | Home::Nobody => return None,
        };
        known.admits_write(deed.permit.epoch()).ok()?;
        let mut digests: Vec<SubjectDigest> = shared.peppers.digests(subject).collect();
        if !digests.contains(&known.state.digest) {
            digests.push(known.state.digest);
        }
        let at = instant(deed.permit.decision().at_us);
        let (events, epoch) = (known.state.digest, known.state.epoch);
        Some(Self { subject: subject.expose(), digests, events, epoch, at })
    }
}

/// Whether a deed erases its subject.
pub(super) fn erases(deed: &Deed) -> bool {
    matches!(deed.change, Change::EraseSubject)
}

/// Gives the statements of this transaction the time that a large subject needs.
pub(super) async fn take_time(connection: &mut PgConnection, patience: Duration) -> Result<(), Trouble> {
    // A number of milliseconds: there is nothing in it to be escaped, and SET takes no parameters.
    let sql = format!("SET LOCAL statement_timeout = {}", patience.as_millis());
    connection.execute(sqlx::query(AssertSqlSafe(sql))).await?;
    Ok(())
}

/// Takes away what rests about the subject behind a log position, or everything when that is 0.
pub(super) async fn erase(
    connection: &mut PgConnection,
    erasing: &Erasing<'_>,
    origin: &str,
    behind: u64,
) -> Result<Extent, Trouble> {
    // Events are found by the tags when everything goes; behind a position they are found by reading.
    let tags = if behind == 0 { origins::tags_of(connection, erasing.subject, origin).await? } else { Vec::new() };
    let row = sqlx::query(
        "SELECT records_gone, attributes_gone, history_gone, keys_gone, events_blanked \
         FROM domicile.erase_subject($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(erasing.subject)
    .bind(tags.iter().map(ToString::to_string).collect::<Vec<_>>())
    .bind(erasing.digests.iter().map(|digest| digest.bytes).collect::<Vec<_>>())
    .bind(erasing.digests.iter().map(|digest| digest.key_id.cast_signed()).collect::<Vec<_>>())
    .bind(erasing.events.bytes)
    .bind(column(erasing.epoch.0))
    .bind(erasing.at)
    .bind(column(behind))
    .fetch_one(&mut *connection)
    .await?;
    extent(&row, 0)
}

/// What an erasure would take away: the same counts, without doing it.
pub(super) async fn measure(
    connection: &mut PgConnection,
    subject: &str,
    known: &Known,
    origin: &str,
) -> Result<Extent, Trouble> {
    let tags = origins::tags_of(connection, subject, origin).await?;
    let row = sqlx::query(
        "WITH indexed AS MATERIALIZED ( \
             SELECT coalesce(max(c.seq), 0) AS seq FROM domicile.cursors AS c WHERE c.name = 'index') \
         SELECT (SELECT count(*) FROM domicile.records AS r WHERE r.subject = $1), \
                (SELECT count(*) FROM domicile.zero_party AS z WHERE z.subject = $1), \
                (SELECT count(*) FROM domicile.zero_party_history AS h WHERE h.digest = $3), \
                (SELECT count(*) FROM domicile.idempotency AS i WHERE i.subject = $1), \
                (SELECT count(*) FROM unnest($2::text[]) AS t(tag) JOIN domicile.decision_index AS d ON d.subject_tag = t.tag \
                     JOIN domicile.outbox AS o ON o.seq = d.seq \
                 WHERE d.seq <= (SELECT seq FROM indexed) AND o.key = $3 AND NOT o.erased) \
                + (SELECT count(*) FROM domicile.outbox AS o \
                   WHERE o.seq > (SELECT seq FROM indexed) AND o.key = $3 AND NOT o.erased)",
    )
    .bind(subject)
    .bind(tags.iter().map(ToString::to_string).collect::<Vec<_>>())
    .bind(known.state.digest.bytes)
    .fetch_one(connection)
    .await?;
    extent(&row, 0)
}

fn extent(row: &PgRow, first: usize) -> Result<Extent, Trouble> {
    let count = |at: usize| version(row.try_get(first + at)?);
    Ok(Extent {
        records: count(0)?,
        attributes: count(1)?,
        history: count(2)?,
        idempotency_keys: count(3)?,
        events: count(4)?,
    })
}

/// Whether the subject's tombstone is another transaction's, once this one has laid its own.
pub(super) async fn came_first(connection: &mut PgConnection, erasing: &Erasing<'_>) -> Result<bool, Trouble> {
    let sql =
        "SELECT EXISTS (SELECT FROM domicile.erasures WHERE digest = ANY($1) AND xmin <> pg_current_xact_id()::xid)";
    let digests: Vec<_> = erasing.digests.iter().map(|digest| digest.bytes).collect();
    Ok(sqlx::query_scalar(sql).bind(digests).fetch_one(connection).await?)
}

/// Which of these digests belong to somebody who was erased here.
pub(super) async fn known(connection: &mut PgConnection, digests: &[[u8; 32]]) -> Result<HashSet<[u8; 32]>, Trouble> {
    if digests.is_empty() {
        return Ok(HashSet::new());
    }
    let rows = sqlx::query_scalar("SELECT digest FROM domicile.erasures WHERE digest = ANY($1)");
    Ok(rows.bind(digests).fetch_all(connection).await?.into_iter().collect())
}

/// Erasures that the directory may not know of yet, the oldest first.
pub(super) async fn unfiled(connection: &mut PgConnection, limit: i64) -> Result<Vec<Erasure>, Trouble> {
    let rows = sqlx::query(
        "SELECT digest, key_id, epoch, erased_at FROM domicile.erasures WHERE filed_at IS NULL ORDER BY erased_at LIMIT $1",
    )
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.iter().map(erasure).collect()
}

/// Erasures since a time, in the order of time and digest, behind a place in that order.
pub(super) async fn since(
    connection: &mut PgConnection,
    since_us: i64,
    after: Option<&Erasure>,
    limit: i64,
) -> Result<Vec<Erasure>, Trouble> {
    let rows = sqlx::query(
        "SELECT digest, key_id, epoch, erased_at FROM domicile.erasures \
         WHERE erased_at >= $1 AND ($2::timestamptz IS NULL OR (erased_at, digest) > ($2, $3)) \
         ORDER BY erased_at, digest LIMIT $4",
    )
    .bind(instant(since_us))
    .bind(after.map(|erasure| instant(erasure.erased_at_us)))
    .bind(after.map(|erasure| erasure.digest.bytes))
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.iter().map(erasure).collect()
}

fn erasure(row: &PgRow) -> Result<Erasure, Trouble> {
    let broken = || Trouble::Internal(Cause::new("a row of erasures holds what it cannot hold"));
    let key_id = u16::try_from(row.try_get::<i16, _>(1)?).map_err(|_| broken())?;
    Ok(Erasure {
        digest: SubjectDigest { key_id, bytes: row.try_get(0)? },
        epoch: Epoch(version(row.try_get(2)?)?),
        erased_at_us: microseconds(row.try_get(3)?),
    })
}

/// The directory has these.
pub(super) async fn filed(connection: &mut PgConnection, digests: &[[u8; 32]]) -> Result<(), Trouble> {
    sqlx::query("UPDATE domicile.erasures SET filed_at = now() WHERE digest = ANY($1) AND filed_at IS NULL")
        .bind(digests)
        .execute(connection)
        .await?;
    Ok(())
}
