//! The index of facts: every leaf that is about no decision, and every decision whose data crossed a border. Derived
//! from the log by a cursor of its own, so that a gateway that does not know of it never gets in its way.

use leaf::FactKind;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::decisions::{self, DecisionRow};
use super::derived::{Derived, derived};
use super::records::column;
use crate::error::Trouble;

/// The index. Most leaves are decisions, which a comparison of a few bytes passes over.
pub(super) const INDEX: Derived = Derived {
    cursor: "facts",
    lock: 0x646f_6d20_6661_6374, // the bytes of `dom fact`
    step_leaves_max: 10_000,
    // A quote within a text is escaped, so what is looked for here can stand at one place of a line only.
    sql: derived!(
        "facts AS MATERIALIZED ( \
             SELECT n.seq, n.line::jsonb AS j FROM next AS n \
             WHERE strpos(n.line, ',\"xf\":{') > 0 \
                OR (strpos(n.line, ',\"k\":\"decision.') = 0 AND strpos(n.line, ',\"k\":\"subject.register\"') = 0)), \
         indexed AS ( \
             INSERT INTO domicile.fact_index (seq, at_us, kind, actor, crossing) \
             SELECT f.seq, (extract(epoch FROM (f.j->>'ts')::timestamptz) * 1000000)::bigint, f.j->>'k', f.j->>'act', \
                    (f.j->'xf'->>'id')::uuid \
             FROM facts AS f \
             ON CONFLICT (seq) DO NOTHING)"
    ),
};

/// Which facts to find. What is `None` or empty does not matter.
#[derive(Debug, Clone, Default)]
pub struct FactFilter {
    /// Of one of these kinds, e.g. `transfer.in`; decisions with a transfer have the kind of their decision.
    pub kinds: Vec<String>,
    /// Only those with a transfer across a border.
    pub crossings: bool,
    /// Of this very transfer.
    pub crossing: Option<Uuid>,
    /// By this actor.
    pub actor: Option<String>,
    /// At or after, microseconds since 1970-01-01 UTC.
    pub from_us: Option<i64>,
    /// Before, microseconds since 1970-01-01 UTC.
    pub to_us: Option<i64>,
    /// Only behind this log position: oldest first.
    pub after_seq: Option<u64>,
    /// Only below this log position: newest first, unless `after_seq` is given.
    pub before_seq: Option<u64>,
    /// At most this many, 1 to 1,000.
    pub limit: u16,
}

/// The same search in either direction.
macro_rules! search_sql {
    ($direction:literal) => {
        concat!(
            "SELECT l.seq, l.hash, l.line \
             FROM (SELECT i.seq FROM domicile.fact_index AS i \
                   WHERE (cardinality($1::text[]) = 0 OR i.kind = ANY($1)) \
                     AND (NOT $2 OR i.crossing IS NOT NULL) AND ($3::uuid IS NULL OR i.crossing = $3) \
                     AND ($4::text IS NULL OR i.actor = $4) \
                     AND ($5::bigint IS NULL OR i.at_us >= $5) AND ($6::bigint IS NULL OR i.at_us < $6) \
                     AND ($7::bigint IS NULL OR i.seq > $7) AND ($8::bigint IS NULL OR i.seq < $8) \
                   ORDER BY i.seq ",
            $direction,
            " LIMIT $9) AS found JOIN domicile.leaves AS l ON l.seq = found.seq ORDER BY l.seq ",
            $direction
        )
    };
}

/// The facts that match.
pub(super) async fn search(connection: &mut PgConnection, filter: &FactFilter) -> Result<Vec<DecisionRow>, Trouble> {
    let query = sqlx::query(if filter.after_seq.is_some() { search_sql!("ASC") } else { search_sql!("DESC") });
    let rows = query
        .persistent(false)
        .bind(&filter.kinds)
        .bind(filter.crossings)
        .bind(filter.crossing)
        .bind(&filter.actor)
        .bind(filter.from_us)
        .bind(filter.to_us)
        .bind(filter.after_seq.map(column))
        .bind(filter.before_seq.map(column))
        .bind(i64::from(filter.limit.clamp(1, 1_000)))
        .fetch_all(connection)
        .await?;
    rows.iter().map(decisions::row).collect()
}

/// Takes the next leaves into the index, unless somebody else is at it. How far it has come then.
pub(super) async fn catch_up(connection: &mut PgConnection) -> Result<u64, Trouble> {
    INDEX.step(connection).await?;
    INDEX.position(connection).await
}

/// Up to where the lines of the log were let go; 0 when all are there.
pub(super) async fn pruned_to(connection: &mut PgConnection) -> Result<u64, Trouble> {
    let filter = FactFilter { kinds: vec![FactKind::LogPrune.name().to_owned()], limit: 1, ..FactFilter::default() };
    let newest = search(connection, &filter).await?;
    let parsed = newest.first().and_then(|row| leaf::parse_fact(row.line.as_bytes()).ok());
    Ok(parsed.and_then(|parsed| parsed.fact.range("at")).map_or(0, |range| range.end))
}
