//! The table `records`: what the committer loads and writes of it. The reader's lookups are in `reader`.
//!
//! Nothing is locked before it is written. Every write names the version that it replaces, and a write
//! that finds another one (or none) is missing from the count: the batch was overtaken by another
//! gateway's, is rolled back and looks again.

use std::borrow::Cow;

use residency::Region;
use sqlx::Row;
use sqlx::postgres::PgConnection;
use time::OffsetDateTime;

use super::Shared;
use super::transaction::all;
use crate::error::{Cause, Trouble};
use crate::link::within;

/// One record, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Name<'a> {
    pub(super) subject: &'a str,
    pub(super) collection: &'a str,
    pub(super) key: &'a str,
}

/// What stands under a name.
#[derive(Debug, Default)]
pub(super) struct Current {
    /// Its version, if it exists.
    pub(super) version: Option<u64>,
    /// Its body, if it was asked for.
    pub(super) body: Option<String>,
    /// If it does not exist: the version above which it is created.
    pub(super) floor: u64,
}

/// What becomes of a record: created, replaced or deleted.
#[derive(Debug)]
pub(super) struct Written<'a> {
    pub(super) name: Name<'a>,
    /// The version it replaces; `None` creates it.
    pub(super) before: Option<u64>,
    /// The version and the body it has from now on; `None` deletes it.
    pub(super) after: Option<(u64, Cow<'a, str>)>,
    pub(super) updated_at: OffsetDateTime,
}

impl Written<'_> {
    /// Whether it is created.
    pub(super) const fn is_new(&self) -> bool {
        self.before.is_none() && self.after.is_some()
    }
}

