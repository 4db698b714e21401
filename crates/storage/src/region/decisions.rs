//! Searching decisions, by the derived table `decision_index`. What is returned is the leaf itself.

use leaf::{SubjectSecret, SubjectTag, tag};
use residency::{DecisionId, SubjectId};
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

use super::origins;
use super::records::{column, version};
use crate::error::Trouble;

/// Which decisions to find. What is `None` does not matter.
#[derive(Debug, Clone, Default)]
pub struct DecisionFilter {
    /// Taken at or after, microseconds since 1970-01-01 UTC.
    pub from_us: Option<i64>,
    /// Taken before, microseconds since 1970-01-01 UTC.
    pub to_us: Option<i64>,
    /// By this actor.
    pub actor: Option<String>,
    /// By this rule.
    pub rule: Option<String>,
    /// With this outcome: `allow`, `deny` or `error`.
    pub outcome: Option<String>,
    /// Of this kind, e.g. `decision.write`.
    pub kind: Option<String>,
    /// For this operation, e.g. `record.put`.
    pub operation: Option<String>,
    /// About this subject. Nothing is found for a subject that is not registered here.
    pub subject: Option<SubjectId>,
    /// Only below this log position: where the last page ended.
    pub before_seq: Option<u64>,
    /// At most this many, 1 to 1,000.
    pub limit: u16,
}

/// One leaf of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionRow {
    /// Its index in the log.
    pub seq: u64,
    /// Its RFC 6962 hash.
    pub leaf_hash: [u8; 32],
    /// The line that was hashed.
    pub line: String,
}

/// How far the times of two leaves may be in another order than their positions: clocks of gateways differ, and what was
/// decided first may be committed last. Where a search is bounded by time, so much more is looked through; what a clock
/// that is wrong by more has dated is found by a search without times.
const DISORDER_US_MAX: i64 = 10 * 60 * 1_000_000;

/// Reads a leaf from the columns seq, hash, line.
pub(super) fn row(row: &PgRow) -> Result<DecisionRow, Trouble> {
    Ok(DecisionRow { seq: version(row.try_get(0)?)?, leaf_hash: row.try_get(1)?, line: row.try_get(2)? })
}

/// The tag of a subject, if it is registered here.
pub(super) async fn tag_of(
    connection: &mut PgConnection,
    subject: &SubjectId,
    origin: &str,
) -> Result<Option<SubjectTag>, Trouble> {
    let secret: Option<[u8; 32]> = sqlx::query_scalar("SELECT secret FROM domicile.subjects WHERE subject = $1")
        .bind(subject.expose())
        .fetch_optional(connection)
        .await?;
    Ok(secret.map(|secret| tag(&SubjectSecret::new(secret), origin)))
}

/// The decisions that match, newest first.
pub(super) async fn search(
    connection: &mut PgConnection,
    filter: &DecisionFilter,
    origin: &str,
) -> Result<Vec<DecisionRow>, Trouble> {
    let limit = filter.limit.clamp(1, 1_000);
    let Some(subject) = &filter.subject else {
        return page(connection, filter, None, limit).await;
    };
    // One name of the log after the other, as its entries lie one behind the other.
    let mut found: Vec<DecisionRow> = Vec::new();
    for tag in origins::tags_of(connection, subject.expose(), origin).await? {
        let left = limit - u16::try_from(found.len()).unwrap_or(limit).min(limit);
        if left == 0 {
            break;
        }
        found.extend(page(connection, filter, Some(tag), left).await?);
    }
    Ok(found)
}

