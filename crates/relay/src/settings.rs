//! What an operator may decide about a relay, with units and bounds.

use std::path::PathBuf;
use std::time::Duration;

use rdkafka::ClientConfig;
use secrecy::{ExposeSecret, SecretString};

use crate::registry::Registry;

/// The settings of one region's relay.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Bootstrap brokers of this region, `host:port` separated by commas.
    pub brokers: String,
    /// How to speak to them.
    pub security: Security,
    /// What to do about a topic that does not exist yet.
    pub missing_topics: MissingTopics,
    /// How long after an erasure a message of that person may still be in a topic. A topic that keeps messages for longer is
    /// not sent to. `None`: topics may keep them for ever, and nobody looks.
    pub forget_max: Option<Duration>,
    /// The origin of the region's log; sent as `domicile_log`, so that a consumer knows whose sequence it sees and
    /// can ask for a proof. Without one, the tails of topics are not read at start.
    pub log_origin: Option<String>,
    /// Where the schemas of the events made here are registered.
    pub registry: Option<Registry>,
    /// Whether this is a replay: entries are sent although they are there, marked by the header `domicile_replay`.
    pub replay: bool,
    /// Compression of batches.
    pub compression: Compression,
    /// Bounds.
    pub limits: Limits,
}

impl Settings {
    /// Settings for brokers spoken to in plain text, everything else as the defaults have it.
    #[must_use]
    pub fn plain(brokers: &str) -> Self {
        Self {
            brokers: brokers.to_owned(),
            security: Security::Plain,
            missing_topics: MissingTopics::default(),
            forget_max: None,
            log_origin: None,
            registry: None,
            replay: false,
            compression: Compression::Lz4,
            limits: Limits::default(),
        }
    }

    /// The part of a client's configuration that every kind of client shares.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "domicile-relay")
            // A silent peer (a cut cable, a firewall that forgot) is noticed by keepalive and by request time-outs.
            .set("socket.keepalive.enable", "true")
            .set("socket.timeout.ms", "10000")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "2000")
            .set("topic.metadata.refresh.interval.ms", "60000");
        self.security.write_to(&mut config);
        config
    }
}

/// How to speak to the brokers.
#[derive(Debug, Clone)]
pub enum Security {
    /// No encryption, no authentication: for loopback and private networks only.
    Plain,
    /// TLS; with a client certificate it is mutual.
    Tls(Tls),
    /// SASL/SCRAM, over TLS unless `tls` is `None`.
    Scram(Scram),
}

/// Trust and identity of a TLS connection. Host names are always verified.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// PEM file of the authorities to trust; the system's when absent.
    pub authorities: Option<PathBuf>,
    /// Our own certificate, for mutual TLS.
    pub client: Option<ClientCertificate>,
}

/// A client certificate and its key, as PEM files.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    /// PEM file of the certificate chain.
    pub certificate: PathBuf,
    /// PEM file of the private key.
    pub key: PathBuf,
    /// Passphrase of the key.
    pub key_password: Option<SecretString>,
}

/// SASL/SCRAM credentials.
#[derive(Debug, Clone)]
pub struct Scram {
    /// TLS beneath; `None` sends the exchange (not the password) in the clear.
    pub tls: Option<Tls>,
    /// SHA-512 rather than SHA-256.
    pub sha512: bool,
    /// The user.
    pub username: String,
    /// Its password.
    pub password: SecretString,
}

impl Security {
    fn write_to(&self, config: &mut ClientConfig) {
        match self {
            Self::Plain => {
                config.set("security.protocol", "plaintext");
            }
            Self::Tls(tls) => {
                config.set("security.protocol", "ssl");
                tls.write_to(config);
            }
            Self::Scram(scram) => {
                config
                    .set("security.protocol", if scram.tls.is_some() { "sasl_ssl" } else { "sasl_plaintext" })
                    .set("sasl.mechanism", if scram.sha512 { "SCRAM-SHA-512" } else { "SCRAM-SHA-256" })
                    .set("sasl.username", &scram.username)
                    .set("sasl.password", scram.password.expose_secret());
                if let Some(tls) = &scram.tls {
                    tls.write_to(config);
                }
            }
        }
    }
}