/// A version as its column holds it.
pub(super) fn column(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

/// A version from its column.
pub(super) fn version(column: i64) -> Result<u64, Trouble> {
    u64::try_from(column).map_err(|_| Trouble::Internal(Cause::new("a version is negative")))
}

/// Locks what stands under these names, in the order of the names.
pub(super) async fn lock(
    connection: &mut PgConnection,
    region: &Region,
    names: &[(Name<'_>, bool)],
) -> Result<(), Trouble> {
    let mut names: Vec<Name<'_>> = names.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    sqlx::query(
        "SELECT count(*) FROM ( \
             SELECT 1 FROM unnest($2::text[], $3::text[], $4::text[]) AS k(subject, collection, key) \
             JOIN domicile.records AS r \
               ON r.region = $1 AND r.subject = k.subject AND r.collection = k.collection AND r.key = k.key \
             FOR UPDATE OF r) AS locked",
    )
    .bind(region.as_str())
    .bind(names.iter().map(|name| name.subject).collect::<Vec<_>>())
    .bind(names.iter().map(|name| name.collection).collect::<Vec<_>>())
    .bind(names.iter().map(|name| name.key).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// How many bytes of bodies are wanted.
pub(super) async fn measure(
    connection: &mut PgConnection,
    region: &Region,
    names: &[(Name<'_>, bool)],
) -> Result<u64, Trouble> {
    let wanted = || names.iter().filter(|(_, body_wanted)| *body_wanted).map(|(name, _)| name);
    let bytes = sqlx::query_scalar(
        "SELECT coalesce(sum(octet_length(r.body::text)), 0)::bigint \
         FROM unnest($2::text[], $3::text[], $4::text[]) AS k(subject, collection, key) \
         JOIN domicile.records AS r \
           ON r.region = $1 AND r.subject = k.subject AND r.collection = k.collection AND r.key = k.key",
    )
    .bind(region.as_str())
    .bind(wanted().map(|name| name.subject).collect::<Vec<_>>())
    .bind(wanted().map(|name| name.collection).collect::<Vec<_>>())
    .bind(wanted().map(|name| name.key).collect::<Vec<_>>())
    .fetch_one(connection)
    .await?;
    version(bytes)
}

/// What stands under these names, in their order. Bodies are read where they are wanted.
pub(super) async fn load(
    connection: &mut PgConnection,
    region: &Region,
    names: &[(Name<'_>, bool)],
) -> Result<Vec<Current>, Trouble> {
    let rows = sqlx::query(
        "SELECT k.ord, r.version, CASE WHEN k.body_wanted THEN r.body::text END AS body, \
                CASE WHEN r.version IS NULL THEN \
                    (SELECT s.version_floor FROM domicile.subjects AS s WHERE s.subject = k.subject) END AS floor \
         FROM unnest($2::text[], $3::text[], $4::text[], $5::boolean[]) WITH ORDINALITY \
              AS k(subject, collection, key, body_wanted, ord) \
         LEFT JOIN domicile.records AS r \
                ON r.region = $1 AND r.subject = k.subject AND r.collection = k.collection AND r.key = k.key",
    )
    .bind(region.as_str())
    .bind(names.iter().map(|(name, _)| name.subject).collect::<Vec<_>>())
    .bind(names.iter().map(|(name, _)| name.collection).collect::<Vec<_>>())
    .bind(names.iter().map(|(name, _)| name.key).collect::<Vec<_>>())
    .bind(names.iter().map(|(_, body_wanted)| *body_wanted).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let mut found: Vec<Current> = names.iter().map(|_| Current::default()).collect();
    for row in rows {
        let at = usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or(0).wrapping_sub(1);
        let current = found.get_mut(at).ok_or_else(|| Trouble::Internal(Cause::new("a row nobody asked for")))?;
        current.version = row.try_get::<Option<i64>, _>(1)?.map(version).transpose()?;
        current.body = row.try_get(2)?;
        current.floor = version(row.try_get::<Option<i64>, _>(3)?.unwrap_or(0))?;
    }
    Ok(found)
}

/// Creates, replaces and deletes records, if every one of them is what it was thought to be.
pub(super) async fn change(
    shared: &Shared,
    connection: &mut PgConnection,
    written: &[Written<'_>],
) -> Result<(), Trouble> {
    if written.is_empty() {
        return Ok(());
    }
    let done = within(shared.address.patience(), write(connection, &shared.region, written)).await?;
    all(done, written.len(), "a record was changed meanwhile")
}

/// Creates, replaces and deletes records. How many were: a missing one is not there any more, has another
/// version by now, or was created meanwhile.
///
/// MERGE reads the source first, whatever the statistics say, and so does nothing but one index lookup per
/// row; a table that was small when the statement was planned would otherwise be scanned whole.
async fn write(connection: &mut PgConnection, region: &Region, written: &[Written<'_>]) -> Result<u64, Trouble> {
    let query = sqlx::query(
        "MERGE INTO domicile.records AS r \
         USING unnest($2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::text[], $8::timestamptz[]) \
               AS w(subject, collection, key, before, version, body, updated_at) \
         ON r.region = $1 AND r.subject = w.subject AND r.collection = w.collection AND r.key = w.key \
         WHEN MATCHED AND r.version = w.before AND w.version IS NOT NULL THEN \
             UPDATE SET version = w.version, body = w.body::jsonb, updated_at = w.updated_at \
         WHEN MATCHED AND r.version = w.before THEN DELETE \
         WHEN NOT MATCHED AND w.before IS NULL THEN \
             INSERT (region, subject, collection, key, version, body, updated_at) \
             VALUES ($1, w.subject, w.collection, w.key, w.version, w.body::jsonb, w.updated_at)",
    );
    let done = bind(query.bind(region.as_str()), written).execute(connection).await?;
    Ok(done.rows_affected())
}

/// A statement and its parameters.
type Query<'a> = sqlx::query::Query<'a, sqlx::Postgres, sqlx::postgres::PgArguments>;

/// Binds what is to be written as columns: subject, collection, key, the version before, version, body, time.
pub(super) fn bind<'q>(query: Query<'q>, written: &'q [Written<'_>]) -> Query<'q> {
    query
        .bind(written.iter().map(|w| w.name.subject).collect::<Vec<_>>())
        .bind(written.iter().map(|w| w.name.collection).collect::<Vec<_>>())
        .bind(written.iter().map(|w| w.name.key).collect::<Vec<_>>())
        .bind(written.iter().map(|w| w.before.map(column)).collect::<Vec<_>>())
        .bind(written.iter().map(|w| w.after.as_ref().map(|(version, _)| column(*version))).collect::<Vec<_>>())
        .bind(written.iter().map(|w| w.after.as_ref().map(|(_, body)| &**body)).collect::<Vec<Option<&str>>>())
        .bind(written.iter().map(|w| w.updated_at).collect::<Vec<_>>())
}
