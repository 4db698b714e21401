//! Whatever a server or a pack says, the verifier does not panic, and no byte that it reads can be another one
//! without a check failing.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::num::NonZeroUsize;
use std::sync::LazyLock;

use audit::verify::{Expected, Pace, Report, Source, Unread, verify};
use audit::{bundle, read_bundle};
use leaf::{Fact, GatewayId, Gone, Kind, Leaf, Out, SubjectTag};
use proptest::prelude::*;
use residency::{Actor, Decision, DecisionId, EvidenceList, Operation, Region, RuleId};
use tlog::{Checkpoint, Hash, KeyKind, Note, SigningKey, TILE_WIDTH, Tile, leaf_hash, root_of};
use uuid::Uuid;

const ORIGIN: &str = "eu-central.log.example.com";
const LEAVES: u64 = 600;

/// A sound log in memory.
#[derive(Clone)]
struct Log {
    checkpoint: String,
    /// Levels 0 and 1, tile by tile.
    tiles: [Vec<Vec<u8>>; 2],
    entries: Vec<Vec<u8>>,
}

fn key() -> SigningKey {
    SigningKey::new(ORIGIN, KeyKind::Log, &[42; 32]).unwrap()
}

fn line(gseq: u64) -> Vec<u8> {
    let region = Region::new("eu-central").unwrap();
    let decision = Decision {
        id: DecisionId(Uuid::from_u128(u128::from(gseq))),
        at_us: 1_795_380_156_000_042 + i64::try_from(gseq).unwrap(),
        actor: Actor::new("key:checkout"),
        operation: Operation::RecordPut,
        resource: Some("profile".into()),
        via: region.clone(),
        evidence: EvidenceList::new(),
        winner: None,
        rule: RuleId::new("eea"),
        policy_hash: [0xab; 32],
        geoip_built_s: None,
        transfer: None,
        stated: None,
    };
    let leaf = Leaf {
        decision: &decision,
        kind: Kind::DecisionWrite,
        gateway: &GatewayId::new("eu-gw-1", 7).unwrap(),
        gseq,
        subject: Some(SubjectTag([7; 32])),
        home: Some(&region),
        out: Out::Allow,
        why: None,
        rows: 1,
        bytes: 96,
        details: None,
    };
    let mut line = Vec::new();
    leaf.encode_into(&mut line);
    line
}

static SOUND: LazyLock<Log> = LazyLock::new(|| {
    let genesis = format!(
        r#"{{"gw":"eu-gw-1/00000007","home":"eu-central","k":"log.genesis","origin":"{ORIGIN}","ts":"2026-11-22T20:42:36.000042Z","v":1}}"#
    );
    let lines: Vec<Vec<u8>> = std::iter::once(genesis.into_bytes()).chain((1..LEAVES).map(line)).collect();
    signed(&lines)
});

/// The log of these lines, signed.
fn signed(lines: &[Vec<u8>]) -> Log {
    let hashes: Vec<Hash> = lines.iter().map(|line| leaf_hash(line)).collect();
    let width = usize::from(TILE_WIDTH);
    let above: Vec<Hash> = hashes.chunks_exact(width).map(root_of).collect();
    let mut note = Note::new(Checkpoint::new(ORIGIN, lines.len() as u64, root_of(&hashes)).to_string()).unwrap();
    note.add(key().sign(note.text(), 0));
    let cut = |hashes: &[Hash]| hashes.chunks(width).map(<[Hash]>::concat).collect();
    Log {
        checkpoint: note.to_string(),
        tiles: [cut(&hashes), cut(&above)],
        entries: lines.chunks(width).map(|lines| bundle(lines.iter().map(Vec::as_slice))).collect(),
    }
}

impl Source for Log {
    fn checkpoint(&self) -> Result<String, Unread> {
        Ok(self.checkpoint.clone())
    }

    fn tile(&self, tile: Tile) -> Result<Vec<u8>, Unread> {
        let level = self.tiles.get(usize::from(tile.level()));
        let found = level.and_then(|level| level.get(usize::try_from(tile.index()).ok()?));
        found.cloned().ok_or_else(|| Unread::Missing(tile.to_string()))
    }

    fn entries(&self, tile: Tile) -> Result<Vec<u8>, Unread> {
        let found = self.entries.get(usize::try_from(tile.index()).unwrap_or(usize::MAX));
        found.cloned().ok_or_else(|| Unread::Missing(tile.to_string()))
    }
}

