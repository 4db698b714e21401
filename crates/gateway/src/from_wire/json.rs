//! Strict JSON: what a region's Postgres will take, checked before anything is asked of it.
//!
//! The grammar is RFC 8259's. Beyond it: no byte order mark, no duplicate names in an object, no NUL
//! and no lone surrogate in a string (Postgres text holds neither), a bound on nesting, and numbers
//! that `numeric` can hold. A short number may stand for a long one (`1e131071` has 131,072 digits
//! when it is written out), so the text that all numbers together would expand to is bounded too.

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::value::RawValue;

/// Containers within containers.
pub(crate) const DEPTH_MAX: usize = 64;
/// Digits before the decimal point that Postgres `numeric` holds.
const INTEGER_DIGITS_MAX: i64 = 131_072;
/// Digits behind the decimal point that Postgres `numeric` holds.
const FRACTION_DIGITS_MAX: i64 = 16_383;
/// Characters that the numbers of one text may expand to, beyond the length of the text itself.
const EXPANDED_CHARS_MAX: i64 = 1_048_576;
/// Names in one object up to which comparing each with each is the quickest way to find a twin.
const NAMES_COMPARED_MAX: usize = 8;

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
    let mut scan = Scan { text: text.as_bytes(), at: 0, depth: 0, expansion: 0, numbers };
    scan.blank();
    let whole = scan.value().and_then(|()| {
        scan.blank();
        if scan.at == scan.text.len() { Ok(()) } else { Err(Fault::Syntax) }
    });
    match whole {
        Ok(()) => Ok(text),
        Err(fault) => Err(NotStrict { fault, at: scan.at.min(text.len()) }),
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

struct Scan<'t> {
    text: &'t [u8],
    at: usize,
    depth: usize,
    expansion: i64,
    numbers: Numbers,
}

