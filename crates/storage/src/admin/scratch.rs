//! Databases made for one purpose and thrown away: what a backup is restored into to prove it. Each carries a
//! comment that says so, and only what carries it is ever dropped here.

use secrecy::SecretString;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Row};

use super::databases::run;
use super::{Error, connect_to, refused};

/// The comment that marks a database as ours to drop.
const MARK: &str = "domicile scratch";
/// The database that is always there to connect to while another one is made.
const HALL: &str = "postgres";
/// The advisory lock of the hall while scratch databases come (shared) or leftovers go: the bytes of `scratch1`.
const LOCK: i64 = 0x7363_7261_7463_6831;
/// The longest name a database can have, bytes.
const NAME_BYTES_MAX: usize = 63;

/// A scratch database. The connection it holds keeps it from being taken for a leftover.
pub struct Scratch {
    dsn: SecretString,
    name: String,
    held: PgConnection,
}

impl Scratch {
    /// Makes an empty database of this name on the server of `dsn`. Nobody may connect to it but its owner.
    ///
    /// # Errors
    /// When there is one of this name already, or the server refuses.
    pub async fn create(dsn: &SecretString, name: &str) -> Result<Self, Error> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(Error::DatabaseName);
        }
        // Until somebody is connected to it, it looks like a leftover; the lock keeps those who tidy up away.
        let mut hall = connect_to(dsn, Some(HALL)).await?;
        sqlx::query("SELECT pg_advisory_lock_shared($1)")
            .bind(LOCK)
            .execute(&mut hall)
            .await
            .map_err(refused("take the lock of scratch databases"))?;
        run(&mut hall, "CREATE DATABASE %I TEMPLATE template0 ENCODING 'UTF8'", &[name])
            .await
            .map_err(refused("create a database for the restore"))?;
        run(&mut hall, "COMMENT ON DATABASE %I IS %L", &[name, MARK]).await.map_err(refused("mark the database"))?;
        run(&mut hall, "REVOKE ALL ON DATABASE %I FROM PUBLIC", &[name])
            .await
            .map_err(refused("close the database to strangers"))?;
        let held = connect_to(dsn, Some(name)).await?;
        drop(hall.close().await);
        Ok(Self { dsn: dsn.clone(), name: name.to_owned(), held })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Drops it, whoever is connected.
    ///
    /// # Errors
    /// When the server refuses; then it is a leftover, and the next [`drop_leftovers`] takes it.
    pub async fn drop(self) -> Result<(), Error> {
        drop(self.held.close().await);
        let mut connection = connect_to(&self.dsn, Some(HALL)).await?;
        run(&mut connection, "DROP DATABASE IF EXISTS %I WITH (FORCE)", &[&self.name])
            .await
            .map_err(refused("drop a scratch database"))?;
        drop(connection.close().await);
        Ok(())
    }

    /// Keeps it: it is no scratch database any more, but the restored one of this name.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn keep(mut self) -> Result<String, Error> {
        run(&mut self.held, "COMMENT ON DATABASE %I IS 'domicile restored'", &[&self.name])
            .await
            .map_err(refused("keep the restored database"))?;
        drop(self.held.close().await);
        Ok(self.name)
    }
}

/// Drops what runs that were cut short left on the server of `dsn`; says which. A run that was killed while the server
/// made the database could not mark it any more: that one is known by its name. One that somebody is connected to is
/// in use and stays.
///
/// # Errors
/// When the server cannot be reached or read.
pub async fn drop_leftovers(dsn: &SecretString) -> Result<Vec<String>, Error> {
    let mut connection = connect_to(dsn, Some(HALL)).await?;
    let alone: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
        .bind(LOCK)
        .fetch_one(&mut connection)
        .await
        .map_err(refused("take the lock of scratch databases"))?;
    if !alone {
        return Ok(Vec::new()); // somebody is just making one; the next run tidies up
    }
    let found = sqlx::query(
        "SELECT d.datname FROM pg_database AS d \
         WHERE (shobj_description(d.oid, 'pg_database') = $1 \
                OR shobj_description(d.oid, 'pg_database') IS NULL \
                   AND d.datname ~ '_(verify|scratch)_[0-9]{8}t[0-9]{6}z_[0-9a-f]{8}$') \
           AND NOT EXISTS (SELECT FROM pg_stat_activity AS a WHERE a.datid = d.oid)",
    )
    .bind(MARK)
    .fetch_all(&mut connection)
    .await
    .map_err(refused("list its databases"))?;
    let mut dropped = Vec::new();
    for row in found {
        let name: String = row.get(0);
        // Without FORCE: if somebody has connected meanwhile, the server refuses, and rightly.
        if run(&mut connection, "DROP DATABASE IF EXISTS %I", &[&name]).await.is_ok() {
            dropped.push(name);
        }
    }
    drop(connection.close().await);
    Ok(dropped)
}
