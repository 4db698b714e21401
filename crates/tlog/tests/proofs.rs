//! Right proofs prove, wrong ones do not, and no proof of a stranger makes the verifier panic.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use tlog::{
    Hash, ProofError, consistency_proof, empty_root, inclusion_proof, leaf_hash, root_of, verify_consistency,
    verify_inclusion,
};

/// Trees up to this size are tried exhaustively.
const SIZES: usize = 70;
/// And up to this size with every single hash of every proof spoilt.
const SPOILT_SIZES: usize = 24;

fn leaves(count: usize) -> Vec<Hash> {
    (0..count).map(|i| leaf_hash(&i.to_be_bytes())).collect()
}

fn vectors() -> serde_json::Value {
    serde_json::from_str(include_str!("data/prototype_vectors.json")).expect("JSON")
}

fn hash(text: &serde_json::Value) -> Hash {
    let text = text.as_str().expect("text");
    let bytes = hex::decode(text).or_else(|_| STANDARD.decode(text)).expect("hex or base64");
    bytes.try_into().expect("32 bytes")
}

fn hashes(list: &serde_json::Value) -> Vec<Hash> {
    list.as_array().expect("a list").iter().map(hash).collect()
}

#[test]
fn the_vectors_of_another_implementation_verify() {
    let v = vectors();
    let leaf = |name: &str| leaf_hash(v[name].as_str().expect("text").as_bytes());
    assert_eq!(leaf("leaf0"), hash(&v["leaf0_hash"]));
    assert_eq!(leaf("leaf42"), hash(&v["leaf42_hash_b64"]));
    let root = hash(&v["root_size_1000"]);
    assert_eq!(verify_inclusion(42, 1000, &leaf("leaf42"), &hashes(&v["proof_index_42"]), &root), Ok(()));
    let proof = hashes(&v["consistency_600_1000"]);
    assert_eq!(verify_consistency(600, 1000, &proof, &hash(&v["root_600"]), &root), Ok(()));
    assert!(
        verify_consistency(601, 1000, &proof, &hash(&v["root_600"]), &root).is_err(),
        "another size is another claim"
    );
}

#[test]
fn every_leaf_of_every_small_tree_is_proven_and_no_other() {
    let leaves = leaves(SIZES);
    for size in 1..=SIZES {
        let root = root_of(&leaves[..size]);
        for index in 0..size {
            let proof = inclusion_proof(&leaves[..size], index).expect("in the tree");
            let verify =
                |i: usize, leaf: &Hash, proof: &[Hash]| verify_inclusion(i as u64, size as u64, leaf, proof, &root);
            assert_eq!(verify(index, &leaves[index], &proof), Ok(()), "leaf {index} of {size}");
            if size > SPOILT_SIZES {
                continue;
            }
            for other in (0..size).filter(|other| *other != index) {
                assert!(verify(other, &leaves[index], &proof).is_err(), "leaf {index} of {size} is not {other}");
            }
            assert!(verify(index, &[0; 32], &proof).is_err(), "a changed leaf");
            for cut in 0..proof.len() {
                assert!(verify(index, &leaves[index], &proof[..cut]).is_err(), "a shortened proof");
                let mut edited = proof.clone();
                edited[cut][5] ^= 1;
                assert!(verify(index, &leaves[index], &edited).is_err(), "an edited proof");
            }
            let longer: Vec<Hash> = proof.iter().copied().chain([[0; 32]]).collect();
            assert!(verify(index, &leaves[index], &longer).is_err(), "a padded proof");
        }
        assert_eq!(inclusion_proof(&leaves[..size], size), None);
        assert!(verify_inclusion(size as u64, size as u64, &leaves[0], &[], &root).is_err());
    }
}

