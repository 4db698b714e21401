//! The one place where text becomes part of a statement. `snowflake-api` has no bind variables, so every
//! value goes through [`literal`], and every name through [`identifier`].

use crate::error::Error;

/// A single-quoted string constant. Within one, Snowflake gives a meaning to the quote and to the backslash
/// and to nothing else (<https://docs.snowflake.com/en/sql-reference/data-types-text#string-constants>), so
/// these two are written as their escape sequences.
///
/// The quote is doubled rather than preceded by a backslash: that is what every SQL reader agrees on.
pub(super) fn literal(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + text.len() / 8 + 2);
    quoted.push('\'');
    for character in text.chars() {
        match character {
            '\'' => quoted.push_str("''"),
            '\\' => quoted.push_str("\\\\"),
            other => quoted.push(other),
        }
    }
    quoted.push('\'');
    quoted
}

/// An unquoted identifier, in upper case as Snowflake stores it; `what` is the setting that names it.
///
/// # Errors
/// [`Error::Settings`] when it is anything but a letter or underscore and then letters, digits, `_` or `$`.
pub(super) fn identifier(what: &str, name: &str) -> Result<String, Error> {
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let fits = name.len() <= 255 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'$');
    if begins && fits {
        Ok(name.to_ascii_uppercase())
    } else {
        Err(Error::Settings(format!(
            "`{what}` is no unquoted identifier, which is a letter or _, then letters, digits, _ or $"
        )))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads a string constant as Snowflake's documentation describes it; returns its text and what follows.
    fn read_constant(sql: &str) -> Option<(String, &str)> {
        let mut text = String::new();
        let mut rest = sql.strip_prefix('\'')?;
        loop {
            let mut characters = rest.chars();
            match characters.next()? {
                '\'' if characters.as_str().starts_with('\'') => {
                    text.push('\'');
                    rest = &characters.as_str()[1..];
                }
                '\'' => return Some((text, characters.as_str())),
                '\\' => {
                    match characters.next()? {
                        'n' => text.push('\n'),
                        't' => text.push('\t'),
                        'r' => text.push('\r'),
                        'b' => text.push('\u{8}'),
                        'f' => text.push('\u{c}'),
                        '0' => text.push('\0'),
                        'x' | 'u' => return None,
                        other => text.push(other),
                    }
                    rest = characters.as_str();
                }
                other => {
                    text.push(other);
                    rest = characters.as_str();
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn any_text_is_read_back_as_itself_and_nothing_escapes_its_constant(text in any::<String>()) {
            let sql = format!("{} tail", literal(&text));
            prop_assert_eq!(read_constant(&sql), Some((text, " tail")));
        }

        #[test]
        fn text_made_to_escape_does_not(text in r"(\\|'|--|;|/\*|\$\$|n|x41|u0027| OR 1=1){0,24}") {
            let sql = format!("{} tail", literal(&text));
            prop_assert_eq!(read_constant(&sql), Some((text, " tail")));
        }
    }

    #[test]
    fn a_name_that_is_no_identifier_is_refused() {
        assert_eq!(identifier("database", "domicile_eu").unwrap(), "DOMICILE_EU");
        for name in ["", "1a", "a b", "a;drop table x", "a\"", "a.b", "ü", &"a".repeat(256)] {
            let refusal = identifier("user", name).unwrap_err().to_string();
            assert!(refusal.contains("`user`"), "{refusal}");
        }
    }
}
