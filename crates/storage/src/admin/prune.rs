//! Letting go of old lines of a region's log: whole partitions, from the oldest on. Needs the owner's login: a gateway
//! cannot do it. The tiles stay, and so do all hashes.

use std::ops::Range;

use secrecy::SecretString;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor, Row};

use super::{Error, connect, refused};

/// Hashes in a full tile.
const TILE_WIDTH: i64 = 256;

/// A partition of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPartition {
    /// Its entries.
    pub range: Range<u64>,
    /// What kinds of entries it holds: kind, how many, and the times of the oldest and the newest in microseconds
    /// since 1970-01-01 UTC.
    pub kinds: Vec<(String, u64, i64, i64)>,
}

/// The partitions of a region's log that are full, from the oldest on, with what they hold. Reads all their lines.
///
/// # Errors
/// When the database cannot be reached or refuses.
pub async fn full_partitions(dsn: &SecretString) -> Result<Vec<LogPartition>, Error> {
    let mut connection = connect(dsn).await?;
    let size: i64 = sqlx::query_scalar("SELECT size FROM domicile.head WHERE only_row")
        .fetch_one(&mut connection)
        .await
        .map_err(refused("read the head of the log"))?;
    let mut found = Vec::new();
    for (_, range) in partitions(&mut connection, "leaves").await? {
        if range.end > position(size) {
            break;
        }
        let rows = sqlx::query(
            "SELECT k.kind, count(*), (extract(epoch FROM min(k.ts)) * 1000000)::bigint, \
                    (extract(epoch FROM max(k.ts)) * 1000000)::bigint \
             FROM (SELECT substring(l.line FROM ',\"k\":\"([^\"]*)\"') AS kind, \
                          substring(l.line FROM ',\"ts\":\"([^\"]*)\"')::timestamptz AS ts \
                   FROM domicile.leaves AS l WHERE l.seq >= $1 AND l.seq < $2) AS k \
             GROUP BY k.kind ORDER BY k.kind",
        )
        .bind(column(range.start))
        .bind(column(range.end))
        .fetch_all(&mut connection)
        .await
        .map_err(refused("count the kinds of entries"))?;
        let kind = |row: &sqlx::postgres::PgRow| {
            let name: Option<String> = row.try_get(0)?;
            Ok((name.unwrap_or_default(), position(row.try_get(1)?), row.try_get(2)?, row.try_get(3)?))
        };
        let kinds = rows.iter().map(kind).collect::<Result<_, sqlx::Error>>().map_err(refused("count the entries"))?;
        found.push(LogPartition { range, kinds });
    }
    drop(connection.close().await);
    Ok(found)
}

/// What stands against letting go of the entries below `to`, each as a sentence; empty when nothing does.
///
/// # Errors
/// When the database cannot be reached or refuses.
pub async fn hindrances(dsn: &SecretString, to: u64) -> Result<Vec<String>, Error> {
    let mut connection = connect(dsn).await?;
    let found = hindering(&mut connection, to).await;
    drop(connection.close().await);
    found
}

async fn hindering(connection: &mut PgConnection, to: u64) -> Result<Vec<String>, Error> {
    sqlx::query_scalar(
        "WITH c AS (SELECT n.name, coalesce((SELECT c.seq FROM domicile.cursors AS c WHERE c.name = n.name), 0) AS seq \
                    FROM unnest(ARRAY['relay', 'forwarder', 'index', 'facts']) AS n(name)) \
         SELECT 'events up to entry ' || $1 || ' are not all in their topics' \
         WHERE EXISTS (SELECT FROM domicile.outbox AS o \
                       WHERE o.seq > (SELECT seq FROM c WHERE name = 'relay') AND o.seq < $1) \
         UNION ALL \
         SELECT 'zero-party changes up to entry ' || $1 || ' are not all in the warehouse' \
         WHERE EXISTS (SELECT FROM domicile.outbox AS o WHERE o.channel = 1 \
                         AND o.seq > (SELECT seq FROM c WHERE name = 'forwarder') AND o.seq < $1) \
         UNION ALL \
         SELECT 'the index `' || c.name || '` has not come to entry ' || $1 FROM c \
         WHERE c.name IN ('index', 'facts') AND c.seq + 1 < $1 \
         UNION ALL \
         SELECT 'transfers up to entry ' || $1 || ' are not all entered on their other side' \
         WHERE EXISTS (SELECT FROM domicile.cursors AS t JOIN domicile.fact_index AS f ON f.seq > t.seq \
                       WHERE t.name LIKE 'transfers/%' AND f.crossing IS NOT NULL AND f.kind NOT LIKE 'transfer.%' AND f.seq < $1) \
         UNION ALL \
         SELECT 'the tree lacks tiles below entry ' || $1 \
         WHERE (SELECT count(*) FROM domicile.tiles AS t WHERE t.level = 0 AND t.n < $1 / $2) < $1 / $2",
    )
    .bind(column(to))
    .bind(TILE_WIDTH)
    .fetch_all(connection)
    .await
    .map_err(refused("look at what still needs the entries"))
}

