//! Reads a migration as a reviewer would: it must say whether it only adds, and if it says so, it
//! must be true. Only then may it run while the version before it still serves.
//!
//! A statement that looks worse than it is gets a comment before it: `-- domicile:assured "reason"`. The reason is
//! shown in the plan of a deployment.

use super::header::{self, Phase};

/// How a statement is vouched for.
const ASSURED: &str = "-- domicile:assured ";

/// What is wrong with a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The first lines do not say what the file is.
    Header {
        /// What is missing, as the end of a sentence.
        reason: &'static str,
    },
    /// The file's level is not its number.
    Level {
        /// What it says.
        level: i64,
    },
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
pub fn lint(number: i64, sql: &str) -> Vec<Finding> {
    let header = match header::read(sql) {
        Ok(header) => header,
        Err(reason) => return vec![Finding::Header { reason }],
    };
    let mut findings = Vec::new();
    if header.level != number {
        findings.push(Finding::Level { level: header.level });
    }
    if header.phase == Phase::Contract {
        return findings;
    }
    let assured = marked(sql);
    let words = without_comments_and_strings(&assured).to_uppercase();
    let statements: Vec<Vec<&str>> = words
        .split(';')
        .map(|statement| statement.split_whitespace().collect())
        .filter(|s: &Vec<_>| !s.is_empty())
        .collect();
    let made_here: Vec<&[&str]> = statements.iter().filter_map(|statement| table_made(statement)).collect();
    let alone = header::without_transaction(sql).then_some(statements.len());
    findings.extend(statements.iter().filter(|statement| !statement.contains(&MARK)).filter_map(|statement| {
        let reason = breaks_older(statement).or_else(|| index(statement, alone, &made_here))?;
        let beginning = statement.iter().take(8).copied().collect::<Vec<_>>().join(" ");
        Some(Finding::TakesAway { reason, statement: beginning })
    }));
    findings
}

/// What is vouched for in a file, as its author wrote it: for the plan.
pub(super) fn assurances(sql: &str) -> impl Iterator<Item = &str> {
    sql.lines().filter_map(|line| line.trim().strip_prefix(ASSURED)).map(|reason| reason.trim_matches('"'))
}

/// A word that no migration has; it stands where a statement is vouched for.
const MARK: &str = "DOMICILE_ASSURED_STATEMENT";

