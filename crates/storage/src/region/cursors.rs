//! The table `cursors`: how far each reader of the log has come. A cursor belongs to one owner at a time,
//! by a lease; a token that grows with each new owner fences one that was slow.

use std::time::Duration;

use sqlx::Row;
use sqlx::postgres::PgConnection;

use super::events::microseconds;
use super::records::{column, version};
use crate::error::Trouble;

/// The right to advance a cursor, for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CursorLease {
    /// The cursor.
    pub name: String,
    /// How far it has come: everything up to and including this position is done; 0 is nothing.
    pub seq: u64,
    /// Proves that nobody else has taken it since.
    pub token: u64,
}

/// A cursor as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CursorState {
    /// Its name.
    pub name: String,
    /// How far it has come.
    pub seq: u64,
    /// Who has it, or had it last.
    pub owner: Option<String>,
    /// Of its last advance or change of hands, microseconds since 1970-01-01 UTC, by the database's clock.
    pub updated_at_us: i64,
}

fn seconds(lease: Duration) -> f64 {
    lease.as_secs_f64()
}

/// Takes the cursor if it is free, runs out, or is the owner's already. A renewal keeps the token.
pub(super) async fn acquire(
    connection: &mut PgConnection,
    name: &str,
    owner: &str,
    lease: Duration,
) -> Result<Option<CursorLease>, Trouble> {
    let row = sqlx::query(
        "INSERT INTO domicile.cursors AS c (name, seq, owner, token, lease_until, updated_at) \
         VALUES ($1, 0, $2, 1, now() + $3 * interval '1 second', now()) \
         ON CONFLICT (name) DO UPDATE \
         SET token = CASE WHEN c.owner = excluded.owner AND c.lease_until > now() THEN c.token ELSE c.token + 1 END, \
             owner = excluded.owner, lease_until = excluded.lease_until, updated_at = excluded.updated_at \
         WHERE c.owner IS NULL OR c.owner = excluded.owner OR c.lease_until IS NULL OR c.lease_until <= now() \
         RETURNING c.seq, c.token",
    )
    .bind(name)
    .bind(owner)
    .bind(seconds(lease))
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok(CursorLease { name: name.to_owned(), seq: version(row.try_get(0)?)?, token: version(row.try_get(1)?)? })
    })
    .transpose()
}

/// Advances the cursor if the lease still holds.
pub(super) async fn advance(
    connection: &mut PgConnection,
    lease: &CursorLease,
    seq: u64,
    lease_for: Duration,
) -> Result<bool, Trouble> {
    let done = sqlx::query(
        "UPDATE domicile.cursors \
         SET seq = greatest(seq, $3), lease_until = now() + $4 * interval '1 second', updated_at = now() \
         WHERE name = $1 AND token = $2",
    )
    .bind(&lease.name)
    .bind(column(lease.token))
    .bind(column(seq))
    .bind(seconds(lease_for))
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Every cursor.
pub(super) async fn all(connection: &mut PgConnection) -> Result<Vec<CursorState>, Trouble> {
    let rows = sqlx::query("SELECT name, seq, owner, updated_at FROM domicile.cursors ORDER BY name")
        .fetch_all(connection)
        .await?;
    rows.iter()
        .map(|row| {
            Ok(CursorState {
                name: row.try_get(0)?,
                seq: version(row.try_get(1)?)?,
                owner: row.try_get(2)?,
                updated_at_us: microseconds(row.try_get(3)?),
            })
        })
        .collect()
}
