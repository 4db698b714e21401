//! What must not panic on any input: one function for each reader of what strangers write. Each also holds what it reads to
//! its promise: what was accepted is written again as the same bytes.
//!
//! `fuzz/` drives them with libFuzzer (`cargo xtask fuzz`); the tests here drive them with mutations of what is known to be
//! good, always, on every toolchain.

mod pack;
mod seeds;

use std::sync::LazyLock;

use audit::{Receipt, read_bundle};
use leaf::{Cast, LEAF_BYTES_MAX, Mould, check_canonical, parse, parse_and_mould, parse_fact};
use residency::Policy;
use residency::presets::{JURISDICTIONS, LOCATIONS};
use tlog::{Checkpoint, EntryProof, KeyKind, Note, SigningKey, Tile, VerifierKey};

pub use pack::{pack, pack_files};
pub use seeds::seeds;

/// A reader, by its name.
pub type Target = (&'static str, fn(&[u8]));

/// Every reader.
pub const TARGETS: [Target; 9] = [
    ("leaf", leaf),
    ("note", note),
    ("bundle", bundle),
    ("proof", proof),
    ("pack", pack),
    ("pack_files", pack_files),
    ("policy", policy),
    ("receipt", receipt),
    ("key", key),
];

/// The name that keys and logs have here.
const ORIGIN: &str = "log.example.com/fuzzed";

fn log_key() -> SigningKey {
    SigningKey::new(ORIGIN, KeyKind::Log, &[7; 32]).unwrap_or_else(|_| unreachable!("the name is one"))
}

fn witness_key() -> SigningKey {
    SigningKey::new("witness.example.com/fuzzed", KeyKind::Witness, &[8; 32])
        .unwrap_or_else(|_| unreachable!("the name is one"))
}

/// The strict reader of leaves: decisions, facts, and canonical JSON alone.
///
/// # Panics
/// When a line that was read is not written as the same bytes, or is read in two ways.
pub fn leaf(data: &[u8]) {
    let canonical = check_canonical(data);
    let (decision, fact) = (parse(data), parse_fact(data));
    assert!(decision.is_err() || fact.is_err(), "one line is two leaves");
    static MOULD: LazyLock<Option<Mould>> =
        LazyLock::new(|| parse_and_mould(seeds::DECISION.as_bytes()).ok().and_then(|(_, mould)| mould));
    if let Some(cast) = MOULD.as_ref().and_then(|mould| mould.cast(data)) {
        let read = decision.as_ref().map(|parsed| Cast { gseq: parsed.gseq, at_us: parsed.decision.at_us });
        assert_eq!(read.ok(), Some(cast), "what fits a mould is a leaf");
    }
    let mut again = Vec::new();
    match (&decision, &fact) {
        (Ok(parsed), _) => {
            parsed.as_leaf().encode_into(&mut again);
            let told = audit::explain(data, None).map(|explanation| explanation.sentences());
            assert!(told.is_ok_and(|sentences| !sentences.is_empty()), "a leaf can be explained");
        }
        (_, Ok(parsed)) => parsed.fact.encode_into(&parsed.gateway, parsed.gseq, &mut again),
        _ => return,
    }
    assert!(canonical.is_ok() && data.len() <= LEAF_BYTES_MAX, "a leaf is canonical and short");
    assert_eq!(again, data, "a leaf is written in one way only");
}

/// The readers of signed notes, checkpoints and cosignatures.
///
/// # Panics
/// When a note that was read is not written as the same bytes.
pub fn note(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(note) = text.parse::<Note>() else {
        drop(text.parse::<Checkpoint>());
        return;
    };
    assert_eq!(note.to_string(), text, "a note is written in one way only");
    for key in [log_key(), witness_key()] {
        let _ = key.public().verify(&note);
    }
    if let Ok(checkpoint) = note.text().parse::<Checkpoint>() {
        let again: Result<Checkpoint, _> = checkpoint.to_string().parse();
        assert!(again.is_ok_and(|again| again.root == checkpoint.root && again.size == checkpoint.size));
    }
}

/// The readers of tile paths and of entries beneath a tile: a line with a path, then the bundle.
///
/// # Panics
/// When what was read is not written as the same bytes.
pub fn bundle(data: &[u8]) {
    let (path, entries) = match data.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (&data[..0], data),
    };
    if let Ok(text) = std::str::from_utf8(path)
        && let Ok(tile) = text.parse::<Tile>()
    {
        assert_eq!(tile.to_string(), text, "a tile has one path only");
    }
    if let Ok(read) = read_bundle(entries) {
        assert_eq!(audit::bundle(read.iter().copied()), entries, "a bundle is written in one way only");
        read.into_iter().for_each(leaf);
    }
}

/// The reader of proofs of inclusion.
///
/// # Panics
/// When a proof that was read is not written as the same bytes.
pub fn proof(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(proof) = text.parse::<EntryProof>() else { return };
    assert_eq!(proof.to_string(), text, "a proof is written in one way only");
    let receipt = format!("log={ORIGIN}; seq={}; leaf=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", proof.index);
    if let Ok(receipt) = receipt.parse::<Receipt>() {
        drop(receipt.check(&proof, log_key().public(), Some(b"{}")));
    }
}

/// The reader of policies.
pub fn policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    drop(Policy::parse(text, JURISDICTIONS, LOCATIONS));
}

/// The reader of receipts: the header `Domicile-Audit`.
///
/// # Panics
/// When a receipt that was read is not written as one that reads the same.
pub fn receipt(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(receipt) = text.parse::<Receipt>() {
        assert!(text.contains(receipt.origin()) && text.contains(&receipt.seq().to_string()));
    }
}

/// The readers of public and private keys.
///
/// # Panics
/// When a public key that was read is not written as the same text.
pub fn key(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(key) = text.parse::<VerifierKey>() {
        assert_eq!(key.to_string(), text, "a public key is written in one way only");
    }
    if let Ok(key) = text.parse::<SigningKey>() {
        assert_eq!(*key.to_secret_text(), text, "a private key is written in one way only");
    }
}
