//! The idempotent producer, and librdkafka's voice turned into ours.
//!
//! Order is the point. `enable.idempotence` keeps the order of a partition through retries;
//! `enable.gapless.guarantee` makes the one thing that could still leave a gap, a batch refused for good,
//! fatal to the producer, so that nothing later of that partition is sent; and messages do not expire
//! (`message.timeout.ms=0`), because an expired message leaves a gap too. The relay watches for a
//! stall itself and then makes the producer anew.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::Message as _;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, PurgeConfig, ThreadedProducer};
use residency::Region;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::error::Error;
use crate::settings::Settings;

/// Log lines of one librdkafka client that are passed on in [`LINES_WINDOW`]; it writes one per retry.
const LINES_MAX: u32 = 5;
const LINES_WINDOW: Duration = Duration::from_secs(10);

/// What became of one message.
#[derive(Debug)]
pub(crate) struct Delivered {
    pub(crate) seq: u64,
    pub(crate) outcome: Result<(), KafkaError>,
}

/// A message to be sent.
pub(crate) struct Outgoing<'a> {
    pub(crate) seq: u64,
    pub(crate) topic: &'a str,
    /// Hexadecimal, so that an operator's tools show a key and not a screenful of noise.
    pub(crate) key: String,
    pub(crate) headers: OwnedHeaders,
    pub(crate) payload: Option<&'a [u8]>,
}

/// One producer and the stream of what became of its messages.
pub(crate) struct Outlet {
    producer: ThreadedProducer<Deliveries>,
    delivered: mpsc::UnboundedReceiver<Delivered>,
}

impl Outlet {
    pub(crate) fn open(settings: &Settings, region: &Region) -> Result<Self, Error> {
        let limits = &settings.limits;
        let mut config = settings.client();
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("enable.gapless.guarantee", "true")
            .set("message.timeout.ms", "0")
            // librdkafka's own default disagrees with Java's and Redpanda's tools about a key's partition.
            .set("partitioner", "murmur2_random")
            .set("compression.type", settings.compression.name())
            .set("linger.ms", limits.linger.as_millis().to_string())
            .set("message.max.bytes", limits.message_bytes_max.to_string())
            .set("batch.num.messages", "10000")
            // The window bounds what is in flight; librdkafka's own bounds stay just above it.
            .set("queue.buffering.max.messages", (limits.in_flight_rows_max + 1_000).to_string())
            .set("queue.buffering.max.kbytes", (limits.in_flight_bytes_max / 1024 * 2 + 16_384).to_string())
            .set("retry.backoff.ms", "50")
            .set("retry.backoff.max.ms", "1000")
            // A topic that vanished is reported after this long rather than waited for.
            .set("topic.metadata.propagation.max.ms", "10000");
        let (sender, delivered) = mpsc::unbounded_channel();
        let context = Deliveries { delivered: sender, voice: Voice::new(region) };
        let producer = ThreadedProducer::from_config_and_context(&config, context).map_err(Error::Client)?;
        Ok(Self { producer, delivered })
    }

    /// Hands a message to the producer. Its fate arrives by [`Outlet::delivered`].
    pub(crate) fn send(&self, message: Outgoing<'_>) -> Result<(), KafkaError> {
        const { assert!(usize::BITS >= 64, "a sequence number travels through librdkafka as a pointer") };
        let mut record = BaseRecord::with_opaque_to(message.topic, message.seq as usize);
        record = record.key(message.key.as_bytes()).headers(message.headers);
        if let Some(payload) = message.payload {
            record = record.payload(payload);
        }
        // No timestamp: it is the producer's clock. An application's own time may be years old, and the
        // brokers' retention would then drop the message at once.
        self.producer.send(record).map_err(|(error, _)| error)
    }

    /// Waits for fates, and appends as many as are there (at most `max`).
    pub(crate) async fn delivered(&mut self, into: &mut Vec<Delivered>, max: usize) -> usize {
        self.delivered.recv_many(into, max).await
    }

    /// Fates that are there already.
    pub(crate) fn try_delivered(&mut self) -> Option<Delivered> {
        self.delivered.try_recv().ok()
    }

