//! The table `transfers`.

use residency::DecisionId;
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

use crate::error::Trouble;
use crate::region::records::{column, version};

/// A leaf about a transfer: a decision's own, or the counterpart of one in another region's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferRow {
    /// Its index in the log.
    pub seq: u64,
    /// The decision's id, the same in both logs.
    pub id: DecisionId,
    /// Whether it is the counterpart of a leaf in the other log.
    pub counterpart: bool,
    /// When, microseconds since 1970-01-01 UTC.
    pub at_us: i64,
    /// The region that the data left.
    pub from: String,
    /// The region where it arrived.
    pub to: String,
    /// The legal basis.
    pub basis: String,
    /// The instrument behind it.
    pub instrument: Option<String>,
    /// Who caused it.
    pub actor: String,
    /// Rows that crossed.
    pub rows: u64,
    /// Bytes that crossed.
    pub bytes: u64,
    /// The leaf's hash.
    pub leaf_hash: [u8; 32],
    /// Of a counterpart: the hash of the leaf in the other log.
    pub of_hash: Option<[u8; 32]>,
    /// When the other side was seen in the other log, microseconds since 1970-01-01 UTC.
    pub matched_us: Option<i64>,
}

/// Which transfers to find. What is `None` does not matter.
#[derive(Debug, Clone, Default)]
pub struct TransferFilter {
    /// Out of this region.
    pub from: Option<String>,
    /// Into this region.
    pub to: Option<String>,
    /// On this legal basis.
    pub basis: Option<String>,
    /// Caused by this actor.
    pub actor: Option<String>,
    /// Whether the other side was seen.
    pub matched: Option<bool>,
    /// At or after, microseconds since 1970-01-01 UTC.
    pub from_us: Option<i64>,
    /// Before, microseconds since 1970-01-01 UTC.
    pub to_us: Option<i64>,
    /// Only entries from here on.
    pub from_seq: Option<u64>,
    /// Only below this log position: where the last page ended.
    pub before_seq: Option<u64>,
    /// At most this many, 1 to 1,000.
    pub limit: u16,
}

const COLUMNS: &str = "seq, id, counterpart, at_us, from_region, to_region, basis, instrument, actor, rows, bytes, \
                       leaf_hash, of_hash, matched_us";

fn transfer(row: &PgRow) -> Result<TransferRow, Trouble> {
    Ok(TransferRow {
        seq: version(row.try_get(0)?)?,
        id: DecisionId(row.try_get(1)?),
        counterpart: row.try_get(2)?,
        at_us: row.try_get(3)?,
        from: row.try_get(4)?,
        to: row.try_get(5)?,
        basis: row.try_get(6)?,
        instrument: row.try_get(7)?,
        actor: row.try_get(8)?,
        rows: version(row.try_get(9)?)?,
        bytes: version(row.try_get(10)?)?,
        leaf_hash: row.try_get(11)?,
        of_hash: row.try_get(12)?,
        matched_us: row.try_get(13)?,
    })
}

