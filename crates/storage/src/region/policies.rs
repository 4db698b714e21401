//! The tables `policy_sets` and, of older gateways, `policies`: the texts of every policy that was in force here, by hash.

use sqlx::Row;
use sqlx::postgres::PgConnection;

use crate::error::Trouble;

/// The most policies that are read at once, the newest first.
const POLICIES_MAX: i64 = 256;

/// A policy that was in force, with the tables it chooses from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptPolicy {
    /// The hash by which leaves name it: over the table and both presets, or, of older logs, over the table alone.
    pub sha256: [u8; 32],
    /// The policy table.
    pub text: String,
    /// The table of jurisdictions.
    pub jurisdictions: String,
    /// The table of locations.
    pub locations: String,
}

/// Keeps one; one that is there already stays as it is.
pub(super) async fn keep(connection: &mut PgConnection, policy: &KeptPolicy) -> Result<(), Trouble> {
    sqlx::query(
        "INSERT INTO domicile.policy_sets (sha256, text, jurisdictions, locations) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (sha256) DO NOTHING",
    )
    .bind(policy.sha256)
    .bind(&policy.text)
    .bind(&policy.jurisdictions)
    .bind(&policy.locations)
    .execute(connection)
    .await?;
    Ok(())
}

/// The newest ones.
pub(super) async fn all(connection: &mut PgConnection) -> Result<Vec<KeptPolicy>, Trouble> {
    let rows = sqlx::query(
        "SELECT p.sha256, p.text, p.jurisdictions, p.locations \
         FROM (SELECT * FROM domicile.policy_sets UNION ALL SELECT * FROM domicile.policies) AS p \
         ORDER BY p.kept_at DESC, p.sha256 LIMIT $1",
    )
    .bind(POLICIES_MAX)
    .fetch_all(connection)
    .await?;
    let policy = |row: &sqlx::postgres::PgRow| {
        Ok(KeptPolicy {
            sha256: row.try_get(0)?,
            text: row.try_get(1)?,
            jurisdictions: row.try_get(2)?,
            locations: row.try_get(3)?,
        })
    };
    rows.iter().map(policy).collect()
}
