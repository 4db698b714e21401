//! A database as it stood at one instant: an exported snapshot that `pg_dump` takes over, and what can be said of
//! every table under it, so that a restored copy can be compared exactly while the writing goes on.

use secrecy::SecretString;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor, Row};
use tlog::Frontier;

use super::{Error, Set, connect_to, refused};

/// Everything that turns values into text, fixed: two servers with other settings must come to the same sums.
const PLAIN_TEXT: &str = "SET timezone = 'UTC'; SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres'; \
     SET bytea_output = 'hex'; SET extra_float_digits = 1; SET xmloption = 'content'; SET statement_timeout = 0; \
     SET idle_in_transaction_session_timeout = 0; SET lock_timeout = '30s'; SET search_path = 'pg_catalog'";

/// What is said of a whole database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseState {
    /// Its name.
    pub database: String,
    /// The server's version, e.g. `15.14`.
    pub server_version: String,
    /// The cluster's own identifier (`pg_control_system`).
    pub system_identifier: i64,
    /// The write-ahead log's position, e.g. `0/3000148`.
    pub lsn: String,
    /// The cluster's timeline: it grows by one at each promotion.
    pub timeline: i32,
    /// The numbers of the migrations it has.
    pub migrations: Vec<i64>,
    /// The region it was founded as, in a region's database.
    pub region: Option<RegionState>,
}

/// What is said of a region's database besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionState {
    /// The region.
    pub region: String,
    /// Its jurisdiction.
    pub jurisdiction: String,
    /// The origin of its log.
    pub origin: String,
    /// Leaves in its log.
    pub log_size: u64,
    /// The root of its log at that size.
    pub log_root: [u8; 32],
    /// The log's epoch.
    pub log_epoch: u64,
    /// How far each cursor over the log has come, by name.
    pub cursors: Vec<(String, u64)>,
}

/// A table's content in three words: equal sums, equal content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSum {
    /// Schema and name.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// The sum of `hashtextextended(row::text, 0)` over its rows, as a decimal number.
    pub sum: String,
}

/// A database held still for one reader: a `REPEATABLE READ` transaction on a connection of its own.
pub struct Snapshot {
    connection: PgConnection,
    name: String,
    state: DatabaseState,
}

impl Snapshot {
    /// Takes a snapshot and exports it. `database` is used instead of the one the connection string names.
    ///
    /// # Errors
    /// When the database cannot be reached or refuses.
    pub async fn take(dsn: &SecretString, database: Option<&str>, set: Set) -> Result<Self, Error> {
        let mut connection = connect_to(dsn, database).await?;
        connection.execute(PLAIN_TEXT).await.map_err(refused("prepare the session"))?;
        connection
            .execute("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .await
            .map_err(refused("take a snapshot"))?;
        let name: String = sqlx::query_scalar("SELECT pg_export_snapshot()")
            .fetch_one(&mut connection)
            .await
            .map_err(refused("export a snapshot"))?;
        let state = read_state(&mut connection, set).await?;
        Ok(Self { connection, name, state })
    }

    /// What `pg_dump --snapshot` is given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is said of the database.
    #[must_use]
    pub fn state(&self) -> &DatabaseState {
        &self.state
    }

    /// Counts and sums every table, by name. `told` hears each one.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub async fn sums(&mut self, told: &(dyn Fn(&TableSum) + Send + Sync)) -> Result<Vec<TableSum>, Error> {
        let tables = sqlx::query(
            "SELECT n.nspname, c.relname, format('SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)), 0)::text \
                                                  FROM ONLY %I.%I AS t', n.nspname, c.relname) \
             FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
             WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
             ORDER BY n.nspname COLLATE \"C\", c.relname COLLATE \"C\"",
        )
        .fetch_all(&mut self.connection)
        .await
        .map_err(refused("list its tables"))?;
        let mut sums = Vec::with_capacity(tables.len());
        for table in tables {
            let (schema, name, statement): (String, String, String) = (table.get(0), table.get(1), table.get(2));
            // Audited: a literal of this file, and names that `format` has quoted.
            let row = sqlx::raw_sql(AssertSqlSafe(statement))
                .fetch_one(&mut self.connection)
                .await
                .map_err(refused("sum up a table"))?;
            let rows: i64 = row.try_get(0).map_err(refused("count a table"))?;
            let sum = TableSum {
                name: format!("{schema}.{name}"),
                rows: u64::try_from(rows).unwrap_or(0),
                sum: row.try_get(1).map_err(refused("sum up a table"))?,
            };
            told(&sum);
            sums.push(sum);
        }
        Ok(sums)
    }

