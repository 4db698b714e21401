//! What a consumer of a region's topics has to remember, to see each event once, in order, and to notice what is
//! missing. No Kafka in here: it takes what the headers say, so that it fits whatever client you use. The Python
//! example beside it (`examples/python/consumer.py`) decides the same.
//!
//! Delivery is at least once: after a crash of the relay, or when an operator sends a part of the log again, an
//! event may come twice. (`domicile_log`, `domicile_seq`) names it for ever.
//!
//! - **Once, in order**: per key the newest sequence number is kept, and what is not above it is skipped. One key's
//!   events are in one partition of a topic, so their order is the order of the log.
//! - **Missing**: every message names the sequence number of the event before it in the log, `domicile_prev`. A
//!   consumer of *all* topics of a region (the dead letters are one of them) has seen everything when every
//!   predecessor it was told of has come. Topics and partitions overtake each other, so a predecessor may be late;
//!   what is missing while nothing new arrives is lost.
//!
//! A real consumer keeps this beside its own data and in the same transaction, and commits an offset only after that.
//! Without the ledger an offset is worth nothing: what lies before it would be missing.

#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test may panic"))]

use std::collections::{BTreeSet, HashMap};

/// What a message's key and headers say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coordinates {
    /// The header `domicile_log`: whose sequence it is.
    pub log: String,
    /// The header `domicile_seq`.
    pub seq: u64,
    /// The header `domicile_prev`.
    pub prev: u64,
    /// The topic: order is kept per key within one.
    pub topic: String,
    /// The key: the subject's digest.
    pub key: Vec<u8>,
}

/// What to do with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is new: use it.
    New,
    /// It has been seen: skip it.
    Seen,
    /// It is new to us, but a later one of its key has been used: the order was broken. This does not happen as
    /// long as topic and consumer are whole.
    Overtaken,
}

/// What was seen of one region's log.
#[derive(Debug, Default)]
pub struct Ledger {
    log: Option<String>,
    /// The newest sequence number per topic and key.
    newest: HashMap<(String, Vec<u8>), u64>,
    /// Everything that was seen. A real consumer lets go of what lies below the first gap.
    seen: BTreeSet<u64>,
    /// Predecessors that were named.
    named: BTreeSet<u64>,
}

impl Ledger {
    /// Takes a message in.
    ///
    /// # Errors
    /// A sentence, when it is of another log: two regions' events do not belong into one ledger.
    pub fn take(&mut self, message: &Coordinates) -> Result<Verdict, String> {
        let log = self.log.get_or_insert_with(|| message.log.clone());
        if *log != message.log {
            return Err(format!("this is an event of the log {}, not of {log}", message.log));
        }
        if !self.seen.insert(message.seq) {
            return Ok(Verdict::Seen);
        }
        self.named.insert(message.prev);
        let newest = self.newest.entry((message.topic.clone(), message.key.clone())).or_default();
        if message.seq > *newest {
            *newest = message.seq;
            Ok(Verdict::New)
        } else {
            Ok(Verdict::Overtaken)
        }
    }

    /// How many different events were seen.
    #[must_use]
    pub fn events(&self) -> usize {
        self.seen.len()
    }

    /// Events that must exist, since a later one named them, and that have not come (yet). Those before the first
    /// one seen are no gap: reading may have begun there.
    #[must_use]
    pub fn missing(&self) -> Vec<u64> {
        let Some(first) = self.seen.first() else { return Vec::new() };
        self.named.iter().filter(|seq| *seq >= first && !self.seen.contains(seq)).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(seq: u64, prev: u64, key: u8) -> Coordinates {
        Coordinates { log: "eu".to_owned(), seq, prev, topic: "eu-central.shop.paid.v1".to_owned(), key: vec![key] }
    }

    #[test]
    fn each_event_counts_once_and_in_order() {
        let mut ledger = Ledger::default();
        let taken = [message(3, 0, 1), message(5, 3, 2), message(3, 0, 1), message(9, 5, 1), message(5, 3, 2)];
        let verdicts: Vec<_> = taken.iter().map(|message| ledger.take(message).unwrap()).collect();
        assert_eq!(verdicts, [Verdict::New, Verdict::New, Verdict::Seen, Verdict::New, Verdict::Seen]);
        assert_eq!(ledger.take(&message(7, 5, 1)), Ok(Verdict::Overtaken));
        assert_eq!(ledger.events(), 4);
    }

    #[test]
    fn a_gap_is_seen_until_it_is_closed() {
        let mut ledger = Ledger::default();
        ledger.take(&message(30, 28, 1)).unwrap();
        assert!(ledger.missing().is_empty(), "reading began here");
        ledger.take(&message(41, 37, 1)).unwrap();
        assert_eq!(ledger.missing(), [37]);
        ledger.take(&message(37, 30, 2)).unwrap();
        assert!(ledger.missing().is_empty());
    }

    #[test]
    fn another_regions_log_is_refused() {
        let mut ledger = Ledger::default();
        ledger.take(&message(1, 0, 1)).unwrap();
        let foreign = Coordinates { log: "us".to_owned(), ..message(2, 1, 1) };
        assert!(ledger.take(&foreign).is_err());
    }
}
