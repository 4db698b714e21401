//! Which tables a migration locks while it runs, and how: read from its statements, for the plan of a deployment. Tables
//! that the file makes itself are left out, since nobody uses them yet, and so is what only reads.
//!
//! The modes are those of PostgreSQL's documentation, "Explicit Locking" and the pages of the statements. Where a
//! statement can take a weaker one than is told here, the stronger one is told.

mod statements;

use std::fmt;

use self::statements::{Statement, read};

/// A table-level lock mode, from the weakest to the strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockMode {
    /// Of INSERT, UPDATE and DELETE.
    RowExclusive,
    /// Of CREATE INDEX CONCURRENTLY, VALIDATE CONSTRAINT, COMMENT.
    ShareUpdateExclusive,
    /// Of CREATE INDEX.
    Share,
    /// Of triggers and foreign keys.
    ShareRowExclusive,
    /// Of REFRESH MATERIALIZED VIEW CONCURRENTLY.
    Exclusive,
    /// Of everything else that changes a table.
    AccessExclusive,
}

impl LockMode {
    /// Its name in PostgreSQL.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RowExclusive => "ROW EXCLUSIVE",
            Self::ShareUpdateExclusive => "SHARE UPDATE EXCLUSIVE",
            Self::Share => "SHARE",
            Self::ShareRowExclusive => "SHARE ROW EXCLUSIVE",
            Self::Exclusive => "EXCLUSIVE",
            Self::AccessExclusive => "ACCESS EXCLUSIVE",
        }
    }

    /// Who waits as long as it is held, as a clause.
    #[must_use]
    pub const fn keeps_out(self) -> &'static str {
        match self {
            Self::RowExclusive | Self::ShareUpdateExclusive => "reads and writes go on",
            Self::Share | Self::ShareRowExclusive | Self::Exclusive => "reads go on, writes wait",
            Self::AccessExclusive => "reads and writes wait",
        }
    }
}

impl fmt::Display for LockMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a migration locks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Locks {
    /// Each table with the strongest mode that it is locked in, in the order of the statements.
    pub tables: Vec<(String, LockMode)>,
    /// Whether something is run whose text is put together only then (EXECUTE): it may lock more.
    pub more: bool,
}

/// Reads them from a migration's text.
pub(super) fn locks(sql: &str) -> Locks {
    let mut reading = Reading::default();
    for statement in read(sql) {
        reading.statement(&statement);
    }
    reading.locks
}

#[derive(Default)]
struct Reading {
    locks: Locks,
    made: Vec<String>,
}

impl Reading {
    fn add(&mut self, table: &str, mode: LockMode) {
        if self.made.iter().any(|made| made == table) {
            return;
        }
        match self.locks.tables.iter_mut().find(|(name, _)| name == table) {
            Some((_, held)) => *held = mode.max(*held),
            None => self.locks.tables.push((table.to_owned(), mode)),
        }
    }

    fn statement(&mut self, statement: &Statement) {
        let words: Vec<&str> = statement.words.iter().map(String::as_str).collect();
        match words.as_slice() {
            // A function's body is kept, and run by others; the body of DO is run here.
            ["DO", ..] => {
                for body in &statement.bodies {
                    read(body).iter().for_each(|inner| self.inside(inner));
                }
            }
            words => self.plain(words),
        }
    }

    /// A statement of PL/pgSQL: what stands behind its control words.
    fn inside(&mut self, statement: &Statement) {
        const BEFORE: [&str; 5] = ["BEGIN", "THEN", "ELSE", "LOOP", "DECLARE"];
        let words: Vec<&str> = statement.words.iter().map(String::as_str).collect();
        let begin = words.iter().rposition(|word| BEFORE.contains(word)).map_or(0, |at| at + 1);
        // That of a trigger names the function which it is to call.
        let runs_text = |pair: &[&str]| pair[0] == "EXECUTE" && !matches!(pair[1], "FUNCTION" | "procedure");
        self.locks.more |= words[begin..].windows(2).any(runs_text);
        self.plain(&words[begin..]);
    }

