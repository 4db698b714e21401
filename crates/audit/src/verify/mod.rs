//! The verifier: whether a log, as somebody serves it or put it into a pack, is what its key signed, and
//! whether it says what it must. It trusts nothing but the pinned key, and an older checkpoint if the auditor kept
//! one; it asks nobody for a verdict. Every check has its own result and its own counts.
//!
//! What it does not prove: that a line is true, and anything before the auditor's first checkpoint that no
//! witness has seen.

mod authentic;
mod balance;
mod counters;
mod leaves;
mod lists;
mod moulds;
mod report;
mod source;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use residency::Policy;
use tlog::{Checkpoint, Hash, Note, SignatureError, TILE_WIDTH, Tile, Verified, VerifierKey};

pub use self::balance::{Crossed, TRANSFERS_MAX, balance};
pub use self::report::{Check, FINDINGS_MAX, Finding, Outcome, Report, Silent, Verdict};
pub use self::source::{Source, Unread};

use self::authentic::{Authentic, Halt};
use self::counters::Counters;
use self::leaves::{Facts, read_entries};
use self::lists::Lists;
use self::moulds::Moulds;
use self::report::Notebook;

/// What to hold a log against.
#[derive(Debug, Clone)]
pub struct Expected {
    /// The log's public key, which the auditor has by another way.
    pub key: VerifierKey,
    /// A checkpoint that the auditor kept: a signed note.
    pub since: Option<String>,
    /// The witnesses whose cosignatures count.
    pub witnesses: Vec<VerifierKey>,
    /// How many of them must have cosigned; 0 asks for none.
    pub quorum: usize,
    /// The policies to decide again by, beside those that the source has.
    pub policies: Vec<PolicyText>,
}

impl Expected {
    /// The key alone.
    #[must_use]
    pub fn of_key(key: VerifierKey) -> Self {
        Self { key, since: None, witnesses: Vec::new(), quorum: 0, policies: Vec::new() }
    }
}

/// A policy as it was in force, with the tables it chooses from.
#[derive(Debug, Clone)]
pub struct PolicyText {
    /// The hash it is said to have, in lower-case hex, when somebody says so.
    pub said_sha256: Option<String>,
    /// The policy table.
    pub text: String,
    /// The table of jurisdictions.
    pub jurisdictions: String,
    /// The table of locations.
    pub locations: String,
}

/// How to go about it.
#[derive(Clone, Copy)]
pub struct Pace<'a> {
    /// Threads.
    pub threads: NonZeroUsize,
    /// Told how many leaves have been verified, and of how many.
    pub progress: &'a (dyn Fn(u64, u64) + Sync),
}

/// Verifies a log. The report holds every verdict, also when the log cannot be read to its end.
///
/// # Errors
/// [`Unread`] when the source does not answer at all: then nothing can be said.
pub fn verify(source: &dyn Source, expected: &Expected, pace: Pace<'_>) -> Result<Report, Unread> {
    let mut notebook = Notebook::default();
    let text = match source.checkpoint() {
        Ok(text) => text,
        Err(missing @ Unread::Missing(_)) => {
            notebook.find(Finding::of_log(Check::Signed, "not_a_checkpoint", missing.to_string()));
            return Ok(notebook.close(expected.key.name(), 0, 0..0));
        }
        Err(unreachable @ Unread::Unreachable(_)) => return Err(unreachable),
    };
    let Some((note, checkpoint)) = signed(&text, &expected.key, &mut notebook) else {
        return Ok(notebook.close(expected.key.name(), 0, 0..0));
    };
    let authentic = Authentic::new(source, &checkpoint);
    let whole = match authentic.establish() {
        Ok(()) => true,
        Err(Halt::Found(finding)) => {
            notebook.find(finding);
            false
        }
        Err(Halt::Unread(unread)) => return Err(unread),
    };
    append_only(&authentic, &checkpoint, expected, &mut notebook)?;
    witnessed(&note, expected, &mut notebook);
    let range = source.range(checkpoint.size);
    let range = range.start.min(checkpoint.size)..range.end.min(checkpoint.size);
    let policies = policies(source, expected, &mut notebook)?;
    let mut scan = Scan {
        checkpoint: &checkpoint,
        counters: Counters::new(range.start),
        newest_us: i64::MIN,
        lists: Lists::default(),
        oldest_us: i64::MAX,
        missing: Vec::new(),
        pruned: Vec::new(),
    };
    if whole {
        scan.run(&authentic, &policies, range.clone(), pace, &mut notebook)?;
        std::mem::take(&mut scan.lists).compare(source, &mut notebook)?;
    }
    let pruned = scan.let_go(&mut notebook);
    scan.counters.close(scan.newest_us, pruned > 0, &mut notebook);
    notebook.span((scan.oldest_us, scan.newest_us));
    notebook.policies(policies.iter().filter(|(hash, policy)| **hash == policy.hash()).count());
    Ok(notebook.close(&checkpoint.origin, checkpoint.size, range))
}