pub(super) async fn insert(connection: &mut PgConnection, transfers: &[TransferRow]) -> Result<(), Trouble> {
    if transfers.is_empty() {
        return Ok(());
    }
    let texts = |of: &dyn Fn(&TransferRow) -> &str| transfers.iter().map(|one| of(one).to_owned()).collect::<Vec<_>>();
    let numbers = |of: &dyn Fn(&TransferRow) -> i64| transfers.iter().map(of).collect::<Vec<i64>>();
    sqlx::query(
        "INSERT INTO domicile.transfers (seq, id, counterpart, at_us, from_region, to_region, basis, instrument, actor, \
                                         rows, bytes, leaf_hash, of_hash) \
         SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::boolean[], $4::bigint[], $5::text[], $6::text[], $7::text[], \
                              $8::text[], $9::text[], $10::bigint[], $11::bigint[], $12::bytea[], $13::bytea[]) \
         ON CONFLICT (seq) DO NOTHING",
    )
    .bind(numbers(&|one| column(one.seq)))
    .bind(transfers.iter().map(|one| one.id.0).collect::<Vec<_>>())
    .bind(transfers.iter().map(|one| one.counterpart).collect::<Vec<_>>())
    .bind(numbers(&|one| one.at_us))
    .bind(texts(&|one| &one.from))
    .bind(texts(&|one| &one.to))
    .bind(texts(&|one| &one.basis))
    .bind(transfers.iter().map(|one| one.instrument.clone()).collect::<Vec<_>>())
    .bind(texts(&|one| &one.actor))
    .bind(numbers(&|one| column(one.rows)))
    .bind(numbers(&|one| column(one.bytes)))
    .bind(transfers.iter().map(|one| one.leaf_hash.to_vec()).collect::<Vec<_>>())
    .bind(transfers.iter().map(|one| one.of_hash.map(|hash| hash.to_vec())).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn search(
    connection: &mut PgConnection,
    filter: &TransferFilter,
) -> Result<Vec<TransferRow>, Trouble> {
    let text = format!(
        "SELECT {COLUMNS} FROM domicile.transfers \
         WHERE ($1::text IS NULL OR from_region = $1) AND ($2::text IS NULL OR to_region = $2) \
           AND ($3::text IS NULL OR basis = $3) AND ($4::text IS NULL OR actor = $4) \
           AND ($5::boolean IS NULL OR (matched_us IS NOT NULL) = $5) \
           AND ($6::bigint IS NULL OR at_us >= $6) AND ($7::bigint IS NULL OR at_us < $7) \
           AND ($8::bigint IS NULL OR seq >= $8) AND ($9::bigint IS NULL OR seq < $9) \
         ORDER BY seq DESC LIMIT $10"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(text))
        .persistent(false)
        .bind(&filter.from)
        .bind(&filter.to)
        .bind(&filter.basis)
        .bind(&filter.actor)
        .bind(filter.matched)
        .bind(filter.from_us)
        .bind(filter.to_us)
        .bind(filter.from_seq.map(column))
        .bind(filter.before_seq.map(column))
        .bind(i64::from(filter.limit.clamp(1, 1_000)))
        .fetch_all(connection)
        .await?;
    rows.iter().map(transfer).collect()
}

pub(super) async fn unmatched(
    connection: &mut PgConnection,
    after_seq: Option<u64>,
    since_us: i64,
    limit: u16,
) -> Result<Vec<TransferRow>, Trouble> {
    let text = format!(
        "SELECT {COLUMNS} FROM domicile.transfers \
         WHERE matched_us IS NULL AND ($1::bigint IS NULL OR seq > $1) AND at_us >= $2 ORDER BY seq LIMIT $3"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(after_seq.map(column))
        .bind(since_us)
        .bind(i64::from(limit.clamp(1, 1_000)))
        .fetch_all(connection)
        .await?;
    rows.iter().map(transfer).collect()
}

pub(super) async fn of(connection: &mut PgConnection, id: DecisionId) -> Result<Vec<TransferRow>, Trouble> {
    let text = format!("SELECT {COLUMNS} FROM domicile.transfers WHERE id = $1 ORDER BY seq LIMIT 16");
    let rows = sqlx::query(sqlx::AssertSqlSafe(text)).bind(id.0).fetch_all(connection).await?;
    rows.iter().map(transfer).collect()
}

pub(super) async fn matched(connection: &mut PgConnection, seqs: &[u64], at_us: i64) -> Result<(), Trouble> {
    if seqs.is_empty() {
        return Ok(());
    }
    sqlx::query("UPDATE domicile.transfers SET matched_us = $2 WHERE seq = ANY($1) AND matched_us IS NULL")
        .bind(seqs.iter().map(|seq| column(*seq)).collect::<Vec<i64>>())
        .bind(at_us)
        .execute(connection)
        .await?;
    Ok(())
}