    fn plain(&mut self, words: &[&str]) {
        use LockMode::{AccessExclusive, RowExclusive, Share, ShareRowExclusive, ShareUpdateExclusive};
        match words {
            ["ALTER", "TABLE", rest @ ..] => self.alter_table(rest),
            ["ALTER", "MATERIALIZED", "VIEW", rest @ ..] | ["ALTER", "VIEW", rest @ ..] => {
                self.named(rest, AccessExclusive);
            }
            ["CREATE", rest @ ..] => self.create(rest),
            ["DROP", "TABLE", rest @ ..]
            | ["DROP", "VIEW", rest @ ..]
            | ["DROP", "MATERIALIZED", "VIEW", rest @ ..] => {
                self.each(rest, AccessExclusive);
            }
            ["DROP", "INDEX", "CONCURRENTLY", rest @ ..] => self.of_index(rest, ShareUpdateExclusive),
            ["DROP" | "ALTER", "INDEX", rest @ ..] => self.of_index(rest, AccessExclusive),
            ["DROP", "TRIGGER" | "POLICY" | "RULE", rest @ ..] => self.after("ON", rest, AccessExclusive),
            ["TRUNCATE", "TABLE", rest @ ..] | ["TRUNCATE", rest @ ..] => self.each(rest, AccessExclusive),
            ["LOCK", "TABLE", rest @ ..] | ["LOCK", rest @ ..] => self.named(rest, lock_mode(rest)),
            ["COMMENT", "ON", "TABLE", rest @ ..] => self.named(rest, ShareUpdateExclusive),
            ["COMMENT", "ON", "COLUMN", column, ..] => {
                self.add(column.rsplit_once('.').map_or(column, |(table, _)| table), ShareUpdateExclusive);
            }
            ["REINDEX", "TABLE", rest @ ..] => self.named(rest, Share),
            ["REFRESH", "MATERIALIZED", "VIEW", "CONCURRENTLY", rest @ ..] => self.named(rest, LockMode::Exclusive),
            ["CLUSTER", rest @ ..] | ["VACUUM", "FULL", rest @ ..] | ["REFRESH", "MATERIALIZED", "VIEW", rest @ ..] => {
                self.named(rest, AccessExclusive);
            }
            ["VACUUM" | "ANALYZE", rest @ ..] => self.named(rest, ShareUpdateExclusive),
            words => {
                for (at, word) in words.iter().enumerate() {
                    match (*word, &words[at + 1..]) {
                        ("INSERT", ["INTO", rest @ ..])
                        | ("DELETE", ["FROM", rest @ ..])
                        | ("MERGE", ["INTO", rest @ ..]) => {
                            self.named(rest, RowExclusive);
                        }
                        // Not the UPDATE of FOR UPDATE, ON CONFLICT DO UPDATE.
                        ("UPDATE", rest) if at == 0 || !matches!(words[at - 1], "FOR" | "DO" | "KEY") => {
                            self.named(rest, RowExclusive);
                        }
                        _ => {}
                    }
                }
            }
        }
        if words.starts_with(&["ALTER", "TABLE"]) || words.starts_with(&["CREATE"]) {
            for pair in words.windows(2).filter(|pair| pair[0] == "REFERENCES") {
                self.add(pair[1], ShareRowExclusive);
            }
        }
    }

    fn create(&mut self, words: &[&str]) {
        use LockMode::{AccessExclusive, Share, ShareRowExclusive, ShareUpdateExclusive};
        const BEFORE: [&str; 10] = [
            "OR",
            "REPLACE",
            "UNIQUE",
            "UNLOGGED",
            "TEMPORARY",
            "TEMP",
            "GLOBAL",
            "LOCAL",
            "CONSTRAINT",
            "MATERIALIZED",
        ];
        let begin = words.iter().position(|word| !BEFORE.contains(word)).unwrap_or(words.len());
        match &words[begin..] {
            ["TABLE", rest @ ..] => {
                let rest = without_conditions(rest);
                if let [name, partition @ ..] = rest {
                    if let ["PARTITION", "OF", parent, ..] = partition {
                        self.add(parent, AccessExclusive);
                    }
                    for pair in partition.windows(3).filter(|pair| pair[..2] == ["INHERITS", "("]) {
                        self.add(pair[2], ShareUpdateExclusive);
                    }
                    self.made.push((*name).to_owned());
                }
            }
            ["INDEX", "CONCURRENTLY", rest @ ..] => self.after("ON", rest, ShareUpdateExclusive),
            ["INDEX", rest @ ..] => self.after("ON", rest, Share),
            ["TRIGGER", rest @ ..] => self.after("ON", rest, ShareRowExclusive),
            ["POLICY", rest @ ..] => self.after("ON", rest, AccessExclusive),
            ["RULE", rest @ ..] => self.after("TO", rest, AccessExclusive),
            ["STATISTICS", rest @ ..] => self.after("FROM", rest, ShareUpdateExclusive),
            ["VIEW", rest @ ..] if words.contains(&"REPLACE") => self.named(rest, AccessExclusive),
            _ => {}
        }
    }