/// The checkpoint, if the pinned key signed it.
fn signed(text: &str, key: &VerifierKey, notebook: &mut Notebook) -> Option<(Note, Checkpoint)> {
    let mut fails = |rule, sentence: String| {
        notebook.find(Finding::of_log(Check::Signed, rule, sentence));
        None
    };
    let Ok(note) = text.parse::<Note>() else {
        return fails("not_a_checkpoint", "what is served as a checkpoint is no signed note".to_owned());
    };
    match key.verify(&note) {
        Ok(Verified::Signed) => {}
        Ok(Verified::Cosigned { .. }) => {
            return fails("not_a_log_key", "the pinned key is a witness's, and not a log's".to_owned());
        }
        Err(SignatureError::Absent) => {
            return fails("not_signed_by_this_key", format!("{} did not sign the checkpoint", key.name()));
        }
        Err(SignatureError::Wrong) => {
            return fails("wrong_signature", format!("the checkpoint's signature by {} is wrong", key.name()));
        }
    }
    let Ok(checkpoint) = note.text().parse::<Checkpoint>() else {
        return fails("not_a_checkpoint", "the signed note is no checkpoint".to_owned());
    };
    if checkpoint.origin != key.name() {
        let sentence = format!("the checkpoint is of {}, and the key is for {}", checkpoint.origin, key.name());
        return fails("other_log", sentence);
    }
    notebook.signed(checkpoint.size);
    Some((note, checkpoint))
}

/// Whether the log continues the checkpoint that the auditor kept.
fn append_only(
    authentic: &Authentic<'_>,
    checkpoint: &Checkpoint,
    expected: &Expected,
    notebook: &mut Notebook,
) -> Result<(), Unread> {
    let Some(since) = &expected.since else { return Ok(()) };
    let mut fails = |rule, sentence: String| {
        notebook.find(Finding::of_log(Check::AppendOnly, rule, sentence));
        Ok(())
    };
    let kept = since.parse::<Note>().ok().filter(|note| expected.key.verify(note) == Ok(Verified::Signed));
    let kept = kept.and_then(|note| note.text().parse::<Checkpoint>().ok());
    let Some(kept) = kept.filter(|kept| kept.origin == checkpoint.origin) else {
        let sentence = "the older checkpoint is not one of this log by this key, so it proves nothing".to_owned();
        return fails("since_of_another_log", sentence);
    };
    let (older, newer) = (kept.size, checkpoint.size);
    if older > newer {
        return fails("truncated", format!("the log had {older} leaves and now has {newer}"));
    }
    if older == newer && kept.root != checkpoint.root {
        let sentence = format!("the key signed two different logs of {older} leaves: keep both checkpoints as proof");
        return fails("split_view", sentence);
    }
    match authentic.continues(&kept) {
        Ok(true) => {
            notebook.append_only(newer - older);
            Ok(())
        }
        Ok(false) => fails("rewritten", format!("the log does not begin with the {older} leaves that it once had")),
        Err(Halt::Unread(unread)) => Err(unread),
        Err(Halt::Found(finding)) => fails(
            "rewritten",
            format!("that the log begins with its {older} older leaves cannot be shown: {}", finding.sentence),
        ),
    }
}

