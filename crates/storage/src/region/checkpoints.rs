//! The tables `checkpoints` and `cosignatures`: what the signer published, and what witnesses put under it.

use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

use super::events::microseconds;
use super::records::{column, version};
use crate::error::Trouble;

/// A signed checkpoint as it was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedCheckpoint {
    /// How many leaves it speaks of.
    pub size: u64,
    /// The root over them.
    pub root: [u8; 32],
    /// The signed note, with every cosignature that has arrived.
    pub note: String,
    /// When it was published, microseconds since 1970-01-01 UTC, by the database's clock.
    pub signed_at_us: i64,
}

fn published(row: &PgRow) -> Result<PublishedCheckpoint, Trouble> {
    Ok(PublishedCheckpoint {
        size: version(row.try_get(0)?)?,
        root: row.try_get(1)?,
        note: row.try_get(2)?,
        signed_at_us: microseconds(row.try_get(3)?),
    })
}

/// The newest one; with `witnessed`, the newest under which a witness's line stands.
pub(super) async fn newest(
    connection: &mut PgConnection,
    witnessed: bool,
) -> Result<Option<PublishedCheckpoint>, Trouble> {
    let row = sqlx::query(
        "SELECT c.size, c.root, \
                c.note || coalesce((SELECT string_agg(s.line || E'\\n', '' ORDER BY s.witness) \
                                    FROM domicile.cosignatures AS s WHERE s.size = c.size), ''), \
                c.signed_at \
         FROM domicile.checkpoints AS c \
         WHERE c.size = CASE WHEN $1 THEN (SELECT max(s.size) FROM domicile.cosignatures AS s) \
                        ELSE (SELECT max(k.size) FROM domicile.checkpoints AS k) END",
    )
    .bind(witnessed)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(published).transpose()
}

/// Publishes one. A size that has one already keeps it; the root under that size is returned.
pub(super) async fn publish(
    connection: &mut PgConnection,
    size: u64,
    root: &[u8; 32],
    note: &str,
) -> Result<[u8; 32], Trouble> {
    sqlx::query(
        "INSERT INTO domicile.checkpoints (size, root, note) VALUES ($1, $2, $3) ON CONFLICT (size) DO NOTHING",
    )
    .bind(column(size))
    .bind(root)
    .bind(note)
    .execute(&mut *connection)
    .await?;
    let root = sqlx::query_scalar("SELECT root FROM domicile.checkpoints WHERE size = $1")
        .bind(column(size))
        .fetch_one(connection)
        .await?;
    Ok(root)
}

/// Keeps a witness's line under the checkpoint of this size; the first one stays.
pub(super) async fn cosign(connection: &mut PgConnection, size: u64, witness: &str, line: &str) -> Result<(), Trouble> {
    sqlx::query(
        "INSERT INTO domicile.cosignatures (size, witness, line) VALUES ($1, $2, $3) ON CONFLICT (size, witness) DO NOTHING",
    )
    .bind(column(size))
    .bind(witness)
    .bind(line)
    .execute(connection)
    .await?;
    Ok(())
}

/// The largest size that a witness has cosigned, as far as is known here.
pub(super) async fn cosigned_by(connection: &mut PgConnection, witness: &str) -> Result<u64, Trouble> {
    let size: Option<i64> = sqlx::query_scalar("SELECT max(size) FROM domicile.cosignatures WHERE witness = $1")
        .bind(witness)
        .fetch_one(connection)
        .await?;
    version(size.unwrap_or(0))
}

/// Of checkpoints older than a day, keeps the last of every hour, and those that witnesses have cosigned.
pub(super) async fn thin(connection: &mut PgConnection) -> Result<u64, Trouble> {
    let done = sqlx::query(
        "DELETE FROM domicile.checkpoints AS c USING ( \
             SELECT k.size, row_number() OVER (PARTITION BY date_trunc('hour', k.signed_at) ORDER BY k.size DESC) AS place \
             FROM domicile.checkpoints AS k WHERE k.signed_at < now() - interval '1 day' \
               AND k.signed_at > now() - interval '2 days') AS old \
         WHERE c.size = old.size AND old.place > 1 \
           AND NOT EXISTS (SELECT FROM domicile.cosignatures AS s WHERE s.size = c.size)",
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
