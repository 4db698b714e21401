//! What can go wrong between a region log and its brokers.

use rdkafka::error::KafkaError;

use crate::keeping::Keeps;

/// A trouble of the relay. The running relay retries all of them; callers of the inspection helpers and of
/// the mock broker see them directly.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The producer could not be made from its settings.
    #[error("a Kafka client could not be made from the relay's settings")]
    Client(#[source] KafkaError),
    /// A metadata or administrative request failed.
    #[error("the brokers did not answer a request about topics")]
    Topics(#[source] KafkaError),
    /// A topic could not be created.
    #[error("the brokers refused to create topic {topic}: {code}")]
    TopicRefused {
        /// The topic's name.
        topic: String,
        /// The brokers' error code.
        code: rdkafka::types::RDKafkaErrorCode,
    },
    /// A topic is missing and may not be created.
    #[error("topic {topic} does not exist, and the configuration asks to check topics, not to create them")]
    TopicMissing {
        /// The topic's name.
        topic: String,
    },
    /// A topic keeps messages for longer than it may.
    #[error("topic {topic} {keeps}, and what it holds of an erased person must be gone after {hours_max} h")]
    TopicKeeps {
        /// The topic's name.
        topic: String,
        /// For how long.
        keeps: Keeps,
        /// For how long it may.
        hours_max: u64,
    },
    /// An entry was not acknowledged.
    #[error("the brokers did not acknowledge region log entry {seq}")]
    Unacknowledged {
        /// The entry's sequence number in the region log.
        seq: u64,
        /// The producer's error.
        #[source]
        source: KafkaError,
    },
    /// Nothing was acknowledged for too long although entries were in flight.
    #[error("the brokers acknowledged nothing for {seconds} s although entries were in flight")]
    Stalled {
        /// How long, in seconds.
        seconds: u64,
    },
    /// The region log could not be read or its cursor not be moved.
    #[error("the region log could not be read or its cursor not be moved")]
    Log(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Topics could not be read back.
    #[error("topics could not be read back")]
    Inspect(#[source] KafkaError),
    /// The in-process broker is gone or refused a command.
    #[error("the in-process broker {0}")]
    Mock(String),
}