fn witnessed(note: &Note, expected: &Expected, notebook: &mut Notebook) {
    if expected.witnesses.is_empty() && expected.quorum == 0 {
        return;
    }
    let (mut count, mut newest_s) = (0, None);
    for witness in &expected.witnesses {
        match witness.verify(note) {
            Ok(Verified::Cosigned { at_s }) => {
                count += 1;
                newest_s = newest_s.max(Some(at_s));
            }
            Ok(Verified::Signed) | Err(SignatureError::Absent) => {}
            Err(SignatureError::Wrong) => {
                let sentence = format!("the cosignature by {} is wrong", witness.name());
                notebook.find(Finding::of_log(Check::Witnessed, "wrong_cosignature", sentence));
            }
        }
    }
    if count < expected.quorum {
        let of = expected.witnesses.len();
        let sentence = format!("{count} of {of} witnesses cosigned, and {} must have", expected.quorum);
        notebook.find(Finding::of_log(Check::Witnessed, "too_few_witnesses", sentence));
    }
    notebook.witnessed(count, expected.witnesses.len(), newest_s);
}

/// The policies at hand, by the hash that leaves name: of table and presets, or, in older logs, of the table alone.
type Policies = BTreeMap<[u8; 32], Arc<Policy>>;

/// The policies at hand. One that does not have the hash it is said to have is no policy of this log.
fn policies(source: &dyn Source, expected: &Expected, notebook: &mut Notebook) -> Result<Policies, Unread> {
    let mut found = Policies::new();
    let mut by_text_alone = Vec::new();
    for written in source.policies()?.iter().chain(&expected.policies) {
        let Ok(policy) = Policy::parse(&written.text, &written.jurisdictions, &written.locations) else {
            let sentence = "a policy's text cannot be read as a policy".to_owned();
            notebook.find(Finding::of_log(Check::Replayed, "policy_unreadable", sentence));
            continue;
        };
        let said =
            written.said_sha256.as_ref().map(|said| hex::decode(said).ok().and_then(|said| said.try_into().ok()));
        if said.is_some_and(|said| said.is_none_or(|said| !policy.answers_to(&said))) {
            let sentence =
                format!("a policy's text has the hash {} and not the one it is kept under", policy.hash_hex());
            notebook.find(Finding::of_log(Check::Replayed, "policy_swapped", sentence));
            continue;
        }
        // What is kept under the hash of its text alone was in force in an older log, and only that is known of it.
        let policy = Arc::new(policy);
        let text_hash = policy.hashes().text;
        if said == Some(Some(text_hash)) {
            found.insert(text_hash, Arc::clone(&policy));
        } else {
            by_text_alone.push((text_hash, Arc::clone(&policy)));
        }
        found.insert(policy.hash(), policy);
    }
    for (text_hash, policy) in by_text_alone {
        found.entry(text_hash).or_insert(policy);
    }
    Ok(found)
}

/// The way through all leaves: what can be done to each alone is done by many threads, what depends on the order
/// by one.
struct Scan<'a> {
    checkpoint: &'a Checkpoint,
    counters: Counters,
    newest_us: i64,
    lists: Lists,
    oldest_us: i64,
    /// Entries that are not there.
    missing: Vec<Range<u64>>,
    /// Entries that leaves say were let go, and where these leaves are.
    pruned: Vec<(Range<u64>, u64)>,
}

/// How many bundles a thread takes before the results are put in order.
const BUNDLES_A_ROUND: usize = 32;