#[test]
fn every_small_tree_continues_every_smaller_one_and_no_other() {
    let leaves = leaves(SIZES);
    for newer in 0..=SIZES {
        let newer_root = root_of(&leaves[..newer]);
        for older in 0..=newer {
            let older_root = root_of(&leaves[..older]);
            let proof = consistency_proof(&leaves[..newer], older).expect("older");
            let verify = |proof: &[Hash], old: &Hash, new: &Hash| {
                verify_consistency(older as u64, newer as u64, proof, old, new)
            };
            assert_eq!(verify(&proof, &older_root, &newer_root), Ok(()), "{older} -> {newer}");
            assert!(verify(&proof, &[1; 32], &newer_root).is_err(), "{older} -> {newer}, another old root");
            if older > 0 {
                assert!(verify(&proof, &older_root, &[1; 32]).is_err(), "{older} -> {newer}, another new root");
            }
            if newer > SPOILT_SIZES {
                continue;
            }
            for cut in 0..proof.len() {
                assert!(verify(&proof[..cut], &older_root, &newer_root).is_err(), "{older} -> {newer}, shortened");
                let mut edited = proof.clone();
                edited[cut][31] ^= 0x80;
                assert!(verify(&edited, &older_root, &newer_root).is_err(), "{older} -> {newer}, edited");
            }
            let longer: Vec<Hash> = proof.iter().copied().chain([[0; 32]]).collect();
            assert!(verify(&longer, &older_root, &newer_root).is_err(), "{older} -> {newer}, padded");
        }
    }
    assert_eq!(consistency_proof(&leaves, SIZES + 1), None);
}

#[test]
fn a_log_that_shrank_or_began_anew_is_found() {
    let root = root_of(&leaves(9));
    assert_eq!(
        verify_consistency(9, 8, &[], &root, &root_of(&leaves(8))),
        Err(ProofError::Shrunk { older: 9, newer: 8 })
    );
    assert_eq!(verify_consistency(9, 9, &[], &root, &empty_root()), Err(ProofError::OtherRoot));
    assert_eq!(verify_consistency(0, 9, &[], &root, &root), Err(ProofError::OtherRoot));
    assert_eq!(verify_consistency(0, 0, &[], &empty_root(), &root), Err(ProofError::OtherRoot));
}

fn some_hashes() -> impl Strategy<Value = Vec<Hash>> {
    proptest::collection::vec(any::<Hash>(), 0..70)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn proofs_hold_in_larger_trees(size in 70_usize..5_000, pick in any::<prop::sample::Index>()) {
        let leaves = leaves(size);
        let (index, root) = (pick.index(size), root_of(&leaves));
        let proof = inclusion_proof(&leaves, index).expect("in the tree");
        prop_assert_eq!(verify_inclusion(index as u64, size as u64, &leaves[index], &proof, &root), Ok(()));
        let proof = consistency_proof(&leaves, index).expect("older");
        let older_root = root_of(&leaves[..index]);
        prop_assert_eq!(verify_consistency(index as u64, size as u64, &proof, &older_root, &root), Ok(()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_made_up_proof_proves_nothing_and_breaks_nothing(
        index in any::<u64>(), shift in 0_u32..64, size in any::<u64>(), proof in some_hashes(), a in any::<Hash>(), b in any::<Hash>(),
    ) {
        let (index, size) = (index >> shift, size >> (shift / 2));
        let included = verify_inclusion(index, size, &a, &proof, &b);
        prop_assert!(included.is_err());
        let consistent = verify_consistency(index, size, &proof, &a, &b);
        prop_assert!(consistent.is_err());
    }
}

#[test]
fn the_largest_sizes_break_nothing() {
    let hashes = vec![[3; 32]; 130];
    for a in [0, 1, 2, u64::MAX / 2, u64::MAX / 2 + 1, u64::MAX / 2 + 2, u64::MAX - 1, u64::MAX] {
        for b in [0, 1, 2, u64::MAX / 2, u64::MAX / 2 + 1, u64::MAX - 1, u64::MAX] {
            for len in [0, 1, 62, 63, 64, 65, 130] {
                assert!(verify_inclusion(a, b, &[1; 32], &hashes[..len], &[2; 32]).is_err());
                assert!(verify_consistency(a, b, &hashes[..len], &[1; 32], &[2; 32]).is_err());
            }
        }
    }
}
