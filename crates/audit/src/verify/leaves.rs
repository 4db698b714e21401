//! What can be verified of each leaf alone: its bytes against its tile, its form, its decision.

use std::ops::Range;
use std::sync::Arc;

use leaf::{Crossing, FactKind, GatewayId, NotALeaf, Out, Parsed, ParsedFact};
use residency::Region;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tlog::{Hash, TILE_WIDTH, Tile, leaf_hash};

use super::Policies;
use super::authentic::{Authentic, Halt};
use super::balance::Crossed;
use super::lists::Lines;
use super::moulds::{Known, Moulds};
use super::report::{Check, Finding};
use super::source::Unread;
use crate::bundle::read_bundle;
use crate::explain::{Replay, replay};

/// How far a leaf's time may lie behind an earlier leaf's: clocks differ, and a decision waits for its commit.
pub(super) const CLOCK_SKEW_US_MAX: i64 = 300_000_000;

/// What came of the entries beneath one tile.
#[derive(Default)]
pub(super) struct Facts {
    /// How many there were.
    pub(super) leaves: u64,
    /// Decisions among them.
    pub(super) decisions: u64,
    /// Decisions that were taken again, with the same result.
    pub(super) replayed: u64,
    /// What must be looked at in the log's order.
    pub(super) lines: Vec<Line>,
    pub(super) findings: Vec<Finding>,
    /// What the lists that come with entries must say.
    pub(super) lists: Lines,
    /// The region whose log it is.
    pub(super) home: Option<Region>,
    /// Entries that are not there.
    pub(super) missing: Option<Range<u64>>,
    /// Entries that a leaf says were let go, and where that leaf is.
    pub(super) pruned: Vec<(Range<u64>, u64)>,
    /// Transfers across a border.
    pub(super) transfers: Vec<Crossed>,
    /// The first leaf names another log.
    pub(super) foreign: bool,
    /// A leaf says that the log goes on after a loss.
    pub(super) recovered: bool,
}

/// What the order of the log must make sense of.
pub(super) struct Line {
    pub(super) seq: u64,
    pub(super) gateway: Arc<str>,
    /// The gateway's own count; `None` in the log's first leaf, which no gateway counts.
    pub(super) gseq: Option<u64>,
    pub(super) at_us: i64,
    /// What the gateway says of itself.
    pub(super) sign: Option<Sign>,
}

/// What a gateway says of itself.
#[derive(Clone, Copy)]
pub(super) enum Sign {
    /// It is there, and will say so again within so many seconds.
    Life { beat_s: u64 },
    /// It has ended as it should.
    End,
}

/// Reads and verifies the entries beneath a tile.
pub(super) fn read_entries(
    authentic: &Authentic<'_>,
    tile: Tile,
    range: &Range<u64>,
    origin: &str,
    policies: &Policies,
    moulds: &mut Moulds,
) -> Result<Facts, Unread> {
    let mut facts = Facts::default();
    let first = tile.index() * u64::from(TILE_WIDTH);
    let read = authentic.tile(tile).and_then(|expected| match authentic.source.entries(tile) {
        Ok(bytes) => Ok((expected, Some(bytes))),
        // Perhaps they were let go on purpose: a later leaf would say so.
        Err(Unread::Missing(_)) => Ok((expected, None)),
        Err(unread) => Err(unread.into()),
    });
    let (expected, bytes) = match read {
        Ok((expected, Some(bytes))) => (expected, bytes),
        Ok((expected, None)) => {
            let end = first + expected.len() as u64;
            facts.missing = Some(first.max(range.start)..end.min(range.end));
            return Ok(facts);
        }
        Err(Halt::Unread(unread)) => return Err(unread),
        Err(Halt::Found(finding)) => {
            facts.findings.push(finding);
            return Ok(facts);
        }
    };
    let Ok(entries) = read_bundle(&bytes) else {
        let sentence = "the entries beneath the tile are not a bundle".to_owned();
        facts.findings.push(Finding::of_leaf(Check::WellFormed, "not_a_bundle", first, sentence));
        return Ok(facts);
    };
    if entries.len() != expected.len() {
        let sentence = format!("there are {} entries beneath the tile instead of {}", entries.len(), expected.len());
        facts.findings.push(Finding::of_leaf(Check::WellFormed, "entries_missing", first, sentence));
    }
    for ((seq, entry), hash) in (first..).zip(entries).zip(expected.iter()) {
        if !range.contains(&seq) {
            continue;
        }
        facts.leaves += 1;
        if leaf_hash(entry) != *hash {
            let sentence = "the entry is not the one whose hash is in the signed tree".to_owned();
            facts.findings.push(Finding::of_leaf(Check::WellFormed, "leaf_differs_from_tile", seq, sentence));
            continue;
        }
        // A leaf that is like one that was read in full is in no list, and was decided as that one was.
        if let Some((cast, known)) = moulds.cast(entry) {
            facts.decisions += 1;
            facts.replayed += u64::from(known.replayed);
            let gateway = Arc::clone(&known.gateway);
            facts.lines.push(Line { seq, gateway, gseq: Some(cast.gseq), at_us: cast.at_us, sign: None });
            continue;
        }
        facts.lists.take(seq, hash, entry);
        facts.read(seq, entry, *hash, origin, policies, moulds);
    }
    Ok(facts)
}

