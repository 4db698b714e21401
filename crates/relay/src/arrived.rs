//! What a predecessor's last messages were: the tail of each topic, read before anything is sent to it. A relay
//! that died between an acknowledgement and the next store of its cursor would send those messages twice.
//!
//! A help and no promise: what cannot be read is sent again, and a consumer skips what it has seen.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Headers, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use residency::Region;
use tracing::warn;

use crate::envelope::{LOG_HEADER, REPLAY_HEADER, SEQ_HEADER};
use crate::settings::Settings;

/// Messages of a partition that are looked at first; four times as many each time that is too few.
const LOOK_BACK: i64 = 512;

/// Messages that are in their topics already, by log position.
#[derive(Debug, Default)]
pub(crate) struct Arrived(HashMap<u64, String>);

impl Arrived {
    /// Takes in what another read found.
    pub(crate) fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    /// Whether this very event is there, and forgets it.
    pub(crate) fn take(&mut self, seq: u64, event_id: &str) -> bool {
        // Both must agree: whoever else may write to the topic cannot hide an event by its number alone.
        !self.0.is_empty() && self.0.remove(&seq).is_some_and(|id| id == event_id)
    }

    /// Forgets what lies behind a position.
    pub(crate) fn forget_up_to(&mut self, position: u64) {
        if !self.0.is_empty() {
            self.0.retain(|seq, _| *seq > position);
        }
    }
}

/// Reads the messages of this log behind position `after` out of the tails of `topics`. Never fails: what
/// cannot be read is taken for absent.
pub(crate) async fn read(settings: &Settings, region: &Region, topics: Vec<String>, after: u64) -> Arrived {
    let Some(origin) = settings.log_origin.clone() else { return Arrived::default() };
    let config = {
        let mut config = settings.client();
        config
            // Never joined and never committed to: partitions are assigned by hand.
            .set("group.id", "domicile-relay")
            .set("enable.auto.commit", "false")
            .set("allow.auto.create.topics", "false")
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "20")
            .set("queued.max.messages.kbytes", "16384");
        config
    };
    let messages_max = i64::try_from(settings.limits.in_flight_rows_max).unwrap_or(i64::MAX).saturating_mul(2);
    let answer_max = settings.limits.answer_max;
    let look = move || -> KafkaResult<Arrived> {
        let consumer: BaseConsumer = config.create()?;
        // All tails together may take as long as two answers.
        let until = Instant::now() + answer_max * 2;
        let mut tails = Tails { consumer, origin, after, messages_max, answer_max, until };
        tails.read(&topics)
    };
    match tokio::task::spawn_blocking(look).await {
        Ok(Ok(arrived)) => arrived,
        Ok(Err(error)) => {
            warn!(%region, %error, "The tail of the topics of {region} could not be read: what is there may be sent twice");
            Arrived::default()
        }
        Err(_) => Arrived::default(),
    }
}

struct Tails {
    consumer: BaseConsumer,
    origin: String,
    after: u64,
    messages_max: i64,
    answer_max: Duration,
    until: Instant,
}

/// A stretch of one partition, and how far it has been read.
struct Stretch {
    topic: String,
    partition: i32,
    low: i64,
    from: i64,
    end: i64,
    /// Whether a message that is not newer than `after` was among it: then everything older is no concern.
    reached: bool,
    done: bool,
}

impl Tails {
    fn read(&mut self, topics: &[String]) -> KafkaResult<Arrived> {
        let mut arrived = Arrived::default();
        let mut stretches = self.ends(topics)?;
        let mut back = LOOK_BACK;
        while !stretches.is_empty() && back <= self.messages_max.saturating_mul(4) {
            self.read_stretches(&mut stretches, &mut arrived)?;
            back = back.saturating_mul(4);
            stretches.retain_mut(|stretch| {
                let more = stretch.done && !stretch.reached && stretch.from > stretch.low;
                stretch.end = stretch.from;
                stretch.from = (stretch.from - back).max(stretch.low);
                stretch.done = false;
                more
            });
        }
        Ok(arrived)
    }

