//! The way back into a session: what became of the messages.

use std::time::Duration;

use follow::Source;
use rdkafka::error::KafkaError;
use tokio::time::Instant;

use super::sending::reason;
use super::{FATES_MAX, Session};
use crate::error::Error;
use crate::producer::Fault;

/// How long the fates of entries that fell together with a failed one are waited for, to find the cause among them.
const AFTERMATH_MAX: Duration = Duration::from_millis(300);

impl<S: Source> Session<'_, S> {
    /// Takes what became of messages. The first failure ends the session, after the rest has been heard.
    pub(super) async fn take_fates(&mut self) -> Result<(), Error> {
        self.heard_at = Instant::now();
        let mut failed: Option<(u64, KafkaError)> = None;
        let mut acknowledged = self.acknowledge_fates(&mut failed);
        if failed.is_some() {
            // The entries that fell with it report too, and so do those that did get through.
            let until = Instant::now() + AFTERMATH_MAX;
            let newest = self.window.newest();
            while let Ok(1..) = tokio::time::timeout_at(until, self.outlet.delivered(&mut self.fates, FATES_MAX)).await
            {
                acknowledged += self.acknowledge_fates(&mut failed);
            }
            while let Some(fate) = self.outlet.try_delivered() {
                self.fates.push(fate);
            }
            acknowledged += self.acknowledge_fates(&mut failed);
            if let Some((seq, fault)) = &failed
                && Fault::of(fault) == Fault::Poison
            {
                let alone = newest == Some(*seq) && self.window.oldest() == newest;
                if alone {
                    self.learnt.poison = Some((*seq, reason(fault)));
                } else {
                    self.learnt.careful_until = newest.unwrap_or(*seq);
                }
            }
        }
        self.note_progress(acknowledged);
        match failed {
            Some((seq, source)) => Err(Error::Unacknowledged { seq, source }),
            None => Ok(()),
        }
    }

    /// Notes acknowledgements; keeps the most telling failure.
    fn acknowledge_fates(&mut self, failed: &mut Option<(u64, KafkaError)>) -> u64 {
        let mut acknowledged = 0;
        for fate in self.fates.drain(..) {
            match fate.outcome {
                Ok(()) => {
                    self.window.acknowledge(fate.seq);
                    acknowledged += 1;
                }
                Err(fault) => {
                    if failed.as_ref().is_none_or(|(_, known)| Fault::of(known) < Fault::of(&fault)) {
                        *failed = Some((fate.seq, fault));
                    }
                }
            }
        }
        acknowledged
    }
}