    fn alter_table(&mut self, words: &[&str]) {
        let [table, rest @ ..] = without_conditions(words) else { return };
        for change in top_level_parts(rest) {
            let mode = change_mode(change);
            self.add(table, mode);
            if let ["ATTACH" | "DETACH", "PARTITION", part, ..] = change {
                let concurrently = change.contains(&"CONCURRENTLY");
                self.add(part, if concurrently { mode } else { LockMode::AccessExclusive });
            }
        }
    }

    fn named(&mut self, words: &[&str], mode: LockMode) {
        if let [table, ..] = without_conditions(words) {
            self.add(table, mode);
        }
    }

    fn each(&mut self, words: &[&str], mode: LockMode) {
        top_level_parts(without_conditions(words)).into_iter().for_each(|part| self.named(part, mode));
    }

    fn of_index(&mut self, words: &[&str], mode: LockMode) {
        if let [index, ..] = without_conditions(words) {
            self.add(&format!("the table of the index {index}"), mode);
        }
    }

    fn after(&mut self, word: &str, words: &[&str], mode: LockMode) {
        if let Some(at) = words.iter().position(|one| *one == word) {
            self.named(&words[at + 1..], mode);
        }
    }
}

/// How one change of ALTER TABLE locks its table.
fn change_mode(change: &[&str]) -> LockMode {
    use LockMode::{AccessExclusive, ShareRowExclusive, ShareUpdateExclusive};
    let follows = |first: &str, second: &str| change.windows(2).any(|pair| pair == [first, second]);
    match change {
        ["VALIDATE", "CONSTRAINT", ..] | ["ATTACH", "PARTITION", ..] | ["CLUSTER", "ON", ..] => ShareUpdateExclusive,
        ["DETACH", "PARTITION", ..] if change.contains(&"CONCURRENTLY") => ShareUpdateExclusive,
        ["SET" | "RESET", "(", ..] => ShareUpdateExclusive,
        ["ALTER", ..] if follows("SET", "STATISTICS") || follows("SET", "(") => ShareUpdateExclusive,
        ["ENABLE" | "DISABLE", "TRIGGER", ..] => ShareRowExclusive,
        ["ADD", "FOREIGN", "KEY", ..] | ["ADD", "CONSTRAINT", _, "FOREIGN", "KEY", ..] => ShareRowExclusive,
        _ => AccessExclusive,
    }
}

/// The mode that LOCK names; without a name it is the strongest.
fn lock_mode(words: &[&str]) -> LockMode {
    let Some(at) = words.iter().position(|word| *word == "IN") else { return LockMode::AccessExclusive };
    match &words[at + 1..] {
        ["ACCESS", "SHARE", "MODE", ..] | ["ROW", "SHARE" | "EXCLUSIVE", "MODE", ..] => LockMode::RowExclusive,
        ["SHARE", "UPDATE", ..] => LockMode::ShareUpdateExclusive,
        ["SHARE", "MODE", ..] => LockMode::Share,
        ["SHARE", "ROW", ..] => LockMode::ShareRowExclusive,
        ["EXCLUSIVE", ..] => LockMode::Exclusive,
        _ => LockMode::AccessExclusive,
    }
}

/// What is left of IF EXISTS, IF NOT EXISTS, ONLY.
fn without_conditions<'a, 'b>(words: &'b [&'a str]) -> &'b [&'a str] {
    match words {
        ["IF", "NOT", "EXISTS", rest @ ..] | ["IF", "EXISTS", rest @ ..] | ["ONLY", rest @ ..] => {
            without_conditions(rest)
        }
        words => words,
    }
}

