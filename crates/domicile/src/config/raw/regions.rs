//! `[regions.*]` as they are written.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Backup;

/// One region: either served here (`postgres`, `log_origin`) or elsewhere (`home_url`).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Region {
    /// Whether this process holds a handle to the region. Default: true when `postgres` is given.
    pub served: Option<bool>,
    /// The jurisdiction, said again so that a mix-up is noticed: it must be the policy's.
    pub jurisdiction: Option<String>,
    /// Which of the policy's placements these stores are, as `cloud/location`. Default: its first.
    pub placement: Option<String>,
    /// The gateway that serves this region, named in a 421, e.g. `https://us.api.example.com`.
    pub home_url: Option<String>,
    /// The region's Postgres: `file:…`, `env:…` or a `postgres://` URL without a password.
    pub postgres: Option<String>,
    /// The password, as `file:…` or `env:…`, when the URL is written here.
    pub postgres_password: Option<String>,
    /// The owner's URL, used by `migrate`, `smoke`, `audit prune` and `ops`, never by `serve`. Default: `postgres`.
    pub postgres_owner: Option<String>,
    /// The origin of the region's audit log (C2SP tlog-checkpoint), for ever:
    /// e.g. `eu-central.log.example.com`.
    pub log_origin: Option<String>,
    /// Who signs the region's audit log, and how. Without it the log is hashed and not signed here.
    pub signer: Option<Signer>,
    /// When a read's leaf is durable: before the answer, or within a second. Default: `durable`.
    pub audit_reads: AuditReads,
    /// Leaves that are read again and hashed against the tree, per second; 0 means never.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub scrub_leaves_per_s: u32,
    /// How long entries of the audit log are kept, by kind. Without a rule every kind is kept for ever; they go by whole
    /// partitions, with `domicile audit prune`.
    pub retention: Vec<Retention>,
    /// Connections that carry coalesced reads.
    #[schemars(range(min = 1, max = 64))]
    pub reader_connections: u32,
    /// Connections of the committer: two overlap building and flushing.
    #[schemars(range(min = 1, max = 8))]
    pub committer_connections: u32,
    /// Its backups. Without it `domicile ops backup` passes it by.
    pub backup: Option<Backup>,
    /// The region's Redpanda. Without it events wait in the region log.
    pub redpanda: Option<Redpanda>,
    /// The region's Snowflake. Without it zero-party data waits in the region log.
    pub snowflake: Option<Snowflake>,
}

impl Default for Region {
    fn default() -> Self {
        Self {
            served: None,
            jurisdiction: None,
            placement: None,
            home_url: None,
            postgres: None,
            postgres_password: None,
            postgres_owner: None,
            log_origin: None,
            signer: None,
            audit_reads: AuditReads::Durable,
            scrub_leaves_per_s: 5_000,
            retention: Vec::new(),
            reader_connections: 2,
            committer_connections: 2,
            backup: None,
            redpanda: None,
            snowflake: None,
        }
    }
}

/// How long entries of one kind are kept.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Retention {
    /// The kind of entry, e.g. `decision.read`; `*` is every kind without a rule of its own.
    pub kind: Option<String>,
    /// They are kept at least for so many days: what law or an audit demands.
    #[schemars(range(min = 1, max = 36_500))]
    pub min_days: Option<u32>,
    /// They are kept at most for so many days: what is older and still there is named as overdue.
    #[schemars(range(min = 1, max = 36_500))]
    pub max_days: Option<u32>,
}

/// The signer of a region's audit log.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Signer {
    /// The log's private key, as `file:…` or `env:…`: what `domicile audit key generate` wrote.
    pub key: Option<String>,
    /// Where this process remembers what it signed last: a file of its own, on a disk that is not the
    /// database's and not restored with it.
    pub memory_file: Option<PathBuf>,
    /// Who is to cosign the checkpoints: at least one outside this operator's reach.
    pub witnesses: Vec<Witness>,
}

