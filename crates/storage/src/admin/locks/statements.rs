//! The statements of a file: words in capitals where they are none of a name's, without comments and strings.

/// One statement.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Statement {
    /// Its words, parentheses and commas. A name that is schema and table is one word, in small letters; a word of SQL,
    /// and a name without a schema that reads like one, is in capitals where this program knows it.
    pub(super) words: Vec<String>,
    /// What it quotes between dollars: the bodies of functions and of DO.
    pub(super) bodies: Vec<String>,
}

/// The words of SQL that tell what a statement locks.
const KNOWN: [&str; 81] = [
    "ACCESS",
    "ADD",
    "AFTER",
    "ALTER",
    "ANALYZE",
    "AS",
    "ATTACH",
    "BEFORE",
    "BEGIN",
    "CLUSTER",
    "COLUMN",
    "COMMENT",
    "CONCURRENTLY",
    "CONFLICT",
    "CONSTRAINT",
    "CREATE",
    "DECLARE",
    "DELETE",
    "DETACH",
    "DISABLE",
    "DO",
    "DROP",
    "ELSE",
    "ENABLE",
    "EXCLUSIVE",
    "EXECUTE",
    "EXISTS",
    "FOR",
    "FOREIGN",
    "FROM",
    "FULL",
    "FUNCTION",
    "GLOBAL",
    "GRANT",
    "IF",
    "IN",
    "INDEX",
    "INHERITS",
    "INSERT",
    "INTO",
    "KEY",
    "LOCAL",
    "LOCK",
    "LOOP",
    "MATERIALIZED",
    "MERGE",
    "MODE",
    "NO",
    "NOT",
    "OF",
    "ON",
    "ONLY",
    "OR",
    "PARTITION",
    "POLICY",
    "REFERENCES",
    "REFRESH",
    "REINDEX",
    "REPLACE",
    "RESET",
    "REVOKE",
    "ROW",
    "RULE",
    "SELECT",
    "SET",
    "SHARE",
    "STATISTICS",
    "TABLE",
    "TEMP",
    "TEMPORARY",
    "THEN",
    "TO",
    "TRIGGER",
    "TRUNCATE",
    "UNIQUE",
    "UNLOGGED",
    "UPDATE",
    "VACUUM",
    "VALIDATE",
    "VIEW",
    "WITH",
];

/// Reads a text to its end. What is not closed ends with it.
pub(super) fn read(sql: &str) -> Vec<Statement> {
    let (mut statements, mut current, mut rest) = (Vec::new(), Statement::default(), sql);
    while let Some(next) = rest.chars().next() {
        let taken = match next {
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '\'' => rest[1..].find('\'').map_or(rest.len(), |end| end + 2),
            '$' => match dollar_quoted(rest) {
                Some((body, length)) => {
                    current.bodies.push(body.to_owned());
                    length
                }
                None => 1,
            },
            ';' => {
                statements.push(std::mem::take(&mut current));
                1
            }
            '(' | ')' | ',' => {
                current.words.push(next.to_string());
                1
            }
            _ if is_of_a_word(next) => {
                let length = rest.find(|c| !is_of_a_word(c)).unwrap_or(rest.len());
                current.words.push(word(&rest[..length]));
                length
            }
            _ => next.len_utf8(),
        };
        rest = &rest[taken..];
    }
    statements.push(current);
    statements.retain(|statement| !statement.words.is_empty());
    statements
}

fn is_of_a_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '"')
}

fn word(text: &str) -> String {
    let capitals = text.to_uppercase();
    if KNOWN.binary_search(&capitals.as_str()).is_ok() { capitals } else { text.to_lowercase().replace('"', "") }
}

/// What stands between `$tag$` and the next `$tag$`, and how long all of it is.
fn dollar_quoted(text: &str) -> Option<(&str, usize)> {
    let tag_end = text[1..].find('$')? + 2;
    let tag = &text[..tag_end];
    if !tag[1..tag_end - 1].chars().all(|c| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let end = text[tag_end..].find(tag)? + tag_end;
    Some((&text[tag_end..end], end + tag.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_words_are_sorted_so_that_each_is_found() {
        assert!(KNOWN.is_sorted());
    }

    #[test]
    fn bodies_strings_and_comments_are_no_words() {
        let statements = read("-- a\nDO $x$ one; $$ two $$ $x$; insert into S.\"T\" values ('it''s;', $1)");
        assert_eq!(statements[0].words, ["DO"]);
        assert_eq!(statements[0].bodies, [" one; $$ two $$ "]);
        assert_eq!(statements[1].words, ["INSERT", "INTO", "s.t", "values", "(", ",", "1", ")"]);
        assert_eq!(statements.len(), 2);
    }
}
