//! The tree's hashes agree with the published ones, and the frontier with the recursive definition.

use proptest::prelude::*;
use tlog::{Frontier, Hash, SIZE_MAX, empty_root, leaf_hash, root_of};

/// The leaves of the test tree that Certificate Transparency's implementations share, and the root after each.
const RFC_6962: [(&str, &str); 8] = [
    ("", "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
    ("00", "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
    ("10", "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
    ("2021", "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"),
    ("3031", "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4"),
    ("40414243", "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef"),
    ("5051525354555657", "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"),
    ("606162636465666768696a6b6c6d6e6f", "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
];

fn leaves(count: usize) -> Vec<Hash> {
    (0..count).map(|i| leaf_hash(&i.to_be_bytes())).collect()
}

#[test]
fn the_roots_are_those_of_certificate_transparency() {
    let mut frontier = Frontier::new();
    assert_eq!(hex::encode(empty_root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_eq!(frontier.root(), empty_root());
    for (leaf, root) in RFC_6962 {
        frontier.push(leaf_hash(&hex::decode(leaf).expect("hex")));
        assert_eq!(hex::encode(frontier.root()), root, "after {} leaves", frontier.size());
    }
}

#[test]
fn the_frontier_agrees_with_the_recursive_definition_at_every_size() {
    let leaves = leaves(600);
    let mut frontier = Frontier::new();
    for (size, leaf) in leaves.iter().enumerate() {
        assert_eq!(frontier.root(), root_of(&leaves[..size]), "size {size}");
        assert_eq!(frontier.size(), size as u64);
        let bytes = frontier.to_bytes();
        assert_eq!(Frontier::from_bytes(&bytes).expect("its own bytes"), frontier, "size {size}");
        frontier.push(*leaf);
    }
}

#[test]
fn a_frontier_cut_short_or_padded_is_refused() {
    let mut frontier = Frontier::new();
    frontier.extend(leaves(77));
    let bytes = frontier.to_bytes();
    for len in 0..bytes.len() {
        assert!(Frontier::from_bytes(&bytes[..len]).is_err(), "{len} bytes");
    }
    let padded: Vec<u8> = bytes.iter().copied().chain([0]).collect();
    assert!(Frontier::from_bytes(&padded).is_err());
    let mut too_large = (SIZE_MAX + 1).to_be_bytes().to_vec();
    too_large.extend([0; 32]);
    assert!(Frontier::from_bytes(&too_large).is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_the_frontier_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(mut frontier) = Frontier::from_bytes(&bytes) {
            prop_assert_eq!(frontier.to_bytes(), bytes);
            frontier.push([7; 32]);
            prop_assert_ne!(frontier.root(), [0; 32]);
        }
    }

    #[test]
    fn it_does_not_matter_how_leaves_are_grouped(cut in 0_usize..1_000, count in 0_usize..1_000) {
        let leaves = leaves(count);
        let (first, second) = leaves.split_at(cut.min(count));
        let mut frontier = Frontier::new();
        frontier.extend(first.iter().copied());
        let mut resumed = Frontier::from_bytes(&frontier.to_bytes()).expect("its own bytes");
        resumed.extend(second.iter().copied());
        prop_assert_eq!(resumed.root(), root_of(&leaves));
    }
}