impl Scan<'_> {
    fn run(
        &mut self,
        authentic: &Authentic<'_>,
        policies: &Policies,
        range: Range<u64>,
        pace: Pace<'_>,
        notebook: &mut Notebook,
    ) -> Result<(), Unread> {
        let width = u64::from(TILE_WIDTH);
        let size = self.checkpoint.size;
        let total = range.end - range.start;
        let last = range.end.div_ceil(width);
        let mut at = range.start / width;
        let mut done = 0;
        let moulds: Mutex<Vec<Moulds>> = Mutex::default();
        while at < last {
            let round = at..last.min(at + (pace.threads.get() * BUNDLES_A_ROUND) as u64);
            let tiles: Vec<Tile> = round.clone().filter_map(|index| Tile::within(size, 0, index)).collect();
            let results: Vec<Mutex<Option<Result<Facts, Unread>>>> = tiles.iter().map(|_| Mutex::default()).collect();
            let next = AtomicUsize::new(0);
            let work = || {
                let mut mine = unpoisoned(&moulds).pop().unwrap_or_default();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let (Some(tile), Some(result)) = (tiles.get(index), results.get(index)) else { break };
                    let origin = &self.checkpoint.origin;
                    let facts = read_entries(authentic, *tile, &range, origin, policies, &mut mine);
                    *unpoisoned(result) = Some(facts);
                }
                unpoisoned(&moulds).push(mine);
            };
            std::thread::scope(|scope| {
                for _ in 1..pace.threads.get().min(tiles.len()) {
                    scope.spawn(work);
                }
                work();
            });
            for result in results {
                let facts = result.into_inner().unwrap_or_else(PoisonError::into_inner);
                let Some(facts) = facts else { continue };
                let facts = facts?;
                done += facts.leaves;
                self.fold(facts, notebook);
            }
            (pace.progress)(done, total);
            at = round.end;
        }
        Ok(())
    }

    /// Tells entries that were let go on purpose from those that are simply gone. How many were let go.
    fn let_go(&self, notebook: &mut Notebook) -> u64 {
        let mut pruned = 0;
        for range in &self.missing {
            // The leaf that says so comes behind what it speaks of, and is signed like every other.
            let said = |(gone, seq): &(Range<u64>, u64)| {
                gone.start <= range.start && range.end <= gone.end && *seq >= range.end
            };
            if self.pruned.iter().any(said) {
                pruned += range.end - range.start;
            } else {
                let sentence = format!("the entries {} to {} are not there", range.start, range.end.saturating_sub(1));
                notebook.find(Finding::of_leaf(Check::WellFormed, "missing", range.start, sentence));
            }
        }
        notebook.pruned(pruned);
        pruned
    }

    fn fold(&mut self, mut facts: Facts, notebook: &mut Notebook) {
        self.lists.append(&facts.lists);
        self.missing.extend(facts.missing.take());
        self.pruned.append(&mut facts.pruned);
        for line in &facts.lines {
            // A gateway's clock may differ and a decision may wait for its commit, but not for long.
            if line.at_us.saturating_add(leaves::CLOCK_SKEW_US_MAX) < self.newest_us {
                let behind_s = (self.newest_us - line.at_us) / 1_000_000;
                let sentence = format!("the clock of {} went back by {behind_s} s", line.gateway);
                notebook.find(Finding::of_leaf(Check::WellFormed, "clock_turned_back", line.seq, sentence));
            }
            self.newest_us = self.newest_us.max(line.at_us);
            self.oldest_us = self.oldest_us.min(line.at_us);
            self.counters.count(line, notebook);
        }
        notebook.take(facts);
    }
}

fn unpoisoned<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The hashes in a tile's bytes.
fn hashes(bytes: &[u8], tile: Tile) -> Option<Vec<Hash>> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    (rest.is_empty() && hashes.len() == usize::from(tile.width())).then(|| hashes.to_vec())
}
