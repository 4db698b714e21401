//! How long entries of each kind are kept. Lines go by whole partitions of the log, oldest first, and only once every
//! entry of a partition has been kept for as long as its kind demands; the hashes stay, so that the tree and every
//! checkpoint stay valid. What should be gone by now and is not is named.

use std::collections::BTreeMap;
use std::ops::Range;

/// The name that stands for every kind without a rule of its own.
pub const EVERY_KIND: &str = "*";

const DAY_US: i64 = 86_400_000_000;

/// How long entries of one kind are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keep {
    /// At least for so many days; `None` is for ever.
    pub min_days: Option<u32>,
    /// At most for so many days.
    pub max_days: Option<u32>,
}

/// The rules of one log, by kind. Without a rule nothing is ever let go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retention(pub BTreeMap<String, Keep>);

impl Retention {
    fn of(&self, kind: &str) -> Keep {
        self.0.get(kind).or_else(|| self.0.get(EVERY_KIND)).copied().unwrap_or_default()
    }
}

/// The entries of one kind in a partition of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindSpan {
    /// The kind.
    pub kind: String,
    /// How many there are.
    pub leaves: u64,
    /// The oldest and the newest, microseconds since 1970-01-01 UTC.
    pub span_us: (i64, i64),
}

/// What may go, and what stands against more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The entries that may go: whole partitions from the oldest on.
    pub gone: Range<u64>,
    /// Why the next partition stays, as a sentence.
    pub blocked: Option<String>,
    /// Kinds that should be gone by now and are not, each as a sentence.
    pub overdue: Vec<String>,
}

/// Plans what may go. `partitions` are full ones in their order, the oldest that is still there first; `size` is how
/// much of the log is signed.
#[must_use]
pub fn plan(partitions: &[(Range<u64>, Vec<KindSpan>)], size: u64, retention: &Retention, now_us: i64) -> Plan {
    let begin = partitions.first().map_or(0, |(range, _)| range.start);
    let mut plan = Plan { gone: begin..begin, ..Plan::default() };
    for (range, kinds) in partitions {
        if plan.blocked.is_none() {
            plan.blocked = blocked(range, kinds, size, retention, now_us);
        }
        if plan.blocked.is_none() {
            plan.gone.end = range.end;
        } else {
            plan.overdue.extend(kinds.iter().filter_map(|span| overdue(range, span, retention, now_us)));
        }
    }
    plan
}

fn blocked(range: &Range<u64>, kinds: &[KindSpan], size: u64, retention: &Retention, now_us: i64) -> Option<String> {
    if range.end > size {
        return Some(format!("the entries up to {} are not all signed yet", range.end));
    }
    kinds.iter().find_map(|span| {
        let Some(min_days) = retention.of(&span.kind).min_days else {
            return Some(format!("{} entries of the kind {} are kept for ever", span.leaves, span.kind));
        };
        let until_us = span.span_us.1.saturating_add(i64::from(min_days).saturating_mul(DAY_US));
        let days = (until_us - now_us + DAY_US - 1).div_euclid(DAY_US);
        (until_us > now_us).then(|| format!("entries of the kind {} are kept for another {days} days", span.kind))
    })
}

fn overdue(range: &Range<u64>, span: &KindSpan, retention: &Retention, now_us: i64) -> Option<String> {
    let max_days = retention.of(&span.kind).max_days?;
    let days = now_us.saturating_sub(span.span_us.0) / DAY_US;
    (days > i64::from(max_days)).then(|| {
        let (from, to) = (range.start, range.end);
        format!(
            "entries of the kind {} among {from} to {to} are {days} days old, and {max_days} are allowed",
            span.kind
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_US: i64 = 1_000 * DAY_US;

    fn span(kind: &str, oldest_day: i64, newest_day: i64) -> KindSpan {
        KindSpan { kind: kind.into(), leaves: 10, span_us: (oldest_day * DAY_US, newest_day * DAY_US) }
    }

    fn retention(rules: &[(&str, u32, Option<u32>)]) -> Retention {
        let rule = |(kind, min_days, max_days): &(&str, u32, Option<u32>)| {
            ((*kind).to_owned(), Keep { min_days: Some(*min_days), max_days: *max_days })
        };
        Retention(rules.iter().map(rule).collect())
    }

    #[test]
    fn a_partition_goes_once_every_kind_in_it_has_been_kept_for_long_enough() {
        let partitions = [
            (0..1_024, vec![span("decision.read", 100, 200), span("transfer.in", 150, 150)]),
            (1_024..2_048, vec![span("decision.read", 200, 400)]),
            (2_048..3_072, vec![span("decision.read", 400, 990)]),
        ];
        let planned = |rules: &[_]| plan(&partitions, 5_000, &retention(rules), NOW_US);
        assert_eq!(planned(&[("*", 395, None)]).gone, 0..2_048);
        let longer = planned(&[("*", 395, None), ("transfer.in", 2_190, None)]);
        assert_eq!(longer.gone, 0..0, "one kind that must stay keeps its whole partition");
        assert!(longer.blocked.is_some_and(|why| why.contains("transfer.in") && why.contains("1340 days")));
        assert_eq!(planned(&[("decision.read", 395, None)]).gone, 0..0, "a kind without a rule is kept for ever");
    }

    #[test]
    fn nothing_goes_that_is_not_signed() {
        let partitions = [(0..1_024, vec![span("decision.read", 1, 2)])];
        let planned = plan(&partitions, 1_023, &retention(&[("*", 1, None)]), NOW_US);
        assert_eq!(planned.gone, 0..0);
        assert!(planned.blocked.is_some_and(|why| why.contains("not all signed")));
    }

    #[test]
    fn what_is_kept_for_longer_than_it_may_be_is_named() {
        let partitions = [(0..1_024, vec![span("decision.read", 100, 200), span("transfer.in", 150, 150)])];
        let rules = retention(&[("*", 395, Some(730)), ("transfer.in", 2_190, None)]);
        let planned = plan(&partitions, 5_000, &rules, NOW_US);
        assert_eq!(planned.overdue.len(), 1);
        assert!(planned.overdue[0].contains("decision.read") && planned.overdue[0].contains("900 days old"));
    }
}
