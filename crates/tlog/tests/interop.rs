//! What is written here is read by other people's implementations of the same specifications, and what they
//! write is read here: `signed_note` and `tlog_tiles` (C2SP), `ct-merkle` (RFC 6962).

use std::collections::BTreeMap;
use std::str::FromStr as _;

use proptest::prelude::*;
use sha2::Sha256;
use signed_note::{Note as TheirNote, StandardSigner, StandardVerifier, VerifierList};
use tlog::{
    AddCheckpoint, Checkpoint, EntryProof, Frontier, Hash, KeyKind, Note, SignatureError, SigningKey, TILE_WIDTH, Tile,
    TileSet, Verified, VerifierKey, consistency_proof, inclusion_proof, leaf_hash, root_of, tiles_for_consistency,
    tiles_for_inclusion, tiles_for_root, verify_consistency, verify_inclusion,
};
use tlog_tiles::{Checkpoint as TheirCheckpoint, Hash as TheirHash};

const ORIGIN: &str = "audit.example.com/domicile/eu-central";
const WIDTH: usize = TILE_WIDTH as usize;

fn entries(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|i| format!("{{\"n\":{i}}}").into_bytes()).collect()
}

/// Every full and partial tile of a tree over these leaf hashes.
fn cut(leaves: &[Hash]) -> TileSet {
    let size = leaves.len() as u64;
    let mut set = TileSet::new(size);
    let mut hashes = leaves.to_vec();
    for level in 0.. {
        for (index, hashes) in hashes.chunks(WIDTH).enumerate() {
            let tile = Tile::within(size, level, index as u64).expect("a tile of the tree");
            assert!(set.insert(tile, hashes.to_vec()), "{tile} is taken");
        }
        hashes = hashes.chunks_exact(WIDTH).map(root_of).collect();
        if hashes.is_empty() {
            return set;
        }
    }
    unreachable!("levels end")
}

fn log_key() -> SigningKey {
    SigningKey::new(ORIGIN, KeyKind::Log, &[7; 32]).expect("a key")
}

fn signed(size: u64, root: Hash) -> Note {
    let mut note = Note::new(Checkpoint::new(ORIGIN, size, root).to_string()).expect("a note");
    let signature = log_key().sign(note.text(), 0);
    note.add(signature);
    note
}

/// Their reader of tiles over our tiles, at our paths.
struct OurTiles {
    size: u64,
    tiles: BTreeMap<String, Vec<u8>>,
}

impl OurTiles {
    fn of(leaves: &[Hash]) -> Self {
        let size = leaves.len() as u64;
        let mut tiles = BTreeMap::new();
        let mut hashes = leaves.to_vec();
        let mut level = 0;
        while !hashes.is_empty() {
            for (index, chunk) in hashes.chunks(WIDTH).enumerate() {
                let tile = Tile::within(size, level, index as u64).expect("a tile of the tree");
                tiles.insert(tile.to_string(), chunk.concat());
            }
            hashes = hashes.chunks_exact(WIDTH).map(root_of).collect();
            level += 1;
        }
        Self { size, tiles }
    }
}

impl tlog_tiles::TileReader for OurTiles {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[tlog_tiles::Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        // Their path begins with the height, `tile/8/…`, which C2SP leaves out since it is always 8.
        let ours = |tile: &tlog_tiles::Tile| self.tiles[&tile.path().replacen("tile/8/", "tile/", 1)].clone();
        Ok(tiles.iter().map(ours).collect())
    }

    fn save_tiles(&self, _: &[tlog_tiles::Tile], _: &[Vec<u8>]) {}
}