/// Lets go of the lines, events and details below `to`, which must be where a partition ends. To be called once the leaf
/// that says so is signed. Returns how many entries went.
///
/// # Errors
/// When something stands against it, a partition does not end there, or the database cannot be reached or refuses.
/// Nothing has gone then.
pub async fn prune(dsn: &SecretString, to: u64) -> Result<u64, Error> {
    let mut connection = connect(dsn).await?;
    if let Some(reason) = hindering(&mut connection, to).await?.into_iter().next() {
        return Err(Error::Needed { reason });
    }
    let leaves = partitions(&mut connection, "leaves").await?;
    if !leaves.iter().any(|(_, range)| range.end == to) || !to.is_multiple_of(256) {
        return Err(Error::Needed { reason: format!("no partition of the log ends at entry {to}") });
    }
    let outbox = partitions(&mut connection, "outbox").await?;
    let begun = leaves.first().map_or(to, |(_, range)| range.start);
    let mut work = connection.begin().await.map_err(refused("begin"))?;
    // Whoever is committing has its turn; whoever comes meanwhile waits for this.
    work.execute("SET LOCAL lock_timeout = '10s'").await.map_err(refused("set a time-out"))?;
    for (name, _) in leaves.iter().chain(&outbox).filter(|(_, range)| range.end <= to) {
        // The name came from the catalogue, quoted by it.
        work.execute(AssertSqlSafe(format!("DROP TABLE {name}"))).await.map_err(refused("drop a partition"))?;
    }
    for table in ["details", "decision_index", "fact_index"] {
        let delete = AssertSqlSafe(format!("DELETE FROM domicile.{table} WHERE seq < $1"));
        sqlx::query(delete).bind(column(to)).execute(&mut *work).await.map_err(refused("delete old rows"))?;
    }
    work.commit().await.map_err(refused("commit"))?;
    drop(connection.close().await);
    Ok(to.saturating_sub(begun))
}

/// The partitions of a table, quoted, with their ranges, in their order.
async fn partitions(connection: &mut PgConnection, table: &str) -> Result<Vec<(String, Range<u64>)>, Error> {
    let rows = sqlx::query(
        "SELECT p.name, (p.bounds)[1]::bigint, (p.bounds)[2]::bigint \
         FROM (SELECT format('%I.%I', n.nspname, c.relname) AS name, \
                      regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \\(''(\\d+)''\\) TO \\(''(\\d+)''\\)') AS bounds \
               FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace \
               WHERE i.inhparent = format('domicile.%I', $1::text)::regclass) AS p \
         WHERE p.bounds IS NOT NULL ORDER BY 2",
    )
    .bind(table)
    .fetch_all(connection)
    .await
    .map_err(refused("list the partitions of the log"))?;
    let partition =
        |row: &sqlx::postgres::PgRow| Ok((row.try_get(0)?, position(row.try_get(1)?)..position(row.try_get(2)?)));
    rows.iter().map(partition).collect::<Result<_, sqlx::Error>>().map_err(refused("list the partitions of the log"))
}

fn column(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

fn position(column: i64) -> u64 {
    u64::try_from(column).unwrap_or(0)
}
