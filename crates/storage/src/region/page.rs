//! One page of the log: leaves, their events, the tiles they fill and the new head, in one statement. Where nothing
//! but a few records is changed, these are in it, too, so that such a commit is one round trip.

use sqlx::Row;
use sqlx::postgres::PgConnection;
use tlog::leaf_hash;

use super::erasures::Erasing;
use super::events::instant;
use super::head::Tip;
use super::outbox::Columns;
use super::records::{self, column};
use super::{Shared, details, tiles};
use crate::error::Trouble;
use crate::link::within;

/// What is to be appended to the log.
#[derive(Debug)]
pub(super) struct Page<'a> {
    pub(super) lines: Vec<&'a str>,
    pub(super) hashes: Vec<[u8; 32]>,
    pub(super) events: Columns<'a>,
    /// Records still to be created or replaced, in the order of their keys; each has its event, and nothing but records
    /// is changed.
    pub(super) records: &'a [records::Written<'a>],
    /// What lies sealed beside the leaves: written in the same transaction, behind them.
    pub(super) details: details::Rows,
    /// The fence under which the subjects' states were read, if the page depends on any.
    pub(super) fence: Option<u64>,
    /// The time of its first decision, microseconds since 1970: the log's own first leaf takes it over.
    pub(super) at_us: i64,
    /// The erasure that it tells of, and the log position behind which it is still to be swept. It moves the fence.
    pub(super) erasing: Option<(&'a Erasing<'a>, u64)>,
}

/// The statement that advances the head, if it is still where it was, and writes leaves and whatever else is named.
macro_rules! sql {
    ($said:expr; $($more:expr),*) => {
        concat!(
            "WITH advanced AS ( \
                 UPDATE domicile.head SET size = $1, frontier = $2, fence = $8 \
                 WHERE only_row AND size = $3 AND epoch = $4 AND fence = $5 RETURNING 1), \
             written AS ( \
                 INSERT INTO domicile.leaves (seq, hash, line) \
                 SELECT $3 + l.ord - 1, l.hash, l.line FROM unnest($6::bytea[], $7::text[]) WITH ORDINALITY AS l(hash, line, ord) \
                 WHERE EXISTS (SELECT FROM advanced))",
            $($more,)*
            $said,
        )
    };
}

/// Whether the head was where it should be.
macro_rules! advanced {
    () => {
        " SELECT count(*) = 1 FROM advanced"
    };
}

/// The part that sends events.
macro_rules! events {
    () => {
        ", sent AS ( \
             INSERT INTO domicile.outbox (seq, channel, topic, key, key_id, event_type, event_id, source, \"time\", \
                                          datacontenttype, traceparent, extensions, data) \
             SELECT $9 + e.at, e.channel, e.topic, e.key, e.key_id, e.event_type, e.event_id, e.source, e.\"time\", \
                    e.datacontenttype, e.traceparent, e.extensions::jsonb, e.data \
             FROM unnest($10::bigint[], $11::smallint[], $12::text[], $13::bytea[], $14::smallint[], $15::text[], \
                         $16::text[], $17::text[], $18::timestamptz[], $19::text[], $20::text[], $21::text[], $22::bytea[]) \
                  AS e(at, channel, topic, key, key_id, event_type, event_id, source, \"time\", datacontenttype, \
                       traceparent, extensions, data) \
             WHERE EXISTS (SELECT FROM advanced))"
    };
}

/// The part that changes records. It comes before the head: whoever changes records elsewhere locks them in this
/// order, too.
///
/// What is replaced is found first, by an outer join, and then taken by its place. A join of an UPDATE may begin at
/// either side, and a plan made while the table was young and small would begin at the table, reading all of it for every
/// page once it has grown. Who moves a row meanwhile gives it another place, and it is missing from the count.
macro_rules! records {
    () => {
        ", wanted AS MATERIALIZED ( \
             SELECT w.*, r.tableoid AS part, r.ctid AS place \
             FROM unnest($24::text[], $25::text[], $26::text[], $27::bigint[], $28::bigint[], $29::text[], \
                         $30::timestamptz[]) AS w(subject, collection, key, before, version, body, updated_at) \
             LEFT JOIN domicile.records AS r \
                    ON w.before IS NOT NULL AND r.region = $23 AND r.subject = w.subject \
                   AND r.collection = w.collection AND r.key = w.key), \
         changed AS ( \
             UPDATE domicile.records AS r SET version = w.version, body = w.body::jsonb, updated_at = w.updated_at \
             FROM wanted AS w \
             WHERE r.ctid = w.place AND r.tableoid = w.part AND r.version = w.before RETURNING 1), \
         created AS ( \
             INSERT INTO domicile.records (region, subject, collection, key, version, body, updated_at) \
             SELECT $23, w.subject, w.collection, w.key, w.version, w.body::jsonb, w.updated_at \
             FROM wanted AS w WHERE w.before IS NULL RETURNING 1)"
    };
}

