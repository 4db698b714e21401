//! Texts that carry proofs from one to another: that an entry is in a log (C2SP tlog-proof), and the
//! request that a log makes of a witness (C2SP tlog-witness).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::checkpoint::{Checkpoint, decimal, hash};
use crate::hash::Hash;
use crate::note::Note;

/// The most hashes in a proof.
pub const PROOF_HASHES_MAX: usize = 63;

const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// That some entry is number `index` of the log that `checkpoint` is of. The entry itself is not in it.
/// `Display` writes a `.tlog-proof` file, and `FromStr` reads one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryProof {
    /// Opaque data that nobody signed.
    pub extra: Option<Vec<u8>>,
    /// The entry's index, from 0.
    pub index: u64,
    /// The inclusion proof, from the leaf's sibling up.
    pub hashes: Vec<Hash>,
    /// The signed checkpoint.
    pub checkpoint: Note,
}

impl fmt::Display for EntryProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", STANDARD.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        self.hashes.iter().try_for_each(|hash| writeln!(f, "{}", STANDARD.encode(hash)))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for EntryProof {
    type Err = EvidenceError;

    fn from_str(text: &str) -> Result<Self, EvidenceError> {
        let (mut lines, checkpoint) = split(text)?;
        if lines.next() != Some(HEADER) {
            return Err(EvidenceError);
        }
        let mut line = lines.next().ok_or(EvidenceError)?;
        let mut extra = None;
        if let Some(encoded) = line.strip_prefix("extra ") {
            extra = Some(STANDARD.decode(encoded).map_err(|_| EvidenceError)?);
            line = lines.next().ok_or(EvidenceError)?;
        }
        let index = line.strip_prefix("index ").and_then(decimal).ok_or(EvidenceError)?;
        Ok(Self { extra, index, hashes: hashes(lines)?, checkpoint })
    }
}

/// What a log asks of a witness: to cosign a checkpoint that continues the one it cosigned last.
/// `Display` writes the body of `add-checkpoint`, and `FromStr` reads one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size that the witness is believed to have cosigned last; 0 for none.
    pub old_size: u64,
    /// The consistency proof from there.
    pub hashes: Vec<Hash>,
    /// The signed checkpoint.
    pub checkpoint: Note,
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old_size)?;
        self.hashes.iter().try_for_each(|hash| writeln!(f, "{}", STANDARD.encode(hash)))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for AddCheckpoint {
    type Err = EvidenceError;

    fn from_str(text: &str) -> Result<Self, EvidenceError> {
        let (mut lines, checkpoint) = split(text)?;
        let old_size =
            lines.next().and_then(|line| line.strip_prefix("old ")).and_then(decimal).ok_or(EvidenceError)?;
        Ok(Self { old_size, hashes: hashes(lines)?, checkpoint })
    }
}

/// The lines before the first empty one, and the note behind it.
fn split(text: &str) -> Result<(std::str::Split<'_, char>, Note), EvidenceError> {
    let (head, note) = text.split_once("\n\n").ok_or(EvidenceError)?;
    let note: Note = note.parse().map_err(|_| EvidenceError)?;
    note.text().parse::<Checkpoint>().map_err(|_| EvidenceError)?;
    Ok((head.split('\n'), note))
}

fn hashes<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Vec<Hash>, EvidenceError> {
    let mut found = Vec::new();
    for line in lines {
        if found.len() == PROOF_HASHES_MAX {
            return Err(EvidenceError);
        }
        found.push(hash(line).ok_or(EvidenceError)?);
    }
    Ok(found)
}

/// The text is not of the form that such proofs have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the proof is not of the form of C2SP tlog-proof or tlog-witness, or what follows it is no signed checkpoint")]
pub struct EvidenceError;
