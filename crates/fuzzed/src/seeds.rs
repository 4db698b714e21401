//! What is known to be good, to begin from.

use residency::presets::SHIPPED_POLICY;
use tlog::{Checkpoint, EntryProof, Frontier, Note, TILE_WIDTH, Tile, TileSet, leaf_hash};

use crate::pack::Files;
use crate::{ORIGIN, log_key, witness_key};

/// A leaf of a permitted read.
pub(crate) const DECISION: &str = concat!(
    r#"{"act":"key:checkout","bytes":96,"dst":"eu-central","#,
    r#""ev":[["existing_pin","eu-central",100,"directory"],["geoip","US",20,"connection"]],"#,
    r#""geo":"2026-06-01","gseq":43,"gw":"eu-gw-1/00007f3a","home":"eu-central","#,
    r#""id":"01936f3e-8f4c-7bbd-a1b0-9d5c1f0a2b3c","k":"decision.read","op":"record.read","out":"allow","#,
    r#""pol":["abababababababababababababababababababababababababababababababab","existing-pin"],"res":"profile","#,
    r#""rows":1,"sub":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc","ts":"2026-11-22T20:42:36.000042Z","#,
    r#""v":1,"via":"ap-south","win":0}"#,
);
/// And of a heartbeat.
const FACT: &str = r#"{"beat_s":10,"gseq":44,"gw":"eu-gw-1/00007f3a","k":"gateway.heartbeat","ts":"2026-11-22T20:42:46.000042Z","v":1}"#;

/// Inputs that a reader accepts, and edges of them.
#[must_use]
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "leaf" => [DECISION, FACT, r#"{"a":1}"#].map(|line| line.as_bytes().to_vec()).to_vec(),
        "note" => vec![checkpoint(&lines()).into_bytes()],
        "bundle" => {
            let bundle = audit::bundle([DECISION.as_bytes(), FACT.as_bytes(), b""]);
            ["tile/0/x001/234", "tile/1/000.p/17"].map(|path| [path.as_bytes(), b"\n", &bundle].concat()).to_vec()
        }
        "proof" => vec![proof(&lines()).into_bytes()],
        "pack" => vec![Files::good().zip()],
        "pack_files" => vec![b"\x00".to_vec(), b"\x03checkpoint".to_vec(), b"\x05{}".to_vec()],
        "policy" => vec![SHIPPED_POLICY.as_bytes().to_vec()],
        "receipt" => {
            let leaf = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
            vec![format!("log={ORIGIN}; seq=42; leaf={leaf}").into_bytes()]
        }
        "key" => {
            let secret = log_key().to_secret_text().to_string();
            [log_key().public().to_string(), witness_key().public().to_string(), secret]
                .map(String::into_bytes)
                .to_vec()
        }
        _ => Vec::new(),
    }
}

/// The lines of a small log.
pub(crate) fn lines() -> Vec<String> {
    let genesis = format!(
        r#"{{"gw":"eu-gw-1/00007f3a","k":"log.genesis","origin":"{ORIGIN}","ts":"2026-11-22T20:42:35.000000Z","v":1}}"#
    );
    let count = |gseq: usize| DECISION.replace(r#""gseq":43"#, &format!(r#""gseq":{gseq}"#));
    std::iter::once(genesis).chain((1..=300).map(count)).collect()
}

/// Their checkpoint, signed and cosigned.
pub(crate) fn checkpoint(lines: &[String]) -> String {
    let mut frontier = Frontier::new();
    frontier.extend(lines.iter().map(|line| leaf_hash(line.as_bytes())));
    let checkpoint = Checkpoint {
        origin: ORIGIN.to_owned(),
        size: lines.len() as u64,
        root: frontier.root(),
        extensions: Vec::new(),
    };
    let text = checkpoint.to_string();
    let signatures = [log_key().sign(&text, 0), witness_key().sign(&text, 1_795_000_000)];
    let Ok(mut note) = Note::new(text) else { unreachable!("a checkpoint is a note's text") };
    signatures.into_iter().for_each(|signature| note.add(signature));
    note.to_string()
}

/// The tiles of the lowest two levels.
pub(crate) fn tiles(lines: &[String]) -> Vec<(Tile, Vec<tlog::Hash>)> {
    let size = lines.len() as u64;
    let hashes: Vec<_> = lines.iter().map(|line| leaf_hash(line.as_bytes())).collect();
    let width = usize::from(TILE_WIDTH);
    let mut tiles = Vec::new();
    for (index, chunk) in hashes.chunks(width).enumerate() {
        tiles.extend(Tile::within(size, 0, index as u64).map(|tile| (tile, chunk.to_vec())));
    }
    let roots: Vec<_> = hashes.chunks_exact(width).map(tlog::root_of).collect();
    tiles.extend(Tile::within(size, 1, 0).map(|tile| (tile, roots)));
    tiles
}

fn proof(lines: &[String]) -> String {
    let mut set = TileSet::new(lines.len() as u64);
    for (tile, hashes) in tiles(lines) {
        set.insert(tile, hashes);
    }
    let checkpoint = checkpoint(lines).parse();
    match (set.inclusion(42), checkpoint) {
        (Ok(hashes), Ok(checkpoint)) => EntryProof { extra: None, index: 42, hashes, checkpoint }.to_string(),
        _ => String::new(),
    }
}
