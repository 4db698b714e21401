//! Brings a database's schema up to date: one migrator at a time, each file in its own transaction,
//! nothing taken away unless asked for.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use residency::{Jurisdiction, Region};
use secrecy::SecretString;
use sqlx::migrate::{AppliedMigration, Migrate, MigrateError, Migration};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Row};
use tokio::time::sleep;

use super::set::Embedded;
use super::{Error, MigrationState, Set, connect, lease, leftovers, level, lint, locks, refused, seconds};

/// The advisory lock of all migrations of a database: the bytes of `domicile`.
const LOCK: i64 = 0x646f_6d69_6369_6c65;

/// The pause between two attempts to get the lock.
const LOCK_POLL: Duration = Duration::from_millis(100);

/// How often a migration is tried that cannot lock its tables within [`Options::lock_timeout`].
pub const ATTEMPTS_MAX: u32 = 10;

/// The pause before such a migration is tried again, for the traffic that had to queue behind it.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(500);

/// How patient a migration is, and how far it goes.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long to wait for another migrator of the same database.
    pub lock_wait_max: Duration,
    /// How long one statement may wait for a table's lock; every request behind it waits as long.
    pub lock_timeout: Duration,
    /// Whether files that take something away are applied too. Only after every older gateway has gone.
    pub contract: bool,
    /// The deployer's lease under which this is done: somebody else's newer one ends it.
    pub lease_token: Option<i64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lock_wait_max: Duration::from_secs(60),
            lock_timeout: Duration::from_secs(3),
            contract: false,
            lease_token: None,
        }
    }
}

/// What a migration is doing, for whoever watches. Its `Display` is a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Another migrator holds the database.
    Waiting {
        /// For how long by now.
        waited: Duration,
    },
    /// A file is about to be applied.
    Applying {
        /// Its number.
        version: i64,
        /// Its name.
        description: &'static str,
    },
    /// A file has been applied.
    Applied {
        /// Its number.
        version: i64,
        /// Its name.
        description: &'static str,
        /// How long it took.
        took: Duration,
    },
    /// A table was in use; the file will be tried again.
    InUse {
        /// Its number.
        version: i64,
        /// Which attempt this was, counted from 1.
        attempt: u32,
    },
    /// An index that an interrupted attempt had left half made was dropped.
    Cleared {
        /// The number of the file that makes it.
        version: i64,
        /// Its name.
        index: String,
    },
    /// A file takes something away and was not asked for; it and all after it are left for later.
    Held {
        /// Its number.
        version: i64,
        /// Its name.
        description: &'static str,
    },
    /// The database is known to be this region's.
    Founded {
        /// The region.
        region: Region,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting { waited } => write!(f, "waiting for another migration ({})", seconds(*waited)),
            Self::Applying { version, description } => write!(f, "applying {version} {description}"),
            Self::Applied { version, description, took } => {
                write!(f, "applied {version} {description} ({} ms)", took.as_millis())
            }
            Self::InUse { version, attempt } => {
                write!(f, "migration {version} could not lock its tables (attempt {attempt}), trying again")
            }
            Self::Cleared { version, index } => {
                write!(f, "dropped {index}, which an interrupted attempt at migration {version} had left half made")
            }
            Self::Held { version, description } => {
                write!(f, "left {version} {description} for later: it takes something away and was not asked for")
            }
            Self::Founded { region } => write!(f, "the database is region {region}'s"),
        }
    }
}

/// Whoever watches a migration.
pub type Progress<'a> = &'a (dyn Fn(Step) + Send + Sync);

/// What a migration did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Migrated {
    /// The numbers of the files that were applied just now.
    pub applied: Vec<i64>,
    /// The numbers of the files that were left for later.
    pub held: Vec<i64>,
}

/// Brings the directory's database up to date, with the default [`Options`].
///
/// # Errors
/// See [`migrate`].
pub async fn migrate_directory(dsn: &SecretString, progress: Progress<'_>) -> Result<Migrated, Error> {
    migrate(dsn, Set::Directory, &Options::default(), progress).await
}

/// Brings a region's database up to date with the default [`Options`], and founds the region in it:
/// its name, its jurisdiction, the origin of its log and the server it lives on are written down once
/// and checked ever after. Founding the same region again changes nothing.
///
/// # Errors
/// [`Error::Founding`] when the database is another region's; otherwise see [`migrate`].
pub async fn migrate_region(
    dsn: &SecretString,
    region: &Region,
    jurisdiction: &Jurisdiction,
    origin: &str,
    progress: Progress<'_>,
) -> Result<Migrated, Error> {
    migrate_region_with(dsn, region, jurisdiction, origin, &Options::default(), progress).await
}