/// A witness of a region's audit log (C2SP tlog-witness).
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Witness {
    /// Its public key: what `domicile audit key generate --witness` printed.
    pub key: Option<String>,
    /// Its submission prefix: `add-checkpoint` is posted beneath it.
    pub url: Option<String>,
}

/// When a read's leaf is durable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AuditReads {
    /// Before the answer leaves.
    #[default]
    Durable,
    /// Within one second; a crash shows as a gap in the gateway's counter.
    Buffered,
}

/// The region's Redpanda, inside the region's jurisdiction.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Redpanda {
    /// Brokers to begin with, as `host:port`.
    pub brokers: Vec<String>,
    /// Where they stand, and the schema registry with them, as `cloud/location` of the locations preset: it must lie
    /// inside the region's jurisdiction. Needed unless all brokers and the registry are on this machine.
    pub location: Option<String>,
    /// How connections are protected. Default: `tls`.
    pub security: KafkaSecurity,
    /// The CA's certificate, PEM. Default: the system's.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate chain, PEM, for mutual TLS; then also `client_key_file`.
    pub client_certificate_file: Option<PathBuf>,
    /// The private key of our certificate, PEM, readable by the owner only.
    pub client_key_file: Option<PathBuf>,
    /// Present when the cluster asks for a password.
    pub sasl: Option<Sasl>,
    /// The schema registry (Redpanda's own, or another that speaks Confluent's API) in which the schemas of the
    /// events made here are registered, e.g. `https://redpanda-0.internal:8081`.
    pub schema_registry: Option<String>,
    /// The registry's user, where it asks for one; then also `schema_registry_password`.
    pub schema_registry_user: Option<String>,
    /// Its password, as `file:…` or `env:…`.
    pub schema_registry_password: Option<String>,
    /// What to do about a topic that does not exist yet. Default: `create`.
    pub missing_topics: MissingTopics,
    /// Partitions of a topic that domicile creates.
    #[schemars(range(min = 1, max = 1024))]
    pub topic_partitions: u16,
    /// Replicas of a topic that domicile creates.
    #[schemars(range(min = 1, max = 9))]
    pub topic_replicas: u16,
    /// How long a topic that domicile creates keeps its events, in hours; 0 means the broker's default.
    #[schemars(range(min = 0, max = 876_000))]
    pub topic_retention_hours: u32,
    /// How long after an erasure a message of that person may still be in a topic, in hours: what `DELETE
    /// /v1/subjects/{subject}` promises. A topic whose `retention.ms` and `segment.ms` come to more is not sent to. 0 means
    /// that topics may keep messages for ever: nothing is promised then.
    #[schemars(range(min = 0, max = 876_000))]
    pub topics_forget_hours_max: u32,
}

impl Default for Redpanda {
    fn default() -> Self {
        Self {
            brokers: Vec::new(),
            location: None,
            security: KafkaSecurity::Tls,
            ca_file: None,
            client_certificate_file: None,
            client_key_file: None,
            sasl: None,
            schema_registry: None,
            schema_registry_user: None,
            schema_registry_password: None,
            missing_topics: MissingTopics::Create,
            topic_partitions: 6,
            topic_replicas: 3,
            topic_retention_hours: 168,
            // Four weeks: within the month that the GDPR's article 12(3) gives.
            topics_forget_hours_max: 672,
        }
    }
}

/// How connections to a broker are protected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum KafkaSecurity {
    /// TLS.
    #[default]
    Tls,
    /// None: for a broker on this machine.
    Plaintext,
}

/// What to do about a topic that does not exist yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum MissingTopics {
    /// Create it as the keys beside this one say.
    #[default]
    Create,
    /// Wait until somebody else has created it, and say so.
    Refuse,
    /// Leave it to the brokers' own automatic creation.
    LeaveToBrokers,
}

/// A password for a broker.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Sasl {
    /// How it is proven. Default: `scram-sha-256`.
    pub mechanism: SaslMechanism,
    /// The user.
    pub user: Option<String>,
    /// The password, as `file:…` or `env:…`.
    pub password: Option<String>,
}

