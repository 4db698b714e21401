//! Strict JSON: what a region's Postgres will take, checked before anything is asked of it.
//!
//! The grammar is RFC 8259's. Beyond it: no byte order mark, no duplicate names in an object, no NUL
//! and no lone surrogate in a string (Postgres text holds neither), a bound on nesting, and numbers
//! that `numeric` can hold. A short number may stand for a long one (`1e131071` has 131,072 digits
//! when it is written out), so the text that all numbers together would expand to is bounded too.

mod scan;

use serde_json::value::RawValue;

use self::scan::Scan;

/// Containers within containers.
pub(crate) const DEPTH_MAX: usize = 64;

/// What is wrong with a text that is not strict JSON, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{fault} at byte {at}")]
pub(crate) struct NotStrict {
    /// What.
    pub(crate) fault: Fault,
    /// Offset in the text, bytes from 0.
    pub(crate) at: usize,
}

/// What can be wrong with a text. The text itself is never repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("the text is not UTF-8")]
    NotUtf8,
    #[error("the text is not JSON")]
    Syntax,
    #[error("the text ends too early")]
    Ended,
    #[error("containers are nested deeper than {DEPTH_MAX}")]
    TooDeep,
    #[error("an object has two members of one name")]
    DuplicateName,
    #[error("a string holds the character NUL, which cannot be stored,")]
    Nul,
    #[error("a string holds half of a surrogate pair")]
    LoneSurrogate,
    #[error("a number has more digits than can be stored")]
    NumberTooLong,
    #[error("a number cannot be merged without losing digits (send it as a string, or replace the record)")]
    NumberInexact,
}

/// How numbers are treated afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// They are stored as they were written: `numeric` is exact.
    Stored,
    /// They pass through 64-bit integers and floats, as a merge patch does; what would be rounded is refused.
    Merged,
}

/// Checks a whole text.
///
/// # Errors
/// [`NotStrict`] with the first fault.
pub(crate) fn check(text: &[u8], numbers: Numbers) -> Result<&str, NotStrict> {
    let text =
        std::str::from_utf8(text).map_err(|error| NotStrict { fault: Fault::NotUtf8, at: error.valid_up_to() })?;
    let mut scan = Scan::of(text, numbers);
    match scan.whole() {
        Ok(()) => Ok(text),
        Err(fault) => Err(NotStrict { fault, at: scan.at().min(text.len()) }),
    }
}

/// Checks a text and keeps it as it was written.
///
/// # Errors
/// As for [`check`].
pub(crate) fn raw(text: &[u8], numbers: Numbers) -> Result<Box<RawValue>, NotStrict> {
    let checked = check(text, numbers)?;
    serde_json::from_str(checked).map_err(|_| NotStrict { fault: Fault::Syntax, at: 0 })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fault(text: &str) -> Option<Fault> {
        check(text.as_bytes(), Numbers::Stored).err().map(|not| not.fault)
    }

    #[test]
    fn json_that_postgres_takes_passes() {
        for text in [
            "null",
            " {\"a\":[1,-0.5e-3,true,false,null,\"\\u00e4\\ud83d\\ude00\\n\"],\"b\":{}} \n",
            "[]",
            "\"\"",
            "1e131071",
            "12345678901234567890123456789",
        ] {
            assert_eq!(fault(text), None, "{text}");
        }
    }

    #[test]
    fn json_that_is_not_json_is_refused() {
        for text in [
            "{\"a\":1,}",
            "[1,]",
            "01",
            "+1",
            "nul1",
            "{a:1}",
            "'a'",
            "[1 2]",
            "\"\t\"",
            "\u{feff}1",
            "1 1",
            "\"\\x\"",
            "--1",
            "1e+x",
        ] {
            assert_eq!(fault(text), Some(Fault::Syntax), "{text}");
        }
        for text in ["", " ", "{", "[", "[1", "\"a", "tru", "-", "1.", "1e", "{\"a\"", "{\"a\":", "\"\\u00"] {
            assert_eq!(fault(text), Some(Fault::Ended), "{text}");
        }
    }

    #[test]
    fn what_postgres_cannot_store_is_refused_by_name() {
        assert_eq!(fault("\"a\\u0000b\""), Some(Fault::Nul));
        assert_eq!(fault("{\"\\u0000\":1}"), Some(Fault::Nul));
        assert_eq!(fault("\"\\ud800\""), Some(Fault::LoneSurrogate));
        assert_eq!(fault("\"\\udc00\""), Some(Fault::LoneSurrogate));
        assert_eq!(fault("\"\\ud800\\ud800\""), Some(Fault::LoneSurrogate));
        assert_eq!(fault("1e131072"), Some(Fault::NumberTooLong));
        assert_eq!(fault("1e-16384"), Some(Fault::NumberTooLong));
        assert_eq!(fault("1e99999999999999999999999"), Some(Fault::NumberTooLong));
        assert_eq!(check(b"\"\xff\"", Numbers::Stored), Err(NotStrict { fault: Fault::NotUtf8, at: 1 }));
    }

    #[test]
    fn few_bytes_cannot_stand_for_many() {
        let bomb = format!("[{}]", ["1e131071"; 10].join(","));
        assert_eq!(fault(&bomb), Some(Fault::NumberTooLong));
    }

    #[test]
    fn a_name_twice_in_one_object_is_refused_however_it_is_written() {
        assert_eq!(fault("{\"a\":1,\"b\":2,\"a\":3}"), Some(Fault::DuplicateName));
        assert_eq!(fault("{\"a\":1,\"\\u0061\":3}"), Some(Fault::DuplicateName));
        assert_eq!(fault("{\"a\":{\"a\":1},\"b\":{\"a\":1}}"), None);
        let many: Vec<_> = (0..40).map(|n| format!("\"k{n}\":0")).collect();
        assert_eq!(fault(&format!("{{{}}}", many.join(","))), None);
        assert_eq!(fault(&format!("{{{},\"k3\":0}}", many.join(","))), Some(Fault::DuplicateName));
    }

    #[test]
    fn nesting_has_a_bound() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(fault(&nested(DEPTH_MAX)), None);
        assert_eq!(fault(&nested(DEPTH_MAX + 1)), Some(Fault::TooDeep));
        assert_eq!(fault(&"[".repeat(1_000_000)), Some(Fault::TooDeep));
    }

    #[test]
    fn a_patch_may_not_round_a_number() {
        let merged = |text: &str| check(text.as_bytes(), Numbers::Merged).is_ok();
        assert!(merged("{\"a\":1.5,\"b\":18446744073709551615,\"c\":-9223372036854775808,\"d\":0.1,\"e\":1e3}"));
        assert!(!merged("18446744073709551616"));
        assert!(!merged("0.1234567890123456789"));
        assert!(!merged("1e400"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = check(&bytes, Numbers::Stored);
            let _ = check(&bytes, Numbers::Merged);
        }

        #[test]
        fn whatever_passes_is_json_for_serde_too(text in "[\\[\\]{}\",:0-9eE+.\\-\\\\u abtrfn]{0,40}") {
            if check(text.as_bytes(), Numbers::Stored).is_ok() {
                prop_assert!(serde_json::from_str::<&RawValue>(&text).is_ok(), "{}", text);
            }
        }

        #[test]
        fn what_serde_writes_passes(map in proptest::collection::hash_map("\\PC{0,8}", any::<i64>(), 0..20)) {
            let text = serde_json::to_string(&map).unwrap();
            prop_assert!(check(text.as_bytes(), Numbers::Merged).is_ok(), "{}", text);
        }
    }
}