    /// Throws away what has not been sent and stops the producer's threads, without holding up the caller.
    pub(crate) async fn close(self) {
        let Self { producer, delivered } = self;
        drop(delivered);
        producer.purge(PurgeConfig::default().queue().inflight());
        // Joining threads blocks. If the runtime is going down, the drop happens there instead.
        let _ = tokio::task::spawn_blocking(move || drop(producer)).await;
    }
}

/// Takes delivery reports on the producer's polling thread.
///
/// The channel has no bound of its own; the window lets no more messages in than
/// `in_flight_rows_max`, and each makes one report.
struct Deliveries {
    delivered: mpsc::UnboundedSender<Delivered>,
    voice: Voice,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.voice.say(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.voice.say(RDKafkaLogLevel::Error, &error.to_string(), reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, seq: usize) {
        let outcome = match result {
            Ok(message) => {
                debug_assert!(message.offset() >= 0);
                Ok(())
            }
            Err((error, _)) => Err(error.clone()),
        };
        // The receiver is gone when the session ended: the entry is sent again by the next one.
        let _ = self.delivered.send(Delivered { seq: seq as u64, outcome });
    }
}

/// librdkafka's log lines, passed on in moderation. They name brokers, topics and states, never payloads.
pub(crate) struct Voice {
    region: Region,
    window: Mutex<(Instant, u32)>,
    suppressed: AtomicU64,
}

impl Voice {
    pub(crate) fn new(region: &Region) -> Self {
        Self { region: region.clone(), window: Mutex::new((Instant::now(), 0)), suppressed: AtomicU64::new(0) }
    }

    fn say(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let region = &self.region;
        if !is_serious(level, facility) {
            debug!(%region, facility, "The Kafka client of {region} says: {message}");
            return;
        }
        if !self.may_speak() {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // Trouble that librdkafka retries by itself is a warning to us; the relay reports what it gives up on.
        let suppressed = self.suppressed.swap(0, Ordering::Relaxed);
        warn!(%region, facility, suppressed, "The Kafka client of {region} reports: {message}");
    }

    fn may_speak(&self) -> bool {
        let Ok(mut window) = self.window.lock() else { return false };
        if window.0.elapsed() > LINES_WINDOW {
            *window = (Instant::now(), 0);
        }
        window.1 += 1;
        window.1 <= LINES_MAX
    }
}

/// librdkafka's remarks on its own settings. They are ours, the same at each start, and chosen with open
/// eyes ("`enable.gapless.guarantee` is experimental"): nothing that an operator could act upon.
const ON_SETTINGS: &str = "CONFWARN";

fn is_serious(level: RDKafkaLogLevel, facility: &str) -> bool {
    facility != ON_SETTINGS
        && matches!(
            level,
            RDKafkaLogLevel::Emerg
                | RDKafkaLogLevel::Alert
                | RDKafkaLogLevel::Critical
                | RDKafkaLogLevel::Error
                | RDKafkaLogLevel::Warning
        )
}

/// How the relay is to take a failed message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// Said of messages that fell with another one; the least telling.
    Fallen,
    /// Try again, from the oldest unacknowledged entry, with a new producer.
    Passing,
    /// The brokers do not let us: try again, patiently.
    Forbidden,
    /// The brokers will never take this message: the most telling.
    Poison,
}

impl Fault {
    pub(crate) fn of(error: &KafkaError) -> Self {
        use RDKafkaErrorCode as Code;
        match error.rdkafka_error_code() {
            Some(
                Code::MessageSizeTooLarge
                | Code::InvalidRecord
                | Code::MessageBatchTooLarge
                | Code::InvalidMessageSize
                | Code::PolicyViolation
                | Code::InvalidTopic,
            ) => Self::Poison,
            Some(
                Code::TopicAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::Authentication
                | Code::SaslAuthenticationFailed,
            ) => Self::Forbidden,
            Some(Code::PurgeQueue | Code::PurgeInflight | Code::Fatal | Code::GaplessGuarantee) => Self::Fallen,
            _ => Self::Passing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remarks_on_our_own_settings_are_no_warnings_and_trouble_with_brokers_is() {
        assert!(!is_serious(RDKafkaLogLevel::Warning, "CONFWARN"));
        assert!(!is_serious(RDKafkaLogLevel::Info, "BRKMAIN"));
        assert!(is_serious(RDKafkaLogLevel::Warning, "REQTMOUT"));
        assert!(is_serious(RDKafkaLogLevel::Error, "FAIL"));
    }
}
