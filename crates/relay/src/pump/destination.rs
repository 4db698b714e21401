//! Where an entry goes: to its topic, or, with the reason, to the dead letters of its region.

use follow::{Source, home_of};
use storage::OutboxRow;

use super::Pump;
use crate::dead_letter_topic;
use crate::envelope;
use crate::producer::Outgoing;

pub(super) struct Destination {
    pub(super) topic: String,
    /// Why it goes to the dead letters, if it does.
    pub(super) dead: Option<String>,
}

impl<S: Source> Pump<S> {
    /// Decides; `poison` is the entry that the brokers refused when it was alone, and why.
    pub(super) fn destination(&self, entry: &OutboxRow, poison: Option<&(u64, String)>) -> Destination {
        let region = self.source.region();
        let at_home = home_of(&entry.topic) == region.as_str();
        let weight = entry.data.len() + envelope::overhead_bytes(entry);
        let bytes_max = self.settings.limits.message_bytes_max;
        let dead = match poison {
            _ if !at_home => Some(format!("the topic does not belong to {region}")),
            _ if weight > bytes_max => Some(format!("the entry is larger than {bytes_max} bytes")),
            Some((seq, reason)) if *seq == entry.seq => Some(reason.clone()),
            _ => None,
        };
        let topic = if dead.is_some() { dead_letter_topic(region) } else { entry.topic.clone() };
        Destination { topic, dead }
    }

    /// The entry's message. A dead letter has no payload: that stays in the region log, because it may be
    /// what is too large, or somebody else's.
    pub(super) fn message<'a>(
        &self,
        entry: &'a OutboxRow,
        previous: u64,
        destination: &'a Destination,
    ) -> Outgoing<'a> {
        let headers = envelope::headers(entry, previous, self.source.region(), &self.settings);
        let (headers, payload) = match &destination.dead {
            // Of an erased subject's event the place in the log is left, and consumers see no gap.
            None => (headers, (!entry.erased).then_some(entry.data.as_slice())),
            Some(reason) => (envelope::dead_letter_headers(headers, entry, reason), None),
        };
        Outgoing { seq: entry.seq, topic: &destination.topic, key: entry.key.to_hex(), headers, payload }
    }
}
