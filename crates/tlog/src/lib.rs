//! A transparency log's arithmetic: Merkle hashing after RFC 6962 (and its successor RFC 9162), proofs
//! that a leaf is in a tree and that one tree continues another, and the tile addresses of C2SP
//! tlog-tiles. Pure, and it knows nothing of what the leaves say.
//!
//! No function here panics on any input: proofs and tile paths come from strangers.

mod frontier;
mod hash;
mod proof;
mod tile;

pub use frontier::{Frontier, FrontierError};
pub use hash::{Hash, SIZE_MAX, empty_root, leaf_hash, node_hash};
pub use proof::{ProofError, consistency_proof, inclusion_proof, root_of, verify_consistency, verify_inclusion};
pub use tile::{TILE_WIDTH, Tile, TilePathError};
