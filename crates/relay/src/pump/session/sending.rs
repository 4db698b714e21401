//! The way out of a session: what is waiting is sent in order, for as long as there is room.

use std::collections::BTreeSet;

use follow::Source;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use tokio::time::Instant;
use tracing::error;

use super::{Session, Waiting};
use crate::error::Error;
use crate::producer::Fault;
use crate::pump::destination::Destination;
use crate::{arrived, topics};

/// Why sending stops for now.
enum Held {
    /// There is no room, or a topic is not known yet.
    ForNow,
    /// The brokers' client refused.
    By(Error),
}

impl<S: Source> Session<'_, S> {
    /// Sends what is waiting, in order, for as long as there is room. The first entry that cannot go holds the rest.
    pub(super) fn send_waiting(&mut self) -> Result<(), Error> {
        self.let_old_ones_go();
        let mut passed = false;
        let outcome = loop {
            let Some(Waiting { entry, .. }) = self.waiting.front() else { break Ok(()) };
            let destination = self.pump.destination(entry, self.learnt.poison.as_ref());
            if !self.known_topics.contains(&destination.topic) {
                self.begin_topics();
                break Ok(());
            }
            if self.arrived.take(entry.seq, &entry.event_id) {
                self.pump.board.already_there();
                self.waiting.pop_front();
                passed = true;
                continue;
            }
            match self.send_first(&destination) {
                Ok(()) => {}
                Err(Held::ForNow) => break Ok(()),
                Err(Held::By(error)) => break Err(error),
            }
        };
        if passed {
            self.note_progress(0);
        }
        outcome
    }

    /// Lets go of what has waited for too long, to be read anew: who was erased meanwhile has left the log, and would
    /// else be sent out of memory.
    fn let_old_ones_go(&mut self) {
        let Some(first) = self.waiting.front() else { return };
        if first.asked_at.elapsed() <= self.pump.settings.limits.read_age_max {
            return;
        }
        (self.covered, self.last) = (first.entry.seq - 1, Some(first.previous));
        self.waiting.clear();
        self.read = None;
        self.lookout.hurry();
    }

    /// Sends the first of what is waiting.
    fn send_first(&mut self, destination: &Destination) -> Result<(), Held> {
        let Some(Waiting { entry, previous, .. }) = self.waiting.front() else { return Err(Held::ForNow) };
        let limits = &self.pump.settings.limits;
        let (seq, bytes) = (entry.seq, entry.data.len());
        let careful = self.tenure.position() < self.learnt.careful_until;
        let rows_max = if careful { 1 } else { limits.in_flight_rows_max };
        if !self.window.has_room(bytes, rows_max, limits.in_flight_bytes_max) {
            return Err(Held::ForNow);
        }
        match self.outlet.send(self.pump.message(entry, *previous, destination)) {
            Ok(()) => {}
            Err(fault) if fault.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => return Err(Held::ForNow),
            Err(fault) if Fault::of(&fault) == Fault::Poison && destination.dead.is_none() => {
                // Refused before it was sent, so nothing overtook it: it goes to the dead letters in its own place.
                self.learnt.poison = Some((seq, reason(&fault)));
                return Ok(());
            }
            Err(source) => return Err(Held::By(Error::Unacknowledged { seq, source })),
        }
        if let Some(reason) = &destination.dead {
            let region = self.pump.source.region();
            self.pump.board.dead_letter();
            error!(%region, seq, reason, "Region log entry {seq} of {region} went to the dead letters");
        }
        if self.window.is_empty() {
            self.heard_at = Instant::now();
        }
        self.window.push(seq, bytes);
        self.waiting.pop_front();
        Ok(())
    }

    /// Makes sure of the topics that the waiting entries name, and reads their tails.
    fn begin_topics(&mut self) {
        if self.topics.is_some() {
            return;
        }
        let wanted: BTreeSet<String> = self
            .waiting
            .iter()
            .map(|waiting| self.pump.destination(&waiting.entry, self.learnt.poison.as_ref()).topic)
            .filter(|topic| !self.known_topics.contains(topic))
            .collect();
        let (settings, region) = (self.pump.settings.clone(), self.pump.source.region().clone());
        let after = self.tenure.position();
        self.topics = Some(Box::pin(async move {
            let wanted: Vec<String> = wanted.into_iter().collect();
            let old = topics::ensure(&settings, &region, &wanted).await?;
            let arrived = match settings.replay {
                // A replay sends again on purpose.
                true => arrived::Arrived::default(),
                false => arrived::read(&settings, &region, old, after).await,
            };
            Ok((wanted, arrived))
        }));
    }
}

/// What a refusal says, for the dead letter's header.
pub(super) fn reason(fault: &KafkaError) -> String {
    format!("the brokers refused it: {fault}")
}
