//! The deployer's lease on a database: one at a time, for a short while, with a token that grows with every new
//! holder. It keeps two operators on two machines apart; on one machine a file lock does.

use std::time::Duration;

use secrecy::SecretString;
use sqlx::Connection;
use sqlx::postgres::PgConnection;

use super::{Error, connect, refused};

/// The one lease that there is so far.
const DEPLOY: &str = "deploy";

/// Why a lease was not taken or kept.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Somebody else has it.
    #[error("{holder} is at work on this database, for at least {seconds_left} s more")]
    Held {
        /// Who.
        holder: String,
        /// For how long yet, unless it is renewed.
        seconds_left: i64,
    },
    /// Somebody else has it by now.
    #[error("the lease has passed to somebody else")]
    Lost,
    /// The database is not to be reached.
    #[error(transparent)]
    Database(#[from] Error),
}

/// A lease that is held, with the connection it was taken on.
#[derive(Debug)]
pub struct Lease {
    connection: PgConnection,
    token: i64,
    lasts: Duration,
}

impl Lease {
    /// Takes the lease for `lasts`, or says who has it. `None` when the database is too young to have leases.
    ///
    /// # Errors
    /// [`LeaseError::Held`], or when the database cannot be used.
    pub async fn take(dsn: &SecretString, holder: &str, lasts: Duration) -> Result<Option<Self>, LeaseError> {
        let mut connection = connect(dsn).await?;
        let known: bool = sqlx::query_scalar("SELECT to_regclass('domicile_ops.lease') IS NOT NULL")
            .fetch_one(&mut connection)
            .await
            .map_err(refused("tell whether it has leases"))?;
        if !known {
            return Ok(None);
        }
        let token: Option<i64> = sqlx::query_scalar(
            "INSERT INTO domicile_ops.lease AS l (name, holder, token, expires_at) \
             VALUES ($1, $2, 1, now() + $3 * interval '1 second') \
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, token = l.token + 1, expires_at = excluded.expires_at \
             WHERE l.expires_at < now() \
             RETURNING l.token",
        )
        .bind(DEPLOY)
        .bind(holder)
        .bind(lasts.as_secs_f64())
        .fetch_optional(&mut connection)
        .await
        .map_err(refused("give the lease"))?;
        match token {
            Some(token) => Ok(Some(Self { connection, token, lasts })),
            None => Err(whose(&mut connection).await?),
        }
    }

    /// The token: above that of every earlier holder.
    #[must_use]
    pub fn token(&self) -> i64 {
        self.token
    }

    /// Raises the token to one that is as high as those of the other databases: who is known by one token in all of them
    /// is fenced in each by whoever comes next, however differently they had counted.
    ///
    /// # Errors
    /// [`LeaseError::Lost`] when somebody else has it.
    pub async fn raise(&mut self, token: i64) -> Result<(), LeaseError> {
        if token <= self.token {
            return Ok(());
        }
        let raised = sqlx::query("UPDATE domicile_ops.lease SET token = $3 WHERE name = $1 AND token = $2")
            .bind(DEPLOY)
            .bind(self.token)
            .bind(token)
            .execute(&mut self.connection)
            .await
            .map_err(refused("raise the token of the lease"))?;
        if raised.rows_affected() != 1 {
            return Err(LeaseError::Lost);
        }
        self.token = token;
        Ok(())
    }

    /// Has it for another while. One that ran out and was not taken by anybody goes on.
    ///
    /// # Errors
    /// [`LeaseError::Lost`] when somebody else has it.
    pub async fn renew(&mut self) -> Result<(), LeaseError> {
        let renewed = sqlx::query(
            "UPDATE domicile_ops.lease SET expires_at = now() + $3 * interval '1 second' WHERE name = $1 AND token = $2",
        )
        .bind(DEPLOY)
        .bind(self.token)
        .bind(self.lasts.as_secs_f64())
        .execute(&mut self.connection)
        .await
        .map_err(refused("renew the lease"))?;
        if renewed.rows_affected() == 1 { Ok(()) } else { Err(LeaseError::Lost) }
    }

    /// Gives it back. The token stays, so that the next one is higher.
    ///
    /// # Errors
    /// When the database cannot be used; the lease then runs out by itself.
    pub async fn release(mut self) -> Result<(), LeaseError> {
        sqlx::query(
            "UPDATE domicile_ops.lease SET expires_at = now() - interval '1 second' WHERE name = $1 AND token = $2",
        )
        .bind(DEPLOY)
        .bind(self.token)
        .execute(&mut self.connection)
        .await
        .map_err(refused("take the lease back"))?;
        drop(self.connection.close().await);
        Ok(())
    }
}

async fn whose(connection: &mut PgConnection) -> Result<LeaseError, Error> {
    let row: Option<(String, i64)> = sqlx::query_as(
        "SELECT holder, greatest(0, ceil(extract(epoch FROM expires_at - now())))::bigint \
         FROM domicile_ops.lease WHERE name = $1",
    )
    .bind(DEPLOY)
    .fetch_optional(connection)
    .await
    .map_err(refused("say who has the lease"))?;
    let (holder, seconds_left) = row.unwrap_or_else(|| ("somebody".to_owned(), 0));
    Ok(LeaseError::Held { holder, seconds_left })
}

/// Whether the holder of `token` may still change this database.
pub(super) async fn still_held(connection: &mut PgConnection, token: i64) -> Result<(), Error> {
    let known: bool = sqlx::query_scalar("SELECT to_regclass('domicile_ops.lease') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await
        .map_err(refused("tell whether it has leases"))?;
    if !known {
        return Ok(());
    }
    let newer: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM domicile_ops.lease WHERE name = $1 AND token > $2)")
            .bind(DEPLOY)
            .bind(token)
            .fetch_one(connection)
            .await
            .map_err(refused("say who has the lease"))?;
    if newer { Err(Error::Fenced) } else { Ok(()) }
}
