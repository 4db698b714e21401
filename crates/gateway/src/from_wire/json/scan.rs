//! The scan of a text: one pass over its bytes, without building anything.

use std::borrow::Cow;
use std::collections::HashSet;

use super::{DEPTH_MAX, Fault, Numbers};

/// Digits before the decimal point that Postgres `numeric` holds.
const INTEGER_DIGITS_MAX: i64 = 131_072;
/// Digits behind the decimal point that Postgres `numeric` holds.
const FRACTION_DIGITS_MAX: i64 = 16_383;
/// Characters that the numbers of one text may expand to, beyond the length of the text itself.
const EXPANDED_CHARS_MAX: i64 = 1_048_576;
/// Names in one object up to which comparing each with each is the quickest way to find a twin.
const NAMES_COMPARED_MAX: usize = 8;

/// A text on the way to its end.
pub(super) struct Scan<'t> {
    text: &'t [u8],
    at: usize,
    depth: usize,
    expansion: i64,
    numbers: Numbers,
}

impl<'t> Scan<'t> {
    pub(super) fn of(text: &'t str, numbers: Numbers) -> Self {
        Self { text: text.as_bytes(), at: 0, depth: 0, expansion: 0, numbers }
    }

    /// How far it has come, bytes from 0.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// One value with blanks around it, and nothing behind.
    pub(super) fn whole(&mut self) -> Result<(), Fault> {
        self.blank();
        self.value()?;
        self.blank();
        if self.at == self.text.len() { Ok(()) } else { Err(Fault::Syntax) }
    }

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
