//! What an operator does to a database before a gateway may use it: create it, bring its schema up to
//! date, found its region, make a login with the least privilege. Needs a login that owns the
//! database; a gateway never holds one.

mod databases;
mod header;
mod lease;
mod leftovers;
mod level;
mod libpq;
mod lint;
mod locks;
mod migrate;
mod prune;
mod restored;
mod retire;
mod scram;
mod scratch;
mod set;
mod snapshot;

use std::str::FromStr;
use std::time::Duration;

use residency::Region;
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::time::timeout;

pub use databases::{LoginName, Membership, create_database_if_absent, create_login_role};
pub use header::Phase;
pub use lease::{Lease, LeaseError};
pub use leftovers::clear_index_leftovers;
pub use level::{SchemaLevel, holds_subject, record_keys, schema_level};
pub(crate) use level::{admit, read as level_of};
pub use libpq::{libpq_environment, with_database};
pub use lint::{Finding, lint};
pub use locks::{LockMode, Locks};
pub use migrate::{
    ATTEMPTS_MAX, Migrated, Options, Progress, Step, migrate, migrate_directory, migrate_region, migrate_region_with,
    status,
};
pub use prune::{LogPartition, full_partitions, hindrances, prune};
pub use restored::{
    LogRecovery, Opened, Repinned, Replayed, close_directory, close_restored, directory_restored_from, ensure_groups,
    former_origins, let_in, log_root_at, open_directory, open_restored, repin, replay_departures, restored_from,
    unreconciled, whereabouts,
};
pub use retire::{Retired, retire_key};
pub use scratch::{Scratch, drop_leftovers};
pub use set::{MigrationState, Set};
pub use snapshot::{BackupLock, DatabaseState, RegionState, Snapshot, TableSum};

/// How long a server may take to accept an operator's connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why an operator's deed was not done. Nothing in here is personal data or a password.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection string cannot be read. It is not repeated, since it may hold a password.
    #[error("the connection string is not of the form postgres://login:password@host:port/database")]
    Dsn,
    /// No connection could be made.
    #[error("the database cannot be reached")]
    Unreachable(#[source] sqlx::Error),
    /// The server did not accept a connection within [`CONNECT_TIMEOUT`].
    #[error("the database did not accept a connection within {}", seconds(CONNECT_TIMEOUT))]
    Silent,
    /// Somebody else migrates this database and does not finish.
    #[error("another migration of this database still runs after {}", seconds(*waited))]
    Busy {
        /// How long was waited.
        waited: Duration,
    },
    /// A migration failed; it left nothing behind, unless it runs outside a transaction.
    #[error("migration {version} ({description}) of the {set} set failed")]
    Migration {
        /// Which set.
        set: Set,
        /// Its number.
        version: i64,
        /// Its name.
        description: &'static str,
        /// What the database said.
        source: sqlx::migrate::MigrateError,
    },
    /// Another deployer has taken the lease since.
    #[error("another deployer has taken over this database; nothing was changed in it")]
    Fenced,
    /// A migration that was applied long ago has another text here: one of the two was tampered with.
    #[error("migration {version} ({description}) of the {set} set was applied with another text than this program's")]
    Changed {
        /// Which set.
        set: Set,
        /// Its number.
        version: i64,
        /// Its name.
        description: &'static str,
    },
    /// The database would not be founded as this region: most likely it is another region's.
    #[error("the database would not be founded as region {region}: {reason}")]
    Founding {
        /// The region it was to become.
        region: Region,
        /// The database's own sentence.
        reason: String,
    },
    /// A pepper that is to be retired is the current one, or none that is known here.
    #[error("key {key_id} cannot be retired: {reason}")]
    Key {
        /// The pepper's number.
        key_id: u16,
        /// Why.
        reason: &'static str,
    },
    /// Something still needs what was to go.
    #[error("{reason}")]
    Needed {
        /// What, as a sentence.
        reason: String,
    },
    /// A password that cannot be used.
    #[error("a login's password must be 12 to 256 printable ASCII characters")]
    Password,
    /// A database cannot be called this.
    #[error("a database's name is 1 to 63 bytes long")]
    DatabaseName,
    /// The head row of the log and its frontier do not fit each other.
    #[error("the head of the region log contradicts itself: the database is damaged")]
    BrokenHead,
    /// The database refused a statement.
    #[error("the database refused to {what}")]
    Refused {
        /// What was to be done, as the end of a sentence.
        what: &'static str,
        /// What it said.
        source: sqlx::Error,
    },
}

/// Makes a map from a driver's error to [`Error::Refused`].
fn refused(what: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
    move |source| Error::Refused { what, source }
}

/// Opens one connection for an operator's deed. Statements are kept out of the driver's log: one of
/// them may hold a login's password verifier.
async fn connect(dsn: &SecretString) -> Result<PgConnection, Error> {
    connect_to(dsn, None).await
}

/// The same, to another database of that server.
async fn connect_to(dsn: &SecretString, database: Option<&str>) -> Result<PgConnection, Error> {
    let options = PgConnectOptions::from_str(dsn.expose_secret()).map_err(|_| Error::Dsn)?;
    let options = match database {
        Some(database) => options.database(database),
        None => options,
    };
    let options = options.application_name("domicile-admin").disable_statement_logging();
    match timeout(CONNECT_TIMEOUT, PgConnection::connect_with(&options)).await {
        Ok(connected) => connected.map_err(Error::Unreachable),
        Err(_) => Err(Error::Silent),
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
