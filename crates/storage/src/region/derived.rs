//! Indexes that are derived from the log, and how they keep up with it: each is a cursor over the leaves. One gateway at a
//! time takes the next leaves into an index, in one statement that also advances its cursor; another gateway, which may
//! not know of the index, is never in its way.

use sqlx::postgres::PgConnection;

use super::records::version;
use crate::error::Trouble;

/// An index.
pub(super) struct Derived {
    /// Its cursor's name.
    pub(super) cursor: &'static str,
    /// The advisory lock of whoever fills it.
    pub(super) lock: i64,
    /// Leaves in one step.
    pub(super) step_leaves_max: i64,
    /// The statement that takes them, by [`derived!`].
    pub(super) sql: &'static str,
}

/// The statement of an index: what it makes of `next (seq, line)`, the leaves behind its cursor.
macro_rules! derived {
    ($made:literal) => {
        concat!(
            "WITH turn AS MATERIALIZED (SELECT pg_try_advisory_xact_lock($1) AS mine), \
             position AS MATERIALIZED ( \
                 SELECT coalesce((SELECT c.seq FROM domicile.cursors AS c WHERE c.name = $2), 0) AS seq FROM turn WHERE mine), \
             next AS MATERIALIZED ( \
                 SELECT l.seq, l.line FROM position AS p \
                 CROSS JOIN LATERAL (SELECT l.seq, l.line FROM domicile.leaves AS l WHERE l.seq > p.seq ORDER BY l.seq LIMIT $3) AS l), ",
            $made,
            ", moved AS ( \
                 INSERT INTO domicile.cursors AS c (name, seq, owner, updated_at) \
                 SELECT $2, max(n.seq), 'index', now() FROM next AS n HAVING count(*) > 0 \
                 ON CONFLICT (name) DO UPDATE SET seq = greatest(c.seq, excluded.seq), updated_at = excluded.updated_at) \
             SELECT count(*) FROM next"
        )
    };
}
pub(super) use derived;

impl Derived {
    /// Takes the next leaves, if nobody else does. Whether there are more.
    pub(super) async fn step(&self, connection: &mut PgConnection) -> Result<bool, Trouble> {
        let taken: i64 = sqlx::query_scalar(self.sql)
            .bind(self.lock)
            .bind(self.cursor)
            .bind(self.step_leaves_max)
            .fetch_one(connection)
            .await?;
        Ok(taken == self.step_leaves_max)
    }

    /// How far it has come.
    pub(super) async fn position(&self, connection: &mut PgConnection) -> Result<u64, Trouble> {
        let row: Option<i64> = sqlx::query_scalar("SELECT seq FROM domicile.cursors WHERE name = $1")
            .bind(self.cursor)
            .fetch_optional(connection)
            .await?;
        version(row.unwrap_or(0))
    }
}