/// Checks one size with everything that is known about it; `index` and `older` are within it.
fn agrees(entries: &[Vec<u8>], index: usize, older: usize) {
    let leaves: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry)).collect();
    let (size, root) = (leaves.len() as u64, root_of(&leaves));
    let mut frontier = Frontier::new();
    frontier.extend(leaves.iter().copied());
    let set = cut(&leaves);
    assert_eq!(frontier.root(), root, "the frontier of {size}");
    assert_eq!(set.root(), Ok(root), "the tiles of {size}");

    // Our proofs out of tiles are the recursive definition's.
    let inclusion = set.inclusion(index as u64).expect("in the tree");
    let consistency = set.consistency(older as u64).expect("a beginning");
    assert_eq!(Some(&inclusion), inclusion_proof(&leaves, index).as_ref());
    assert_eq!(Some(&consistency), consistency_proof(&leaves, older).as_ref());
    assert_eq!(verify_inclusion(index as u64, size, &leaves[index], &inclusion, &root), Ok(()));
    assert_eq!(verify_consistency(older as u64, size, &consistency, &root_of(&leaves[..older]), &root), Ok(()));
    // And the tiles that are said to suffice do, and are few.
    for (needed, what) in [
        (tiles_for_root(size), "a root"),
        (tiles_for_inclusion(size, index as u64), "an inclusion proof"),
        (tiles_for_consistency(size, older as u64), "a consistency proof"),
    ] {
        let needed = needed.expect("a plan");
        assert!(needed.len() <= 6, "{what} of {size} needs {} tiles", needed.len());
        let mut few = TileSet::new(size);
        for tile in needed {
            let at = usize::try_from(tile.index()).expect("small") * WIDTH;
            let mut hashes = leaves.clone();
            for _ in 0..tile.level() {
                hashes = hashes.chunks_exact(WIDTH).map(root_of).collect();
            }
            assert!(few.insert(tile, hashes[at..at + usize::from(tile.width())].to_vec()));
        }
        match what {
            "a root" => assert_eq!(few.root(), Ok(root)),
            "an inclusion proof" => assert_eq!(few.inclusion(index as u64).as_ref(), Ok(&inclusion)),
            _ => assert_eq!(few.consistency(older as u64).as_ref(), Ok(&consistency)),
        }
    }

    // `ct-merkle` takes our root and our proofs.
    let theirs = ct_merkle::RootHash::<Sha256>::new(root.into(), size);
    let proof = ct_merkle::InclusionProof::from_bytes(inclusion.concat());
    theirs.verify_inclusion(&entries[index], index as u64, &proof).expect("ct-merkle: inclusion");
    if older > 0 {
        let old = ct_merkle::RootHash::<Sha256>::new(root_of(&leaves[..older]).into(), older as u64);
        let proof = ct_merkle::ConsistencyProof::try_from_bytes(consistency.concat()).expect("hashes");
        theirs.verify_consistency(&old, &proof).expect("ct-merkle: consistency");
    }

    // `tlog_tiles` takes them, too, and finds the same in our tiles.
    let hashes = |proof: &[Hash]| proof.iter().map(|hash| TheirHash(*hash)).collect::<Vec<_>>();
    let (root_t, size_t) = (TheirHash(root), size);
    tlog_tiles::check_record(&hashes(&inclusion), size_t, root_t, index as u64, TheirHash(leaves[index]))
        .expect("tlog_tiles: inclusion");
    let tiles = OurTiles::of(&leaves);
    let reader = tlog_tiles::TileHashReader::new(tiles.size, root_t, &tiles);
    assert_eq!(tlog_tiles::tree_hash(size_t, &reader).expect("their root of our tiles"), root_t);
    let theirs = tlog_tiles::prove_record(size_t, index as u64, &reader).expect("their proof out of our tiles");
    assert_eq!(theirs, hashes(&inclusion));
    if older > 0 {
        let theirs = tlog_tiles::prove_tree(size_t, older as u64, &reader).expect("their proof out of our tiles");
        assert_eq!(theirs, hashes(&consistency));
        let old = TheirHash(root_of(&leaves[..older]));
        tlog_tiles::check_tree(&theirs, size_t, root_t, older as u64, old).expect("tlog_tiles: consistency");
    }

    // Signed notes, in both directions.
    let note = signed(size, root).to_string();
    let their_note = TheirNote::from_bytes(note.as_bytes()).expect("a note to signed_note");
    let verifier = StandardVerifier::new(&log_key().public().to_string()).expect("a vkey to signed_note");
    let (verified, _) = their_note.verify(&VerifierList::new(vec![Box::new(verifier)])).expect("a right signature");
    assert_eq!(verified.len(), 1);
    let body = TheirCheckpoint::from_bytes(their_note.text()).expect("a checkpoint to tlog_tiles");
    assert_eq!((body.origin(), body.size(), body.hash()), (ORIGIN, size, &root_t));
}

