//! The log of a restored region, which goes on behind everything that anybody has seen of it.

use secrecy::SecretString;
use sqlx::{Connection, Executor};

use crate::admin::{Error, connect, refused};
use crate::region::recovery;

/// What others have seen of a log that lost its end, and how it goes on.
#[derive(Debug, Clone)]
pub struct LogRecovery {
    /// The new name of the log. The key of the old one must not sign two histories.
    pub origin: String,
    /// The size that was signed last, and the root at it.
    pub signed: Option<(u64, [u8; 32])>,
    /// The log goes on behind this position, which nobody has seen.
    pub behind: u64,
    /// Who does it.
    pub actor: String,
    /// Now, microseconds since 1970-01-01 UTC.
    pub at_us: i64,
}

/// How a region's database was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Entries of the log when it was restored.
    pub restored: u64,
    /// Entries now. The difference stands for those that were lost.
    pub size: u64,
}

/// Opens a restored database: its log is made to go on, cursors are set, and gateways are let in; all of it or nothing.
/// `relayed` is how far the relay had come, if that is known.
///
/// # Errors
/// When the database refuses, or [`Error::BrokenHead`]; it stays closed.
pub async fn open_restored(
    dsn: &SecretString,
    recovery: Option<&LogRecovery>,
    relayed: Option<u64>,
) -> Result<Opened, Error> {
    let open = || refused("be opened");
    let mut connection = connect(dsn).await?;
    connection.execute("SET statement_timeout = 0; SET search_path = 'pg_catalog'").await.map_err(open())?;
    let mut transaction = connection.begin().await.map_err(open())?;
    let restored = recovery::head_size(&mut transaction).await.map_err(|_| Error::BrokenHead)?;
    let size = match recovery {
        None => restored,
        Some(recovery) => recovery::go_on(&mut transaction, recovery).await.map_err(|_| Error::BrokenHead)?,
    };
    if let Some(relayed) = relayed {
        // Behind the end of what was restored there is nothing to be sent.
        sqlx::query("UPDATE domicile.cursors SET seq = greatest(seq, $1) WHERE name = 'relay'")
            .bind(i64::try_from(relayed.min(restored.saturating_sub(1))).unwrap_or(i64::MAX))
            .execute(&mut *transaction)
            .await
            .map_err(open())?;
    }
    for statement in [
        // Whoever held a lease before is gone; and whoever still runs is fenced.
        "UPDATE domicile.cursors SET owner = NULL, lease_until = NULL, token = token + 1",
        "UPDATE domicile.head SET epoch = epoch + 1, fence = fence + 1",
        "UPDATE domicile.region_identity SET restoring = NULL, \
             system_identifier = (SELECT c.system_identifier FROM pg_control_system() AS c)",
        "ANALYZE",
    ] {
        transaction.execute(statement).await.map_err(open())?;
    }
    if let Some(recovery) = recovery {
        // What the older entries' tags and details were made with.
        sqlx::query(
            "INSERT INTO domicile.former_origins (origin, size) SELECT i.origin, $1 FROM domicile.region_identity AS i",
        )
        .bind(i64::try_from(restored).unwrap_or(i64::MAX))
        .execute(&mut *transaction)
        .await
        .map_err(open())?;
        sqlx::query("UPDATE domicile.region_identity SET origin = $1")
            .bind(&recovery.origin)
            .execute(&mut *transaction)
            .await
            .map_err(open())?;
        // They are the old key's; who holds them keeps them.
        transaction.execute("DELETE FROM domicile.checkpoints").await.map_err(open())?;
        transaction.execute("SELECT domicile.extend_log()").await.map_err(open())?;
    }
    transaction.commit().await.map_err(open())?;
    drop(connection.close().await);
    Ok(Opened { restored, size })
}

/// The root of a log at a size that it has passed; `None` when it is shorter, or does not hold the tiles that show it.
///
/// # Errors
/// When the log cannot be read.
pub async fn log_root_at(dsn: &SecretString, size: u64) -> Result<Option<[u8; 32]>, Error> {
    let mut connection = connect(dsn).await?;
    let root = recovery::root_at(&mut connection, size).await.map_err(|_| Error::BrokenHead)?;
    drop(connection.close().await);
    Ok(root)
}
