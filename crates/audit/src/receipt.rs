//! The receipt that a caller gets for a deed, as the `Domicile-Audit` header carries it:
//! `log=<origin>; seq=<n>; leaf=<base64url of the leaf hash>`. Whoever keeps it can later demand the leaf;
//! a log that no longer has it has been tampered with.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use storage::LogPosition;
use tlog::{Checkpoint, EntryProof, Verified, VerifierKey, verify_inclusion};

/// The longest log origin a receipt names, bytes.
pub const ORIGIN_BYTES_MAX: usize = 256;

/// Where the leaf of a deed is. `Display` writes the header's value and `FromStr` reads exactly that.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Receipt {
    origin: String,
    seq: u64,
    leaf_hash: tlog::Hash,
}

impl Receipt {
    /// The receipt for a position in the log with this origin.
    ///
    /// # Errors
    /// [`NotAReceipt`] when the origin could not stand in a header: it is empty, longer than 256 bytes, or
    /// holds a semicolon, a space or anything but visible ASCII.
    pub fn new(origin: &str, position: &LogPosition) -> Result<Self, NotAReceipt> {
        Self::of(origin, position.seq, position.leaf_hash)
    }

    fn of(origin: &str, seq: u64, leaf_hash: tlog::Hash) -> Result<Self, NotAReceipt> {
        let plain = (1..=ORIGIN_BYTES_MAX).contains(&origin.len())
            && origin.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';');
        if plain && seq <= tlog::SIZE_MAX {
            Ok(Self { origin: origin.to_owned(), seq, leaf_hash })
        } else {
            Err(NotAReceipt)
        }
    }

    /// The log's origin: its name in checkpoints.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The leaf's index in that log, from 0.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The leaf's RFC 6962 hash.
    #[must_use]
    pub fn leaf_hash(&self) -> &tlog::Hash {
        &self.leaf_hash
    }

    /// The leaf's hash as the header shows it: base64url without padding.
    #[must_use]
    pub fn leaf_base64url(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.leaf_hash)
    }

    /// Checks that the log holds the promised leaf: by a proof under a checkpoint that the log's key signed. Returns
    /// the size of the log that the checkpoint speaks of.
    ///
    /// # Errors
    /// [`Broken`] names what does not hold.
    pub fn check(&self, proof: &EntryProof, key: &VerifierKey, entry: Option<&[u8]>) -> Result<u64, Broken> {
        if entry.is_some_and(|entry| !self.is_for(entry)) {
            return Err(Broken::OtherEntry);
        }
        if key.name() != self.origin {
            return Err(Broken::OtherLog { key: key.name().to_owned() });
        }
        if key.verify(&proof.checkpoint) != Ok(Verified::Signed) {
            return Err(Broken::Unsigned);
        }
        let checkpoint: Checkpoint = proof.checkpoint.text().parse().map_err(|_| Broken::Unsigned)?;
        if checkpoint.origin != self.origin {
            return Err(Broken::OtherLog { key: checkpoint.origin });
        }
        if proof.index != self.seq {
            return Err(Broken::OtherIndex { index: proof.index });
        }
        verify_inclusion(self.seq, checkpoint.size, &self.leaf_hash, &proof.hashes, &checkpoint.root)
            .map_err(|_| Broken::OtherLeaf)?;
        Ok(checkpoint.size)
    }

    /// Whether this line is the very leaf that the receipt promises.
    #[must_use]
    pub fn is_for(&self, line: &[u8]) -> bool {
        tlog::leaf_hash(line) == self.leaf_hash
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "log={}; seq={}; leaf={}", self.origin, self.seq, self.leaf_base64url())
    }
}

/// Why a receipt does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The entry that was shown has another hash.
    #[error("the entry is not the one that the receipt promises")]
    OtherEntry,
    /// The proof or the key is of another log.
    #[error("the receipt is of another log than {key}")]
    OtherLog {
        /// Whose the proof or the key is.
        key: String,
    },
    /// The proof's checkpoint is not signed by the key.
    #[error("the checkpoint of the proof is not signed by the log's key")]
    Unsigned,
    /// The proof is for another place in the log.
    #[error("the proof is for entry {index}")]
    OtherIndex {
        /// Which.
        index: u64,
    },
    /// The log holds something else there.
    #[error(
        "the log that was signed does not hold the promised leaf there: keep the receipt and the proof as evidence"
    )]
    OtherLeaf,
}

