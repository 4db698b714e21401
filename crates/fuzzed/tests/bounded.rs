//! The bounded run: every reader, on what is good, on what is broken in the ways that break readers, and on a fixed sequence of
//! mutations. It is no match for libFuzzer (`cargo xtask fuzz`), and it runs everywhere.

use std::panic::catch_unwind;
use std::time::{Duration, Instant};

use fuzzed::{TARGETS, seeds};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

/// The most mutations of one reader's inputs.
const MUTATIONS_MAX: usize = 20_000;
/// How long one reader's mutations go on, whatever is reached by then.
const PATIENCE: Duration = Duration::from_secs(6);

/// What breaks readers: cut, doubled, empty, long, and the characters that mean something.
const MEANINGFUL: [&[u8]; 24] = [
    b"\"",
    b"\\",
    b"\\u0000",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\n",
    b"\n\n",
    b"\0",
    b"\xff",
    b"\xe2\x80\x94 ",
    b"+",
    b"=",
    b"-1",
    b"18446744073709551616",
    b"9007199254740992",
    b"1e9",
    b"../",
    b"x999/",
    b".p/256",
    b"\xf0\x9f\x92\xa9",
];

#[test]
fn no_reader_panics_on_what_is_good_cut_or_mutated() {
    for (name, target) in TARGETS {
        let good = seeds(name);
        assert!(!good.is_empty(), "{name} has something to begin from");
        good.iter().for_each(|seed| target(seed));
        for seed in &good {
            for cut in (0..seed.len()).step_by((seed.len() / 400).max(1)) {
                tried(name, target, &seed[..cut]);
                tried(name, target, &seed[cut..]);
            }
        }
        let (mut chance, begun) = (StdRng::seed_from_u64(42), Instant::now());
        for _ in 0..MUTATIONS_MAX {
            if begun.elapsed() > PATIENCE {
                break;
            }
            let mut input = good.choose(&mut chance).cloned().unwrap_or_default();
            for _ in 0..chance.random_range(1..6) {
                mutate(&mut input, &mut chance);
            }
            tried(name, target, &input);
        }
    }
}

/// What the log's own readers accept is accepted here too: a target that reads nothing would never fail.
#[test]
fn what_is_good_is_read() {
    let line = &seeds("leaf")[0];
    assert!(leaf::parse(line).is_ok());
    assert!(leaf::parse_fact(&seeds("leaf")[1]).is_ok());
    let text = |name: &str| String::from_utf8(seeds(name).remove(0)).unwrap_or_default();
    assert!(text("note").parse::<tlog::Note>().is_ok());
    assert!(text("proof").parse::<tlog::EntryProof>().is_ok());
    assert!(text("receipt").parse::<audit::Receipt>().is_ok());
    assert!(text("key").parse::<tlog::VerifierKey>().is_ok());
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pack.zip");
    std::fs::write(&path, seeds("pack").remove(0)).expect("a pack");
    let pack = audit::pack::Pack::open(&path).expect("a pack");
    let key = tlog::SigningKey::new("log.example.com/fuzzed", tlog::KeyKind::Log, &[7; 32]).expect("a key");
    let expected = audit::verify::Expected::of_key(key.public().clone());
    let pace = audit::verify::Pace { threads: std::num::NonZeroUsize::MIN, progress: &|_, _| {} };
    let report = audit::verify::verify(&pack, &expected, pace).expect("a report");
    assert_eq!((report.failed(), report.leaves), (None, 301), "{report:#?}");
}

fn tried(name: &str, target: fn(&[u8]), input: &[u8]) {
    if catch_unwind(|| target(input)).is_err() {
        panic!("{name} panics on {:?} ({})", String::from_utf8_lossy(input), hex::encode(input));
    }
}

fn mutate(input: &mut Vec<u8>, chance: &mut StdRng) {
    let at = chance.random_range(0..=input.len());
    let to = chance.random_range(at..=input.len().min(at + 40));
    match chance.random_range(0..7) {
        0 => drop(input.drain(at..to)),
        1 => {
            let piece = input[at..to].to_vec();
            input.splice(at..at, piece);
        }
        2 => {
            let piece = MEANINGFUL.choose(chance).copied().unwrap_or_default();
            input.splice(at..at, piece.iter().copied());
        }
        3 => {
            let piece = MEANINGFUL.choose(chance).copied().unwrap_or_default();
            input.splice(at..to, piece.iter().copied());
        }
        4 => input.truncate(at),
        5 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << chance.random_range(0..8);
            }
        }
        _ => {
            if let Some(byte) = input.get_mut(at) {
                *byte = chance.random();
            }
        }
    }
}