/// The same with other [`Options`].
///
/// # Errors
/// See [`migrate_region`].
pub async fn migrate_region_with(
    dsn: &SecretString,
    region: &Region,
    jurisdiction: &Jurisdiction,
    origin: &str,
    options: &Options,
    progress: Progress<'_>,
) -> Result<Migrated, Error> {
    let mut connection = connect(dsn).await?;
    let migrated = migrate_on(&mut connection, Set::Region, options, progress).await?;
    found(&mut connection, region, jurisdiction, origin).await?;
    progress(Step::Founded { region: region.clone() });
    drop(connection.close().await);
    Ok(migrated)
}

/// Brings a database up to date. Files that the database has and this program does not know are left
/// alone: an older program runs on a newer schema.
///
/// # Errors
/// [`Error::Busy`] when another migrator does not finish in time, [`Error::Migration`] when a file
/// fails (those before it stay applied), [`Error::Changed`] when an applied file has another text here.
pub async fn migrate(
    dsn: &SecretString,
    set: Set,
    options: &Options,
    progress: Progress<'_>,
) -> Result<Migrated, Error> {
    let mut connection = connect(dsn).await?;
    let migrated = migrate_on(&mut connection, set, options, progress).await?;
    drop(connection.close().await);
    Ok(migrated)
}

/// How every migration of a set stands in a database, by number. Changes nothing.
///
/// # Errors
/// When the database cannot be reached or read.
pub async fn status(dsn: &SecretString, set: Set) -> Result<Vec<MigrationState>, Error> {
    let mut connection = connect(dsn).await?;
    let applied = remembered(&mut connection, set).await?;
    drop(connection.close().await);
    let mut states: Vec<_> = set
        .files()
        .iter()
        .map(|file| MigrationState {
            version: file.version,
            description: file.description.to_owned(),
            applied: applied.contains_key(&file.version),
            expand_only: file.expand_only(),
            known: true,
            assured: lint::assurances(file.sql).map(str::to_owned).collect(),
            locks: locks::locks(file.sql),
        })
        .collect();
    let newer = applied.into_iter().filter(|(version, _)| set.files().iter().all(|file| file.version != *version));
    states.extend(newer.map(|(version, description)| MigrationState {
        version,
        description,
        applied: true,
        expand_only: false,
        known: false,
        assured: Vec::new(),
        locks: locks::Locks::default(),
    }));
    states.sort_by_key(|state| state.version);
    Ok(states)
}

async fn migrate_on(
    connection: &mut PgConnection,
    set: Set,
    options: &Options,
    progress: Progress<'_>,
) -> Result<Migrated, Error> {
    prepare_session(connection, options).await?;
    lock(connection, options, progress).await?;
    if let Some(token) = options.lease_token {
        lease::still_held(connection, token).await?;
    }
    let outcome = apply_pending(connection, set, options, progress).await;
    // Closing the session frees the lock as well, so a failure here is not worth a word.
    drop(sqlx::query("SELECT pg_advisory_unlock($1)").bind(LOCK).execute(connection).await);
    outcome
}

/// An empty search path: a migration that does not say which schema it means fails here and not in
/// somebody's production.
async fn prepare_session(connection: &mut PgConnection, options: &Options) -> Result<(), Error> {
    let lock_timeout_ms = options.lock_timeout.as_millis().to_string();
    sqlx::query(
        "SELECT set_config('lock_timeout', $1, false), set_config('statement_timeout', '0', false), \
         set_config('synchronous_commit', 'on', false), set_config('search_path', 'pg_catalog', false), \
         set_config('client_min_messages', 'warning', false)",
    )
    .bind(lock_timeout_ms)
    .execute(connection)
    .await
    .map_err(refused("prepare the session"))?;
    Ok(())
}

/// Polls for the lock. A blocking `pg_advisory_lock` would hold a snapshot while it waits, and
/// deadlock with a `CREATE INDEX CONCURRENTLY` of whoever holds the lock.
async fn lock(connection: &mut PgConnection, options: &Options, progress: Progress<'_>) -> Result<(), Error> {
    let begun = Instant::now();
    loop {
        let got: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
            .bind(LOCK)
            .fetch_one(&mut *connection)
            .await
            .map_err(refused("take the migration lock"))?;
        if got {
            return Ok(());
        }
        let waited = begun.elapsed();
        if waited >= options.lock_wait_max {
            return Err(Error::Busy { waited });
        }
        progress(Step::Waiting { waited });
        sleep(LOCK_POLL.min(options.lock_wait_max.saturating_sub(waited))).await;
    }
}