    /// The last messages of every partition.
    fn ends(&self, topics: &[String]) -> KafkaResult<Vec<Stretch>> {
        let metadata = self.consumer.fetch_metadata(None, self.answer_max)?;
        let mut stretches = Vec::new();
        for topic in metadata.topics().iter().filter(|topic| topics.iter().any(|wanted| wanted == topic.name())) {
            for partition in topic.partitions() {
                let (low, end) = self.consumer.fetch_watermarks(topic.name(), partition.id(), self.answer_max)?;
                if end > low {
                    stretches.push(Stretch {
                        topic: topic.name().to_owned(),
                        partition: partition.id(),
                        low,
                        from: (end - LOOK_BACK).max(low),
                        end,
                        reached: false,
                        done: false,
                    });
                }
            }
        }
        Ok(stretches)
    }

    fn read_stretches(&self, stretches: &mut [Stretch], arrived: &mut Arrived) -> KafkaResult<()> {
        let mut assignment = TopicPartitionList::new();
        for stretch in stretches.iter() {
            assignment.add_partition_offset(&stretch.topic, stretch.partition, Offset::Offset(stretch.from))?;
        }
        self.consumer.assign(&assignment)?;
        while stretches.iter().any(|stretch| !stretch.done) {
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(KafkaError::Canceled);
            }
            match self.consumer.poll(left.min(Duration::from_millis(200))) {
                None => {}
                Some(Err(KafkaError::PartitionEOF(_))) => self.note_ends(stretches)?,
                Some(Err(error)) => return Err(error),
                Some(Ok(message)) => self.note(&message, stretches, arrived),
            }
        }
        Ok(())
    }

    /// Offsets may have gaps at the end of a partition: its last message need not be there.
    fn note_ends(&self, stretches: &mut [Stretch]) -> KafkaResult<()> {
        let positions = self.consumer.position()?;
        for stretch in stretches.iter_mut() {
            let found = positions.find_partition(&stretch.topic, stretch.partition);
            stretch.done |=
                found.is_some_and(|found| matches!(found.offset(), Offset::Offset(at) if at >= stretch.end));
        }
        Ok(())
    }

    fn note(&self, message: &BorrowedMessage<'_>, stretches: &mut [Stretch], arrived: &mut Arrived) {
        let of = |stretch: &&mut Stretch| stretch.partition == message.partition() && stretch.topic == message.topic();
        let Some(stretch) = stretches.iter_mut().find(of) else { return };
        stretch.done |= message.offset() + 1 >= stretch.end;
        if message.offset() >= stretch.end {
            return;
        }
        let header = |name: &str| -> Option<&str> {
            let header = message.headers()?.iter().find(|header| header.key == name)?;
            std::str::from_utf8(header.value?).ok()
        };
        // A replay's messages are old ones that lie behind newer ones: they say nothing about the order here.
        if header(LOG_HEADER) != Some(self.origin.as_str()) || header(REPLAY_HEADER).is_some() {
            return;
        }
        let seq = header(SEQ_HEADER).and_then(|seq| seq.parse::<u64>().ok());
        match (seq, header("ce_id")) {
            (Some(seq), Some(id)) if seq > self.after => {
                arrived.0.insert(seq, id.to_owned());
            }
            (Some(_), _) => stretch.reached = true,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_counts_as_there_only_if_number_and_event_agree() {
        let mut arrived = Arrived([(7, "a".to_owned()), (8, "b".to_owned()), (9, "c".to_owned())].into());
        assert!(arrived.take(7, "a"));
        assert!(!arrived.take(7, "a"), "once");
        assert!(!arrived.take(8, "forged"), "somebody else's message hides nothing");
        arrived.forget_up_to(9);
        assert!(!arrived.take(9, "c"));
    }
}