impl Tls {
    fn write_to(&self, config: &mut ClientConfig) {
        config.set("ssl.endpoint.identification.algorithm", "https");
        match &self.authorities {
            Some(path) => config.set("ssl.ca.location", path.to_string_lossy()),
            None => config.set("ssl.ca.location", "probe"),
        };
        if let Some(client) = &self.client {
            config
                .set("ssl.certificate.location", client.certificate.to_string_lossy())
                .set("ssl.key.location", client.key.to_string_lossy());
            if let Some(password) = &client.key_password {
                config.set("ssl.key.password", password.expose_secret());
            }
        }
    }
}

/// What to do about a topic that an entry names and the brokers do not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingTopics {
    /// Create it.
    Create {
        /// Partitions; also the most consumers of one group that can share the topic.
        partitions: u16,
        /// Copies of each partition.
        replication: u16,
        /// How long the brokers keep an entry; their own default when absent. It is gone some time later: see
        /// [`forgets_within`](crate::forgets_within).
        retention: Option<Duration>,
    },
    /// Refuse to send, say so and try again: somebody else creates topics here.
    Refuse,
    /// Leave it to the brokers' own automatic creation.
    LeaveToBrokers,
}

impl Default for MissingTopics {
    fn default() -> Self {
        Self::Create { partitions: 6, replication: 1, retention: None }
    }
}

/// Compression of batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// None.
    None,
    /// LZ4: light on CPU.
    Lz4,
    /// Zstandard: smaller.
    Zstd,
}

impl Compression {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// The bounds of a relay.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Entries handed to the producer and not yet acknowledged.
    pub in_flight_rows_max: usize,
    /// Payload bytes handed to the producer and not yet acknowledged.
    pub in_flight_bytes_max: usize,
    /// Entries read from the log at once (10,000 at most).
    pub batch_rows_max: u32,
    /// Payload bytes that one read should bring; the row count adapts to the sizes seen.
    pub batch_bytes_target: usize,
    /// How long what was read may wait to be sent. After that it is read anew: somebody may have been erased since.
    pub read_age_max: Duration,
    /// The largest message the brokers take, in bytes. Larger entries go to the dead-letter topic.
    pub message_bytes_max: usize,
    /// How long the producer waits for company in a batch.
    pub linger: Duration,
    /// How long nothing may be acknowledged, with entries in flight, before the producer is made anew.
    pub stall_max: Duration,
    /// How long the cursor's lease lasts without renewal; another relay takes over after that.
    pub lease: Duration,
    /// How long the brokers may take to answer one question about topics, offsets or metadata.
    pub answer_max: Duration,
    /// The least time between two stores of the cursor: what a crash may send again.
    pub cursor_interval: Duration,
    /// The first wait between two looks at an idle log.
    pub poll_min: Duration,
    /// The longest such wait; also what a commit of another process may wait to be noticed.
    pub poll_max: Duration,
    /// The first wait after a trouble.
    pub backoff_min: Duration,
    /// The longest wait after repeated trouble.
    pub backoff_max: Duration,
    /// How long a shutdown waits for acknowledgements.
    pub drain_max: Duration,
    /// An alarm is raised when the oldest entry that waits is older than this.
    pub lag_alarm: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_flight_rows_max: 20_000,
            in_flight_bytes_max: 64 << 20,
            batch_rows_max: 5_000,
            batch_bytes_target: 8 << 20,
            read_age_max: Duration::from_secs(60),
            message_bytes_max: 1_000_000,
            linger: Duration::from_millis(5),
            stall_max: Duration::from_secs(60),
            lease: Duration::from_secs(15),
            answer_max: Duration::from_secs(10),
            cursor_interval: Duration::from_millis(50),
            poll_min: Duration::from_millis(5),
            poll_max: Duration::from_millis(500),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(30),
            drain_max: Duration::from_secs(5),
            lag_alarm: Duration::from_secs(60),
        }
    }
}
