//! What the verifier found: a verdict for each check, with counts, and the findings behind those that failed.

use std::fmt;
use std::ops::Range;

use residency::Region;

use super::balance::{Crossed, TRANSFERS_MAX};
use super::leaves::Facts;

/// The most findings that a report lists; of further ones it says how many there are.
pub const FINDINGS_MAX: usize = 1_000;

/// The most gateways that a verdict names.
const SILENT_NAMED_MAX: usize = 5;

/// One thing that a log is held against, in the order in which they build on each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Check {
    /// The pinned key signed the checkpoint.
    Signed,
    /// Every leaf is canonical and has the hash that its tile has; the tiles come to the signed root.
    WellFormed,
    /// The log continues the checkpoint that the auditor kept.
    AppendOnly,
    /// Enough witnesses cosigned.
    Witnessed,
    /// Every gateway's count is complete.
    Gapless,
    /// Every transfer out of a region has its transfer in.
    Balanced,
    /// The recorded policy decides the same from the recorded evidence.
    Replayed,
}

impl Check {
    /// Every check.
    pub const ALL: [Self; 7] = [
        Self::Signed,
        Self::WellFormed,
        Self::AppendOnly,
        Self::Witnessed,
        Self::Gapless,
        Self::Balanced,
        Self::Replayed,
    ];

    /// Its stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Signed => "signed",
            Self::WellFormed => "well-formed",
            Self::AppendOnly => "append-only",
            Self::Witnessed => "witnessed",
            Self::Gapless => "gapless",
            Self::Balanced => "balanced",
            Self::Replayed => "replayed",
        }
    }

    /// The exit code of a verification that fails here, and not before.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Signed => 10,
            Self::WellFormed => 11,
            Self::AppendOnly => 12,
            Self::Witnessed => 13,
            Self::Gapless => 14,
            Self::Balanced => 15,
            Self::Replayed => 16,
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The check that caught it.
    pub check: Check,
    /// The rule that is broken: a stable word.
    pub rule: &'static str,
    /// The leaf it is about, or the first that it is about.
    pub seq: Option<u64>,
    /// What is wrong, as a clause.
    pub sentence: String,
}

impl Finding {
    pub(super) fn of_log(check: Check, rule: &'static str, sentence: String) -> Self {
        Self { check, rule, seq: None, sentence }
    }

    pub(super) fn of_leaf(check: Check, rule: &'static str, seq: u64, sentence: String) -> Self {
        Self { check, rule, seq: Some(seq), sentence }
    }
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Holds,
    /// It does not.
    Fails,
    /// It was not checked; the verdict says why.
    Unchecked,
}

impl Outcome {
    /// A word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Fails => "FAILS",
            Self::Unchecked => "not checked",
        }
    }
}

/// One check's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The check.
    pub check: Check,
    /// How it came out.
    pub outcome: Outcome,
    /// How many findings speak against it.
    pub findings: u64,
    /// What was looked at, counted, as a clause.
    pub sentence: String,
}

/// A gateway that fell silent: it died, or its way to the log was cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silent {
    /// The gateway and its boot.
    pub gateway: String,
    /// The index of its last leaf.
    pub seq: u64,
    /// The time of that leaf, microseconds since 1970-01-01 UTC.
    pub at_us: i64,
    /// Whether the same instance has written since, after another boot.
    pub came_back: bool,
}

/// What the verifier found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The log.
    pub origin: String,
    /// The size that was signed.
    pub size: u64,
    /// Which entries were looked at.
    pub range: Range<u64>,
    /// How many of them were read.
    pub leaves: u64,
    /// A verdict for each check, in their order.
    pub verdicts: Vec<Verdict>,
    /// What is wrong, in the order found; at most [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
    /// The region whose log it is, as its leaves say.
    pub home: Option<Region>,
    /// The oldest and the newest time of what was read, microseconds since 1970-01-01 UTC.
    pub span_us: (i64, i64),
    /// The transfers across a border that stand in it, at most [`TRANSFERS_MAX`](super::TRANSFERS_MAX): to be held
    /// against those of other logs by [`balance`](super::balance).
    pub transfers: Vec<Crossed>,
    /// Gateways that fell silent without a word: nothing is wrong with the log, and something was with them.
    pub silent: Vec<Silent>,
}

impl Report {
    /// The first check that failed.
    #[must_use]
    pub fn failed(&self) -> Option<Check> {
        self.verdicts.iter().find(|verdict| verdict.outcome == Outcome::Fails).map(|verdict| verdict.check)
    }

    /// The verdict on one check.
    #[must_use]
    pub fn outcome(&self, check: Check) -> Outcome {
        let verdict = self.verdicts.iter().find(|verdict| verdict.check == check);
        verdict.map_or(Outcome::Unchecked, |verdict| verdict.outcome)
    }

    /// 0 when nothing failed, otherwise the code of the first check that did.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        self.failed().map_or(0, Check::exit_code)
    }
}

/// The findings and counts while they are gathered.
#[derive(Debug, Default)]
pub(super) struct Notebook {
    findings: Vec<Finding>,
    counts: [u64; Check::ALL.len()],
    leaves: u64,
    decisions: u64,
    replayed: u64,
    policies: usize,
    /// The lines of lists that were held against the entries, where the source has such lists.
    listed: Option<u64>,
    /// The size that the pinned key signed.
    signed: Option<u64>,
    appended: Option<u64>,
    witnessed: Option<(usize, usize, Option<u64>)>,
    gateways: usize,
    open: u64,
    silent: Vec<Silent>,
    home: Option<Region>,
    span_us: (i64, i64),
    transfers: Vec<Crossed>,
    pruned: u64,
    foreign: bool,
    recovered: bool,
}

