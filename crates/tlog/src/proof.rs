//! Proofs: that a leaf is in a tree, and that a tree is the beginning of a later one. Verification
//! follows RFC 9162 sections 2.1.3.2 and 2.1.4.2; the makers follow the recursive definitions
//! (2.1.3.1, 2.1.4.1) and are meant for trees whose leaf hashes fit in memory.

use crate::hash::{Hash, empty_root, node_hash};

/// Why a proof does not prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The leaf would lie behind the tree's end.
    #[error("the tree of {size} leaves has no leaf {index}")]
    OutOfTree {
        /// The leaf's index.
        index: u64,
        /// The tree's size.
        size: u64,
    },
    /// The older tree is larger than the newer one.
    #[error("a tree of {older} leaves cannot have grown into one of {newer}")]
    Shrunk {
        /// Size of the older tree.
        older: u64,
        /// Size of the newer tree.
        newer: u64,
    },
    /// Too few or too many hashes for these sizes.
    #[error("the proof has {hashes} hashes, which does not fit these sizes")]
    WrongLength {
        /// How many hashes the proof has.
        hashes: usize,
    },
    /// The hashes do not lead to the root.
    #[error("the proof leads to another root")]
    OtherRoot,
}

/// Checks that the leaf with hash `leaf` is number `index` (from 0) of the tree with `size` leaves and `root`.
///
/// # Errors
/// [`ProofError`] when it does not follow from the proof.
pub fn verify_inclusion(index: u64, size: u64, leaf: &Hash, proof: &[Hash], root: &Hash) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::OutOfTree { index, size });
    }
    let too_few_or_many = ProofError::WrongLength { hashes: proof.len() };
    let (mut node, mut last) = (index, size - 1);
    let mut found = *leaf;
    for sibling in proof {
        if last == 0 {
            return Err(too_few_or_many);
        }
        if node & 1 == 1 || node == last {
            found = node_hash(sibling, &found);
            // A node without a right sibling rises to the level where it is a right child itself.
            let levels = if node & 1 == 1 { 0 } else { node.trailing_zeros().min(63) };
            node >>= levels;
            last >>= levels;
        } else {
            found = node_hash(&found, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    match (last, found == *root) {
        (0, true) => Ok(()),
        (0, false) => Err(ProofError::OtherRoot),
        _ => Err(too_few_or_many),
    }
}

/// Checks that the tree with `newer` leaves and `newer_root` begins with the tree with `older` leaves and `older_root`.
///
/// Every tree continues the empty one and itself; either is proven by no hashes at all.
///
/// # Errors
/// [`ProofError`] when it does not follow from the proof.
pub fn verify_consistency(
    older: u64,
    newer: u64,
    proof: &[Hash],
    older_root: &Hash,
    newer_root: &Hash,
) -> Result<(), ProofError> {
    if older > newer {
        return Err(ProofError::Shrunk { older, newer });
    }
    let too_few_or_many = ProofError::WrongLength { hashes: proof.len() };
    if older == 0 || older == newer {
        let expected = if older == 0 { &empty_root() } else { newer_root };
        let empty_grew_out_of_nothing = newer > 0 || *newer_root == empty_root();
        return match proof {
            [] if older_root == expected && empty_grew_out_of_nothing => Ok(()),
            [] => Err(ProofError::OtherRoot),
            _ => Err(too_few_or_many),
        };
    }
    // Where the older tree is itself a complete subtree of the newer, its root opens the proof and is left out.
    let (first, rest) = match proof.split_first() {
        _ if older.is_power_of_two() => (older_root, proof),
        Some(split) => split,
        None => return Err(too_few_or_many),
    };
    let levels = (older - 1).trailing_ones();
    let (mut node, mut last) = ((older - 1) >> levels, (newer - 1) >> levels);
    let (mut old, mut new) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return Err(too_few_or_many);
        }
        if node & 1 == 1 || node == last {
            old = node_hash(sibling, &old);
            new = node_hash(sibling, &new);
            let levels = if node & 1 == 1 { 0 } else { node.trailing_zeros().min(63) };
            node >>= levels;
            last >>= levels;
        } else {
            new = node_hash(&new, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    match (last, old == *older_root && new == *newer_root) {
        (0, true) => Ok(()),
        (0, false) => Err(ProofError::OtherRoot),
        _ => Err(too_few_or_many),
    }
}

/// The root of the tree over these leaf hashes.
#[must_use]
pub fn root_of(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node_hash(&root_of(left), &root_of(right))
        }
    }
}

/// The proof that leaf `index` is in the tree over these leaf hashes; `None` when there is no such leaf.
#[must_use]
pub fn inclusion_proof(leaves: &[Hash], index: usize) -> Option<Vec<Hash>> {
    (index < leaves.len()).then(|| {
        let mut proof = Vec::new();
        path(leaves, index, &mut proof);
        proof
    })
}

/// The proof that the tree over the first `older` of these leaf hashes grew into the tree over all of them;
/// `None` when there are fewer.
#[must_use]
pub fn consistency_proof(leaves: &[Hash], older: usize) -> Option<Vec<Hash>> {
    (older <= leaves.len()).then(|| {
        let mut proof = Vec::new();
        if older > 0 {
            subproof(leaves, older, true, &mut proof);
        }
        proof
    })
}

/// RFC 9162, 2.1.3.1: PATH(m, D_n).
fn path(leaves: &[Hash], index: usize, proof: &mut Vec<Hash>) {
    if leaves.len() <= 1 {
        return;
    }
    let middle = split(leaves.len());
    let (left, right) = leaves.split_at(middle);
    if index < middle {
        path(left, index, proof);
        proof.push(root_of(right));
    } else {
        path(right, index - middle, proof);
        proof.push(root_of(left));
    }
}

/// RFC 9162, 2.1.4.1: SUBPROOF(m, D_n, b). `known` says that the verifier holds this subtree's root already.
fn subproof(leaves: &[Hash], older: usize, known: bool, proof: &mut Vec<Hash>) {
    if older == leaves.len() {
        if !known {
            proof.push(root_of(leaves));
        }
        return;
    }
    let middle = split(leaves.len());
    let (left, right) = leaves.split_at(middle);
    if older <= middle {
        subproof(left, older, known, proof);
        proof.push(root_of(right));
    } else {
        subproof(right, older - middle, false, proof);
        proof.push(root_of(left));
    }
}

/// The largest power of two smaller than `count`, which is at least 2.
fn split(count: usize) -> usize {
    1 << (count - 1).ilog2()
}