/// The decisions that match and have this tag, if there is one, newest first.
async fn page(
    connection: &mut PgConnection,
    filter: &DecisionFilter,
    tag: Option<SubjectTag>,
    limit: u16,
) -> Result<Vec<DecisionRow>, Trouble> {
    let first = match filter.from_us {
        Some(from_us) => first_at(connection, from_us.saturating_sub(DISORDER_US_MAX)).await?,
        None => None,
    };
    let end = match filter.to_us {
        Some(to_us) => first_at(connection, to_us.saturating_add(DISORDER_US_MAX)).await?,
        None => None,
    };
    let before = filter.before_seq.map(column);
    let rows = sqlx::query(
        "SELECT l.seq, l.hash, l.line \
         FROM (SELECT i.seq FROM domicile.decision_index AS i \
               WHERE ($1::bigint IS NULL OR i.at_us >= $1) AND ($2::bigint IS NULL OR i.at_us < $2) \
                 AND ($3::text IS NULL OR (i.actor, i.seq) >= ($3, coalesce($10::bigint, 0)) \
                                      AND (i.actor, i.seq) < ($3, coalesce($9::bigint, 9223372036854775807))) \
                 AND ($4::text IS NULL OR i.rule = $4) \
                 AND ($5::text IS NULL OR i.outcome = $5) AND ($6::text IS NULL OR i.kind = $6) \
                 AND ($7::text IS NULL OR i.operation = $7) AND ($8::text IS NULL OR i.subject_tag = $8) \
                 AND ($9::bigint IS NULL OR i.seq < $9) AND ($10::bigint IS NULL OR i.seq >= $10) \
               ORDER BY CASE WHEN $3::text IS NOT NULL THEN i.actor END DESC, i.seq DESC LIMIT $11) AS found \
         JOIN domicile.leaves AS l ON l.seq = found.seq ORDER BY l.seq DESC",
    )
    // Planned anew each time, for the filters that are really there. An actor is looked for as a range of the index by
    // actor, in its order, rather than as a filter: whoever did much, but nothing lately, is not looked for backwards
    // through what everybody has done since.
    .persistent(false)
    .bind(filter.from_us)
    .bind(filter.to_us)
    .bind(&filter.actor)
    .bind(&filter.rule)
    .bind(&filter.outcome)
    .bind(&filter.kind)
    .bind(&filter.operation)
    .bind(tag.map(|tag| tag.to_string()))
    .bind(end.into_iter().chain(before).min())
    .bind(first)
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?;
    rows.iter().map(row).collect()
}

/// The position of the first decision at or after a time, or the one behind the last; `None` when there are none. It is
/// found by halving, as if times grew along the log: whatever lies on the wrong side of it is as near to it in time as the
/// log is in disorder.
async fn first_at(connection: &mut PgConnection, at_us: i64) -> Result<Option<i64>, Trouble> {
    let found = sqlx::query_scalar(
        "WITH RECURSIVE hunt(low, high) AS ( \
             SELECT min(i.seq), max(i.seq) + 1 FROM domicile.decision_index AS i \
             UNION ALL \
             SELECT CASE WHEN next.at_us < $1 THEN next.seq + 1 ELSE hunt.low END, \
                    CASE WHEN next.at_us < $1 THEN hunt.high ELSE (hunt.low + hunt.high) / 2 END \
             FROM hunt CROSS JOIN LATERAL ( \
                 SELECT i.seq, i.at_us FROM domicile.decision_index AS i \
                 WHERE i.seq >= (hunt.low + hunt.high) / 2 ORDER BY i.seq LIMIT 1) AS next \
             WHERE hunt.low < hunt.high) \
         SELECT max(low) FROM hunt",
    );
    Ok(found.bind(at_us).fetch_one(connection).await?)
}

/// The last leaf of one decision.
pub(super) async fn find(connection: &mut PgConnection, id: DecisionId) -> Result<Option<DecisionRow>, Trouble> {
    let found = sqlx::query(
        "SELECT l.seq, l.hash, l.line FROM domicile.decision_index AS i JOIN domicile.leaves AS l ON l.seq = i.seq \
         WHERE i.id = $1 ORDER BY i.seq DESC LIMIT 1",
    )
    .bind(id.0)
    .fetch_optional(connection)
    .await?;
    found.as_ref().map(row).transpose()
}