impl<'t> Scan<'t> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn blank(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn value(&mut self) -> Result<(), Fault> {
        match self.peek().ok_or(Fault::Ended)? {
            b'{' => self.nested(Self::object),
            b'[' => self.nested(Self::array),
            b'"' => self.string().map(drop),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            b'-' | b'0'..=b'9' => self.number(),
            _ => Err(Fault::Syntax),
        }
    }

    fn nested(&mut self, container: fn(&mut Self) -> Result<(), Fault>) -> Result<(), Fault> {
        if self.depth == DEPTH_MAX {
            return Err(Fault::TooDeep);
        }
        self.depth += 1;
        self.at += 1;
        self.blank();
        container(self)?;
        self.depth -= 1;
        Ok(())
    }

    /// The inside of an object, to its closing brace.
    fn object(&mut self) -> Result<(), Fault> {
        let mut names = Names::default();
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            if self.peek().ok_or(Fault::Ended)? != b'"' {
                return Err(Fault::Syntax);
            }
            let begins = self.at;
            let name = self.string()?;
            if !names.insert(name) {
                self.at = begins;
                return Err(Fault::DuplicateName);
            }
            self.blank();
            self.expect(b':')?;
            self.blank();
            self.value()?;
            if self.ends(b'}')? {
                return Ok(());
            }
        }
    }

    /// The inside of an array, to its closing bracket.
    fn array(&mut self) -> Result<(), Fault> {
        if self.take(b']') {
            return Ok(());
        }
        loop {
            self.value()?;
            if self.ends(b']')? {
                return Ok(());
            }
        }
    }

    /// Behind a member: either the end, or a comma and the next.
    fn ends(&mut self, end: u8) -> Result<bool, Fault> {
        self.blank();
        if self.take(end) {
            return Ok(true);
        }
        self.expect(b',')?;
        self.blank();
        Ok(false)
    }

    fn string(&mut self) -> Result<Cow<'t, str>, Fault> {
        self.at += 1;
        let begins = self.at;
        let mut plain = begins;
        let mut decoded: Option<String> = None;
        loop {
            match self.peek().ok_or(Fault::Ended)? {
                b'"' => {
                    let tail = self.slice(plain, self.at)?;
                    self.at += 1;
                    return Ok(match decoded {
                        None => Cow::Borrowed(tail),
                        Some(head) => Cow::Owned(head + tail),
                    });
                }
                b'\\' => {
                    let head = self.slice(plain, self.at)?;
                    let decoded = decoded.get_or_insert_default();
                    decoded.push_str(head);
                    self.at += 1;
                    decoded.push(self.escape()?);
                    plain = self.at;
                }
                0..0x20 => return Err(Fault::Syntax),
                _ => self.at += 1,
            }
        }
    }

    fn slice(&self, from: usize, to: usize) -> Result<&'t str, Fault> {
        std::str::from_utf8(&self.text[from..to]).map_err(|_| Fault::NotUtf8)
    }

    /// What stands behind a backslash.
    fn escape(&mut self) -> Result<char, Fault> {
        let kind = self.peek().ok_or(Fault::Ended)?;
        self.at += 1;
        Ok(match kind {
            b'"' | b'\\' | b'/' => char::from(kind),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            _ => return Err(Fault::Syntax),
        })
    }

    fn unicode(&mut self) -> Result<char, Fault> {
        let first = self.four_hex()?;
        let code = match first {
            0 => return Err(Fault::Nul),
            0xD800..=0xDBFF => {
                if !(self.take(b'\\') && self.take(b'u')) {
                    return Err(Fault::LoneSurrogate);
                }
                let second = self.four_hex()?;
                if !(0xDC00..=0xDFFF).contains(&second) {
                    return Err(Fault::LoneSurrogate);
                }
                0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00)
            }
            other => other,
        };
        // A trailing surrogate without its leading half is no character either.
        char::from_u32(code).ok_or(Fault::LoneSurrogate)
    }

    fn four_hex(&mut self) -> Result<u32, Fault> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = char::from(self.peek().ok_or(Fault::Ended)?).to_digit(16).ok_or(Fault::Syntax)?;
            code = code * 16 + digit;
            self.at += 1;
        }
        Ok(code)
    }

    fn number(&mut self) -> Result<(), Fault> {
        let begins = self.at;
        self.take(b'-');
        let mut shape = Shape::default();
        match self.peek().ok_or(Fault::Ended)? {
            b'0' => {
                self.at += 1;
                shape.integer_digits = 1;
            }
            b'1'..=b'9' => shape.integer_digits = self.digits(&mut shape)?,
            _ => return Err(Fault::Syntax),
        }
        let whole = !matches!(self.peek(), Some(b'.' | b'e' | b'E'));
        if self.take(b'.') {
            shape.fraction_digits = self.digits(&mut shape)?;
        }
        if self.take(b'e') || self.take(b'E') {
            shape.exponent = self.exponent()?;
        }
        self.judge(&shape, whole, begins)
    }

    /// One or more digits; counts them, and notes which of them are significant.
    fn digits(&mut self, shape: &mut Shape) -> Result<i64, Fault> {
        let begins = self.at;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            shape.note(digit);
            self.at += 1;
        }
        match self.at - begins {
            0 if self.at == self.text.len() => Err(Fault::Ended),
            0 => Err(Fault::Syntax),
            count => Ok(i64::try_from(count).unwrap_or(i64::MAX)),
        }
    }

    fn exponent(&mut self) -> Result<i64, Fault> {
        let negative = self.take(b'-');
        if !negative {
            self.take(b'+');
        }
        let begins = self.at;
        self.digits(&mut Shape::default())?;
        // Saturates far outside of what is storable, and far inside of what can be added up.
        let magnitude = self.text[begins..self.at]
            .iter()
            .fold(0_i64, |sum, digit| (sum * 10 + i64::from(digit - b'0')).min(1_000_000_000));
        Ok(if negative { -magnitude } else { magnitude })
    }

    fn judge(&mut self, shape: &Shape, whole: bool, begins: usize) -> Result<(), Fault> {
        let before = shape.integer_digits.saturating_add(shape.exponent);
        let behind = shape.fraction_digits.saturating_sub(shape.exponent);
        self.expansion = self.expansion.saturating_add(before.max(0)).saturating_add(behind.max(0));
        if before > INTEGER_DIGITS_MAX
            || behind > FRACTION_DIGITS_MAX
            || self.expansion > EXPANDED_CHARS_MAX.saturating_add(i64::try_from(self.text.len()).unwrap_or(i64::MAX))
        {
            self.at = begins;
            return Err(Fault::NumberTooLong);
        }
        if self.numbers == Numbers::Merged {
            let text = self.slice(begins, self.at)?;
            let exact = if whole {
                text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok()
            } else {
                shape.significant() <= 15 && before <= 300 && behind <= 300
            };
            if !exact {
                self.at = begins;
                return Err(Fault::NumberInexact);
            }
        }
        Ok(())
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Fault> {
        if self.text[self.at..].starts_with(word) {
            self.at += word.len();
            Ok(())
        } else if word.starts_with(&self.text[self.at..]) {
            Err(Fault::Ended)
        } else {
            Err(Fault::Syntax)
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, byte: u8) -> Result<(), Fault> {
        if self.take(byte) {
            return Ok(());
        }
        Err(if self.peek().is_none() { Fault::Ended } else { Fault::Syntax })
    }
}

/// The shape of a number: how many digits it has where.
#[derive(Default)]
struct Shape {
    integer_digits: i64,
    fraction_digits: i64,
    exponent: i64,
    /// Digits from the first that is not zero.
    seen: u32,
    /// Zeros at the end of those.
    zeros: u32,
}

impl Shape {
    fn note(&mut self, digit: u8) {
        if digit != b'0' || self.seen > 0 {
            self.seen = self.seen.saturating_add(1);
        }
        self.zeros = if digit == b'0' { self.zeros.saturating_add(1) } else { 0 };
    }

    fn significant(&self) -> u32 {
        self.seen.saturating_sub(self.zeros)
    }
}

/// The names of one object so far.
#[derive(Default)]
struct Names<'t> {
    few: Vec<Cow<'t, str>>,
    many: HashSet<Cow<'t, str>>,
}

impl<'t> Names<'t> {
    /// Whether the name is new.
    fn insert(&mut self, name: Cow<'t, str>) -> bool {
        if self.many.is_empty() && self.few.len() < NAMES_COMPARED_MAX {
            let new = !self.few.contains(&name);
            self.few.push(name);
            return new;
        }
        self.many.extend(self.few.drain(..));
        self.many.insert(name)
    }
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