async fn apply_pending(
    connection: &mut PgConnection,
    set: Set,
    options: &Options,
    progress: Progress<'_>,
) -> Result<Migrated, Error> {
    let bookkeeping = |source| Error::Migration { set, version: 0, description: "bookkeeping", source };
    connection.create_schema_if_not_exists("domicile").await.map_err(bookkeeping)?;
    connection.ensure_migrations_table(set.table()).await.map_err(bookkeeping)?;
    let applied = connection.list_applied_migrations(set.table()).await.map_err(bookkeeping)?;
    let applied: HashMap<i64, AppliedMigration> = applied.into_iter().map(|one| (one.version, one)).collect();

    let mut migrated = Migrated::default();
    for file in set.files() {
        let &Embedded { version, description, .. } = file;
        if let Some(applied) = applied.get(&version) {
            if applied.checksum != file.migration().checksum {
                return Err(Error::Changed { set, version, description });
            }
        } else if !migrated.held.is_empty() || !(file.expand_only() || options.contract) {
            // Nothing overtakes a held file: what follows may build on it.
            progress(Step::Held { version, description });
            migrated.held.push(version);
        } else {
            progress(Step::Applying { version, description });
            // Before something is taken away, so that a program which needs it is refused from now on.
            level::raise_floor(connection, set, file.floor()).await?;
            let took = apply(connection, set, file, progress).await?;
            progress(Step::Applied { version, description, took });
            migrated.applied.push(version);
        }
    }
    level::raise_level(connection, set).await?;
    Ok(migrated)
}

/// Applies one file, a bounded number of times while its tables are in use or a role is just being made.
async fn apply(
    connection: &mut PgConnection,
    set: Set,
    file: &Embedded,
    progress: Progress<'_>,
) -> Result<Duration, Error> {
    let version = file.version;
    let migration = file.migration();
    let mut attempt = 1;
    loop {
        let outcome = apply_once(connection, set, file, &migration, progress).await;
        match outcome {
            Err(error) if attempt < ATTEMPTS_MAX && in_use(&error) => {
                progress(Step::InUse { version, attempt });
                attempt += 1;
                sleep(ATTEMPT_PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

/// One attempt. Outside a transaction nothing undoes what an attempt before it left half done, so that goes first.
async fn apply_once(
    connection: &mut PgConnection,
    set: Set,
    file: &Embedded,
    migration: &Migration,
    progress: Progress<'_>,
) -> Result<Duration, Error> {
    let &Embedded { version, description, .. } = file;
    if migration.no_tx {
        for index in leftovers::clear(connection, file.sql).await? {
            progress(Step::Cleared { version, index });
        }
    }
    let applied = connection.apply(set.table(), migration).await;
    applied.map_err(|source| Error::Migration { set, version, description, source })
}

/// Whether an attempt failed because of something that goes away by itself.
fn in_use(error: &Error) -> bool {
    match error {
        Error::Migration { source: MigrateError::ExecuteMigration(source, _), .. } | Error::Refused { source, .. } => {
            passes(source)
        }
        _ => false,
    }
}

/// Whether what stands in the way goes away by itself: `lock_not_available` (55P03), and `undefined_object` (42704), which is
/// what a session sees of a role that another database's migration has made in this very moment: roles belong to the whole
/// cluster, and the lock of migrations to one database.
fn passes(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|e| e.code()).is_some_and(|code| code == "55P03" || code == "42704")
}

async fn found(
    connection: &mut PgConnection,
    region: &Region,
    jurisdiction: &Jurisdiction,
    origin: &str,
) -> Result<(), Error> {
    let founded = sqlx::query("SELECT domicile.found($1, $2, $3)")
        .bind(region.as_str())
        .bind(jurisdiction.as_str())
        .bind(origin)
        .execute(connection)
        .await;
    match founded {
        Ok(_) => Ok(()),
        Err(sqlx::Error::Database(e)) => {
            Err(Error::Founding { region: region.clone(), reason: e.message().to_owned() })
        }
        Err(source) => Err(Error::Refused { what: "found the region", source }),
    }
}

/// The numbers and names of the files a database has.
async fn remembered(connection: &mut PgConnection, set: Set) -> Result<HashMap<i64, String>, Error> {
    let read = refused("tell which migrations it has");
    let known: bool = match sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(set.table())
        .fetch_one(&mut *connection)
        .await
    {
        Ok(known) => known,
        Err(source) => return Err(read(source)),
    };
    if !known {
        return Ok(HashMap::new());
    }
    let rows = match set {
        Set::Directory => sqlx::query("SELECT version, description FROM domicile.directory_migrations WHERE success"),
        Set::Region => sqlx::query("SELECT version, description FROM domicile.region_migrations WHERE success"),
    };
    let rows = rows.fetch_all(connection).await.map_err(read)?;
    Ok(rows.iter().map(|row| (row.get("version"), row.get("description"))).collect())
}
