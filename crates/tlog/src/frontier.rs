//! The right edge of a growing tree: all that must be kept to append leaves and to know the root.

use crate::hash::{Hash, SIZE_MAX, empty_root, node_hash};

/// The roots of the complete subtrees that make up a tree, largest first: one for every bit set in its
/// size (a "compact range" from 0). Appending a leaf costs one hash on average, the root at most 53.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    /// The frontier of the tree without leaves.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many leaves the tree holds.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends one leaf, given by its [`leaf_hash`](crate::leaf_hash).
    pub fn push(&mut self, leaf_hash: Hash) {
        let mut node = leaf_hash;
        // Each one-bit at the end of the size is a complete subtree that the new one closes a pair with.
        for _ in 0..self.size.trailing_ones() {
            let Some(left) = self.peaks.pop() else { break };
            node = node_hash(&left, &node);
        }
        self.peaks.push(node);
        self.size += 1;
    }

    /// The root of the tree as it stands.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(smallest) = peaks.next() else { return empty_root() };
        peaks.fold(*smallest, |right, left| node_hash(left, &right))
    }

    /// The frontier as bytes: the size (8 bytes, big-endian), then the subtree roots, largest first.
    /// At most 8 + 53 * 32 = 1,704 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + 32 * self.peaks.len());
        bytes.extend_from_slice(&self.size.to_be_bytes());
        bytes.extend(self.peaks.iter().flatten());
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote, and nothing else.
    ///
    /// # Errors
    /// [`FrontierError`] when the size is missing or too large, or when the number of hashes does not fit it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FrontierError> {
        let (size, hashes) = bytes.split_first_chunk::<8>().ok_or(FrontierError::Truncated)?;
        let size = u64::from_be_bytes(*size);
        if size > SIZE_MAX {
            return Err(FrontierError::TooLarge);
        }
        let (peaks, rest) = hashes.as_chunks::<32>();
        if !rest.is_empty() || peaks.len() != size.count_ones() as usize {
            return Err(FrontierError::WrongCount { size });
        }
        Ok(Self { size, peaks: peaks.to_vec() })
    }
}

impl Extend<Hash> for Frontier {
    /// Appends leaves in order, each given by its leaf hash.
    fn extend<Hashes: IntoIterator<Item = Hash>>(&mut self, leaf_hashes: Hashes) {
        for leaf_hash in leaf_hashes {
            self.push(leaf_hash);
        }
    }
}

/// Why bytes are no frontier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrontierError {
    /// Fewer than the eight bytes of the size.
    #[error("a frontier begins with a size of eight bytes, and these are fewer")]
    Truncated,
    /// The size exceeds [`SIZE_MAX`].
    #[error("a tree holds at most 2^53 - 1 leaves")]
    TooLarge,
    /// The hashes do not fit the size.
    #[error("a tree of {size} leaves needs one 32-byte hash for every bit set in its size")]
    WrongCount {
        /// The size that was read.
        size: u64,
    },
}
