//! A transparency log's arithmetic: Merkle hashing after RFC 6962 (and its successor RFC 9162), proofs
//! that a leaf is in a tree and that one tree continues another, and the texts and addresses of C2SP:
//! tlog-tiles, tlog-checkpoint, signed-note, tlog-cosignature, tlog-proof. Pure, and it knows nothing of what
//! the leaves say.
//!
//! No function here panics on any input: proofs, notes and tile paths come from strangers.

mod checkpoint;
mod evidence;
mod frontier;
mod hash;
mod key;
mod note;
mod proof;
mod tile;
mod tree;

pub use checkpoint::{Checkpoint, CheckpointError};
pub use evidence::{AddCheckpoint, EntryProof, EvidenceError, PROOF_HASHES_MAX};
pub use frontier::{Frontier, FrontierError};
pub use hash::{Hash, SIZE_MAX, empty_root, leaf_hash, node_hash};
pub use key::{KEY_NAME_BYTES_MAX, KeyError, KeyKind, SignatureError, SigningKey, Verified, VerifierKey, is_key_name};
pub use note::{NOTE_BYTES_MAX, NOTE_SIGNATURES_MAX, Note, NoteError, Signature};
pub use proof::{ProofError, consistency_proof, inclusion_proof, root_of, verify_consistency, verify_inclusion};
pub use tile::{TILE_WIDTH, Tile, TilePathError};
pub use tree::{TileSet, TreeError, tiles_for_consistency, tiles_for_inclusion, tiles_for_root};
