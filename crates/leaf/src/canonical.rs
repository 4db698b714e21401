//! Whether a line is canonical JSON: the one form in which a value can be written. A reader that took more
//! would let one leaf be shown with two meanings (duplicate keys, `1.0`, needless escapes).

use crate::line::LEAF_BYTES_MAX;

/// How deep lists and objects may lie in each other. A decision's leaf needs three.
const DEPTH_MAX: usize = 8;

/// Why a line is not canonical, and at which byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the line is not canonical JSON: {rule} (at byte {at})")]
pub struct NotCanonical {
    /// The rule it breaks, as a clause.
    pub rule: &'static str,
    /// The byte where that showed, from 0.
    pub at: usize,
}

/// Checks that a line is one canonical JSON object: keys sorted and unique, no space, no null, no float,
/// integers within 2^53 - 1, strings escaped as RFC 8785 escapes, at most [`LEAF_BYTES_MAX`] bytes.
/// Leaves of every kind obey this, also those of kinds unknown here.
///
/// # Errors
/// [`NotCanonical`] names the first rule that is broken.
pub fn check_canonical(line: &[u8]) -> Result<(), NotCanonical> {
    let mut reader = Reader { line, at: 0 };
    if line.len() > LEAF_BYTES_MAX {
        return reader.fails("it is longer than 4096 bytes");
    }
    if let Err(error) = std::str::from_utf8(line) {
        reader.at = error.valid_up_to();
        return reader.fails("it is not UTF-8");
    }
    if reader.peek() != Some(b'{') {
        return reader.fails("it is no object");
    }
    reader.value(0)?;
    if reader.at == line.len() { Ok(()) } else { reader.fails("something follows the object") }
}

struct Reader<'a> {
    line: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn fails<T>(&self, rule: &'static str) -> Result<T, NotCanonical> {
        Err(NotCanonical { rule, at: self.at })
    }

    fn peek(&self) -> Option<u8> {
        self.line.get(self.at).copied()
    }

    fn takes(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn value(&mut self, depth: usize) -> Result<(), NotCanonical> {
        if depth > DEPTH_MAX {
            return self.fails("it is nested too deeply");
        }
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.integer(),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            _ => self.fails("a string, an integer, a boolean, a list or an object is expected"),
        }
    }

    fn object(&mut self, depth: usize) -> Result<(), NotCanonical> {
        self.at += 1;
        if self.takes(b'}') {
            return Ok(());
        }
        let mut before: Option<&[u8]> = None;
        loop {
            let start = self.at;
            let key = self.string()?;
            if !key.is_ascii() || key.contains(&b'\\') {
                self.at = start;
                return self.fails("a key is plain ASCII");
            }
            if before.is_some_and(|before| before >= key) {
                self.at = start;
                return self.fails("keys are sorted and appear once");
            }
            before = Some(key);
            if !self.takes(b':') {
                return self.fails("a colon follows a key, without space");
            }
            self.value(depth + 1)?;
            if self.takes(b'}') {
                return Ok(());
            }
            if !self.takes(b',') {
                return self.fails("a comma or the end of the object is expected");
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<(), NotCanonical> {
        self.at += 1;
        if self.takes(b']') {
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            if self.takes(b']') {
                return Ok(());
            }
            if !self.takes(b',') {
                return self.fails("a comma or the end of the list is expected");
            }
        }
    }

    /// Passes a string and returns what is between its quotes, still escaped.
    fn string(&mut self) -> Result<&'a [u8], NotCanonical> {
        if !self.takes(b'"') {
            return self.fails("a string is expected");
        }
        let start = self.at;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(&self.line[start..self.at - 1]);
                }
                Some(b'\\') => self.escape()?,
                Some(0..=0x1f) => return self.fails("a control character is escaped"),
                Some(_) => self.at += 1,
                None => return self.fails("a string ends with a quote"),
            }
        }
    }

    fn escape(&mut self) -> Result<(), NotCanonical> {
        let escape = &self.line[self.at + 1..];
        self.at += match escape {
            [b'"' | b'\\' | b'b' | b't' | b'n' | b'f' | b'r', ..] => 2,
            // Only control characters that have no short form, in lower case.
            [b'u', b'0', b'0', high @ b'0'..=b'1', low @ (b'0'..=b'9' | b'a'..=b'f'), ..]
                if !(*high == b'0' && matches!(low, b'8' | b'9' | b'a' | b'c' | b'd')) =>
            {
                6
            }
            _ => return self.fails("a character is escaped only where it must be, in its shortest form"),
        };
        Ok(())
    }

    fn integer(&mut self) -> Result<(), NotCanonical> {
        let start = self.at;
        let negative = self.takes(b'-');
        let digits = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        let digits = &self.line[digits..self.at];
        let value = digits.iter().try_fold(0_u64, |value, digit| {
            value.checked_mul(10)?.checked_add(u64::from(digit - b'0')).filter(|value| *value < 1 << 53)
        });
        let plain = digits.len() == 1 || !digits.starts_with(b"0");
        match value {
            Some(value) if plain && !digits.is_empty() && !(negative && value == 0) => Ok(()),
            _ => {
                self.at = start;
                self.fails("an integer is plain and within 2^53 - 1")
            }
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), NotCanonical> {
        if self.line[self.at..].starts_with(word) {
            self.at += word.len();
            Ok(())
        } else {
            self.fails("a string, an integer, a boolean, a list or an object is expected")
        }
    }
}
