//! What a `CREATE INDEX CONCURRENTLY` leaves that was interrupted: an index under the right name that PostgreSQL marks as
//! invalid, keeps up to date and never reads. It has to go before the next attempt, which would fail on the name, or
//! with `IF NOT EXISTS` take it for done.

use secrecy::SecretString;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};

use super::{Error, connect, refused};

/// Drops the invalid indexes of the schema `domicile` that a migration's text makes by `CREATE INDEX CONCURRENTLY`, and
/// returns their names. An index that is valid stays, and so does an invalid one that the text does not name.
///
/// # Errors
/// When the database cannot be reached, or refuses: an index is in use for longer than the session's lock timeout.
pub async fn clear_index_leftovers(dsn: &SecretString, sql: &str) -> Result<Vec<String>, Error> {
    let mut connection = connect(dsn).await?;
    let cleared = clear(&mut connection, sql).await?;
    drop(connection.close().await);
    Ok(cleared)
}

/// The same on a connection.
pub(super) async fn clear(connection: &mut PgConnection, sql: &str) -> Result<Vec<String>, Error> {
    let made = made_concurrently(sql);
    if made.is_empty() {
        return Ok(Vec::new());
    }
    let invalid: Vec<String> = sqlx::query_scalar(
        "SELECT format('%I.%I', n.nspname, c.relname) \
         FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace \
         WHERE NOT i.indisvalid AND n.nspname = 'domicile' AND c.relname = ANY($1) ORDER BY 1",
    )
    .bind(made)
    .fetch_all(&mut *connection)
    .await
    .map_err(refused("tell which indexes are invalid"))?;
    for name in &invalid {
        // The name came from the catalogue, quoted by it.
        let drop = AssertSqlSafe(format!("DROP INDEX CONCURRENTLY IF EXISTS {name}"));
        connection.execute(drop).await.map_err(refused("drop an index that was left half made"))?;
    }
    Ok(invalid)
}

/// The names of the indexes that a text makes concurrently. Names are plain here: the lint wants no quoted ones.
fn made_concurrently(sql: &str) -> Vec<String> {
    let words: Vec<&str> = sql.lines().filter(|line| !line.trim_start().starts_with("--")).flat_map(words_of).collect();
    let is = |word: &str, wanted: &str| word.eq_ignore_ascii_case(wanted);
    let mut names = Vec::new();
    for (at, pair) in words.windows(2).enumerate() {
        if is(pair[0], "INDEX") && is(pair[1], "CONCURRENTLY") {
            let rest = &words[at + 2..];
            let exists = rest.len() > 3 && is(rest[0], "IF") && is(rest[1], "NOT") && is(rest[2], "EXISTS");
            names.extend(rest.get(if exists { 3 } else { 0 }).map(|name| name.to_lowercase()));
        }
    }
    names
}

fn words_of(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_known_by_what_its_migration_calls_it() {
        let named = |sql: &str| made_concurrently(sql).join(" ");
        assert_eq!(named("CREATE INDEX CONCURRENTLY IF NOT EXISTS one ON domicile.pins (region);"), "one");
        assert_eq!(named("create unique index concurrently Two\n  on domicile.pins (region);"), "two");
        assert_eq!(named("-- CREATE INDEX CONCURRENTLY three ON a (b);\nCREATE INDEX four ON domicile.a (b);"), "");
    }
}
