//! The table `idempotency`: what was done under a caller's key, so that a repetition is answered and not done.

use sqlx::Row;
use sqlx::postgres::PgConnection;
use time::OffsetDateTime;

use crate::error::Trouble;

/// One use of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Name<'a> {
    pub(super) subject: &'a str,
    pub(super) key: &'a str,
}

/// What was done under a key.
#[derive(Debug, Clone)]
pub(super) struct Done {
    pub(super) request_hash: [u8; 32],
    pub(super) event_id: String,
    pub(super) topic: String,
}

/// A key that is being used.
#[derive(Debug)]
pub(super) struct Used<'a> {
    pub(super) name: Name<'a>,
    pub(super) done: Done,
    pub(super) at: OffsetDateTime,
}

/// What was done under these keys; the first number is the index of the name.
pub(super) async fn load(connection: &mut PgConnection, names: &[Name<'_>]) -> Result<Vec<(usize, Done)>, Trouble> {
    let rows = sqlx::query(
        "SELECT k.ord, i.request_hash, i.event_id, i.topic \
         FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS k(subject, key, ord) \
         LEFT JOIN domicile.idempotency AS i ON i.subject = k.subject AND i.key = k.key",
    )
    .bind(names.iter().map(|name| name.subject).collect::<Vec<_>>())
    .bind(names.iter().map(|name| name.key).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let mut found = Vec::new();
    for row in &rows {
        if let Some(request_hash) = row.try_get(1)? {
            let at = usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or(0).wrapping_sub(1);
            found.push((at, Done { request_hash, event_id: row.try_get(2)?, topic: row.try_get(3)? }));
        }
    }
    Ok(found)
}

/// Remembers keys. How many were: a missing one was used by somebody else meanwhile.
pub(super) async fn remember(connection: &mut PgConnection, used: &[Used<'_>]) -> Result<u64, Trouble> {
    let done = sqlx::query(
        "INSERT INTO domicile.idempotency (subject, key, request_hash, event_id, topic, created_at) \
         SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::timestamptz[]) \
         ON CONFLICT DO NOTHING",
    )
    .bind(used.iter().map(|u| u.name.subject).collect::<Vec<_>>())
    .bind(used.iter().map(|u| u.name.key).collect::<Vec<_>>())
    .bind(used.iter().map(|u| u.done.request_hash).collect::<Vec<_>>())
    .bind(used.iter().map(|u| u.done.event_id.as_str()).collect::<Vec<_>>())
    .bind(used.iter().map(|u| u.done.topic.as_str()).collect::<Vec<_>>())
    .bind(used.iter().map(|u| u.at).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Keys that are forgotten in one statement.
const FORGOTTEN_MAX: i64 = 10_000;

/// Forgets up to [`FORGOTTEN_MAX`] keys that are older than the database's clock minus `kept_s` seconds, the oldest first.
/// Whether there may be more.
pub(super) async fn forget_old(connection: &mut PgConnection, kept_s: i64) -> Result<bool, Trouble> {
    let done = sqlx::query(
        "DELETE FROM domicile.idempotency WHERE (subject, key) IN ( \
             SELECT subject, key FROM domicile.idempotency \
             WHERE created_at < now() - $1 * interval '1 second' ORDER BY created_at LIMIT $2)",
    )
    .bind(kept_s)
    .bind(FORGOTTEN_MAX)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() >= FORGOTTEN_MAX.unsigned_abs())
}
