//! A bare producer and a bare consumer, for the bench: what the client library and the brokers do by themselves, against
//! which a relay is measured.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::Message as _;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio_util::sync::CancellationToken;

use crate::envelope::SEQ_HEADER;
use crate::error::Error;
use crate::settings::Settings;

/// How long anything here may stand still.
const PATIENCE: Duration = Duration::from_secs(120);

/// Sends so many messages with this payload, these headers and a thousand keys to an existing topic, by an idempotent
/// producer with `acks=all` and nothing around it; returns how long it took until the last one was acknowledged.
///
/// # Errors
/// [`Error::Inspect`] when the brokers do not take them.
pub async fn produce(
    brokers: &str,
    topic: &str,
    messages: u64,
    payload: Vec<u8>,
    headers: Vec<(String, String)>,
) -> Result<Duration, Error> {
    let (settings, topic) = (Settings::plain(brokers), topic.to_owned());
    let work = move || -> KafkaResult<Duration> {
        let mut config = settings.client();
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .set("compression.type", settings.compression.name())
            .set("linger.ms", settings.limits.linger.as_millis().to_string())
            .set("batch.num.messages", "10000");
        let producer: BaseProducer = config.create()?;
        let began = Instant::now();
        for n in 0..messages {
            let key = format!("{:064x}", n % 1_000);
            let mut with = OwnedHeaders::new_with_capacity(headers.len());
            for (key, value) in &headers {
                with = with.insert(Header { key, value: Some(value) });
            }
            let mut record = BaseRecord::to(&topic).key(key.as_bytes()).payload(&payload).headers(with);
            loop {
                match producer.send(record) {
                    Ok(()) => break,
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                        record = back;
                        producer.poll(Duration::from_millis(1));
                    }
                    Err((error, _)) => return Err(error),
                }
            }
            producer.poll(Duration::ZERO);
        }
        producer.flush(PATIENCE)?;
        Ok(began.elapsed())
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(took) => took.map_err(Error::Inspect),
        Err(_) => Err(Error::Inspect(KafkaError::Canceled)),
    }
}

/// How each message of a topic arrived while somebody listened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// The event's position in the region log.
    pub seq: u64,
    /// From the decision that led to the event, a little before its commit, to its arrival here, by one machine's clock, microseconds.
    pub after_us: i64,
    /// Of this, until the message was handed to the client library, in whole milliseconds as messages tell it.
    pub handed_after_us: i64,
}

/// Listens to a topic from its end on until `stop`, then until it has been silent for a second.
///
/// # Errors
/// [`Error::Inspect`] when the brokers do not deliver.
pub async fn arrivals(brokers: &str, topic: &str, stop: CancellationToken) -> Result<Vec<Arrival>, Error> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("group.id", "domicile-bench")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "5");
    let topic = topic.to_owned();
    let listen = move || -> KafkaResult<Vec<Arrival>> {
        let consumer: BaseConsumer = config.create()?;
        let metadata = consumer.fetch_metadata(Some(&topic), PATIENCE)?;
        let mut assignment = TopicPartitionList::new();
        for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
            let (_, end) = consumer.fetch_watermarks(&topic, partition.id(), PATIENCE)?;
            assignment.add_partition_offset(&topic, partition.id(), Offset::Offset(end))?;
        }
        consumer.assign(&assignment)?;
        let (mut found, mut heard) = (Vec::new(), Instant::now());
        while !stop.is_cancelled() || heard.elapsed() < Duration::from_secs(1) {
            let Some(message) = consumer.poll(Duration::from_millis(50)) else { continue };
            let message = message?;
            heard = Instant::now();
            found.extend(arrival(&message));
        }
        Ok(found)
    };
    match tokio::task::spawn_blocking(listen).await {
        Ok(found) => found.map_err(Error::Inspect),
        Err(_) => Err(Error::Inspect(KafkaError::Canceled)),
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench reads the clock that stamped the event")]
fn arrival(message: &rdkafka::message::BorrowedMessage<'_>) -> Option<Arrival> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let headers = message.headers()?;
    let header = |name: &str| {
        let found = headers.iter().find(|header| header.key == name)?;
        std::str::from_utf8(found.value?).ok()
    };
    let decided = OffsetDateTime::parse(header("ce_time")?, &Rfc3339).ok()?;
    let decided_us = i64::try_from(decided.unix_timestamp_nanos() / 1_000).ok()?;
    let after_us = i64::try_from(now.as_micros()).ok()? - decided_us;
    let handed_after_us = message.timestamp().to_millis()? * 1_000 - decided_us;
    Some(Arrival { seq: header(SEQ_HEADER)?.parse().ok()?, after_us, handed_after_us })
}
