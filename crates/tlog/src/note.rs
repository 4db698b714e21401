//! Signed notes (C2SP signed-note): a text, an empty line, and a line for each signature.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::key::is_key_name;

/// The most bytes of a note, signatures included.
pub const NOTE_BYTES_MAX: usize = 256 * 1024;
/// The most signatures under a note.
pub const NOTE_SIGNATURES_MAX: usize = 64;

/// A text with the signatures under it. Reading one proves nothing: [`VerifierKey::verify`](crate::VerifierKey::verify) does.
///
/// `Display` writes the note, and `FromStr` reads exactly what `Display` writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

impl Note {
    /// A note without signatures yet.
    ///
    /// # Errors
    /// [`NoteError`] when the text does not end in a line break or holds control characters.
    pub fn new(text: String) -> Result<Self, NoteError> {
        let plain = text.ends_with('\n') && !text.chars().any(|c| c < ' ' && c != '\n');
        if plain && text.len() <= NOTE_BYTES_MAX { Ok(Self { text, signatures: Vec::new() }) } else { Err(NoteError) }
    }

    /// The signed text, with its last line break.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures, right or wrong.
    #[must_use]
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// Puts a signature under the note, instead of an older one by the same key. Past 64 signatures nothing is added.
    pub fn add(&mut self, signature: Signature) {
        self.signatures.retain(|old| (&old.name, old.key_id) != (&signature.name, signature.key_id));
        if self.signatures.len() < NOTE_SIGNATURES_MAX {
            self.signatures.push(signature);
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

/// The text is not a signed note.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a signed note is a text, an empty line, and 1 to 64 lines `— <key name> <base64>`, 256 KiB at most")]
pub struct NoteError;

impl FromStr for Note {
    type Err = NoteError;

    fn from_str(note: &str) -> Result<Self, NoteError> {
        if note.len() > NOTE_BYTES_MAX {
            return Err(NoteError);
        }
        // The text may hold empty lines; the last one ends it.
        let (text, lines) = note.rsplit_once("\n\n").ok_or(NoteError)?;
        let lines = lines.strip_suffix('\n').ok_or(NoteError)?;
        let mut read = Self::new(format!("{text}\n"))?;
        for line in lines.split('\n') {
            if read.signatures.len() == NOTE_SIGNATURES_MAX {
                return Err(NoteError);
            }
            read.signatures.push(line.parse()?);
        }
        Ok(read)
    }
}

/// One line under a note. `Display` and `FromStr` know it without its line break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    name: String,
    key_id: u32,
    bytes: Vec<u8>,
}

impl Signature {
    pub(crate) fn new(name: String, key_id: u32, bytes: Vec<u8>) -> Self {
        Self { name, key_id, bytes }
    }

    /// The name of the key that is said to have signed.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id of that key.
    #[must_use]
    pub fn key_id(&self) -> u32 {
        self.key_id
    }

    /// What the algorithm made.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [self.key_id.to_be_bytes().as_slice(), &self.bytes].concat();
        write!(f, "— {} {}", self.name, STANDARD.encode(bytes))
    }
}

impl FromStr for Signature {
    type Err = NoteError;

    fn from_str(line: &str) -> Result<Self, NoteError> {
        let (name, encoded) = line.strip_prefix("— ").and_then(|rest| rest.split_once(' ')).ok_or(NoteError)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| NoteError)?;
        let (key_id, bytes) = bytes.split_first_chunk::<4>().ok_or(NoteError)?;
        if !is_key_name(name) || bytes.is_empty() {
            return Err(NoteError);
        }
        Ok(Self::new(name.to_owned(), u32::from_be_bytes(*key_id), bytes.to_vec()))
    }
}
