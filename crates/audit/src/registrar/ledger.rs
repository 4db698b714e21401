//! What leaves come to in the registers. Pure: leaves in, entries of the registers out.

use std::collections::HashSet;

use residency::DecisionId;
use storage::{Counts, DecisionRow, FoundViolation, Gap, Registered, TransferRow};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Rule;
use super::said::Said;

/// Committers overlap, so a count may appear a little before the one below it. A gap that is older than this stays one.
const SETTLED_AFTER_US: i64 = 60_000_000;
/// No queue holds so many leaves: a count that leaps further was not counted.
const JUMP_MIN: u64 = 1_000_000;
/// Denials that say nothing against whoever asked: there is no such subject, or it is moving just now.
const BLAMELESS: [&str; 2] = ["subject_not_found", "subject_moving"];

/// What is known of the leaves so far, and what of it is not registered yet.
pub(super) struct Ledger {
    counts: Counts,
    /// Whether the log was followed from its beginning: then every count begins at 1.
    from_start: bool,
    told: HashSet<(String, u64)>,
    out: Registered,
}

impl Ledger {
    /// Goes on behind the entry `seq`.
    pub(super) fn from(counts: Counts, seq: u64) -> Self {
        let from_start = seq == 0 || !counts.last.is_empty();
        Self { counts, from_start, told: HashSet::new(), out: Registered::default() }
    }

    /// What is to be registered.
    pub(super) fn draw(&mut self) -> Registered {
        std::mem::take(&mut self.out)
    }

    pub(super) fn take(&mut self, row: &DecisionRow) {
        let Ok(said) = serde_json::from_str::<Said<'_>>(&row.line) else { return self.unreadable(row.seq) };
        let Some(at_us) = micros(said.ts) else { return self.unreadable(row.seq) };
        if let Some(gseq) = said.gseq {
            self.count(said.gw, gseq, row.seq, at_us);
        }
        if said.out == Some("deny") {
            self.denied(row.seq, at_us, &said);
        }
        self.out.transfers.extend(crossed(row, at_us, said));
    }

    /// Gaps that are old enough now are violations.
    pub(super) fn settle(&mut self, now_us: i64) {
        for ((gateway, first), gap) in &self.counts.gaps {
            let known = || self.told.contains(&(gateway.clone(), *first));
            if gap.at_us.saturating_add(SETTLED_AFTER_US) < now_us && !known() {
                let says = format!("{gateway} counted {first} to {}, and no such leaf is there", gap.last);
                self.out.violations.push(FoundViolation {
                    mark: format!("gap:{gateway}:{first}"),
                    rule: Rule::Gap.name(),
                    seq: Some(gap.seq),
                    says,
                    at_us: Some(gap.at_us),
                });
                self.told.insert((gateway.clone(), *first));
            }
        }
    }

    fn count(&mut self, gateway: &str, gseq: u64, seq: u64, at_us: i64) {
        let last = self.counts.last.get(gateway).copied();
        let expected = match last {
            Some(last) => last.saturating_add(1),
            None if self.from_start => 1,
            None => gseq,
        };
        if gseq < expected {
            return self.fill(gateway, gseq, seq, at_us);
        }
        if gseq > expected {
            if gseq - expected >= JUMP_MIN {
                let says = format!("the count of {gateway} leapt from {} to {gseq}", expected - 1);
                self.find(Rule::Jump, seq, at_us, says);
            }
            let key = (gateway.to_owned(), expected);
            let gap = Gap { last: gseq - 1, seq, at_us };
            self.counts.gaps.insert(key.clone(), gap);
            self.out.counts.gaps.insert(key, gap);
        }
        self.counts.last.insert(gateway.to_owned(), gseq);
        self.out.counts.last.insert(gateway.to_owned(), gseq);
    }

    /// A count below the highest: it belongs into a gap, or was there before.
    fn fill(&mut self, gateway: &str, gseq: u64, seq: u64, at_us: i64) {
        let owner = gateway.to_owned();
        let range = (owner.clone(), 0)..=(owner.clone(), gseq);
        let found = self.counts.gaps.range(range).next_back().map(|((_, first), gap)| (*first, *gap));
        let Some((first, gap)) = found.filter(|(_, gap)| gap.last >= gseq) else {
            let says = format!("{gateway} has written its leaf {gseq} twice");
            return self.find(Rule::Repeated, seq, at_us, says);
        };
        self.close(&owner, first);
        if first < gseq {
            self.keep(&owner, first, Gap { last: gseq - 1, ..gap });
        }
        if gseq < gap.last {
            self.keep(&owner, gseq + 1, gap);
        }
    }

    fn close(&mut self, gateway: &str, first: u64) {
        let key = (gateway.to_owned(), first);
        self.counts.gaps.remove(&key);
        self.out.counts.gaps.remove(&key);
        self.out.closed.push(key);
    }

    fn keep(&mut self, gateway: &str, first: u64, gap: Gap) {
        let key = (gateway.to_owned(), first);
        self.counts.gaps.insert(key.clone(), gap);
        self.out.closed.retain(|closed| *closed != key);
        self.out.counts.gaps.insert(key, gap);
    }

    fn denied(&mut self, seq: u64, at_us: i64, said: &Said<'_>) {
        let why = said.why.as_deref().unwrap_or("no code");
        if !BLAMELESS.contains(&why) {
            let (who, what) = (said.act.as_deref().unwrap_or("somebody"), said.op.unwrap_or("something"));
            self.find(Rule::Denied, seq, at_us, format!("{who} asked for {what} and was turned away ({why})"));
        }
    }

    fn unreadable(&mut self, seq: u64) {
        self.find(Rule::Unreadable, seq, None, "the entry is not a leaf".to_owned());
    }

