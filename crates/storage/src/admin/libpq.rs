//! What PostgreSQL's own programs (`pg_dump`, `pg_restore`) are told about a database: by environment variables of
//! libpq, so that no connection string and no password stands in a command line that others can list.

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::Error;

/// The names that libpq reads, each with the key of a connection string.
const NAMES: [(&str, &str); 9] = [
    ("PGHOST", "host"),
    ("PGHOSTADDR", "hostaddr"),
    ("PGPORT", "port"),
    ("PGUSER", "user"),
    ("PGPASSWORD", "password"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGSSLCERT", "sslcert"),
    ("PGSSLKEY", "sslkey"),
];

/// A connection string as libpq's environment. `database` is used instead of the one that the string names.
///
/// # Errors
/// [`Error::Dsn`] when the string cannot be read.
pub fn libpq_environment(
    dsn: &SecretString,
    database: Option<&str>,
) -> Result<Vec<(&'static str, SecretString)>, Error> {
    let url = Url::parse(dsn.expose_secret()).map_err(|_| Error::Dsn)?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err(Error::Dsn);
    }
    let said = |key: &str| url.query_pairs().find(|(name, _)| name == key).map(|(_, value)| value.into_owned());
    let mut environment = Vec::with_capacity(NAMES.len() + 2);
    for (name, key) in NAMES {
        let from_authority = match key {
            "host" => url.host_str().filter(|host| !host.is_empty()).map(decoded),
            "port" => url.port().map(|port| port.to_string()),
            "user" => Some(url.username()).filter(|user| !user.is_empty()).map(decoded),
            "password" => url.password().map(decoded),
            _ => None,
        };
        if let Some(value) = said(key).or(from_authority) {
            environment.push((name, value.into()));
        }
    }
    let named = said("dbname").unwrap_or_else(|| decoded(url.path().trim_start_matches('/')));
    let database = database.map_or(named, str::to_owned);
    if database.is_empty() {
        return Err(Error::Dsn);
    }
    environment.push(("PGDATABASE", database.into()));
    environment.push(("PGCONNECT_TIMEOUT", super::CONNECT_TIMEOUT.as_secs().to_string().into()));
    Ok(environment)
}

/// The connection string with another database of the same server.
///
/// # Errors
/// [`Error::Dsn`] when the string cannot be read.
pub fn with_database(dsn: &SecretString, database: &str) -> Result<SecretString, Error> {
    let mut url = Url::parse(dsn.expose_secret()).map_err(|_| Error::Dsn)?;
    let kept: Vec<(String, String)> =
        url.query_pairs().filter(|(name, _)| name != "dbname").map(|(k, v)| (k.into_owned(), v.into_owned())).collect();
    url.set_query(None);
    for (name, value) in &kept {
        url.query_pairs_mut().append_pair(name, value);
    }
    url.set_path(&format!("/{database}"));
    Ok(url.to_string().into())
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match (first, tail) {
            (b'%', [a, b, ..]) => std::str::from_utf8(&[*a, *b]).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok()),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(dsn: &str, database: Option<&str>) -> Vec<(&'static str, String)> {
        let found = libpq_environment(&dsn.into(), database).expect("a connection string");
        found.into_iter().map(|(name, value)| (name, value.expose_secret().to_owned())).collect()
    }

    #[test]
    fn a_connection_string_becomes_what_libpq_reads() {
        let told = environment("postgres://anna:p%40ss@db.example:6001/eu?sslmode=verify-full", None);
        for expected in [
            ("PGHOST", "db.example"),
            ("PGPORT", "6001"),
            ("PGUSER", "anna"),
            ("PGPASSWORD", "p@ss"),
            ("PGSSLMODE", "verify-full"),
            ("PGDATABASE", "eu"),
        ] {
            assert!(told.contains(&(expected.0, expected.1.to_owned())), "{expected:?} in {told:?}");
        }
        let socket = environment("postgresql:///eu?host=%2Ftmp%2Fpg&port=7&user=u", Some("scratch"));
        assert!(socket.contains(&("PGHOST", "/tmp/pg".to_owned())) && socket.contains(&("PGUSER", "u".to_owned())));
        assert!(socket.contains(&("PGDATABASE", "scratch".to_owned())));
    }

    #[test]
    fn another_database_of_the_server_is_named_with_everything_else_kept() {
        let other = |dsn: &str| environment(with_database(&dsn.into(), "new").expect("a string").expose_secret(), None);
        let told = other("postgres://anna:p%40ss@db.example:6001/eu?sslmode=require");
        for expected in [("PGPASSWORD", "p@ss"), ("PGSSLMODE", "require"), ("PGDATABASE", "new")] {
            assert!(told.contains(&(expected.0, expected.1.to_owned())), "{expected:?} in {told:?}");
        }
        let socket = other("postgresql:///eu?host=%2Ftmp%2Fpg&port=7&user=u&dbname=x");
        assert!(
            socket.contains(&("PGHOST", "/tmp/pg".to_owned())) && socket.contains(&("PGDATABASE", "new".to_owned()))
        );
    }

    #[test]
    fn what_is_no_connection_string_is_refused_without_repeating_it() {
        for bad in ["", "http://db/eu", "postgres://db"] {
            let error = libpq_environment(&bad.into(), None).expect_err(bad).to_string();
            assert!(bad.is_empty() || !error.contains(bad), "{error}");
        }
    }
}
