//! How far a database's schema is, how old a program may be that still uses it, and whether a region's database
//! holds somebody: what a deployer has to know.

use secrecy::SecretString;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Row};

use super::{Error, Set, connect, connect_to, refused};
use crate::error::{Cause, Trouble};

/// The floor of a directory that was restored from a backup and is not open yet: above the level of every program.
pub(super) const CLOSED: i64 = i64::MAX;

/// A database's level and floor; both 0 for one that is older than levels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SchemaLevel {
    /// The number of the newest file applied.
    pub level: i64,
    /// The level of the oldest program that may use it.
    pub floor: i64,
}

/// Asks a database for its level.
///
/// # Errors
/// When it cannot be reached or read.
pub async fn schema_level(dsn: &SecretString, set: Set) -> Result<SchemaLevel, Error> {
    let mut connection = connect(dsn).await?;
    let level = read(&mut connection, set).await.map_err(refused("tell its schema's level"))?;
    drop(connection.close().await);
    Ok(level)
}

/// Makes sure that this program may use a database: not when its schema has lost what this program needs, and not before
/// it is opened.
pub(crate) async fn admit(connection: &mut PgConnection, set: Set) -> Result<(), Trouble> {
    let SchemaLevel { floor, .. } = read(connection, set).await?;
    let ours = set.level();
    if floor == CLOSED {
        let open = "`domicile ops backup restore --region directory --open` asks the regions what happened since";
        return Err(Trouble::Lost(Cause::new(format!("it was restored from a backup and is not open yet: {open}"))));
    }
    if floor > ours {
        return Err(Trouble::Misplaced(format!(
            "its schema needs a program of level {floor} or newer, and this one has level {ours}: deploy a newer release"
        )));
    }
    Ok(())
}

/// The same on a connection that is there.
pub(crate) async fn read(connection: &mut PgConnection, set: Set) -> Result<SchemaLevel, sqlx::Error> {
    let known: bool = sqlx::query_scalar(
        // Whoever may not look into the schema can do nothing there, and is told so by whatever comes next.
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
                        WHERE n.nspname = 'domicile' AND c.relname = 'schema_level' \
                          AND has_schema_privilege(n.oid, 'USAGE'))",
    )
        .fetch_one(&mut *connection)
        .await?;
    if !known {
        return Ok(SchemaLevel::default());
    }
    let row = sqlx::query("SELECT level, floor FROM domicile.schema_level WHERE migrations = $1")
        .bind(name(set))
        .fetch_optional(connection)
        .await?;
    Ok(row.map_or_else(SchemaLevel::default, |row| SchemaLevel { level: row.get(0), floor: row.get(1) }))
}

/// Forbids programs older than `floor`.
pub(super) async fn raise_floor(connection: &mut PgConnection, set: Set, floor: i64) -> Result<(), Error> {
    if floor == 0 {
        return Ok(());
    }
    sqlx::query(
        "UPDATE domicile.schema_level SET floor = greatest(floor, $2), level = greatest(level, $2) WHERE migrations = $1",
    )
    .bind(name(set))
    .bind(floor)
    .execute(connection)
    .await
    .map_err(refused("raise its schema's floor"))?;
    Ok(())
}

/// Writes down how far the schema is by now.
pub(super) async fn raise_level(connection: &mut PgConnection, set: Set) -> Result<(), Error> {
    let sql = match set {
        Set::Directory => {
            "UPDATE domicile.schema_level AS l SET level = m.version \
             FROM (SELECT max(version) AS version FROM domicile.directory_migrations WHERE success) AS m \
             WHERE l.migrations = 'directory' AND l.level < m.version"
        }
        Set::Region => {
            "UPDATE domicile.schema_level AS l SET level = m.version \
             FROM (SELECT max(version) AS version FROM domicile.region_migrations WHERE success) AS m \
             WHERE l.migrations = 'region' AND l.level < m.version"
        }
    };
    sqlx::query(sql).execute(connection).await.map_err(refused("write down its schema's level"))?;
    Ok(())
}

/// Whether a region's database holds anything of a subject: for the proof that it is in its region and nowhere else.
///
/// # Errors
/// When the database cannot be reached or read.
pub async fn holds_subject(dsn: &SecretString, subject: &str) -> Result<bool, Error> {
    let mut connection = connect(dsn).await?;
    let holds: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM domicile.subjects WHERE subject = $1) \
             OR EXISTS (SELECT FROM domicile.records WHERE subject = $1)",
    )
    .bind(subject)
    .fetch_one(&mut connection)
    .await
    .map_err(refused("tell whom it holds"))?;
    drop(connection.close().await);
    Ok(holds)
}

/// The keys of a subject's records in a collection that begin in a certain way, at most `limit`, in another database of
/// the server: what a restored copy has.
///
/// # Errors
/// When the database cannot be reached or read.
pub async fn record_keys(
    dsn: &SecretString,
    database: &str,
    (subject, collection, prefix): (&str, &str, &str),
    limit: i64,
) -> Result<Vec<String>, Error> {
    let mut connection = connect_to(dsn, Some(database)).await?;
    let keys: Vec<String> = sqlx::query_scalar(
        "SELECT key FROM domicile.records WHERE subject = $1 AND collection = $2 AND starts_with(key, $3) \
         ORDER BY key LIMIT $4",
    )
    .bind(subject)
    .bind(collection)
    .bind(prefix)
    .bind(limit)
    .fetch_all(&mut connection)
    .await
    .map_err(refused("tell which records it has"))?;
    drop(connection.close().await);
    Ok(keys)
}

const fn name(set: Set) -> &'static str {
    match set {
        Set::Directory => "directory",
        Set::Region => "region",
    }
}
