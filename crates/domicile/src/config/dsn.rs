//! Just enough of a Postgres URL to keep passwords out of the file and to notice two regions that
//! share a database. The driver reads the rest.

/// What a Postgres URL names.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Dsn {
    /// Host and port, or the folder of a unix socket.
    pub server: String,
    /// The database.
    pub database: String,
    /// The login.
    pub user: Option<String>,
    /// The password, if the URL holds one. A secret.
    pub password: Option<String>,
}

impl Dsn {
    /// Reads `postgres://[user[:password]@][host[:port]]/database[?…]`.
    pub(crate) fn parse(url: &str) -> Option<Self> {
        let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, address) = authority.rsplit_once('@').unwrap_or(("", authority));
        let parameter = |name: &str| {
            query.split('&').filter_map(|p| p.split_once('=')).find(|(k, _)| *k == name).map(|(_, v)| decoded(v))
        };
        let (mut host, mut port) = match address.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (decoded(host), port.to_owned()),
            _ => (decoded(address), String::new()),
        };
        host = parameter("host").or_else(|| parameter("hostaddr")).unwrap_or(host).to_ascii_lowercase();
        port = parameter("port").unwrap_or(port);
        let database = parameter("dbname").unwrap_or_else(|| decoded(path));
        if database.is_empty() || database.contains('/') {
            return None;
        }
        let host = if host.is_empty() { "localhost".to_owned() } else { host };
        let port = if port.is_empty() { "5432".to_owned() } else { port };
        let (user, password) = match user.split_once(':') {
            Some((user, password)) => (user, Some(decoded(password))),
            None => (user, None),
        };
        let user = parameter("user").or_else(|| Some(decoded(user)).filter(|user| !user.is_empty()));
        let password = parameter("password").or(password);
        Some(Self { server: format!("{host}:{port}"), database, user, password })
    }

    /// The URL with another database of the same server.
    pub(crate) fn with_database(url: &str, database: &str) -> Option<String> {
        let (scheme, rest) = url.split_once("://")?;
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        let authority = rest.split_once('/').map_or(rest, |(authority, _)| authority);
        let kept: Vec<&str> =
            query.into_iter().flat_map(|q| q.split('&')).filter(|p| !p.starts_with("dbname=")).collect();
        let query = if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) };
        Some(format!("{scheme}://{authority}/{database}{query}"))
    }

    /// Whether the server is on this very machine.
    pub(crate) fn is_local(&self) -> bool {
        let host = self.server.rsplit_once(':').map_or(self.server.as_str(), |(host, _)| host);
        is_local_host(host)
    }
}

/// The URL with a password put into its user part.
pub(crate) fn with_password(url: &str, password: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let at = rest[..end].rfind('@')?;
    let mut encoded = String::with_capacity(password.len());
    for byte in password.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    Some(format!("{scheme}://{}:{encoded}{}", &rest[..at], &rest[at..]))
}

/// Whether a URL holds a user, or a user and a password, before its host.
pub(crate) fn holds_login(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@'))
}

/// Whether a host name means this very machine.
pub(crate) fn is_local_host(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.starts_with('/') || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
        match (first, tail) {
            (b'%', [a, b, after @ ..]) if hex(*a).is_some() && hex(*b).is_some() => {
                bytes.push(hex(*a).unwrap_or(0) * 16 + hex(*b).unwrap_or(0));
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_database_is_recognised_however_its_url_is_written() {
        let plain = Dsn::parse("postgres://a@DB.example/eu").expect("a URL");
        let other = Dsn::parse("postgresql://b@db.example:5432/eu?sslmode=require").expect("a URL");
        assert_eq!((&plain.server, &plain.database), (&other.server, &other.database));
        let socket = Dsn::parse("postgres://a@/eu?host=%2Fvar%2Frun%2Fpg&port=6001").expect("a URL");
        assert_eq!(socket.server, "/var/run/pg:6001");
        assert!(socket.is_local() && !plain.is_local());
    }

    #[test]
    fn a_password_is_noticed_wherever_it_hides() {
        let password = |url: &str| Dsn::parse(url).expect("a URL").password;
        assert_eq!(password("postgres://a:b%40@db/eu").as_deref(), Some("b@"));
        assert_eq!(password("postgres://a@db/eu?password=b").as_deref(), Some("b"));
        assert_eq!(password("postgres://a@db:5432/eu"), None);
    }

    #[test]
    fn another_database_of_the_same_server_is_named_with_everything_else_kept() {
        let url = "postgres://a:b@db:1/eu?sslmode=require&dbname=x";
        assert_eq!(
            Dsn::with_database(url, "postgres").as_deref(),
            Some("postgres://a:b@db:1/postgres?sslmode=require")
        );
        assert_eq!(Dsn::with_database("postgres://db", "p").as_deref(), Some("postgres://db/p"));
    }

    #[test]
    fn a_password_is_put_in_escaped() {
        assert_eq!(
            with_password("postgres://a@db/eu", "p@/:é").as_deref(),
            Some("postgres://a:p%40%2F%3A%C3%A9@db/eu")
        );
        assert_eq!(with_password("postgres://db/eu", "p"), None);
    }
}
