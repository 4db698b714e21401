//! Cursors of lists: opaque to callers, base64url of what is needed to go on.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use residency::RecordKey;

use crate::error::Error;

/// Characters of a cursor.
const CHARS_MAX: usize = 4_096;
/// What each cursor of a record list begins with, so that a later form can be told apart.
const RECORDS: u8 = 1;
/// The same for decisions.
const DECISIONS: u8 = 2;
/// The same for an attribute's history.
const HISTORY: u8 = 5;
/// For violations.
const VIOLATIONS: u8 = 3;
/// And for transfers.
const TRANSFERS: u8 = 4;

/// The cursor behind the last key of a page.
pub(crate) fn after_key(key: &RecordKey) -> String {
    encode(RECORDS, key.expose())
}

/// The key that a cursor stands behind.
///
/// # Errors
/// [`Error::Cursor`] when we did not make it.
pub(crate) fn key(cursor: &str) -> Result<RecordKey, Error> {
    RecordKey::new(&decode(RECORDS, cursor)?).map_err(|_| Error::Cursor)
}

/// The cursor behind a page of decisions.
pub(crate) fn after_decisions(cursor: &audit::Cursor) -> String {
    encode(DECISIONS, &cursor.to_string())
}

/// Where a page of decisions begins.
///
/// # Errors
/// [`Error::Cursor`] when we did not make it.
pub(crate) fn decisions(cursor: &str) -> Result<audit::Cursor, Error> {
    decode(DECISIONS, cursor)?.parse().map_err(|_| Error::Cursor)
}

/// The cursor behind a page of an attribute's history, which ended at this log position.
pub(crate) fn before_seq(seq: u64) -> String {
    encode(HISTORY, &seq.to_string())
}

/// Where a page of an attribute's history begins.
///
/// # Errors
/// [`Error::Cursor`] when we did not make it.
pub(crate) fn seq(cursor: &str) -> Result<u64, Error> {
    decode(HISTORY, cursor)?.parse().map_err(|_| Error::Cursor)
}

/// The cursor behind a page of violations.
pub(crate) fn after_violations(cursor: &audit::Cursor) -> String {
    encode(VIOLATIONS, &cursor.to_string())
}

/// Where a page of violations begins.
///
/// # Errors
/// [`Error::Cursor`] when we did not make it.
pub(crate) fn violations(cursor: &str) -> Result<audit::Cursor, Error> {
    decode(VIOLATIONS, cursor)?.parse().map_err(|_| Error::Cursor)
}

/// The cursor behind a page of transfers.
pub(crate) fn after_transfers(cursor: &audit::Cursor) -> String {
    encode(TRANSFERS, &cursor.to_string())
}

/// Where a page of transfers begins.
///
/// # Errors
/// [`Error::Cursor`] when we did not make it.
pub(crate) fn transfers(cursor: &str) -> Result<audit::Cursor, Error> {
    decode(TRANSFERS, cursor)?.parse().map_err(|_| Error::Cursor)
}

fn encode(form: u8, text: &str) -> String {
    let mut bytes = Vec::with_capacity(1 + text.len());
    bytes.push(form);
    bytes.extend_from_slice(text.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(form: u8, cursor: &str) -> Result<String, Error> {
    if cursor.len() > CHARS_MAX {
        return Err(Error::Cursor);
    }
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| Error::Cursor)?;
    match bytes.split_first() {
        Some((first, rest)) if *first == form => String::from_utf8(rest.to_vec()).map_err(|_| Error::Cursor),
        _ => Err(Error::Cursor),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cursors_come_back_as_they_went() {
        let odd = RecordKey::new("a/b ü,:").unwrap();
        assert_eq!(key(&after_key(&odd)).unwrap(), odd);
        let some: audit::Cursor = "eu-central.7~us-east.0".parse().unwrap();
        assert_eq!(decisions(&after_decisions(&some)).unwrap(), some);
    }

    #[test]
    fn a_cursor_of_another_list_is_refused() {
        assert!(decisions(&after_key(&RecordKey::new("eu.1").unwrap())).is_err());
        assert!(key(&after_decisions(&"eu.1".parse().unwrap())).is_err());
        assert!(transfers(&after_violations(&"eu.1".parse().unwrap())).is_err());
    }

    proptest! {
        #[test]
        fn no_cursor_makes_it_panic(text in "\\PC{0,60}") {
            let _ = key(&text);
            let _ = decisions(&text);
        }
    }
}