fn report(source: &dyn Source) -> Report {
    let pace = Pace { threads: NonZeroUsize::MIN, progress: &|_, _| {} };
    verify(source, &Expected::of_key(key().public().clone()), pace).unwrap()
}

#[test]
fn the_log_that_is_forged_below_is_sound() {
    let report = report(&*SOUND);
    assert_eq!((report.failed(), report.leaves), (None, LEAVES), "{report:#?}");
}

/// A server that answers with the same junk, whatever is asked.
struct Junk(Vec<u8>);

impl Source for Junk {
    fn checkpoint(&self) -> Result<String, Unread> {
        // A sound checkpoint, so that the junk is looked at.
        SOUND.checkpoint()
    }

    fn tile(&self, _: Tile) -> Result<Vec<u8>, Unread> {
        Ok(self.0.clone())
    }

    fn entries(&self, _: Tile) -> Result<Vec<u8>, Unread> {
        Ok(self.0.clone())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]
    #[test]
    fn no_byte_of_a_log_can_be_another_one(part in 0_u8..4, place in any::<prop::sample::Index>(), flip in 1_u8..=255) {
        let mut log = SOUND.clone();
        let forged = |parts: &mut Vec<Vec<u8>>| {
            let total = parts.iter().map(Vec::len).sum();
            let mut at = place.index(total);
            for part in parts.iter_mut() {
                if at < part.len() {
                    part[at] ^= flip;
                    break;
                }
                at -= part.len();
            }
        };
        match part {
            0 => {
                let mut text = vec![log.checkpoint.clone().into_bytes()];
                forged(&mut text);
                let Ok(text) = String::from_utf8(text.remove(0)) else { return Ok(()) };
                log.checkpoint = text;
            }
            1 => forged(&mut log.tiles[0]),
            2 => forged(&mut log.tiles[1]),
            _ => forged(&mut log.entries),
        }
        prop_assert!(report(&log).failed().is_some(), "part {part}");
    }

    #[test]
    fn no_entry_can_be_left_out_doubled_or_moved(index in 0_usize..600, to in 0_usize..600, deed in 0_u8..3) {
        let mut log = SOUND.clone();
        let mut lines: Vec<Vec<u8>> =
            log.entries.iter().flat_map(|entries| read_bundle(entries).unwrap()).map(<[u8]>::to_vec).collect();
        match deed {
            0 => drop(lines.remove(index)),
            1 => lines.insert(to, lines[index].clone()),
            _ => lines.swap(index, to),
        }
        prop_assume!(deed < 2 || index != to);
        log.entries = lines.chunks(256).map(|lines| bundle(lines.iter().map(Vec::as_slice))).collect();
        prop_assert!(report(&log).failed().is_some());
    }

    #[test]
    fn no_junk_makes_the_verifier_panic(junk in proptest::collection::vec(any::<u8>(), 0..9_000)) {
        prop_assert!(report(&Junk(junk.clone())).failed().is_some());
        drop(read_bundle(&junk));
        drop(leaf::parse(&junk));
        let _ = leaf::check_canonical(&junk);
    }
}

#[test]
fn a_log_goes_on_under_another_name_only_if_a_leaf_says_what_was_lost() {
    let genesis = r#"{"gw":"eu-gw-1/00000007","home":"eu-central","k":"log.genesis","origin":"old.log.example.com","ts":"2026-11-22T20:42:36.000042Z","v":1}"#;
    let before: Vec<Vec<u8>> = std::iter::once(genesis.as_bytes().to_vec()).chain((1..10).map(line)).collect();
    let wrong = |report: &Report| report.findings.iter().any(|finding| finding.rule == "wrong_genesis");
    assert!(wrong(&report(&signed(&before))), "another log under this name");

    let gone =
        Gone { actor: "operator".into(), at: 10..300, size: 40, root: [3; 32], why: "restored from a backup".into() };
    let fact = Fact::log_recover(1_795_380_157_000_000, &gone);
    let gateway = GatewayId::new("recovery", 1).unwrap();
    let lost = (1..=290).map(|gseq| {
        let mut line = Vec::new();
        fact.encode_into(&gateway, gseq, &mut line);
        line
    });
    let recovered: Vec<Vec<u8>> = before.into_iter().chain(lost).collect();
    let report = report(&signed(&recovered));
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}
