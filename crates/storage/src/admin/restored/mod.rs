//! A database restored from a backup: closed until what happened since has been replayed, then opened.
//!
//! What the backup of a region cannot know, the directory does: who was erased since, and who moved away
//! ([`replay_departures`]). What the region's log lost, others have seen: it goes on under another name, behind every
//! position that anybody knows ([`open_restored`]). What the backup of a directory cannot know, the regions do: who came
//! since, and who was erased ([`repin`]).

mod departures;
mod log;
mod pins;

use secrecy::SecretString;
use sqlx::{Connection, Row};

use super::databases::run;
use super::{Error, LoginName, Membership, connect, refused};
use crate::region::origins;

pub use departures::{Replayed, replay_departures};
pub use log::{LogRecovery, Opened, log_root_at, open_restored};
pub use pins::{Repinned, close_directory, directory_restored_from, open_directory, repin, unreconciled};

/// Subjects or tombstones in one statement.
const BATCH_MAX: i64 = 4_096;

/// Makes the groups that a dump's grants name, where they are missing: on a new server they are.
///
/// # Errors
/// When the server refuses.
pub async fn ensure_groups(dsn: &SecretString) -> Result<(), Error> {
    let mut connection = connect(dsn).await?;
    for group in [Membership::Gateway, Membership::Directory, Membership::Keys] {
        match run(&mut connection, "CREATE ROLE %I NOLOGIN", &[group.role()]).await {
            Ok(()) => {}
            Err(sqlx::Error::Database(e)) if matches!(e.code().as_deref(), Some("42710" | "23505")) => {}
            Err(source) => return Err(Error::Refused { what: "make the groups of its logins", source }),
        }
    }
    drop(connection.close().await);
    Ok(())
}

/// Closes a region's database that has just been restored: every gateway refuses it.
///
/// # Errors
/// When the database refuses.
pub async fn close_restored(dsn: &SecretString, backup: &str) -> Result<(), Error> {
    let mut connection = connect(dsn).await?;
    sqlx::query("UPDATE domicile.region_identity SET restoring = $1, system_identifier = 0")
        .bind(backup)
        .execute(&mut connection)
        .await
        .map_err(refused("be closed"))?;
    drop(connection.close().await);
    Ok(())
}

/// The backup that a region's database was restored from, while it is not open.
///
/// # Errors
/// When the database cannot be read.
pub async fn restored_from(dsn: &SecretString) -> Result<Option<String>, Error> {
    let mut connection = connect(dsn).await?;
    let backup = sqlx::query_scalar("SELECT restoring FROM domicile.region_identity")
        .fetch_one(&mut connection)
        .await
        .map_err(refused("tell what it was restored from"))?;
    drop(connection.close().await);
    Ok(backup)
}

/// What a region's log was called before it went on under its present name, the newest name first.
///
/// # Errors
/// When the database cannot be read.
pub async fn former_origins(dsn: &SecretString) -> Result<Vec<String>, Error> {
    let mut connection = connect(dsn).await?;
    let former = origins::former(&mut connection).await.map_err(refused("tell what its log was called"))?;
    drop(connection.close().await);
    Ok(former)
}

/// The cluster and the database behind a connection string.
///
/// # Errors
/// When it cannot be reached.
pub async fn whereabouts(dsn: &SecretString) -> Result<(i64, String), Error> {
    let mut connection = connect(dsn).await?;
    let row = sqlx::query("SELECT system_identifier, current_database()::text FROM pg_control_system()")
        .fetch_one(&mut connection)
        .await
        .map_err(refused("tell which cluster it is on"))?;
    drop(connection.close().await);
    Ok((row.get(0), row.get(1)))
}

/// Lets a service's login connect again: grants on a database are not in its dump.
///
/// # Errors
/// When the server refuses.
pub async fn let_in(dsn: &SecretString, login: &LoginName) -> Result<(), Error> {
    let mut connection = connect(dsn).await?;
    let database: String = sqlx::query_scalar("SELECT current_database()::text")
        .fetch_one(&mut connection)
        .await
        .map_err(refused("tell its database"))?;
    run(&mut connection, "GRANT CONNECT ON DATABASE %I TO %I", &[&database, login.as_str()])
        .await
        .map_err(refused("let the login connect"))?;
    drop(connection.close().await);
    Ok(())
}
