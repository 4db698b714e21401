//! The table `violations`.

use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

use crate::error::Trouble;
use crate::region::records::{column, version};

/// Something that is not as it should be, as it is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What makes it the same one when it is found again.
    pub mark: String,
    /// Which rule is broken: a stable word.
    pub rule: &'static str,
    /// The entry it is about.
    pub seq: Option<u64>,
    /// What is wrong, as a clause that names nobody.
    pub says: String,
    /// When it happened, microseconds since 1970-01-01 UTC; now, by the database's clock, when nobody knows.
    pub at_us: Option<i64>,
}

/// A violation in the register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Its number in this region.
    pub id: u64,
    /// Which rule is broken: a stable word.
    pub rule: String,
    /// The entry it is about.
    pub seq: Option<u64>,
    /// What is wrong, as a clause that names nobody.
    pub says: String,
    /// When it happened, microseconds since 1970-01-01 UTC.
    pub at_us: i64,
    /// Who has answered for it.
    pub acknowledged: Option<Acknowledgement>,
}

/// That somebody has seen a violation and answers for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    /// Who, by the class and name of their credentials.
    pub by: String,
    /// When, microseconds since 1970-01-01 UTC.
    pub at_us: i64,
    /// What they say about it.
    pub reason: String,
    /// Goes before the reason when it is hashed for the leaf.
    pub salt: [u8; 16],
}

/// Which violations to find. What is `None` does not matter.
#[derive(Debug, Clone, Default)]
pub struct ViolationFilter {
    /// By this rule.
    pub rule: Option<String>,
    /// Whether somebody has acknowledged it.
    pub acknowledged: Option<bool>,
    /// At or after, microseconds since 1970-01-01 UTC.
    pub from_us: Option<i64>,
    /// Before, microseconds since 1970-01-01 UTC.
    pub to_us: Option<i64>,
    /// About entries of this range only.
    pub entries: Option<std::ops::Range<u64>>,
    /// Only numbers below this: where the last page ended.
    pub before_id: Option<u64>,
    /// At most this many, 1 to 1,000.
    pub limit: u16,
}

const COLUMNS: &str = "id, rule, seq, says, at_us, acknowledged_us, acknowledged_by, reason, salt";

fn violation(row: &PgRow) -> Result<Violation, Trouble> {
    let (at_us, by): (Option<i64>, Option<String>) = (row.try_get(5)?, row.try_get(6)?);
    let (reason, salt): (Option<String>, Option<[u8; 16]>) = (row.try_get(7)?, row.try_get(8)?);
    let acknowledged = match (at_us, by) {
        (Some(at_us), Some(by)) => {
            Some(Acknowledgement { by, at_us, reason: reason.unwrap_or_default(), salt: salt.unwrap_or_default() })
        }
        _ => None,
    };
    Ok(Violation {
        id: version(row.try_get(0)?)?,
        rule: row.try_get(1)?,
        seq: row.try_get::<Option<i64>, _>(2)?.map(version).transpose()?,
        says: row.try_get(3)?,
        at_us: row.try_get(4)?,
        acknowledged,
    })
}

pub(super) async fn open(connection: &mut PgConnection, found: &[Found]) -> Result<u64, Trouble> {
    if found.is_empty() {
        return Ok(0);
    }
    let texts = |of: &dyn Fn(&Found) -> String| found.iter().map(of).collect::<Vec<String>>();
    let done = sqlx::query(
        "INSERT INTO domicile.violations (mark, rule, seq, says, at_us) \
         SELECT DISTINCT ON (f.mark) f.mark, f.rule, f.seq, f.says, \
                coalesce(f.at_us, (extract(epoch FROM now()) * 1000000)::bigint) \
         FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bigint[]) WITH ORDINALITY \
              AS f (mark, rule, seq, says, at_us, place) \
         WHERE NOT EXISTS (SELECT FROM domicile.violations AS v WHERE v.mark = f.mark) \
         ORDER BY f.mark, f.place ON CONFLICT (mark) DO NOTHING",
    )
    .bind(texts(&|one| one.mark.clone()))
    .bind(texts(&|one| one.rule.to_owned()))
    .bind(found.iter().map(|one| one.seq.map(column)).collect::<Vec<Option<i64>>>())
    .bind(texts(&|one| one.says.clone()))
    .bind(found.iter().map(|one| one.at_us).collect::<Vec<Option<i64>>>())
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

pub(super) async fn search(connection: &mut PgConnection, filter: &ViolationFilter) -> Result<Vec<Violation>, Trouble> {
    let text = format!(
        "SELECT {COLUMNS} FROM domicile.violations \
         WHERE ($1::text IS NULL OR rule = $1) AND ($2::boolean IS NULL OR (acknowledged_us IS NOT NULL) = $2) \
           AND ($3::bigint IS NULL OR at_us >= $3) AND ($4::bigint IS NULL OR at_us < $4) \
           AND ($5::bigint IS NULL OR seq >= $5) AND ($6::bigint IS NULL OR seq < $6) \
           AND ($7::bigint IS NULL OR id < $7) ORDER BY id DESC LIMIT $8"
    );
    let entries = filter.entries.as_ref();
    let rows = sqlx::query(sqlx::AssertSqlSafe(text))
        .persistent(false)
        .bind(&filter.rule)
        .bind(filter.acknowledged)
        .bind(filter.from_us)
        .bind(filter.to_us)
        .bind(entries.map(|entries| column(entries.start)))
        .bind(entries.map(|entries| column(entries.end)))
        .bind(filter.before_id.map(column))
        .bind(i64::from(filter.limit.clamp(1, 1_000)))
        .fetch_all(connection)
        .await?;
    rows.iter().map(violation).collect()
}

pub(super) async fn find(connection: &mut PgConnection, id: u64) -> Result<Option<Violation>, Trouble> {
    let text = format!("SELECT {COLUMNS} FROM domicile.violations WHERE id = $1");
    let row = sqlx::query(sqlx::AssertSqlSafe(text)).bind(column(id)).fetch_optional(connection).await?;
    row.as_ref().map(violation).transpose()
}

pub(super) async fn acknowledge(
    connection: &mut PgConnection,
    id: u64,
    said: &Acknowledgement,
) -> Result<bool, Trouble> {
    let done = sqlx::query(
        "UPDATE domicile.violations SET acknowledged_us = $2, acknowledged_by = $3, reason = $4, salt = $5 \
         WHERE id = $1 AND acknowledged_us IS NULL",
    )
    .bind(column(id))
    .bind(said.at_us)
    .bind(&said.by)
    .bind(&said.reason)
    .bind(said.salt)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}
