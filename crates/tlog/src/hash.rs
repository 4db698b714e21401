//! The two hashes of RFC 6962 section 2.1. The leading byte keeps a leaf from being mistaken for a node.

use sha2::{Digest, Sha256};

/// A SHA-256 digest.
pub type Hash = [u8; 32];

/// The most leaves a tree may hold: 2^53 - 1, so that every size is exact in JSON, too.
pub const SIZE_MAX: u64 = (1 << 53) - 1;

const LEAF_PREFIX: [u8; 1] = [0];
const NODE_PREFIX: [u8; 1] = [1];

/// The hash of one leaf's bytes.
#[must_use]
pub fn leaf_hash(bytes: &[u8]) -> Hash {
    Sha256::new().chain_update(LEAF_PREFIX).chain_update(bytes).finalize().into()
}

/// The hash of a node from those of its children.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update(NODE_PREFIX).chain_update(left).chain_update(right).finalize().into()
}

/// The root of the tree without leaves: the hash of nothing.
#[must_use]
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}