    fn find(&mut self, rule: Rule, seq: u64, at_us: impl Into<Option<i64>>, says: String) {
        let (mark, rule) = (format!("{}:{seq}", rule.name()), rule.name());
        self.out.violations.push(FoundViolation { mark, rule, seq: Some(seq), says, at_us: at_us.into() });
    }
}

/// The leaf as the register of transfers has it, if data crossed a border.
pub(crate) fn transfer(row: &DecisionRow) -> Option<TransferRow> {
    let said = serde_json::from_str::<Said<'_>>(&row.line).ok()?;
    let at_us = micros(said.ts)?;
    crossed(row, at_us, said)
}

fn crossed(row: &DecisionRow, at_us: i64, said: Said<'_>) -> Option<TransferRow> {
    let crossing = said.xf?;
    Some(TransferRow {
        seq: row.seq,
        id: DecisionId(crossing.id),
        counterpart: matches!(said.k, "transfer.out" | "transfer.in"),
        at_us,
        from: crossing.from,
        to: crossing.to,
        basis: crossing.basis,
        instrument: crossing.inst,
        actor: said.act.unwrap_or_default(),
        rows: said.rows.unwrap_or(0),
        bytes: said.bytes.unwrap_or(0),
        leaf_hash: row.leaf_hash,
        of_hash: said.of.and_then(|of| hex::decode(of).ok()?.try_into().ok()),
        matched_us: None,
    })
}

fn micros(ts: &str) -> Option<i64> {
    let at = OffsetDateTime::parse(ts, &Rfc3339).ok()?;
    i64::try_from(at.unix_timestamp_nanos() / 1_000).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE_US: i64 = 60_000_000;

    fn row(seq: u64, gseq: u64) -> DecisionRow {
        let line = crate::explain::tests::LINE.replace("\"gseq\":43", &format!("\"gseq\":{gseq}"));
        DecisionRow { seq, leaf_hash: tlog::leaf_hash(line.as_bytes()), line }
    }

    fn rules(out: &Registered) -> Vec<&str> {
        out.violations.iter().map(|violation| violation.rule).collect()
    }

    /// Two minutes behind the time of the leaves above.
    fn later() -> i64 {
        micros("2026-11-22T20:42:36.000042Z").expect("a time") + 2 * MINUTE_US
    }

    #[test]
    fn a_count_that_is_missing_is_a_gap_once_it_can_not_come_any_more() {
        let mut ledger = Ledger::from(Counts::default(), 0);
        for (seq, gseq) in [(1, 1), (2, 2), (3, 6)] {
            ledger.take(&row(seq, gseq));
        }
        ledger.settle(later() - 2 * MINUTE_US);
        assert!(ledger.draw().violations.is_empty(), "it may still come");
        ledger.settle(later());
        let out = ledger.draw();
        assert_eq!(rules(&out), ["gap"]);
        assert_eq!(out.violations[0].seq, Some(3));
        assert!(out.violations[0].says.contains("counted 3 to 5"), "{out:?}");
        ledger.settle(later());
        assert!(ledger.draw().violations.is_empty(), "it is told once");
    }

    #[test]
    fn a_first_count_above_one_a_count_that_comes_twice_and_one_that_leaps_are_found() {
        let mut ledger = Ledger::from(Counts::default(), 0);
        ledger.take(&row(1, 3));
        ledger.take(&row(2, 3));
        ledger.take(&row(3, 5_000_000));
        ledger.settle(later());
        let mut found = ledger.draw();
        found.violations.sort_by_key(|one| one.mark.clone());
        assert_eq!(rules(&found), ["gap", "gap", "jump", "repeated"]);
    }

    #[test]
    fn a_denial_is_a_violation_unless_it_says_nothing_against_anybody() {
        let mut ledger = Ledger::from(Counts::default(), 0);
        for (seq, why) in [(1, "residency_refused"), (2, "misdirected_region"), (3, "subject_not_found")] {
            let mut row = row(seq, seq);
            row.line =
                row.line.replace("\"allow\"", "\"deny\"").replace("\"win\"", &format!("\"why\":\"{why}\",\"win\""));
            ledger.take(&row);
        }
        let out = ledger.draw();
        assert_eq!(rules(&out), ["denied", "denied"]);
        assert!(out.violations[0].says.contains("key:checkout"), "{out:?}");
    }

    proptest! {
        /// In whatever order counts arrive and wherever the work is broken off and taken up again, what is open in the end is what is missing.
        #[test]
        fn gaps_are_exactly_the_counts_that_never_came(
            present in prop::collection::btree_set(1_u64..60, 1..40),
            shuffled in any::<prop::sample::Index>(),
            broken_off in 0_usize..40,
        ) {
            let mut order: Vec<u64> = present.iter().copied().collect();
            let by = shuffled.index(order.len());
            order.rotate_left(by);
            let mut ledger = Ledger::from(Counts::default(), 0);
            let mut kept = Counts::default();
            for (at, gseq) in order.iter().enumerate() {
                if at == broken_off {
                    ledger = Ledger::from(kept.clone(), at as u64);
                }
                ledger.take(&row(at as u64 + 1, *gseq));
                let out = ledger.draw();
                prop_assert!(out.violations.is_empty());
                kept.last.extend(out.counts.last);
                for closed in out.closed {
                    kept.gaps.remove(&closed);
                }
                kept.gaps.extend(out.counts.gaps);
            }
            let highest = present.iter().next_back().copied().unwrap_or(0);
            let missing: Vec<u64> = (1..highest).filter(|gseq| !present.contains(gseq)).collect();
            let open: Vec<u64> = kept.gaps.iter().flat_map(|((_, first), gap)| *first..=gap.last).collect();
            prop_assert_eq!(open, missing);
        }
    }
}
