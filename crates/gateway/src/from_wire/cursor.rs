//! Cursors of lists: opaque to callers, base64url of what is needed to go on.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use residency::RecordKey;

use crate::error::Error;

/// Characters of a cursor.
const CHARS_MAX: usize = 4_096;
/// What each cursor of a record list begins with, so that a later form can be told apart.
const RECORDS: u8 = 1;
/// The same for an attribute's history.
const HISTORY: u8 = 5;

/// A search of the region logs, by what each of its cursors begins with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Search {
    /// Decisions.
    Decisions = 2,
    /// Violations.
    Violations = 3,
    /// Transfers.
    Transfers = 4,
}

impl Search {
    /// The cursor behind a page.
    pub(crate) fn after(self, page: &audit::Cursor) -> String {
        encode(self as u8, &page.to_string())
    }

    /// Where a page begins.
    ///
    /// # Errors
    /// [`Error::Cursor`] when we did not make it for this search.
    pub(crate) fn begin(self, cursor: &str) -> Result<audit::Cursor, Error> {
        decode(self as u8, cursor)?.parse().map_err(|_| Error::Cursor)
    }
}

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
        assert_eq!(Search::Decisions.begin(&Search::Decisions.after(&some)).unwrap(), some);
    }

    #[test]
    fn a_cursor_of_another_list_is_refused() {
        let page: audit::Cursor = "eu.1".parse().unwrap();
        assert!(Search::Decisions.begin(&after_key(&RecordKey::new("eu.1").unwrap())).is_err());
        assert!(key(&Search::Decisions.after(&page)).is_err());
        assert!(Search::Transfers.begin(&Search::Violations.after(&page)).is_err());
    }

    proptest! {
        #[test]
        fn no_cursor_makes_it_panic(text in "\\PC{0,60}") {
            let _ = key(&text);
            let _ = Search::Decisions.begin(&text);
        }
    }
}