/// The parts between commas that are in no parentheses.
fn top_level_parts<'a, 'b>(words: &'b [&'a str]) -> Vec<&'b [&'a str]> {
    let (mut parts, mut depth, mut begin) = (Vec::new(), 0_usize, 0);
    for (at, word) in words.iter().enumerate() {
        match *word {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            "," if depth == 0 => {
                parts.push(&words[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&words[begin..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::super::Set;
    use super::*;

    fn told(sql: &str) -> Vec<String> {
        let locks = locks(sql);
        let more = locks.more.then(|| "and more".to_owned());
        locks.tables.into_iter().map(|(table, mode)| format!("{mode} on {table}")).chain(more).collect()
    }

    #[test]
    fn each_statement_is_told_with_its_table_and_its_mode() {
        let table = [
            ("ALTER TABLE domicile.a ADD COLUMN b int;", "ACCESS EXCLUSIVE on domicile.a"),
            ("alter table if exists only domicile.a validate constraint c;", "SHARE UPDATE EXCLUSIVE on domicile.a"),
            ("ALTER TABLE a SET (fillfactor = 70);", "SHARE UPDATE EXCLUSIVE on a"),
            ("ALTER TABLE a ALTER COLUMN b SET STATISTICS 500;", "SHARE UPDATE EXCLUSIVE on a"),
            ("CREATE INDEX i ON domicile.a (b);", "SHARE on domicile.a"),
            ("CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON ONLY a (b);", "SHARE UPDATE EXCLUSIVE on a"),
            (
                "CREATE TRIGGER t BEFORE INSERT OR UPDATE OF b ON domicile.a FOR EACH ROW EXECUTE FUNCTION f();",
                "SHARE ROW EXCLUSIVE on domicile.a",
            ),
            ("CREATE TABLE p1 PARTITION OF domicile.p FOR VALUES FROM (1) TO (2);", "ACCESS EXCLUSIVE on domicile.p"),
            ("CREATE TABLE c (a int REFERENCES domicile.a);", "SHARE ROW EXCLUSIVE on domicile.a"),
            ("INSERT INTO domicile.a (b) VALUES (';') ON CONFLICT DO UPDATE SET b = 1;", "ROW EXCLUSIVE on domicile.a"),
            ("WITH gone AS (DELETE FROM a RETURNING b) SELECT 1;", "ROW EXCLUSIVE on a"),
            ("DROP INDEX i;", "ACCESS EXCLUSIVE on the table of the index i"),
            ("LOCK TABLE a IN SHARE ROW EXCLUSIVE MODE;", "SHARE ROW EXCLUSIVE on a"),
            ("COMMENT ON COLUMN domicile.a.b IS 'x';", "SHARE UPDATE EXCLUSIVE on domicile.a"),
            ("DO $$ BEGIN IF true THEN ALTER TABLE a ADD b int; END IF; END $$;", "ACCESS EXCLUSIVE on a"),
        ];
        for (sql, expected) in table {
            assert_eq!(told(sql), [expected], "{sql}");
        }
        let both = "ALTER TABLE a ADD CONSTRAINT k FOREIGN KEY (b) REFERENCES c (b) NOT VALID";
        assert_eq!(told(both), ["SHARE ROW EXCLUSIVE on a", "SHARE ROW EXCLUSIVE on c"]);
        assert_eq!(told("DROP TABLE a, b"), ["ACCESS EXCLUSIVE on a", "ACCESS EXCLUSIVE on b"]);
        assert_eq!(told("UPDATE a SET b = 1; ALTER TABLE a ADD c int"), ["ACCESS EXCLUSIVE on a"], "the strongest");
    }

    #[test]
    fn what_is_new_what_is_read_and_what_is_only_written_down_locks_nothing() {
        for sql in [
            "CREATE TABLE domicile.a (b int); CREATE INDEX i ON domicile.a (b); INSERT INTO domicile.a VALUES (1);",
            "-- ALTER TABLE a ADD b int;\n/* DROP TABLE a; */ SELECT 'DROP TABLE a; TRUNCATE b';",
            "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $body$ BEGIN UPDATE a SET b = 1; END $body$;",
            "GRANT SELECT ON domicile.a TO domicile_gateway;",
            "SELECT b FROM a FOR UPDATE;",
        ] {
            assert_eq!(told(sql), Vec::<String>::new(), "{sql}");
        }
    }

    #[test]
    fn what_is_put_together_only_when_it_runs_is_not_guessed() {
        assert_eq!(told("DO $$ BEGIN EXECUTE format('ALTER TABLE %I ADD b int', 'a'); END $$"), ["and more"]);
    }

    #[test]
    fn the_embedded_migrations_are_read() {
        let of = |number: i64| {
            let file = Set::Region.files().iter().find(|file| file.version == number).expect("the file");
            told(file.sql)
        };
        assert_eq!(of(18), ["SHARE UPDATE EXCLUSIVE on domicile.decision_index"]);
        assert_eq!(of(16), Vec::<String>::new());
    }
}