/// The text with a mark in place of each vouching comment that has a reason.
fn marked(sql: &str) -> String {
    let lines = sql.lines().map(|line| match line.trim().strip_prefix(ASSURED) {
        Some(reason) if reason.trim_matches(['"', ' ']).len() > 8 => MARK,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// How an index must be made. `alone` is how many statements a file outside a transaction has; `made_here` are the tables
/// of the same file, which nobody uses yet.
fn index(statement: &[&str], alone: Option<usize>, made_here: &[&[&str]]) -> Option<&'static str> {
    if !statement.starts_with(&["CREATE", "INDEX"]) && !statement.starts_with(&["CREATE", "UNIQUE", "INDEX"]) {
        return None;
    }
    let exists = statement.windows(3).any(|words| words == ["IF", "NOT", "EXISTS"]);
    match (statement.contains(&"CONCURRENTLY"), alone) {
        (true, None) => Some("it needs a line `-- no-transaction` in the header, since it cannot run in a transaction"),
        (true, Some(2..)) => {
            Some("it needs a file of its own: several statements sent at once are a transaction, header or not")
        }
        (true, Some(_)) if !exists => Some(
            "it needs IF NOT EXISTS: outside a transaction the index may be there and the file not noted as applied",
        ),
        (true, Some(_)) => None,
        (false, _) => {
            let on = statement.iter().position(|word| *word == "ON")?;
            let table = statement[on + 1..].strip_prefix(&["ONLY"]).unwrap_or(&statement[on + 1..]);
            let new = made_here.iter().any(|made| table.starts_with(made));
            (!new).then_some("it keeps writers of the table out while it reads all of it: make it CONCURRENTLY")
        }
    }
}

/// The table that a statement makes, as schema and name.
fn table_made<'a, 'b>(statement: &'b [&'a str]) -> Option<&'b [&'a str]> {
    let at = statement.windows(2).position(|pair| pair[1] == "TABLE" && matches!(pair[0], "CREATE" | "UNLOGGED"))?;
    let rest = &statement[at + 2..];
    rest.strip_prefix(&["IF", "NOT", "EXISTS"]).unwrap_or(rest).get(..2)
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
    } else if has("ALTER")
        && has("ADD")
        && has("DEFAULT")
        && (has("RANDOM") || has("GEN_RANDOM_UUID") || has("CLOCK_TIMESTAMP"))
    {
        Some("its default differs from row to row, which rewrites the table under an exclusive lock")
    } else if statement.starts_with(&["ALTER", "TABLE"])
        && has("ADD")
        && (has("UNIQUE") || has("FOREIGN"))
        && !has("USING")
        && !follows("NOT", "VALID")
    {
        Some(
            "it reads the whole table under a lock: make the index first (USING INDEX), or add the constraint NOT VALID",
        )
    } else if has("REVOKE") && !has("PUBLIC") {
        Some("it takes a right away that an older gateway may still use")
    } else if has("VACUUM") || has("CLUSTER") || (has("LOCK") && has("TABLE")) {
        Some("it locks a whole table")
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

    const EXPAND: &str = "-- domicile:phase expand\n-- domicile:level 7";
    const CONTRACT: &str = "-- domicile:phase contract\n-- domicile:level 7\n-- domicile:floor 6";

    fn findings(body: &str) -> usize {
        lint(7, &format!("{EXPAND}\n{body}")).len()
    }

    #[test]
    fn every_embedded_migration_says_what_it_is_and_speaks_the_truth() {
        for set in [Set::Directory, Set::Region] {
            assert!(!set.files().is_empty(), "the {set} set has no files");
            for file in set.files() {
                assert_eq!(lint(file.version, file.sql), [], "{set} {} {}", file.version, file.description);
            }
        }
    }

    #[test]
    fn a_file_without_the_header_is_refused() {
        let headers = [
            "",
            "CREATE TABLE a ();",
            " -- domicile:phase expand\n-- domicile:level 7",
            "-- domicile:phase maybe\n-- domicile:level 7",
            "-- domicile:phase expand\nCREATE TABLE a ();",
            "-- domicile:phase expand\n-- domicile:level seven",
            "-- domicile:phase contract\n-- domicile:level 7\nDROP TABLE a;",
            "-- domicile:phase contract\n-- domicile:level 7\n-- domicile:floor 8",
        ];
        for sql in headers {
            assert!(matches!(lint(7, sql)[..], [Finding::Header { .. }]), "{sql:?}");
        }
        assert_eq!(lint(8, &format!("{EXPAND}\nCREATE TABLE a ();")), [Finding::Level { level: 7 }]);
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
            "ALTER TABLE a ADD COLUMN b uuid DEFAULT gen_random_uuid();",
            "ALTER TABLE a ADD CONSTRAINT one UNIQUE (b);",
            "ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES c;",
            "REVOKE SELECT ON a FROM domicile_gateway;",
            "CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON domicile.a (b);",
            "CREATE INDEX i ON domicile.a (b);",
            "CREATE TABLE domicile.a (b int); CREATE UNIQUE INDEX i ON ONLY domicile.other (b);",
            "-- domicile:assured \"\"\nDROP TABLE a;",
            "DO $$ BEGIN DROP TABLE a; END $$;",
            "CREATE TABLE a ();DROP/**/TABLE b",
        ] {
            assert_eq!(findings(body), 1, "{body}");
            assert_eq!(lint(7, &format!("{CONTRACT}\n{body}")), [], "{body}");
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
            "ALTER TABLE a ADD CONSTRAINT one UNIQUE USING INDEX i;",
            "ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES c NOT VALID;",
            "CREATE TABLE domicile.a (b int);\nCREATE UNIQUE INDEX i ON domicile.a (b);",
            "CREATE UNLOGGED TABLE IF NOT EXISTS domicile.a (b int); CREATE INDEX i ON domicile.a (b);",
            "-- domicile:assured \"the table has one row for each region\"\nCREATE INDEX i ON domicile.a (b);",
            "REVOKE ALL ON FUNCTION f() FROM PUBLIC;",
            "-- domicile:assured \"no release ever read this table\"\nDROP TABLE a;",
        ] {
            assert_eq!(findings(body), 0, "{body}");
        }
    }

    #[test]
    fn an_index_of_a_table_in_use_is_made_alone_and_so_that_it_can_be_made_again() {
        let outside = |body: &str| lint(7, &format!("{EXPAND}\n-- no-transaction\n{body}")).len();
        let good = "CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON domicile.a (b);";
        assert_eq!(outside(good), 0);
        assert_eq!(outside("CREATE INDEX CONCURRENTLY i ON domicile.a (b);"), 1, "it could not be made twice");
        assert_eq!(outside(&format!("{good}\nCREATE TABLE domicile.c ();")), 1, "two statements are a transaction");
    }
}