impl Facts {
    fn read(&mut self, seq: u64, entry: &[u8], hash: Hash, origin: &str, policies: &Policies, moulds: &mut Moulds) {
        match leaf::parse_and_mould(entry) {
            Ok((parsed, mould)) => {
                let (found, gateway) = (self.findings.len(), Arc::from(parsed.gateway.as_str()));
                let replayed = self.decision(seq, &parsed, Arc::clone(&gateway), hash, policies);
                // What speaks against one leaf must be said of each of its likes.
                if let Some(mould) = mould.filter(|_| self.findings.len() == found) {
                    moulds.keep(Known { mould, gateway, replayed });
                }
            }
            Err(NotALeaf::NotCanonical(why)) => {
                self.fails(seq, "not_canonical", why.to_string());
            }
            // Canonical, and perhaps of another kind than a decision.
            Err(other) => match serde_json::from_slice::<Common>(entry) {
                Ok(common) if FactKind::named(&common.k).is_some() => match leaf::parse_fact(entry) {
                    Ok(parsed) => self.fact(seq, &parsed, hash),
                    Err(error) => self.fails(seq, "not_a_leaf", error.to_string()),
                },
                Ok(common) if leaf::Kind::named(&common.k).is_none() => self.other(seq, &common, origin),
                _ => self.fails(seq, "not_a_leaf", other.to_string()),
            },
        }
    }

    /// Whether the decision was taken again, with the same result.
    fn decision(&mut self, seq: u64, parsed: &Parsed, gateway: Arc<str>, leaf_hash: Hash, policies: &Policies) -> bool {
        self.decisions += 1;
        if self.home.is_none() && parsed.out == Out::Allow {
            self.home.clone_from(&parsed.home);
        }
        if let (Some(transfer), Some(here)) = (&parsed.decision.transfer, &parsed.home) {
            self.transfers.push(Crossed {
                seq,
                leaf_hash,
                at_us: parsed.decision.at_us,
                here: here.clone(),
                crossing: Crossing { id: parsed.decision.id.0, transfer: transfer.clone() },
                rows: parsed.rows,
                bytes: parsed.bytes,
                of: None,
            });
        }
        self.lines.push(Line { seq, gateway, gseq: Some(parsed.gseq), at_us: parsed.decision.at_us, sign: None });
        if let Some(policy) = policies.get(&parsed.decision.policy_hash) {
            match replay(parsed, policy) {
                Replay::Same => {
                    self.replayed += 1;
                    return true;
                }
                Replay::Different { now } => {
                    let sentence = format!("the policy decides otherwise from the same evidence: {now}");
                    self.findings.push(Finding::of_leaf(Check::Replayed, "decided_otherwise", seq, sentence));
                }
                Replay::OtherPolicy => {}
            }
        }
        false
    }

    fn fact(&mut self, seq: u64, parsed: &ParsedFact, leaf_hash: Hash) {
        let fact = &parsed.fact;
        if let Some(crossing) = fact.crossing() {
            let out = fact.kind() == FactKind::TransferOut;
            let here = if out { &crossing.transfer.from } else { &crossing.transfer.to };
            self.home.get_or_insert_with(|| here.clone());
            let of = fact.text("of").and_then(|of| hex::decode(of).ok()?.try_into().ok());
            self.transfers.push(Crossed {
                seq,
                leaf_hash,
                at_us: fact.at_us(),
                here: here.clone(),
                crossing: crossing.clone(),
                rows: fact.count("rows").unwrap_or_default(),
                bytes: fact.count("bytes").unwrap_or_default(),
                of: fact.count("seq").zip(of),
            });
        }
        self.recovered |= fact.kind() == FactKind::LogRecover;
        if fact.kind() == FactKind::LogPrune {
            self.pruned.extend(fact.range("at").map(|range| (range, seq)));
        }
        let sign = match fact.kind() {
            FactKind::GatewayStop => Some(Sign::End),
            _ => fact.count("beat_s").map(|beat_s| Sign::Life { beat_s }),
        };
        let gateway = parsed.gateway.as_str().into();
        self.lines.push(Line { seq, gateway, gseq: Some(parsed.gseq), at_us: fact.at_us(), sign });
    }

    fn other(&mut self, seq: u64, common: &Common, origin: &str) {
        let at_us = OffsetDateTime::parse(&common.ts, &Rfc3339).ok();
        let at_us = at_us.and_then(|at| i64::try_from(at.unix_timestamp_nanos() / 1_000).ok());
        let Some(at_us) = at_us.filter(|_| common.v == 1 && GatewayId::read(&common.gw).is_ok()) else {
            return self.fails(seq, "not_a_leaf", "the leaf lacks a version, a time or a gateway".to_owned());
        };
        let first = common.k == "log.genesis";
        if first {
            self.home = common.home.as_ref().and_then(|home| Region::new(home).ok());
        }
        if first != (seq == 0) {
            let sentence = "a log has one first leaf, and it is the first".to_owned();
            self.fails(seq, "wrong_genesis", sentence);
        } else if first && common.origin.as_deref() != Some(origin) {
            self.foreign = true;
        }
        self.lines.push(Line { seq, gateway: common.gw.as_str().into(), gseq: common.gseq, at_us, sign: None });
    }

    fn fails(&mut self, seq: u64, rule: &'static str, sentence: String) {
        self.findings.push(Finding::of_leaf(Check::WellFormed, rule, seq, sentence));
    }
}

/// What leaves of every kind have.
#[derive(Deserialize)]
struct Common {
    k: String,
    v: u64,
    ts: String,
    gw: String,
    gseq: Option<u64>,
    origin: Option<String>,
    home: Option<String>,
}
