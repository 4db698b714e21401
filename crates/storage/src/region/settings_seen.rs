//! The table `settings_seen`: each gateway instance's configuration when it last started here, as hashes.

use std::collections::BTreeMap;

use sqlx::Row;
use sqlx::postgres::PgConnection;

use crate::error::Trouble;

/// What an instance's keys hashed to; empty for one that was never here.
pub(super) async fn read(connection: &mut PgConnection, instance: &str) -> Result<BTreeMap<String, [u8; 32]>, Trouble> {
    let rows = sqlx::query("SELECT key, sha256 FROM domicile.settings_seen WHERE instance = $1")
        .bind(instance)
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Keeps what an instance's keys hash to, in the place of what was there.
pub(super) async fn keep(
    connection: &mut PgConnection,
    instance: &str,
    settings: &BTreeMap<String, [u8; 32]>,
) -> Result<(), Trouble> {
    let keys: Vec<&str> = settings.keys().map(String::as_str).collect();
    let hashes: Vec<&[u8; 32]> = settings.values().collect();
    sqlx::query(
        "WITH now AS (SELECT * FROM unnest($2::text[], $3::bytea[]) AS n(key, sha256)), \
         gone AS (DELETE FROM domicile.settings_seen AS s WHERE s.instance = $1 AND s.key <> ALL ($2)) \
         INSERT INTO domicile.settings_seen (instance, key, sha256) SELECT $1, n.key, n.sha256 FROM now AS n \
         ON CONFLICT (instance, key) DO UPDATE SET sha256 = excluded.sha256",
    )
    .bind(instance)
    .bind(keys)
    .bind(hashes)
    .execute(connection)
    .await?;
    Ok(())
}
