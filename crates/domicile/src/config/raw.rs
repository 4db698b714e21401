//! The configuration file as it is written: one struct per table, every key with its unit, default
//! and limits. `domicile config schema` is generated from here, and so is the list of known keys.
//!
//! Nothing here means anything yet: [`super::check`] turns it into [`super::Config`].

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// Logs, traces and metrics. Nothing personal is ever in them.
    pub telemetry: Telemetry,
}

/// The HTTP face of this process.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Gateway {
    /// The name of this process in audit leaves and metrics: 1 to 40 characters of a-z, 0-9 and
    /// hyphens. Default: `gateway`.
    pub instance: Option<String>,
    /// The region in whose log a denial is written when no home is known. Must be served here.
    pub region: Option<String>,
    /// Address and port of the API. Default: `127.0.0.1:8080`.
    pub listen: Option<String>,
    /// Address and port of health, readiness and metrics. Never expose it. Default: `127.0.0.1:9090`.
    pub admin_listen: Option<String>,
    /// Whether the console's cookie is for TLS only. Default: true; switch it off only for a
    /// rehearsal over plain http.
    pub cookie_secure: Option<bool>,
    /// Bounds on what callers may ask of this process.
    pub limits: Limits,
    /// Whose forwarding headers are believed.
    pub forwarding: Forwarding,
}

/// Bounds on what callers may ask of this process.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// Longest accepted request body, in bytes.
    #[schemars(range(min = 1024, max = 16_777_216))]
    pub body_bytes_max: u64,
    /// Longest accepted body of `POST /v1/batch`, in bytes.
    #[schemars(range(min = 1024, max = 1_073_741_824))]
    pub batch_body_bytes_max: u64,
    /// Longest accepted request head (request line and headers), in bytes.
    #[schemars(range(min = 8192, max = 1_048_576))]
    pub head_bytes_max: u64,
    /// A request that takes longer is answered 504, in milliseconds.
    #[schemars(range(min = 100, max = 300_000))]
    pub request_ms_max: u64,
    /// Requests executed at once; more are answered 503 at once.
    #[schemars(range(min = 1, max = 65_536))]
    pub requests_at_once_max: u32,
    /// Connections at once; more wait in the kernel's backlog.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections_max: u32,
    /// Sustained requests per second of one caller; 0 means no limit per caller.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub caller_requests_per_s_max: u32,
    /// Requests that a caller may send at once after a pause.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub caller_burst_max: u32,
    /// How long a process that is to end says that it is not ready before it stops accepting, so that
    /// balancers notice, in seconds.
    #[schemars(range(min = 0, max = 300))]
    pub drain_notice_s: u64,
    /// How long a shutdown waits for requests in flight, in seconds.
    #[schemars(range(min = 1, max = 300))]
    pub drain_s_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 1 << 20,
            batch_body_bytes_max: 64 << 20,
            head_bytes_max: 64 << 10,
            request_ms_max: 30_000,
            requests_at_once_max: 4096,
            connections_max: 8192,
            caller_requests_per_s_max: 20_000,
            caller_burst_max: 40_000,
            drain_notice_s: 0,
            drain_s_max: 20,
        }
    }
}

/// Whose forwarding headers are believed.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Forwarding {
    /// The one header that is read, and only when the peer is trusted. Default: `none`.
    pub source: ForwardingSource,
    /// The name of the header when `source = "header"`, e.g. `cf-connecting-ip`.
    pub header: Option<String>,
    /// Networks of the proxies in front, e.g. `["10.0.0.0/8"]`.
    pub trusted: Vec<String>,
    /// Whether the connection's own address is evidence of where a person is, when nobody forwarded or
    /// stated a better one. Default: true; switch it off where all callers are application servers.
    pub peer_is_client: Option<bool>,
}

/// Which header names the client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ForwardingSource {
    /// The connection itself is the client.
    #[default]
    None,
    /// `X-Forwarded-For`, read from right to left through the trusted proxies.
    XForwardedFor,
    /// `Forwarded` (RFC 7239), read from right to left through the trusted proxies.
    Forwarded,
    /// One header that holds one address, named by `header`.
    Header,
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
    /// The owner's URL, used by `domicile migrate` only. Default: `postgres`.
    pub postgres_owner: Option<String>,
    /// Pins kept in memory.
    #[schemars(range(min = 0, max = 100_000_000))]
    pub cache_pins_max: u64,
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

/// Who may call, besides the API keys of the directory.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Auth {
    /// Tokens of an identity provider. Without this table only API keys are accepted.
    pub jwt: Option<Jwt>,
}