impl Broken {
    /// The stable name of what does not hold.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::OtherEntry => "other_entry",
            Self::OtherLog { .. } => "other_log",
            Self::Unsigned => "not_signed_by_this_key",
            Self::OtherIndex { .. } => "other_index",
            Self::OtherLeaf => "leaf_not_in_log",
        }
    }

    /// The exit code of a command that checks receipts.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::OtherLog { .. } | Self::Unsigned => 10,
            Self::OtherEntry => 11,
            Self::OtherIndex { .. } | Self::OtherLeaf => 12,
        }
    }
}

/// The text is no receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a receipt looks like `log=<origin>; seq=<number>; leaf=<43 characters of base64url>`")]
pub struct NotAReceipt;

impl FromStr for Receipt {
    type Err = NotAReceipt;

    fn from_str(text: &str) -> Result<Self, NotAReceipt> {
        read(text).ok_or(NotAReceipt)
    }
}

fn read(text: &str) -> Option<Receipt> {
    let rest = text.strip_prefix("log=")?;
    let (origin, rest) = rest.split_once("; seq=")?;
    let (seq, leaf) = rest.split_once("; leaf=")?;
    let leaf_hash = URL_SAFE_NO_PAD.decode(leaf).ok()?.try_into().ok()?;
    let receipt = Receipt::of(origin, seq.parse().ok()?, leaf_hash).ok()?;
    // `+7` and `007` are numbers, too, but a receipt has one form.
    (receipt.to_string() == text).then_some(receipt)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str =
        "log=audit.example.com/domicile/eu-central; seq=42; leaf=BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc";

    #[test]
    fn a_receipt_is_written_as_documented_and_read_back() {
        let receipt = Receipt::of("audit.example.com/domicile/eu-central", 42, [7; 32]).expect("a receipt");
        assert_eq!(receipt.to_string(), HEADER);
        assert_eq!(HEADER.parse(), Ok(receipt));
    }

    #[test]
    fn a_receipt_promises_one_line_and_no_other() {
        let receipt = Receipt::of("o", 0, tlog::leaf_hash(b"{}")).expect("a receipt");
        assert!(receipt.is_for(b"{}"));
        assert!(!receipt.is_for(b"{ }"));
    }

    #[test]
    fn what_is_written_otherwise_is_no_receipt() {
        for (from, to) in [
            ("log=", "Log="),
            ("; seq", ";seq"),
            ("seq=42", "seq=+42"),
            ("seq=42", "seq=042"),
            ("seq=42", "seq=-1"),
            ("seq=42", "seq=9007199254740992"),
            ("seq=42", "seq=x"),
            ("leaf=Bw", "leaf=B"),
            ("audit.example.com/domicile/eu-central", ""),
            ("audit", "au dit"),
            ("audit", "au;dit"),
            ("audit", "aüdit"),
        ] {
            let edited = HEADER.replacen(from, to, 1);
            assert_ne!(edited, HEADER);
            assert_eq!(edited.parse::<Receipt>(), Err(NotAReceipt), "{edited}");
        }
        let other_unused_bits = format!("{}d", &HEADER[..HEADER.len() - 1]);
        assert!(other_unused_bits.parse::<Receipt>().is_err());
        assert!(format!("{HEADER} ").parse::<Receipt>().is_err());
        assert!("".parse::<Receipt>().is_err());
    }

    #[test]
    fn an_origin_that_would_break_the_header_is_refused() {
        for origin in ["", "a b", "a;b", "a\r\nSet-Cookie: x", "ä", &"x".repeat(ORIGIN_BYTES_MAX + 1)] {
            assert_eq!(Receipt::of(origin, 0, [0; 32]), Err(NotAReceipt), "{origin}");
        }
    }
}