    /// Lets the database go.
    pub async fn close(self) {
        drop(self.connection.close().await);
    }
}

/// The advisory lock of a database's backups: the bytes of `backup01`.
const LOCK: i64 = 0x6261_636b_7570_3031;

/// The right to back a database up: one process at a time, wherever it runs. Ends with its connection, and so with
/// the process.
pub struct BackupLock(PgConnection);

impl BackupLock {
    /// Takes it, or `None` when somebody else has it.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn take(dsn: &SecretString) -> Result<Option<Self>, Error> {
        let mut connection = connect_to(dsn, None).await?;
        let got: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
            .bind(LOCK)
            .fetch_one(&mut connection)
            .await
            .map_err(refused("take the lock of backups"))?;
        Ok(got.then_some(Self(connection)))
    }

    /// Gives it back.
    pub async fn release(self) {
        drop(self.0.close().await);
    }
}

async fn read_state(connection: &mut PgConnection, set: Set) -> Result<DatabaseState, Error> {
    let read = || refused("tell what it holds");
    let row = sqlx::query(
        "SELECT current_database()::text, current_setting('server_version'), s.system_identifier, \
                (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END)::text, \
                p.timeline_id \
         FROM pg_control_system() AS s, pg_control_checkpoint() AS p",
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(read())?;
    let migrations = match set {
        Set::Directory => {
            sqlx::query_scalar("SELECT version FROM domicile.directory_migrations WHERE success ORDER BY 1")
        }
        Set::Region => sqlx::query_scalar("SELECT version FROM domicile.region_migrations WHERE success ORDER BY 1"),
    };
    let migrations = migrations.fetch_all(&mut *connection).await.map_err(refused("tell which migrations it has"))?;
    let region = match set {
        Set::Directory => None,
        Set::Region => Some(read_region(connection).await?),
    };
    Ok(DatabaseState {
        database: row.try_get(0).map_err(read())?,
        server_version: row.try_get(1).map_err(read())?,
        system_identifier: row.try_get(2).map_err(read())?,
        lsn: row.try_get::<Option<String>, _>(3).map_err(read())?.unwrap_or_default(),
        timeline: row.try_get(4).map_err(read())?,
        migrations,
        region,
    })
}

async fn read_region(connection: &mut PgConnection) -> Result<RegionState, Error> {
    let read = || refused("tell which region it is");
    let row = sqlx::query(
        "SELECT i.region, i.jurisdiction, i.origin, h.size, h.frontier, h.epoch \
         FROM domicile.region_identity AS i, domicile.head AS h",
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(read())?;
    let size = u64::try_from(row.try_get::<i64, _>(3).map_err(read())?).unwrap_or(0);
    let frontier: Vec<u8> = row.try_get(4).map_err(read())?;
    let frontier = if size == 0 { Some(Frontier::new()) } else { Frontier::from_bytes(&frontier).ok() };
    let frontier = frontier.filter(|frontier| frontier.size() == size).ok_or(Error::BrokenHead)?;
    let cursors = sqlx::query("SELECT name, seq FROM domicile.cursors ORDER BY name COLLATE \"C\"")
        .fetch_all(connection)
        .await
        .map_err(read())?;
    Ok(RegionState {
        region: row.try_get(0).map_err(read())?,
        jurisdiction: row.try_get(1).map_err(read())?,
        origin: row.try_get(2).map_err(read())?,
        log_size: size,
        log_root: frontier.root(),
        log_epoch: u64::try_from(row.try_get::<i64, _>(5).map_err(read())?).unwrap_or(0),
        cursors: cursors.iter().map(|row| (row.get(0), u64::try_from(row.get::<i64, _>(1)).unwrap_or(0))).collect(),
    })
}
