//! Every gateway counts its leaves since its boot, from 1 and without gaps: a leaf that was dropped shows as a hole,
//! one that was put in twice as a double.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::leaves::{Line, Sign};
use super::report::{Check, Finding, Notebook, Silent};

/// Committers overlap, so a count may appear a little before the one below it. A hole that is younger than this at
/// the end of the log may still be filled.
const SETTLED_AFTER_US: i64 = 60_000_000;

/// The counts seen so far.
pub(super) struct Counters {
    /// Whether the log is looked at from its beginning: then every count begins at 1.
    from_start: bool,
    gateways: BTreeMap<Arc<str>, Seen>,
}

#[derive(Default)]
struct Seen {
    /// The counts seen, as runs without holes: from -> (to, seq and time of the leaf `from`).
    runs: BTreeMap<u64, Run>,
    /// Seconds between its heartbeats, if it has said so.
    beat_s: Option<u64>,
    /// Its newest leaf.
    last_us: i64,
    last_seq: u64,
    /// Whether it has said that it ends.
    ended: bool,
}

#[derive(Clone, Copy)]
struct Run {
    to: u64,
    seq: u64,
    at_us: i64,
}

impl Counters {
    pub(super) fn new(from: u64) -> Self {
        Self { from_start: from == 0, gateways: BTreeMap::new() }
    }

    pub(super) fn count(&mut self, line: &Line, notebook: &mut Notebook) {
        let Some(gseq) = line.gseq else { return };
        let seen = self.gateways.entry(Arc::clone(&line.gateway)).or_default();
        (seen.last_us, seen.last_seq) = (seen.last_us.max(line.at_us), line.seq);
        match line.sign {
            Some(Sign::Life { beat_s }) => seen.beat_s = Some(beat_s),
            Some(Sign::End) => seen.ended = true,
            None => {}
        }
        // Nearly always it is the next one.
        if let Some(mut newest) = seen.runs.last_entry()
            && newest.get().to.checked_add(1) == Some(gseq)
        {
            newest.get_mut().to = gseq;
            return;
        }
        let before = seen.runs.range(..=gseq).next_back().map(|(from, run)| (*from, *run));
        if let Some((_, run)) = before.filter(|(_, run)| run.to >= gseq) {
            let sentence = format!("{} has written its leaf {gseq} twice, first near {}", line.gateway, run.seq);
            notebook.find(Finding::of_leaf(Check::Gapless, "leaf_repeated", line.seq, sentence));
            return;
        }
        let mut run = Run { to: gseq, seq: line.seq, at_us: line.at_us };
        let mut from = gseq;
        if let Some((start, below)) = before.filter(|(_, run)| run.to + 1 == gseq) {
            (from, run) = (start, Run { to: gseq, ..below });
        }
        if let Some(above) = gseq.checked_add(1).and_then(|next| seen.runs.remove(&next)) {
            run.to = above.to;
        }
        seen.runs.insert(from, run);
    }

    /// Reports the holes that are left. Where old entries were let go, a count may begin anywhere.
    pub(super) fn close(&self, newest_us: i64, pruned: bool, notebook: &mut Notebook) {
        let mut open = 0;
        for (gateway, seen) in &self.gateways {
            let mut next = if self.from_start && !pruned { 1 } else { seen.runs.keys().next().copied().unwrap_or(1) };
            for (from, run) in &seen.runs {
                if *from > next {
                    if run.at_us.saturating_add(SETTLED_AFTER_US) > newest_us {
                        open += from - next;
                    } else {
                        let sentence = format!("{gateway} counted {next} to {}, and no such leaf is there", from - 1);
                        notebook.find(Finding::of_leaf(Check::Gapless, "leaf_never_written", run.seq, sentence));
                    }
                }
                next = run.to.saturating_add(1);
            }
        }
        notebook.gapless(self.gateways.len(), open, self.silent(newest_us));
    }

    /// The gateways that have neither ended as they should nor said for three heartbeats that they are there. One
    /// that came back as another boot of the same instance crashed; one that did not is still missing.
    fn silent(&self, newest_us: i64) -> Vec<Silent> {
        let silent = |(gateway, seen): (&Arc<str>, &Seen)| {
            let patience_us = i64::try_from(seen.beat_s?).ok()?.saturating_mul(3_000_000);
            if seen.ended || seen.last_us.saturating_add(patience_us) > newest_us {
                return None;
            }
            let instance = gateway.split('/').next().unwrap_or_default();
            let later = |(other, its): (&Arc<str>, &Seen)| {
                other != gateway && other.split('/').next() == Some(instance) && its.last_us > seen.last_us
            };
            let came_back = self.gateways.iter().any(later);
            Some(Silent { gateway: gateway.to_string(), seq: seen.last_seq, at_us: seen.last_us, came_back })
        };
        self.gateways.iter().filter_map(silent).collect()
    }
}
