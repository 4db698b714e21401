//! Where an entry goes: to its topic, or, with the reason, to the dead letters of its region.

use super::Pump;
use crate::dead_letter_topic;
use crate::envelope;
use crate::producer::Outgoing;
use crate::source::Entry;

pub(super) struct Destination {
    pub(super) topic: String,
    /// Why it goes to the dead letters, if it does.
    pub(super) dead: Option<String>,
}

impl<S> Pump<S> {
    /// Decides; `poison` is the entry that the brokers refused when it was alone, and why.
    pub(super) fn destination(&self, entry: &Entry, poison: Option<&(u64, String)>) -> Destination {
        let region = &self.region;
        // The dot belongs to the prefix: `eu-central-2.…` is not `eu-central`.
        let at_home = entry.topic.strip_prefix(region.as_str()).is_some_and(|rest| rest.starts_with('.'));
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
    pub(super) fn message<'a>(&self, entry: &'a Entry, destination: &'a Destination) -> Outgoing<'a> {
        let headers = envelope::headers(entry, &self.region, self.settings.log_origin.as_deref());
        let (headers, payload) = match &destination.dead {
            None => (headers, Some(entry.data.as_slice())),
            Some(reason) => (envelope::dead_letter_headers(headers, entry, reason), None),
        };
        Outgoing { seq: entry.seq, topic: &destination.topic, key: &entry.key, headers, payload }
    }
}