/// Tokens of an identity provider.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Jwt {
    /// The only accepted `iss`.
    pub issuer: Option<String>,
    /// The `aud` that must be among the token's.
    pub audience: Option<String>,
    /// Where the keys are: `https://…` (fetched, cached and refreshed) or `file:…`.
    pub jwks: Option<String>,
    /// Accepted signature algorithms; only asymmetric ones.
    pub algorithms: Vec<Algorithm>,
    /// Accepted difference between clocks, in seconds.
    #[schemars(range(min = 0, max = 300))]
    pub leeway_s: u64,
    /// How the claims are called in these tokens.
    pub claims: Claims,
}

impl Default for Jwt {
    fn default() -> Self {
        Self {
            issuer: None,
            audience: None,
            jwks: None,
            algorithms: vec![Algorithm::ES256, Algorithm::RS256],
            leeway_s: 30,
            claims: Claims::default(),
        }
    }
}

/// An asymmetric signature algorithm (RFC 7518).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) enum Algorithm {
    ES256,
    ES384,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    EdDSA,
}

/// How the claims are called in these tokens.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Claims {
    /// The person or service the token speaks for.
    pub subject: String,
    /// The scopes: a text with spaces between, or a list.
    pub scopes: String,
    /// The verified residence, `DE` or `US-CA`.
    pub residence: String,
    /// The tenant.
    pub tenant: String,
}

impl Default for Claims {
    fn default() -> Self {
        Self { subject: "sub".into(), scopes: "scope".into(), residence: "residence".into(), tenant: "tenant".into() }
    }
}

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
    /// The owner's URL, used by `domicile migrate` only. Default: `postgres`.
    pub postgres_owner: Option<String>,
    /// The origin of the region's audit log (C2SP tlog-checkpoint), for ever:
    /// e.g. `eu-central.log.example.com`.
    pub log_origin: Option<String>,
    /// When a read's leaf is durable: before the answer, or within a second. Default: `durable`.
    pub audit_reads: AuditReads,
    /// Connections that carry coalesced reads.
    #[schemars(range(min = 1, max = 64))]
    pub reader_connections: u32,
    /// Connections of the committer: two overlap building and flushing.
    #[schemars(range(min = 1, max = 8))]
    pub committer_connections: u32,
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
            audit_reads: AuditReads::Durable,
            reader_connections: 2,
            committer_connections: 2,
            redpanda: None,
            snowflake: None,
        }
    }
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
}

impl Default for Redpanda {
    fn default() -> Self {
        Self {
            brokers: Vec::new(),
            security: KafkaSecurity::Tls,
            ca_file: None,
            client_certificate_file: None,
            client_key_file: None,
            sasl: None,
            missing_topics: MissingTopics::Create,
            topic_partitions: 6,
            topic_replicas: 3,
            topic_retention_hours: 0,
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

/// The region's Snowflake account, or a folder that stands in for one.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Snowflake {
    /// The account identifier, e.g. `myorg-eu`.
    pub account: Option<String>,
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
    /// Values go out only with a granted consent for one of these purposes. Default: any granted purpose.
    pub purposes: Vec<String>,
    /// Instead of an account: a folder, inside the region, that receives the rows as NDJSON files.
    pub folder: Option<PathBuf>,
}

impl Default for Snowflake {
    fn default() -> Self {
        Self {
            account: None,
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
            purposes: Vec::new(),
            folder: None,
        }
    }
}

/// How the region log is carried to Redpanda and Snowflake.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Events {
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
}

impl Default for Events {
    fn default() -> Self {
        Self { relay_batch_rows_max: 5000, forwarder_batch_rows_max: 1000, forwarder_batch_ms_max: 2000, idle_ms_max: 500, lease_s: 15 }
    }
}

/// Logs, traces and metrics.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Telemetry {
    /// The form of log lines. Default: `human` on a terminal, `json` elsewhere.
    pub format: Option<LogFormat>,
    /// Which log lines are written, e.g. `info,storage=debug` (tracing's EnvFilter). Default: `info`.
    pub filter: Option<String>,
    /// Export by OTLP. Without this table nothing is exported.
    pub otlp: Option<Otlp>,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Human,
}

/// Export by OTLP over HTTP, to a collector inside the same jurisdiction.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Otlp {
    /// The collector, plain http: e.g. `http://127.0.0.1:4318`. Put TLS in the collector beside it.
    pub endpoint: Option<String>,
    /// Whether traces are exported.
    pub traces: bool,
    /// Whether metrics are exported (they are always at `/metrics`).
    pub metrics: bool,
    /// Which part of the traces is kept, from 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub trace_ratio: f64,
    /// How often metrics are sent, in seconds.
    #[schemars(range(min = 1, max = 3600))]
    pub metrics_every_s: u64,
}

impl Default for Otlp {
    fn default() -> Self {
        Self { endpoint: None, traces: true, metrics: true, trace_ratio: 0.05, metrics_every_s: 15 }
    }
}
