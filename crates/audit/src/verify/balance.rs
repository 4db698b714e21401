//! Double entry: whoever has the logs of both regions can see that each transfer stands in both, with the same
//! content. With one log alone nothing can be said but that no transfer stands in it twice.

use std::collections::HashMap;

use leaf::Crossing;
use residency::Region;
use uuid::Uuid;

use super::report::{Check, Finding, Outcome, Report, Verdict};

/// A transfer's other side follows within moments; one that is younger than this at an end of the other log's range may
/// stand just outside it.
const SETTLED_AFTER_US: i64 = 120_000_000;

/// The most transfers of one log that are compared; of further ones nothing is said.
pub const TRANSFERS_MAX: usize = 1_000_000;

/// One side of a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crossed {
    /// Where its leaf stands.
    pub seq: u64,
    /// That leaf's hash.
    pub leaf_hash: [u8; 32],
    /// When, microseconds since 1970-01-01 UTC.
    pub at_us: i64,
    /// The region in whose log it stands.
    pub here: Region,
    /// What crossed where, and its name.
    pub crossing: Crossing,
    /// Rows that crossed.
    pub rows: u64,
    /// Bytes that crossed.
    pub bytes: u64,
    /// Index and hash of the decision's leaf, where this is the side that was entered because of it.
    pub of: Option<(u64, [u8; 32])>,
}

impl Crossed {
    /// The region on the other side.
    #[must_use]
    pub fn there(&self) -> &Region {
        let transfer = &self.crossing.transfer;
        if transfer.from == self.here { &transfer.to } else { &transfer.from }
    }
}

/// Holds the transfers of several verified logs against each other, and puts what it finds into their reports.
pub fn balance(reports: &mut [Report]) {
    let sides: Vec<HashMap<Uuid, Crossed>> = reports.iter_mut().map(by_name).collect();
    let regions: Vec<Option<Region>> = reports.iter().map(Report::region).collect();
    for at in 0..reports.len() {
        let mut tally = Tally::default();
        let mut findings = Vec::new();
        for crossed in &reports[at].transfers {
            let other = regions.iter().position(|region| region.as_ref() == Some(crossed.there()));
            match other.filter(|other| *other != at) {
                None => tally.elsewhere += 1,
                Some(other) => match sides[other].get(&crossed.crossing.id) {
                    Some(counterpart) => {
                        tally.matched += 1;
                        findings.extend(differs(crossed, counterpart));
                    }
                    None if reports[other].spans(crossed.at_us) => findings.push(unmatched(crossed)),
                    None => tally.open += 1,
                },
            }
        }
        reports[at].balanced(&tally, findings);
    }
}

/// The transfers of a log by name. One that stands there twice is found here.
fn by_name(report: &mut Report) -> HashMap<Uuid, Crossed> {
    let mut sides = HashMap::with_capacity(report.transfers.len());
    let mut doubled = Vec::new();
    for crossed in &report.transfers {
        if sides.insert(crossed.crossing.id, crossed.clone()).is_some() {
            let sentence = format!("the transfer {} stands in this log twice", crossed.crossing.id);
            doubled.push(Finding::of_leaf(Check::Balanced, "transfer_doubled", crossed.seq, sentence));
        }
    }
    report.add(Check::Balanced, doubled);
    sides
}

fn unmatched(crossed: &Crossed) -> Finding {
    let (id, there) = (crossed.crossing.id, crossed.there());
    let sentence = format!("the transfer {id} does not stand in the log of {there}");
    Finding::of_leaf(Check::Balanced, "transfer_unmatched", crossed.seq, sentence)
}

fn differs(one: &Crossed, other: &Crossed) -> Option<Finding> {
    let what = if one.crossing != other.crossing {
        "regions, basis or instrument"
    } else if (one.rows, one.bytes) != (other.rows, other.bytes) {
        "amount"
    } else if one.of.is_some() == other.of.is_some() {
        "part: one is the decision's and one follows from it"
    } else if one.of.is_some_and(|of| of != (other.seq, other.leaf_hash)) {
        "decision"
    } else {
        return None;
    };
    let (id, there) = (one.crossing.id, one.there());
    let sentence = format!("the transfer {id} has another {what} in the log of {there}, at {}", other.seq);
    Some(Finding::of_leaf(Check::Balanced, "transfer_differs", one.seq, sentence))
}

/// What became of the transfers of one log.
#[derive(Debug, Default)]
struct Tally {
    matched: u64,
    /// So young or so old that the other side may stand outside what was read.
    open: u64,
    /// With regions whose logs were not given.
    elsewhere: u64,
}

impl Report {
    /// The region whose log it is, as its leaves say.
    #[must_use]
    pub fn region(&self) -> Option<Region> {
        self.home.clone()
    }

    /// Whether the other side of a transfer of that time would have to be in what was read.
    fn spans(&self, at_us: i64) -> bool {
        let (oldest_us, newest_us) = self.span_us;
        let begun = self.range.start == 0 || oldest_us.saturating_add(SETTLED_AFTER_US) < at_us;
        begun && at_us.saturating_add(SETTLED_AFTER_US) < newest_us
    }

    fn add(&mut self, check: Check, findings: Vec<Finding>) {
        if let Some(verdict) = self.verdicts.iter_mut().find(|verdict| verdict.check == check) {
            verdict.findings += findings.len() as u64;
            if !findings.is_empty() {
                verdict.outcome = Outcome::Fails;
            }
        }
        let room = super::FINDINGS_MAX.saturating_sub(self.findings.len());
        self.findings.extend(findings.into_iter().take(room));
    }

    fn balanced(&mut self, tally: &Tally, findings: Vec<Finding>) {
        if self.transfers.is_empty() {
            return;
        }
        let looked = tally.matched > 0;
        self.add(Check::Balanced, findings);
        let Some(verdict) = self.verdicts.iter_mut().find(|verdict| verdict.check == Check::Balanced) else { return };
        verdict.sentence = format!("{} of {} transfers on both sides", tally.matched, self.transfers.len());
        if tally.open > 0 {
            verdict.sentence += &format!("; {} at an end of what was read of the other log", tally.open);
        }
        if tally.elsewhere > 0 {
            verdict.sentence += &format!("; {} with regions whose log was not given (--other)", tally.elsewhere);
        }
        *verdict = Verdict {
            outcome: match verdict.outcome {
                Outcome::Fails => Outcome::Fails,
                Outcome::Holds | Outcome::Unchecked if looked => Outcome::Holds,
                Outcome::Holds | Outcome::Unchecked => Outcome::Unchecked,
            },
            ..verdict.clone()
        };
    }
}