/// How a password is proven to a broker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SaslMechanism {
    /// SCRAM-SHA-256 (RFC 7677).
    #[default]
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    /// SCRAM-SHA-512.
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
}

/// The form of files that stand in for a Snowflake.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FolderFormat {
    /// One JSON text per line.
    #[default]
    Ndjson,
    /// Parquet, partitioned by region and day, for DuckDB, pyarrow or Spark.
    Parquet,
}

/// The region's Snowflake account, or a folder that stands in for one.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Snowflake {
    /// The account identifier, e.g. `myorg-eu`.
    pub account: Option<String>,
    /// Where the account stands, as `cloud/location` of the locations preset: it must lie inside the region's
    /// jurisdiction, and the account is asked whether it is so. Needed unless `base_url` is this machine.
    pub location: Option<String>,
    /// Another host than `https://<account>.snowflakecomputing.com`: a private link or a stand-in.
    pub base_url: Option<String>,
    /// The service user.
    pub user: Option<String>,
    /// The user's unencrypted PKCS#8 key, PEM, as `file:…` or `env:…`. Preferred.
    pub private_key: Option<String>,
    /// The user's password, as `file:…` or `env:…`.
    pub password: Option<String>,
    /// The role. Default: the user's.
    pub role: Option<String>,
    /// The warehouse that merges.
    pub warehouse: Option<String>,
    /// The database.
    pub database: Option<String>,
    /// The schema. Default: `PUBLIC`.
    pub schema: Option<String>,
    /// Whether domicile creates database, schema and tables; otherwise it only checks whose they are.
    pub create: bool,
    /// Days of Time Travel on the tables. They are transient, without Fail-safe: what is erased is gone
    /// after this.
    #[schemars(range(min = 0, max = 1))]
    pub retention_days: u8,
    /// How long one HTTP request may take before it is taken for lost and asked again, in seconds. Snowflake answers within 45 s, whether
    /// a statement is done or not.
    #[schemars(range(min = 1, max = 300))]
    pub request_s_max: u64,
    /// Credits per hour that the warehouse costs while it is awake, for the estimate of what is used; 1 for the
    /// smallest.
    #[schemars(range(min = 0.01, max = 1024.0))]
    pub warehouse_credits_per_hour: f64,
    /// How long the warehouse stays awake without work, in seconds, as it is configured in Snowflake.
    #[schemars(range(min = 1, max = 86_400))]
    pub warehouse_auto_suspend_s: u64,
    /// What a day may cost, in estimated credits. Beyond it batches grow and changes arrive later (withdrawals and
    /// erasures do not). Default: no bound.
    #[schemars(range(min = 0.01, max = 100_000.0))]
    pub credits_per_day_max: Option<f64>,
    /// The longest that a change waits for that reason, in seconds: at least a minute less than
    /// `events.forwarder_lag_alarm_s`, or an honest wait raises that alarm.
    #[schemars(range(min = 1, max = 86_400))]
    pub batch_s_stretched_max: u64,
    /// Values go out only with a granted consent for one of these purposes. Default: any granted purpose.
    pub purposes: Vec<String>,
    /// Instead of an account: a folder, inside the region, that receives the rows as files.
    pub folder: Option<PathBuf>,
    /// The form of those files. Default: `ndjson`.
    pub folder_format: FolderFormat,
}

impl Default for Snowflake {
    fn default() -> Self {
        Self {
            account: None,
            location: None,
            base_url: None,
            user: None,
            private_key: None,
            password: None,
            role: None,
            warehouse: None,
            database: None,
            schema: None,
            create: true,
            retention_days: 1,
            request_s_max: 60,
            warehouse_credits_per_hour: 1.0,
            warehouse_auto_suspend_s: 60,
            credits_per_day_max: None,
            batch_s_stretched_max: 240,
            purposes: Vec::new(),
            folder: None,
            folder_format: FolderFormat::Ndjson,
        }
    }
}
