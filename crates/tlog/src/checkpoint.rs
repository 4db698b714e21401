//! Checkpoints (C2SP tlog-checkpoint): the size and the root of a log, as the text of a signed note.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::hash::{Hash, SIZE_MAX};
use crate::key::is_key_name;

/// What a log was like at some moment. `Display` writes the text of the note, and `FromStr` reads exactly that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log: the name that it keeps for ever.
    pub origin: String,
    /// How many leaves it had.
    pub size: u64,
    /// The RFC 6962 root over them.
    pub root: Hash,
    /// Further lines, which mean nothing here; usually none.
    pub extensions: Vec<String>,
}

impl Checkpoint {
    /// A checkpoint without extensions.
    #[must_use]
    pub fn new(origin: &str, size: u64, root: Hash) -> Self {
        Self { origin: origin.to_owned(), size, root, extensions: Vec::new() }
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, STANDARD.encode(self.root))?;
        self.extensions.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// The text is not a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a checkpoint has a line each for the log's origin, its size and its root in base64")]
pub struct CheckpointError;

impl FromStr for Checkpoint {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        read(text).ok_or(CheckpointError)
    }
}

fn read(text: &str) -> Option<Checkpoint> {
    let mut lines = text.strip_suffix('\n')?.split('\n');
    let origin = lines.next().filter(|origin| is_key_name(origin))?;
    let size = decimal(lines.next()?)?;
    let root = hash(lines.next()?)?;
    let extensions: Vec<String> = lines.map(str::to_owned).collect();
    let plain = extensions.iter().all(|line| !line.is_empty());
    plain.then(|| Checkpoint { origin: origin.to_owned(), size, root, extensions })
}

/// A decimal number up to 2^53 - 1, without sign or leading zeros.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let plain = (1..=16).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text.len() == 1 || !text.starts_with('0'));
    if plain { text.parse().ok().filter(|number| *number <= SIZE_MAX) } else { None }
}

/// A hash in base64.
pub(crate) fn hash(text: &str) -> Option<Hash> {
    STANDARD.decode(text).ok()?.try_into().ok()
}
