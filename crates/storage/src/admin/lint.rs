//! Reads a migration as a reviewer would: it must say whether it only adds, and if it says so, it
//! must be true. Only then may it run while the version before it still serves.

/// The first line of a file that only adds.
pub(super) const EXPAND: &str = "-- expand-only: yes";

/// The first line of a file that takes something away, once nobody uses it any more.
pub(super) const CONTRACT: &str = "-- expand-only: contract";

/// What is wrong with a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The first line is neither `-- expand-only: yes` nor `-- expand-only: contract`.
    NoHeader,
    /// A file that claims to only add holds a statement that would break the version before it.
    TakesAway {
        /// Why, as a sentence.
        reason: &'static str,
        /// How the statement begins.
        statement: String,
    },
}

/// Everything wrong with a migration's text. It looks into function bodies too, and not into comments
/// and quoted strings.
#[must_use]
pub fn lint(sql: &str) -> Vec<Finding> {
    match sql.lines().next() {
        Some(EXPAND) => {}
        Some(CONTRACT) => return Vec::new(),
        _ => return vec![Finding::NoHeader],
    }
    let words = without_comments_and_strings(sql).to_uppercase();
    let statements = words.split(';').map(|statement| statement.split_whitespace().collect::<Vec<_>>());
    statements
        .filter_map(|statement| {
            let reason = breaks_older(&statement)?;
            let beginning = statement.iter().take(8).copied().collect::<Vec<_>>().join(" ");
            Some(Finding::TakesAway { reason, statement: beginning })
        })
        .collect()
}

/// Why a statement would break a program that knows only the schema before it.
fn breaks_older(statement: &[&str]) -> Option<&'static str> {
    let has = |word: &str| statement.contains(&word);
    let follows = |first: &str, second: &str| statement.windows(2).any(|pair| pair == [first, second]);
    if has("DROP") {
        Some("it drops what an older gateway may still use")
    } else if has("RENAME") {
        Some("it renames what an older gateway knows by the old name")
    } else if has("TRUNCATE") {
        Some("it throws rows away")
    } else if has("ALTER") && (has("TYPE") || follows("SET", "DATA")) {
        Some("it changes a type, which rewrites the table under an exclusive lock")
    } else if has("ALTER") && follows("SET", "NOT") {
        Some("it demands a value that an older gateway does not give")
    } else if has("ALTER") && has("ADD") && follows("NOT", "NULL") && !has("DEFAULT") && !has("GENERATED") {
        Some("it adds a column without a default that an older gateway does not fill")
    } else {
        None
    }
}

/// The same text with line comments, block comments and quoted strings blanked. Dollar-quoted bodies
/// stay, since they hold statements. Punctuation becomes space, so that words stand alone.
fn without_comments_and_strings(sql: &str) -> String {
    let mut kept = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(next) = rest.chars().next() {
        let skipped = match next {
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '\'' => rest[1..].find('\'').map_or(rest.len(), |end| end + 2),
            _ => 0,
        };
        if skipped > 0 {
            kept.push(' ');
            rest = &rest[skipped..];
        } else {
            kept.push(if next.is_alphanumeric() || matches!(next, '_' | ';') { next } else { ' ' });
            rest = &rest[next.len_utf8()..];
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::super::Set;
    use super::*;

    fn findings(body: &str) -> usize {
        lint(&format!("{EXPAND}\n{body}")).len()
    }

    #[test]
    fn every_embedded_migration_says_what_it_is_and_speaks_the_truth() {
        for set in [Set::Directory, Set::Region] {
            assert!(!set.files().is_empty(), "the {set} set has no files");
            for file in set.files() {
                assert_eq!(lint(file.sql), [], "{set} {} {}", file.version, file.description);
            }
        }
    }

    #[test]
    fn a_file_without_the_header_is_refused() {
        for sql in ["", "CREATE TABLE a ();", " -- expand-only: yes", "--expand-only: yes", "-- expand-only: maybe"] {
            assert_eq!(lint(sql), [Finding::NoHeader], "{sql:?}");
        }
    }

    #[test]
    fn a_file_that_takes_away_must_not_say_that_it_only_adds() {
        for body in [
            "DROP TABLE a;",
            "alter table a drop column b;",
            "ALTER TABLE a RENAME COLUMN b TO c;",
            "ALTER TABLE a ALTER COLUMN b TYPE bigint;",
            "ALTER TABLE a ALTER b SET DATA TYPE bigint;",
            "ALTER TABLE a ALTER COLUMN b SET NOT NULL;",
            "ALTER TABLE a ADD COLUMN b int NOT NULL;",
            "TRUNCATE a;",
            "DO $$ BEGIN DROP TABLE a; END $$;",
            "CREATE TABLE a ();DROP/**/TABLE b",
        ] {
            assert_eq!(findings(body), 1, "{body}");
            assert_eq!(lint(&format!("{CONTRACT}\n{body}")), [], "{body}");
        }
    }

    #[test]
    fn a_file_that_only_adds_may_speak_of_what_it_does_not_do() {
        for body in [
            "-- we do not DROP anything\nCREATE TABLE a ();",
            "/* RENAME */ CREATE TABLE a (dropped text);",
            "INSERT INTO a VALUES ('it''s TRUNCATE; or DROP');",
            "CREATE TYPE mood AS ENUM ('ok');",
            "ALTER TABLE a ADD COLUMN b int NOT NULL DEFAULT 0;",
            "ALTER TABLE a ADD COLUMN event_type text;",
        ] {
            assert_eq!(findings(body), 0, "{body}");
        }
    }
}
