//! Makes databases and logins. SQL is put together from parts here and, with the same function, where scratch
//! databases come and go; the server itself quotes them.

use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::error::DatabaseError;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

use super::{Error, connect, refused, scram};

/// What a login may do: the group whose rights it may take on by `SET ROLE`, and has in no other way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Membership {
    /// What a gateway needs in a region's database.
    Gateway,
    /// What a gateway needs in the directory's database.
    Directory,
    /// Making and revoking API keys.
    Keys,
}

impl Membership {
    /// The group's name in the server.
    #[must_use]
    pub const fn role(self) -> &'static str {
        match self {
            Self::Gateway => "domicile_gateway",
            Self::Directory => "domicile_directory",
            Self::Keys => "domicile_keys",
        }
    }
}

/// The name of a login: 1 to 63 bytes of a-z, 0-9 and `_`, beginning with a letter, so that it needs
/// no quoting in a connection string either.
#[derive(Clone, PartialEq, Eq)]
pub struct LoginName(String);

impl LoginName {
    /// Checks and wraps a name; `None` when it has another shape.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let shaped = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        let begins = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
        (shaped && begins && name.len() <= 63 && !name.starts_with("pg_")).then(|| Self(name.to_owned()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for LoginName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Creates a database on the server that `admin_dsn` connects to, unless it is there already; tells
/// whether it was created. Nobody may connect to a new database but its owner and the logins of
/// [`create_login_role`]: on a server with several regions, that is the wall between them.
///
/// # Errors
/// When the server cannot be reached or refuses.
pub async fn create_database_if_absent(admin_dsn: &SecretString, name: &str) -> Result<bool, Error> {
    let mut connection = connect(admin_dsn).await?;
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = $1)")
        .bind(name)
        .fetch_one(&mut connection)
        .await
        .map_err(refused("list its databases"))?;
    if exists {
        return Ok(false);
    }
    let created = run(&mut connection, "CREATE DATABASE %I TEMPLATE template0 ENCODING 'UTF8'", &[name]).await;
    match created {
        Ok(()) => {}
        // Somebody else created it between the two statements.
        Err(sqlx::Error::Database(e)) if matches!(e.code().as_deref(), Some("42P04" | "23505")) => return Ok(false),
        Err(source) => return Err(Error::Refused { what: "create the database", source }),
    }
    run(&mut connection, "REVOKE ALL ON DATABASE %I FROM PUBLIC", &[name])
        .await
        .map_err(refused("close the database to strangers"))?;
    drop(connection.close().await);
    Ok(true)
}

/// Creates a login on the server, or brings an existing one up to date, and lets it into the database
/// that `admin_dsn` connects to. The login owns nothing and has no rights by itself: it takes on those of its groups
/// by `SET ROLE`. Run the migrations before, since they make the groups.
///
/// Only a SCRAM verifier of the password is sent, so that it cannot be found in the server's log.
///
/// # Errors
/// [`Error::Password`] when the password cannot be used; otherwise when the server cannot be reached or refuses.
pub async fn create_login_role(
    admin_dsn: &SecretString,
    name: &LoginName,
    password: Option<&SecretString>,
    groups: &[Membership],
) -> Result<(), Error> {
    let verifier = match password {
        Some(password) => Some(scram::verifier(password.expose_secret(), &rand::random()).ok_or(Error::Password)?),
        None => None,
    };
    let mut connection = connect(admin_dsn).await?;
    let name = name.as_str();
    match run(&mut connection, "CREATE ROLE %I LOGIN", &[name]).await {
        Ok(()) => {}
        Err(sqlx::Error::Database(e)) if matches!(e.code().as_deref(), Some("42710" | "23505")) => {}
        Err(source) => return Err(Error::Refused { what: "create the login", source }),
    }
    let attributes = "ALTER ROLE %I LOGIN NOINHERIT NOCREATEDB NOCREATEROLE";
    run(&mut connection, attributes, &[name]).await.map_err(refused("limit the login"))?;
    if let Some(verifier) = verifier {
        let password = "ALTER ROLE %I PASSWORD %L";
        run(&mut connection, password, &[name, &verifier]).await.map_err(refused("set the login's password"))?;
    }
    for group in groups {
        let grant = "GRANT %I TO %I";
        run(&mut connection, grant, &[group.role(), name]).await.map_err(refused("make the login a member"))?;
    }
    let database: String = sqlx::query_scalar("SELECT current_database()")
        .fetch_one(&mut connection)
        .await
        .map_err(refused("tell its database"))?;
    run(&mut connection, "GRANT CONNECT ON DATABASE %I TO %I", &[&database, name])
        .await
        .map_err(refused("let the login connect"))?;
    drop(connection.close().await);
    Ok(())
}

/// Runs a statement whose names (`%I`) and texts (`%L`) the server quotes by its own rules: what a
/// driver's parameters cannot do for statements like `CREATE ROLE`.
pub(super) async fn run(
    connection: &mut PgConnection,
    template: &'static str,
    parts: &[&str],
) -> Result<(), sqlx::Error> {
    let statement: String = sqlx::query_scalar("SELECT format($1, VARIADIC $2)")
        .bind(template)
        .bind(parts)
        .fetch_one(&mut *connection)
        .await?;
    for attempt in 1.. {
        // Audited: a literal of this file, and parts that `format` has quoted.
        match sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&mut *connection).await {
            Err(sqlx::Error::Database(e)) if attempt < OVERTAKEN_MAX && was_overtaken(&*e) => {
                tokio::time::sleep(OVERTAKEN_PAUSE * rand::random_range(1..=attempt)).await;
            }
            outcome => return outcome.map(drop),
        }
    }
    Ok(())
}

/// How often a statement is tried again that changes what belongs to the whole server, and a unit of the pause between.
const OVERTAKEN_MAX: u32 = 50;
const OVERTAKEN_PAUSE: Duration = Duration::from_millis(5);

/// Roles and databases belong to the whole server, and two statements that change the same one at once do not wait for
/// each other: the slower one fails, with a code that says no more than that something is wrong, or because the row of
/// the catalog is there by now.
fn was_overtaken(error: &dyn DatabaseError) -> bool {
    match error.code().as_deref() {
        Some("XX000") => error.message() == "tuple concurrently updated",
        Some("23505") => error.constraint() == Some("pg_auth_members_role_member_index"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_named_plainly() {
        for good in ["gateway", "eu_central_1", "a"] {
            assert!(LoginName::new(good).is_some(), "{good}");
        }
        for bad in ["", "1a", "_a", "A", "a-b", "a b", "a\"b", "pg_signal", "é", &"a".repeat(64)] {
            assert!(LoginName::new(bad).is_none(), "{bad}");
        }
    }
}