/// The part that creates records, where none is replaced: what is not there need not be looked for, which is a third of the
/// work. One that is there by now makes the statement fail by its key.
macro_rules! created {
    () => {
        ", created AS ( \
             INSERT INTO domicile.records (region, subject, collection, key, version, body, updated_at) \
             SELECT $23, w.subject, w.collection, w.key, w.version, w.body::jsonb, w.updated_at \
             FROM unnest($24::text[], $25::text[], $26::text[], $27::bigint[], $28::bigint[], $29::text[], \
                         $30::timestamptz[]) AS w(subject, collection, key, before, version, body, updated_at) \
             RETURNING 1)"
    };
}

/// Whether all of it was so, of which these parts count records. It was, or the statement fails as a whole and changes
/// nothing.
macro_rules! whole {
    ($($counted:literal)+) => {
        concat!(
            " SELECT CASE WHEN 0",
            $(" + (SELECT count(*) FROM ", $counted, ")",)+
            " = cardinality($24::text[]) AND (SELECT count(*) FROM advanced) = 1 \
                          THEN true ELSE domicile.overtaken() END"
        )
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

/// What a page has beside its leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum With {
    Nothing,
    Events,
    /// Records that are not there yet, with their events.
    NewRecords,
    Records,
}

/// What writing a page came to.
pub(super) struct Appended {
    /// The position of the page's first leaf.
    pub(super) first: u64,
    /// The head that results.
    pub(super) next: Tip,
    /// Whether the head was still `tip`; otherwise nothing was done.
    pub(super) done: bool,
}

/// Writes a page, if the head is still `tip`. With `records`, a head or a record that is not what it was thought to be
/// is a [`Trouble::Conflict`]. An error comes with the position that the first leaf would have.
pub(super) async fn write(
    shared: &Shared,
    connection: &mut PgConnection,
    page: &Page<'_>,
    records: &[records::Written<'_>],
    tip: &Tip,
) -> Result<Appended, (Trouble, u64)> {
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
    next.fence += u64::from(page.erasing.is_some());
    let events = &page.events;
    let with = match records {
        [] if events.at.is_empty() => With::Nothing,
        [] => With::Events,
        records if records.iter().all(records::Written::is_new) => With::NewRecords,
        _ => With::Records,
    };
    let query = sqlx::query(match (with, filled.is_empty()) {
        (With::Nothing, true) => sql!(advanced!();),
        (With::Nothing, false) => sql!(advanced!(); tiles!("$9", "$10", "$11", "$12")),
        (With::Events, true) => sql!(advanced!(); events!()),
        (With::Events, false) => sql!(advanced!(); events!(), tiles!("$23", "$24", "$25", "$26")),
        (With::NewRecords, true) => sql!(whole!("created"); created!(), events!()),
        (With::NewRecords, false) => {
            sql!(whole!("created"); created!(), events!(), tiles!("$31", "$32", "$33", "$34"))
        }
        (With::Records, true) => sql!(whole!("changed" "created"); records!(), events!()),
        (With::Records, false) => {
            sql!(whole!("changed" "created"); records!(), events!(), tiles!("$31", "$32", "$33", "$34"))
        }
    });
    let mut query = query
        .bind(column(next.size()))
        .bind(next.frontier.to_bytes())
        .bind(column(tip.size()))
        .bind(column(tip.epoch))
        .bind(column(tip.fence))
        .bind(hashes)
        .bind(lines)
        .bind(column(next.fence));
    if with != With::Nothing {
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
    if !records.is_empty() {
        query = records::bind(query.bind(shared.region.as_str()), records);
    }
    if !filled.is_empty() {
        query = query.bind(&filled.level).bind(&filled.n).bind(&filled.hashes).bind(&filled.root);
    }
    let work = async { Ok(query.fetch_one(connection).await?.try_get(0)?) };
    let done = within(patience, work).await.map_err(|trouble| (trouble, first))?;
    Ok(Appended { first, next, done })
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