impl Notebook {
    pub(super) fn find(&mut self, finding: Finding) {
        self.counts[finding.check as usize] += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }

    pub(super) fn take(&mut self, facts: Facts) {
        self.leaves += facts.leaves;
        self.decisions += facts.decisions;
        self.replayed += facts.replayed;
        self.home = self.home.take().or(facts.home);
        self.foreign |= facts.foreign;
        self.recovered |= facts.recovered;
        let room = TRANSFERS_MAX.saturating_sub(self.transfers.len());
        self.transfers.extend(facts.transfers.into_iter().take(room));
        facts.findings.into_iter().for_each(|finding| self.find(finding));
    }

    pub(super) fn signed(&mut self, size: u64) {
        self.signed = Some(size);
    }

    pub(super) fn append_only(&mut self, appended: u64) {
        self.appended = Some(appended);
    }

    pub(super) fn witnessed(&mut self, count: usize, of: usize, newest_s: Option<u64>) {
        self.witnessed = Some((count, of, newest_s));
    }

    pub(super) fn gapless(&mut self, gateways: usize, open: u64, silent: Vec<Silent>) {
        (self.gateways, self.open, self.silent) = (gateways, open, silent);
    }

    pub(super) fn pruned(&mut self, pruned: u64) {
        self.pruned = pruned;
    }

    pub(super) fn span(&mut self, span_us: (i64, i64)) {
        self.span_us = span_us;
    }

    pub(super) fn listed(&mut self, lines: u64) {
        *self.listed.get_or_insert(0) += lines;
    }

    pub(super) fn policies(&mut self, count: usize) {
        self.policies = count;
    }

    pub(super) fn close(mut self, origin: &str, size: u64, range: Range<u64>) -> Report {
        // A log that lost its end goes on under another name, and a leaf says so; nothing else explains another name.
        if self.foreign && !self.recovered {
            let sentence = "the first leaf names another log".to_owned();
            self.find(Finding::of_leaf(Check::WellFormed, "wrong_genesis", 0, sentence));
        }
        let verdicts = Check::ALL.map(|check| self.verdict(check)).to_vec();
        Report {
            origin: origin.to_owned(),
            size,
            range,
            leaves: self.leaves,
            verdicts,
            findings: self.findings,
            home: self.home,
            span_us: self.span_us,
            transfers: self.transfers,
            silent: self.silent,
        }
    }

    fn verdict(&self, check: Check) -> Verdict {
        let findings = self.counts[check as usize];
        let (looked, sentence) = self.looked_at(check);
        let outcome = match (findings, looked) {
            (1.., _) => Outcome::Fails,
            (0, true) => Outcome::Holds,
            (0, false) => Outcome::Unchecked,
        };
        Verdict { check, outcome, findings, sentence }
    }

    /// Who fell silent, as the end of a sentence.
    fn silence(&self) -> String {
        let gone: Vec<&str> = self.silent.iter().filter(|s| !s.came_back).map(|s| s.gateway.as_str()).collect();
        let back = self.silent.len() - gone.len();
        let mut said = String::new();
        if back > 0 {
            said += &format!("; {back} fell silent and came back");
        }
        if !gone.is_empty() {
            let named = gone[..gone.len().min(SILENT_NAMED_MAX)].join(", ");
            said += &format!("; {} fell silent without an end and have not come back: {named}", gone.len());
        }
        said
    }

    /// Whether a check had anything to look at, and what.
    fn looked_at(&self, check: Check) -> (bool, String) {
        match check {
            Check::Signed => match self.signed {
                Some(size) => (true, format!("1 signature by the pinned key, over {size} leaves")),
                None => (false, "0 signatures by the pinned key".to_owned()),
            },
            _ if self.signed.is_none() => (false, "nothing unsigned is looked at".to_owned()),
            Check::WellFormed => {
                let listed = self.listed.map(|lines| format!("; {lines} lines of lists against the leaves"));
                let listed = listed.unwrap_or_default();
                let pruned = match self.pruned {
                    0 => String::new(),
                    pruned => format!("; pruned: {pruned}, of which the hashes are left"),
                };
                let leaves = format!("{} leaves, each against its tile and the tree{listed}{pruned}", self.leaves);
                (self.leaves > 0, leaves)
            }
            Check::AppendOnly => match self.appended {
                Some(appended) => (true, format!("{appended} leaves appended since your checkpoint")),
                None => (false, "no older checkpoint of yours was given (--since)".to_owned()),
            },
            Check::Witnessed => match self.witnessed {
                Some((count, of, newest_s)) => {
                    let newest =
                        newest_s.map_or_else(String::new, |at_s| format!(", the newest at {at_s} s since 1970"));
                    (true, format!("{count} of {of} witnesses{newest}"))
                }
                None => (false, "no witness was named (--witness)".to_owned()),
            },
            Check::Gapless => {
                let open = match self.open {
                    0 => String::new(),
                    open => format!("; {open} counts at the very end may still come"),
                };
                (self.gateways > 0, format!("the counts of {} gateway boots{open}{}", self.gateways, self.silence()))
            }
            Check::Balanced if self.transfers.is_empty() => {
                (false, "the log holds no transfers across a border".to_owned())
            }
            Check::Balanced => {
                let count = self.transfers.len();
                (false, format!("none of {count} transfers: the log of the other side was not given (--other)"))
            }
            Check::Replayed if self.policies == 0 => {
                (false, format!("none of {} decisions: no policy was given (--policy)", self.decisions))
            }
            Check::Replayed => {
                let sentence =
                    format!("{} of {} decisions, by {} policies", self.replayed, self.decisions, self.policies);
                (self.replayed > 0, sentence)
            }
        }
    }
}