#[test]
fn trees_of_every_size_around_a_tiles_edge_are_what_others_make_of_them() {
    let all = entries(WIDTH * WIDTH + 1);
    for size in [1, 2, 3, 254, 255, 256, 257, 258, 511, 512, 513, 1_000] {
        for (index, older) in [(0, 0), (0, 1), (size - 1, size - 1), (size / 2, size / 2), (size / 3, size)] {
            agrees(&all[..size], index, older.min(size));
        }
    }
    for size in [65_535, 65_536, 65_537] {
        agrees(&all[..size], size - 1, 65_535);
        agrees(&all[..size], 300, 256);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn trees_of_random_sizes_are_what_others_make_of_them(
        (size, index, older) in (1_usize..3_000).prop_flat_map(|size| (Just(size), 0..size, 0..=size))
    ) {
        agrees(&entries(size), index, older);
    }
}

#[test]
fn keys_and_notes_of_others_are_read_here() {
    // A key of theirs, signing as they do.
    let ours = log_key();
    let secret = ours.to_secret_text();
    let signer = StandardSigner::new(&secret).expect("a private key to signed_note");
    let text = Checkpoint::new(ORIGIN, 3, [9; 32]).to_string();
    let mut theirs = TheirNote::new(text.as_bytes(), &[]).expect("a note");
    theirs.add_sigs(&[&signer]).expect("signed by them");
    let note = Note::from_str(std::str::from_utf8(&theirs.to_bytes()).expect("UTF-8")).expect("a note");
    assert_eq!(ours.public().verify(&note), Ok(Verified::Signed));
    assert_eq!(note.to_string().as_bytes(), theirs.to_bytes(), "written alike");
    assert_eq!(secret.parse::<SigningKey>().expect("a key").public(), ours.public());
}

#[test]
fn the_checkpoint_and_the_cosignatures_of_another_implementation_verify() {
    let v: serde_json::Value = serde_json::from_str(include_str!("data/prototype_vectors.json")).expect("JSON");
    let text = |name: &str| v[name].as_str().expect("text");
    let note: Note = text("checkpoint").parse().expect("a note");
    let log: VerifierKey = text("log_vkey").parse().expect("a log's key");
    let witness: VerifierKey = text("witness_vkey").parse().expect("a witness's key");
    assert_eq!(log.verify(&note), Ok(Verified::Signed));
    assert!(matches!(witness.verify(&note), Ok(Verified::Cosigned { at_s: 1_700_000_000.. })));
    assert_eq!(note.to_string(), text("checkpoint"));
    let checkpoint: Checkpoint = note.text().parse().expect("a checkpoint");
    assert_eq!((checkpoint.size, checkpoint.to_string().as_str()), (1_000, note.text()));
    // Nothing of it may change.
    for (at, _) in note.text().char_indices().filter(|(_, c)| *c != '\n') {
        let mut edited = text("checkpoint").to_owned();
        let other = if edited[at..].starts_with('A') { "B" } else { "A" };
        edited.replace_range(at..=at, other);
        let Ok(note) = edited.parse::<Note>() else { continue };
        assert_eq!(log.verify(&note), Err(SignatureError::Wrong), "byte {at}");
        assert_eq!(witness.verify(&note), Err(SignatureError::Wrong), "byte {at}");
    }
}

#[test]
fn a_cosignature_states_its_time_and_holds_for_its_note_only() {
    let witness = SigningKey::new("witness.example/w1", KeyKind::Witness, &[3; 32]).expect("a key");
    let mut note = signed(5, [1; 32]);
    assert_eq!(witness.public().verify(&note), Err(SignatureError::Absent));
    let signature = witness.sign(note.text(), 1_795_380_156);
    note.add(signature.clone());
    assert_eq!(witness.public().verify(&note), Ok(Verified::Cosigned { at_s: 1_795_380_156 }));
    assert_eq!(log_key().public().verify(&note), Ok(Verified::Signed));
    let mut other = signed(6, [1; 32]);
    other.add(signature);
    assert_eq!(witness.public().verify(&other), Err(SignatureError::Wrong), "pasted under another note");
    assert_eq!(witness.public().to_string().parse(), Ok(witness.public().clone()));
}

#[test]
fn proofs_and_requests_are_read_back_as_they_were_written() {
    let checkpoint = signed(3, [1; 32]);
    let proof = EntryProof { extra: None, index: 2, hashes: vec![[4; 32]], checkpoint: checkpoint.clone() };
    assert_eq!(proof.to_string().parse(), Ok(proof.clone()));
    assert!(proof.to_string().starts_with("c2sp.org/tlog-proof@v1\nindex 2\nBAQE"));
    let alone = EntryProof { extra: Some(b"x".to_vec()), index: 0, hashes: vec![], checkpoint: checkpoint.clone() };
    assert_eq!(alone.to_string().parse(), Ok(alone));
    let request = AddCheckpoint { old_size: 0, hashes: vec![], checkpoint };
    assert_eq!(request.to_string().parse(), Ok(request.clone()));
    for (from, to) in [("old 0", "old 00"), ("old 0", "old -1"), ("old 0", "Old 0"), ("old 0", "old 9007199254740992")]
    {
        assert!(request.to_string().replacen(from, to, 1).parse::<AddCheckpoint>().is_err(), "{to}");
    }
}

#[test]
fn a_key_with_a_lost_digit_is_refused() {
    let (public, secret) = (log_key().public().to_string(), log_key().to_secret_text());
    for at in 0..public.len() {
        let mut edited = public.clone();
        edited.remove(at);
        let read = edited.parse::<VerifierKey>();
        assert!(read.is_err(), "{edited}");
    }
    assert!(secret["PRIVATE+KEY+".len()..].parse::<SigningKey>().is_err());
    assert!(!format!("{:?}", log_key()).contains(&secret[secret.len() - 20..]), "a private key does not show");
    for name in ["", "a b", "a+b", "a\nb", "a\u{2003}b"] {
        assert!(SigningKey::new(name, KeyKind::Log, &[1; 32]).is_err(), "{name:?}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_a_reader_panic(text in "\\PC*", junk in proptest::collection::vec(any::<u8>(), 0..400)) {
        let junk = String::from_utf8_lossy(&junk).into_owned();
        for text in [text, junk] {
            drop(text.parse::<Note>());
            drop(text.parse::<Checkpoint>());
            drop(text.parse::<EntryProof>());
            drop(text.parse::<AddCheckpoint>());
            drop(text.parse::<VerifierKey>());
            drop(text.parse::<SigningKey>());
        }
    }

    #[test]
    fn no_edit_of_a_proof_makes_a_reader_panic_or_pass(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let proof = EntryProof { extra: None, index: 2, hashes: vec![[4; 32]], checkpoint: signed(3, [1; 32]) }.to_string();
        let mut bytes = proof.into_bytes();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != byte);
        bytes[at] = byte;
        let Ok(text) = String::from_utf8(bytes) else { return Ok(()) };
        if let Ok(read) = text.parse::<EntryProof>() {
            // What can be read is written back as it was, so no two texts are one proof.
            prop_assert_eq!(read.to_string(), text);
        }
    }
}
