//! Reading topics back, for the demo and for tests: what is in them, and what must not be.

use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{Headers, Message as _};
use rdkafka::{Offset, TopicPartitionList};

use crate::error::Error;

/// How long the brokers may take to answer about topics and offsets: who inspects is a test or the demo, and may wait.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// A message as it rests in a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset in the partition.
    pub offset: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its headers, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Its payload.
    pub payload: Vec<u8>,
}

impl Message {
    /// The first header of that name, as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        std::str::from_utf8(value).ok()
    }

    /// The region log sequence number that the relay sent with it.
    #[must_use]
    pub fn seq(&self) -> Option<u64> {
        self.header(crate::envelope::SEQ_HEADER)?.parse().ok()
    }
}

/// Everything that rests in `topics` when the call begins, from the beginning or (with
/// `from_beginning = false`) what arrives until `timeout`. Ordered by topic, partition and offset.
///
/// Speaks plain text only and reads into memory: for the demo and for tests.
///
/// # Errors
/// [`Error::Inspect`] when the brokers do not answer.
pub async fn tail(
    brokers: &str,
    topics: &[String],
    from_beginning: bool,
    timeout: Duration,
) -> Result<Vec<Message>, Error> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    tail_by(config, topics, from_beginning, timeout).await
}

/// The same by a client that has its own way to the brokers.
pub(crate) async fn tail_by(
    client: ClientConfig,
    topics: &[String],
    from_beginning: bool,
    timeout: Duration,
) -> Result<Vec<Message>, Error> {
    let (config, topics) = (consumer(client), topics.to_vec());
    let read = move || read(&config, &topics, from_beginning, timeout);
    match tokio::task::spawn_blocking(read).await {
        Ok(messages) => messages.map_err(Error::Inspect),
        Err(_) => Err(Error::Inspect(KafkaError::Canceled)),
    }
}

/// The names of all topics, sorted, without the brokers' own (`__…`).
///
/// # Errors
/// [`Error::Inspect`] when the brokers do not answer.
pub async fn topics(brokers: &str) -> Result<Vec<String>, Error> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    let config = consumer(config);
    let list = move || -> KafkaResult<Vec<String>> {
        let consumer: BaseConsumer = config.create()?;
        let metadata = consumer.fetch_metadata(None, ANSWER_MAX)?;
        let mut names: Vec<String> = metadata.topics().iter().map(|topic| topic.name().to_owned()).collect();
        names.retain(|name| !name.starts_with("__"));
        names.sort();
        Ok(names)
    };
    match tokio::task::spawn_blocking(list).await {
        Ok(names) => names.map_err(Error::Inspect),
        Err(_) => Err(Error::Inspect(KafkaError::Canceled)),
    }
}

fn consumer(mut config: ClientConfig) -> ClientConfig {
    config
        .set("client.id", "domicile-inspect")
        // Never joined and never committed to: partitions are assigned by hand.
        .set("group.id", "domicile-inspect")
        .set("enable.auto.commit", "false")
        .set("allow.auto.create.topics", "false")
        .set("fetch.wait.max.ms", "50")
        .set("enable.partition.eof", "false");
    config
}

fn read(
    config: &ClientConfig,
    topics: &[String],
    from_beginning: bool,
    timeout: Duration,
) -> KafkaResult<Vec<Message>> {
    let deadline = Instant::now() + timeout;
    let consumer: BaseConsumer = config.create()?;
    let mut assignment = TopicPartitionList::new();
    // How many messages rest there now; offsets may have gaps, so the end of a partition is an offset, not a count.
    let mut ends = Vec::new();
    let metadata = consumer.fetch_metadata(None, ANSWER_MAX)?;
    for topic in metadata.topics().iter().filter(|topic| topics.iter().any(|wanted| wanted == topic.name())) {
        for partition in topic.partitions() {
            let (low, high) = consumer.fetch_watermarks(topic.name(), partition.id(), ANSWER_MAX)?;
            let start = if from_beginning { low } else { high };
            assignment.add_partition_offset(topic.name(), partition.id(), Offset::Offset(start))?;
            if from_beginning && high > low {
                ends.push((topic.name().to_owned(), partition.id(), high));
            }
        }
    }
    let mut messages = Vec::new();
    if assignment.count() == 0 || (from_beginning && ends.is_empty()) {
        return Ok(messages);
    }
    consumer.assign(&assignment)?;
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        let Some(message) = consumer.poll(left.min(Duration::from_millis(200))) else { continue };
        let message = message?;
        let place = (message.topic(), message.partition(), message.offset());
        ends.retain(|(topic, partition, end)| !(topic == place.0 && *partition == place.1 && place.2 + 1 >= *end));
        let headers = message
            .headers()
            .map(|headers| headers.iter().map(|h| (h.key.to_owned(), h.value.unwrap_or_default().to_vec())).collect());
        messages.push(Message {
            topic: place.0.to_owned(),
            partition: place.1,
            offset: place.2,
            key: message.key().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
            payload: message.payload().unwrap_or_default().to_vec(),
        });
        if from_beginning && ends.is_empty() {
            break;
        }
    }
    messages.sort_by(|a, b| (&a.topic, a.partition, a.offset).cmp(&(&b.topic, b.partition, b.offset)));
    Ok(messages)
}
