//! The configuration file as it is written: one struct per table, every key with its unit, default
//! and limits. `domicile config schema` is generated from here, and so is the list of known keys.
//!
//! Nothing here means anything yet: [`super::check`] turns it into [`super::Config`].

mod backup;
mod gateway;
mod regions;
mod telemetry;

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use self::backup::{Backup, Backups};
pub(crate) use self::gateway::{
    Algorithm, AuditDetail, Auth, Claims, Forwarding, ForwardingSource, Gateway, Jwt, Limits,
};
pub(crate) use self::regions::{
    AuditReads, FolderFormat, KafkaSecurity, MissingTopics, Redpanda, Region, Retention, SaslMechanism, Signer,
    Snowflake, Witness,
};
pub(crate) use self::telemetry::{LogFormat, Otlp, Telemetry};

/// The configuration of domicile. Every key can also be set by the environment:
/// `DOMICILE__GATEWAY__LISTEN` is `listen` in `[gateway]`.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Root {
    /// The HTTP face of this process.
    pub gateway: Gateway,
    /// Where the residency policy and its tables are.
    pub policy: Policy,
    /// The GeoIP database. Without it, network addresses are no evidence.
    pub geoip: Option<GeoIp>,
    /// The directory of pins.
    pub directory: Directory,
    /// Who may call, besides the API keys of the directory.
    pub auth: Auth,
    /// The regions: the same set as in the policy, by name.
    pub regions: BTreeMap<String, Region>,
    /// How the region log is carried to Redpanda and Snowflake.
    pub events: Events,
    /// What holds for the backups of all databases.
    pub backup: Backups,
    /// Logs, traces and metrics. Nothing personal is ever in them.
    pub telemetry: Telemetry,
}

/// Where the residency policy and its tables are. Paths are relative to this file.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Policy {
    /// The policy table. Default: the one built into the binary (`config/residency.toml`).
    pub file: Option<PathBuf>,
    /// Countries and their laws. Default: the built-in preset, to be reviewed with counsel.
    pub jurisdictions: Option<PathBuf>,
    /// Cloud locations and their countries. Default: the built-in preset.
    pub locations: Option<PathBuf>,
}

/// The GeoIP database.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct GeoIp {
    /// An mmdb file of countries (GeoLite2, GeoIP2 or iptoasn shaped), or `demo` for the bundled
    /// public-domain database, which is not for production.
    pub path: Option<PathBuf>,
    /// The file's SHA-256 in hex; a file with another one is refused.
    pub sha256: Option<String>,
    /// An older database is refused, in days since it was built.
    #[schemars(range(min = 1, max = 3650))]
    pub age_days_max: Option<u32>,
    /// A database with fewer networks is refused.
    #[schemars(range(min = 0, max = 100_000_000))]
    pub networks_min: u64,
    /// A database that knows the country of a smaller share of the public IPv4 addresses is refused, in percent.
    #[schemars(range(min = 0, max = 100))]
    pub coverage_percent_min: u8,
    /// How often the file is looked at for a newer one, in seconds; 0 means never.
    #[schemars(range(min = 0, max = 86_400))]
    pub reload_s: u64,
    /// Addresses whose country is known for sure; a database that disagrees is refused.
    pub canaries: BTreeMap<String, String>,
}

impl Default for GeoIp {
    fn default() -> Self {
        Self {
            path: None,
            sha256: None,
            age_days_max: None,
            networks_min: 1000,
            coverage_percent_min: 50,
            reload_s: 60,
            canaries: BTreeMap::new(),
        }
    }
}

/// The directory of pins.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Directory {
    /// Its Postgres: `file:…`, `env:…` or a `postgres://` URL without a password.
    pub postgres: Option<String>,
    /// The password, as `file:…` or `env:…`, when the URL is written here.
    pub postgres_password: Option<String>,
    /// The owner's URL, used by `migrate`, `keys`, `smoke` and `ops`, never by `serve`. Default: `postgres`.
    pub postgres_owner: Option<String>,
    /// Pins kept in memory.
    #[schemars(range(min = 0, max = 100_000_000))]
    pub cache_pins_max: u64,
    /// Its backups. Without it `domicile ops backup` passes it by.
    pub backup: Option<Backup>,
    /// The keyed peppers of the subject digests; exactly one is current, older ones stay readable.
    pub peppers: Vec<Pepper>,
}

impl Default for Directory {
    fn default() -> Self {
        Self {
            postgres: None,
            postgres_password: None,
            postgres_owner: None,
            cache_pins_max: 100_000,
            backup: None,
            peppers: Vec::new(),
        }
    }
}

/// One pepper of the directory.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Pepper {
    /// Its number, which is stored beside each digest.
    #[schemars(range(min = 1, max = 32_767))]
    pub key_id: Option<u16>,
    /// `file:…` or `env:…`: at least 32 bytes, e.g. from `openssl rand -hex 32`.
    pub secret: Option<String>,
    /// Whether new digests are made under it. Default: true when it is the only one.
    pub current: Option<bool>,
}

/// How the region log is carried to Redpanda and Snowflake.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Events {
    /// The types of events that callers may publish, each a topic: `shop.order-placed`, or `shop.*` for a whole
    /// domain. Default: every type.
    pub types: Option<Vec<String>>,
    /// The largest message that the brokers take, headers included, in bytes: `max.message.bytes` of their topics. What a
    /// caller may send (`gateway.limits.body_bytes_max`) has to fit, with 64 KiB for the headers.
    #[schemars(range(min = 66_560, max = 33_554_432))]
    pub message_bytes_max: u64,
    /// Log rows the relay reads at once.
    #[schemars(range(min = 1, max = 10_000))]
    pub relay_batch_rows_max: u32,
    /// Log rows the forwarder merges at once.
    #[schemars(range(min = 1, max = 10_000))]
    pub forwarder_batch_rows_max: u32,
    /// How long the first change of a forwarder's batch waits for company, in milliseconds: freshness
    /// against the warehouse's bill.
    #[schemars(range(min = 0, max = 600_000))]
    pub forwarder_batch_ms_max: u64,
    /// How long an idle relay or forwarder sleeps at most before it looks again, in milliseconds.
    #[schemars(range(min = 10, max = 60_000))]
    pub idle_ms_max: u64,
    /// How long a relay or forwarder owns its cursor without a sign of life, in seconds.
    #[schemars(range(min = 5, max = 300))]
    pub lease_s: u64,
    /// How long the brokers may take to answer one question about topics and offsets, in seconds.
    #[schemars(range(min = 1, max = 300))]
    pub broker_answer_s_max: u64,
    /// An alarm is raised when an event has waited for its topic for longer than this, in seconds.
    #[schemars(range(min = 1, max = 86_400))]
    pub relay_lag_alarm_s: u64,
    /// An alarm is raised when a change, a withdrawal perhaps, has waited for Snowflake for longer than this, in
    /// seconds.
    #[schemars(range(min = 1, max = 86_400))]
    pub forwarder_lag_alarm_s: u64,
    /// An alarm is raised when an erasure has waited for Snowflake for longer than this, in seconds.
    #[schemars(range(min = 1, max = 86_400))]
    pub erasure_alarm_s: u64,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            types: None,
            message_bytes_max: 1_000_000,
            relay_batch_rows_max: 5000,
            forwarder_batch_rows_max: 1000,
            forwarder_batch_ms_max: 2000,
            idle_ms_max: 500,
            lease_s: 15,
            broker_answer_s_max: 10,
            relay_lag_alarm_s: 60,
            forwarder_lag_alarm_s: 300,
            erasure_alarm_s: 900,
        }
    }
}
