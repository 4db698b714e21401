//! Attacks on proofs and receipts, by whoever serves them.

use audit::verify::{Check, Expected, Source, Unread};
use audit::{Receipt, bundle, entry_proof, read_bundle};
use storage::LogPosition;
use tlog::{EntryProof, Hash, KeyKind, SigningKey, Tile, leaf_hash, node_hash, root_of};
use tokio::runtime::Handle;

use crate::scene::{ORIGIN, denial, region};
use crate::stage::{Served, Stage, audit, caught, key};

fn receipt(seq: u64, leaf_hash: Hash) -> Receipt {
    Receipt::new(ORIGIN, &LogPosition { region: region(), seq, leaf_hash }).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_is_proven_within_a_second_and_for_ever() {
    let stage = Stage::with(300).await;
    let position = stage.store.note(denial()).await.unwrap();
    assert!(matches!(entry_proof(&stage.log(), position.seq).await, Err(audit::NoProof::NotSigned)));
    stage.sign().await;
    let receipt = Receipt::new(ORIGIN, &position).unwrap();
    let proof = entry_proof(&stage.log(), position.seq).await.unwrap();
    let line = stage.lines().await.remove(300);
    assert_eq!(receipt.check(&proof, key().public(), Some(line.as_bytes())), Ok(301));
    stage.grow(700).await;
    stage.sign().await;
    let later: EntryProof = entry_proof(&stage.log(), position.seq).await.unwrap().to_string().parse().unwrap();
    assert_eq!(receipt.check(&later, key().public(), None), Ok(1_001));
    assert_eq!(receipt.check(&proof, key().public(), None), Ok(301), "the old proof stays one");
    // Every leaf has its proof.
    for (seq, line) in stage.lines().await.iter().enumerate().step_by(97) {
        let proof = entry_proof(&stage.log(), seq as u64).await.unwrap();
        let receipt = self::receipt(seq as u64, leaf_hash(line.as_bytes()));
        assert_eq!(receipt.check(&proof, key().public(), Some(line.as_bytes())), Ok(1_001), "{seq}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_receipt_for_an_entry_that_the_log_dropped() {
    let stage = Stage::with(300).await;
    let position = stage.store.note(denial()).await.unwrap();
    let receipt = Receipt::new(ORIGIN, &position).unwrap();
    let lines = stage.lines().await;
    stage.rewrite(&lines[..300]).await;
    stage.grow(1).await;
    stage.sign().await;
    let proof = entry_proof(&stage.log(), position.seq).await.unwrap();
    let broken = receipt.check(&proof, key().public(), None).unwrap_err();
    assert_eq!(broken.name(), "leaf_not_in_log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_proof_of_another_regions_log() {
    let stage = Stage::with(300).await;
    let line = stage.lines().await.remove(42);
    let proof = entry_proof(&stage.log(), 42).await.unwrap();
    let ours = receipt(42, leaf_hash(line.as_bytes()));
    let elsewhere = SigningKey::new("us-east.log.example.com", KeyKind::Log, &[42; 32]).unwrap();
    assert_eq!(ours.check(&proof, elsewhere.public(), None).unwrap_err().name(), "other_log");
    // The other region's own checkpoint, signed by its own key, over our tree.
    let checkpoint: tlog::Checkpoint = proof.checkpoint.text().parse().unwrap();
    let theirs = tlog::Checkpoint::new("us-east.log.example.com", checkpoint.size, checkpoint.root);
    let mut note = tlog::Note::new(theirs.to_string()).unwrap();
    note.add(elsewhere.sign(note.text(), 0));
    let swapped = EntryProof { checkpoint: note.clone(), ..proof.clone() };
    assert_eq!(ours.check(&swapped, key().public(), None).unwrap_err().name(), "not_signed_by_this_key");
    // Our key's signature pasted under it does not help.
    note.add(proof.checkpoint.signatures()[0].clone());
    let pasted = EntryProof { checkpoint: note, ..proof };
    assert_eq!(ours.check(&pasted, key().public(), None).unwrap_err().name(), "not_signed_by_this_key");
    // And the whole log, held against the other region's key, is not signed.
    let expected = Expected::of_key(elsewhere.public().clone());
    let report = audit(Served { log: stage.log(), runtime: Handle::current() }, expected).await;
    caught(&report, Check::Signed, "not_signed_by_this_key", None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_interior_node_offered_as_a_leaf() {
    let stage = Stage::with(8).await;
    let hashes: Vec<Hash> = stage.lines().await.iter().map(|line| leaf_hash(line.as_bytes())).collect();
    let (left, right) = (root_of(&hashes[..4]), root_of(&hashes[4..]));
    let root = node_hash(&left, &right);
    let proof = entry_proof(&stage.log(), 0).await.unwrap();
    let checkpoint: tlog::Checkpoint = proof.checkpoint.text().parse().unwrap();
    assert_eq!(checkpoint.root, root);
    // The left half as if it were leaf 0, with the right half as its sibling: it does lead to the root.
    let forged = EntryProof { hashes: vec![right], ..proof };
    assert_eq!(receipt(0, left).check(&forged, key().public(), None).unwrap_err().name(), "leaf_not_in_log");
    // And its children's hashes as if they were the entry's bytes.
    let children = [root_of(&hashes[..2]), root_of(&hashes[2..4])].concat();
    for entry in [children.clone(), [&[1_u8][..], &children].concat()] {
        let broken = receipt(0, left).check(&forged, key().public(), Some(&entry)).unwrap_err();
        assert_eq!(broken.name(), "other_entry");
    }
}

/// A server that says whatever it likes.
struct Liar {
    honest: Served,
    lie: Lie,
}

#[derive(Clone, Copy)]
enum Lie {
    /// An entry is other than it was.
    Entry,
    /// And so is the tile, to fit it.
    EntryAndTile,
    /// Instead of a checkpoint there is a kind word.
    Verified,
}

impl Source for Liar {
    fn checkpoint(&self) -> Result<String, Unread> {
        match self.lie {
            Lie::Verified => Ok("{\"verified\":true,\"verdict\":\"all checks passed\"}\n".to_owned()),
            Lie::Entry | Lie::EntryAndTile => self.honest.checkpoint(),
        }
    }

    fn tile(&self, tile: Tile) -> Result<Vec<u8>, Unread> {
        let mut bytes = self.honest.tile(tile)?;
        if matches!(self.lie, Lie::EntryAndTile) && (tile.level(), tile.index()) == (0, 0) {
            let entries = self.entries(tile)?;
            bytes[32 * 9..32 * 10].copy_from_slice(&leaf_hash(read_bundle(&entries).unwrap()[9]));
        }
        Ok(bytes)
    }

    fn entries(&self, tile: Tile) -> Result<Vec<u8>, Unread> {
        let bytes = self.honest.entries(tile)?;
        let mut entries: Vec<Vec<u8>> = read_bundle(&bytes).unwrap().into_iter().map(<[u8]>::to_vec).collect();
        if tile.index() == 0 {
            entries[9] = String::from_utf8(entries[9].clone()).unwrap().replace("deny", "allow").into_bytes();
        }
        Ok(bundle(entries.iter().map(Vec::as_slice)))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_server_whose_verify_answer_lies() {
    let stage = Stage::with(600).await;
    let honest = Served { log: stage.log(), runtime: Handle::current() };
    for (lie, check, rule) in [
        (Lie::Entry, Check::WellFormed, "leaf_differs_from_tile"),
        (Lie::EntryAndTile, Check::WellFormed, "tile_differs_from_tree"),
        (Lie::Verified, Check::Signed, "not_a_checkpoint"),
    ] {
        let liar = Liar { honest: honest.clone(), lie };
        caught(&audit(liar, Expected::of_key(key().public().clone())).await, check, rule, None);
    }
}
