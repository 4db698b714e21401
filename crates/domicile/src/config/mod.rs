//! Settings become meaning once: the file and the environment are layered ([`layers`]), compared with
//! the schema ([`shape`]), checked for their sense ([`check`]), and then nobody sees a string that means
//! a region. Every mistake is reported at once.

mod check;
mod dsn;
pub(crate) mod fingerprint;
mod layers;
mod mistake;
pub(crate) mod raw;
mod schema;
mod secret;
mod shape;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use residency::{Country, Jurisdiction, Policy, Purpose, Region};
use secrecy::SecretString;
use serde::Deserialize as _;

pub(crate) use dsn::Dsn;
pub(crate) use mistake::{Gravity, Mistake, Mistakes, nearest};
pub(crate) use schema::json_schema;

/// Where the configuration is looked for when nobody says otherwise.
pub(crate) const DEFAULT_PATH: &str = "config/domicile.toml";

/// A checked configuration.
#[derive(Debug)]
pub(crate) struct Config {
    /// The HTTP face.
    pub gateway: Gateway,
    /// The policy, parsed and proven consistent with the regions below.
    pub policy: Arc<Policy>,
    /// What it was read from: the table, its jurisdictions, its locations.
    pub policy_texts: [String; 3],
    /// The GeoIP database, if addresses are to be evidence.
    pub geoip: Option<GeoIp>,
    /// The directory of pins.
    pub directory: Directory,
    /// Tokens of an identity provider.
    pub jwt: Option<Jwt>,
    /// The regions served by this process.
    pub served: BTreeMap<Region, Served>,
    /// The URLs of regions, for a 421.
    pub home_urls: BTreeMap<Region, String>,
    /// What holds for all backups.
    pub backup: Backups,
    /// How the region log is carried.
    pub events: raw::Events,
    /// Logs, traces, metrics.
    pub telemetry: Telemetry,
    /// What each key hashes to, defaults included.
    pub settings: fingerprint::Fingerprints,
    /// What is odd but not wrong.
    pub warnings: Mistakes,
}

/// The HTTP face.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub instance: String,
    pub region: Region,
    pub listen: SocketAddr,
    pub admin_listen: SocketAddr,
    pub cookie_secure: bool,
    /// How often this process says in each log that it is still there.
    pub heartbeat: Duration,
    /// What is kept, sealed, beside leaves.
    pub audit_details: Vec<routing::DetailKind>,
    pub limits: raw::Limits,
    pub forwarding: Forwarding,
}

/// Whose forwarding headers are believed.
#[derive(Debug, Clone)]
pub(crate) struct Forwarding {
    pub source: raw::ForwardingSource,
    /// Lower case; present exactly when `source` is [`raw::ForwardingSource::Header`].
    pub header: Option<String>,
    pub trusted: Vec<IpNet>,
    pub peer_is_client: bool,
}

/// The GeoIP database.
#[derive(Debug, Clone)]
pub(crate) struct GeoIp {
    pub database: Database,
    pub sha256: Option<[u8; 32]>,
    pub age_days_max: Option<u32>,
    pub networks_min: u64,
    pub coverage_percent_min: u8,
    pub reload_every: Option<Duration>,
    pub canaries: Vec<(IpAddr, Country)>,
}

/// Which database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Database {
    /// The bundled public-domain one: not for production.
    Demo,
    /// A file.
    File(PathBuf),
}

/// A Postgres: the service's way in, and the owner's for migrations.
#[derive(Debug, Clone)]
pub(crate) struct Postgres {
    pub dsn: SecretString,
    pub owner_dsn: SecretString,
}

/// The directory of pins.
#[derive(Debug)]
pub(crate) struct Directory {
    pub postgres: Postgres,
    pub cache_pins_max: u64,
    pub backup: Option<Box<Backup>>,
    /// Number of the pepper for new digests.
    pub current_pepper: u16,
    pub peppers: Vec<(u16, SecretString)>,
}

/// Tokens of an identity provider.
#[derive(Debug, Clone)]
pub(crate) struct Jwt {
    pub issuer: String,
    pub audience: String,
    pub jwks: Jwks,
    pub algorithms: Vec<raw::Algorithm>,
    pub leeway: Duration,
    pub claims: raw::Claims,
}

/// Where the keys of tokens are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Jwks {
    Url(String),
    File(PathBuf),
}

/// A region served by this process.
#[derive(Debug)]
pub(crate) struct Served {
    pub jurisdiction: Jurisdiction,
    /// `cloud/location`, when the file says which; otherwise the policy's first.
    pub placement: Option<String>,
    pub postgres: Postgres,
    pub log_origin: String,
    pub signer: Option<Signer>,
    pub audit_reads: raw::AuditReads,
    /// 0 means never.
    pub scrub_leaves_per_s: u32,
    pub retention: audit::Retention,
    pub reader_connections: u32,
    pub committer_connections: u32,
    pub backup: Option<Box<Backup>>,
    pub redpanda: Option<Redpanda>,
    pub snowflake: Option<Snowflake>,
}

/// What holds for all backups.
#[derive(Debug, Clone)]
pub(crate) struct Backups {
    pub pg_bin: Option<PathBuf>,
    pub retention: ops::backup::Retention,
    pub run_max: Duration,
    pub verified_age_max: Duration,
    pub drill_age_max: Duration,
    pub state_folder: Option<PathBuf>,
}

/// The backups of one database. Secrets are references still.
#[derive(Debug, Clone)]
pub(crate) struct Backup {
    pub folder: PathBuf,
    pub jurisdiction: Jurisdiction,
    pub place: ops::backup::Place,
    pub recipients: ops::backup::Recipients,
    pub key: String,
    pub scratch_postgres: Option<String>,
    /// What relative references are relative to.
    pub settings_folder: PathBuf,
}

/// The signer of a region's audit log.
#[derive(Debug, Clone)]
pub(crate) struct Signer {
    pub key: tlog::SigningKey,
    pub memory_file: PathBuf,
    /// Public keys and submission prefixes.
    pub witnesses: Vec<(tlog::VerifierKey, String)>,
}

/// The region's Redpanda.
#[derive(Debug, Clone)]
pub(crate) struct Redpanda {
    pub brokers: Vec<String>,
    pub security: raw::KafkaSecurity,
    pub ca_file: Option<PathBuf>,
    /// Certificate chain and key, for mutual TLS.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    pub sasl: Option<Sasl>,
    pub schema_registry: Option<SchemaRegistry>,
    pub missing_topics: raw::MissingTopics,
    pub topic_partitions: u16,
    pub topic_replicas: u16,
    pub topic_retention: Option<Duration>,
    /// How long after an erasure a message may still be in a topic, unless that is not bounded.
    pub topics_forget: Option<Duration>,
}

/// A schema registry.
#[derive(Debug, Clone)]
pub(crate) struct SchemaRegistry {
    pub url: String,
    pub login: Option<(String, SecretString)>,
}

/// A password for a broker.
#[derive(Debug, Clone)]
pub(crate) struct Sasl {
    pub mechanism: raw::SaslMechanism,
    pub user: String,
    pub password: SecretString,
}

/// The region's Snowflake.
#[derive(Debug, Clone)]
pub(crate) struct Snowflake {
    pub purposes: Vec<Purpose>,
    pub budget: forwarder::Budget,
    pub destination: Destination,
}

/// Where zero-party rows go.
#[derive(Debug, Clone)]
pub(crate) enum Destination {
    /// An account.
    Account(Box<SnowflakeAccount>),
    /// A folder that receives the rows as files.
    Folder(PathBuf, raw::FolderFormat),
}

/// A Snowflake account.
#[derive(Debug, Clone)]
pub(crate) struct SnowflakeAccount {
    pub account: String,
    /// Where it stands, proven to lie inside the region's jurisdiction; absent on this machine only.
    pub location: Option<String>,
    pub base_url: Option<String>,
    pub user: String,
    pub login: SnowflakeLogin,
    pub role: Option<String>,
    pub warehouse: String,
    pub database: String,
    pub schema: String,
    pub create: bool,
    pub retention_days: u8,
    /// How long one HTTP request may take.
    pub request_max: Duration,
    pub price: forwarder::Price,
}

/// How the service user proves itself.
#[derive(Debug, Clone)]
pub(crate) enum SnowflakeLogin {
    PrivateKey(SecretString),
    Password(SecretString),
}

/// Logs, traces, metrics.
#[derive(Debug, Clone)]
pub(crate) struct Telemetry {
    pub format: Option<raw::LogFormat>,
    pub filter: String,
    pub otlp: Option<Otlp>,
}

/// Export by OTLP.
#[derive(Debug, Clone)]
pub(crate) struct Otlp {
    pub endpoint: String,
    pub traces: bool,
    pub metrics: bool,
    pub trace_ratio: f64,
    pub metrics_every: Duration,
}

/// Reads and checks the configuration of a file and the process's environment.
///
/// # Errors
/// Every mistake at once.
pub(crate) fn load(file: &Path) -> Result<Config, Mistakes> {
    load_with(file, &environment())
}

/// The same with a given environment.
pub(crate) fn load_with(file: &Path, variables: &BTreeMap<String, String>) -> Result<Config, Mistakes> {
    let text = read(file)?;
    parse(file, &text, variables)
}

/// The effective settings as written, defaults included; secrets are references and stay so.
///
/// # Errors
/// The mistakes of shape.
pub(crate) fn effective(file: &Path) -> Result<raw::Root, Mistakes> {
    effective_with(file, &environment())
}

/// The same with a given environment.
pub(crate) fn effective_with(file: &Path, variables: &BTreeMap<String, String>) -> Result<raw::Root, Mistakes> {
    let schema = json_schema();
    let layered = layers::Layered::read(file, &read(file)?, variables, schema::Node::root(&schema));
    let (root, mistakes) = shaped(&layered, file, schema::Node::root(&schema));
    if mistakes.0.is_empty() { Ok(root) } else { Err(mistakes) }
}

/// The same with a given text, as if it stood in the file.
pub(crate) fn parse(file: &Path, text: &str, variables: &BTreeMap<String, String>) -> Result<Config, Mistakes> {
    let schema = json_schema();
    let layered = layers::Layered::read(file, text, variables, schema::Node::root(&schema));
    let unreadable = layered.mistakes.iter().any(|m| m.key.is_empty());
    if unreadable {
        return Err(Mistakes(layered.mistakes));
    }
    let (root, mistakes) = shaped(&layered, file, schema::Node::root(&schema));
    check::check(&root, mistakes, &layered, file, variables)
}

/// Replaces what stands in the place of a secret and is no reference: `config show` never repeats it.
pub(crate) fn redact(root: &mut raw::Root) {
    let hide = |secret: &mut Option<String>| {
        if secret.as_ref().is_some_and(|text| !secret::is_reference(text)) {
            *secret = Some("(a secret in plain text)".into());
        }
    };
    let hide_url = |url: &mut Option<String>| {
        let plain = |text: &String| dsn::Dsn::parse(text).is_none_or(|dsn| dsn.password.is_some());
        if url.as_ref().is_some_and(|text| !secret::is_reference(text) && plain(text)) {
            *url = Some("(a URL with a password in plain text)".into());
        }
    };
    let hide_login = |url: &mut Option<String>| {
        if url.as_ref().is_some_and(|text| dsn::holds_login(text)) {
            *url = Some("(a URL with a login in plain text)".into());
        }
    };
    hide_url(&mut root.directory.postgres);
    hide_url(&mut root.directory.postgres_owner);
    hide(&mut root.directory.postgres_password);
    for backup in root.directory.backup.iter_mut().chain(root.regions.values_mut().filter_map(|r| r.backup.as_mut())) {
        hide(&mut backup.key);
        hide_url(&mut backup.scratch_postgres);
    }
    if let Some(jwt) = &mut root.auth.jwt {
        hide_login(&mut jwt.jwks);
    }
    if let Some(otlp) = &mut root.telemetry.otlp {
        hide_login(&mut otlp.endpoint);
    }
    root.directory.peppers.iter_mut().for_each(|pepper| hide(&mut pepper.secret));
    for region in root.regions.values_mut() {
        hide_url(&mut region.postgres);
        hide_url(&mut region.postgres_owner);
        hide(&mut region.postgres_password);
        hide_login(&mut region.home_url);
        if let Some(signer) = &mut region.signer {
            hide(&mut signer.key);
            signer.witnesses.iter_mut().for_each(|witness| hide_login(&mut witness.url));
        }
        if let Some(redpanda) = &mut region.redpanda {
            hide_login(&mut redpanda.schema_registry);
            hide(&mut redpanda.schema_registry_password);
            if let Some(sasl) = &mut redpanda.sasl {
                hide(&mut sasl.password);
            }
        }
        if let Some(snowflake) = &mut region.snowflake {
            hide_login(&mut snowflake.base_url);
            hide(&mut snowflake.password);
            hide(&mut snowflake.private_key);
        }
    }
}

fn shaped(layered: &layers::Layered, file: &Path, schema: schema::Node<'_>) -> (raw::Root, Mistakes) {
    let mut mistakes = layered.mistakes.clone();
    let table = shape::prune(layered, file, schema, &mut mistakes);
    let root = raw::Root::deserialize(toml::Value::Table(table)).unwrap_or_else(|error| {
        // The schema and the structs are one thing, so this is a case that the pruning does not know yet.
        mistakes.push(Mistake {
            gravity: Gravity::Error,
            at: file.display().to_string(),
            key: String::new(),
            message: format!("{}.", error.message().trim_end_matches('.')),
            fix: "Compare with the annotated example, config/domicile.toml.".into(),
        });
        raw::Root::default()
    });
    (root, Mistakes(mistakes))
}

fn read(file: &Path) -> Result<String, Mistakes> {
    std::fs::read_to_string(file).map_err(|error| {
        Mistakes(vec![Mistake {
            gravity: Gravity::Error,
            at: file.display().to_string(),
            key: String::new(),
            message: format!("The configuration cannot be read: {error}."),
            fix: format!("Name it with --config or DOMICILE_CONFIG; {DEFAULT_PATH} in the sources is an example."),
        }])
    })
}

/// Reads a secret that a command line names, `file:…` (relative to the working folder) or `env:NAME`.
///
/// # Errors
/// A sentence why it cannot be had.
pub(crate) fn secret_by_reference(reference: &str) -> Result<String, String> {
    secret_beside(Path::new("."), reference)
}

/// The same, where `file:…` is relative to a folder.
///
/// # Errors
/// A sentence why it cannot be had.
pub(crate) fn secret_beside(folder: &Path, reference: &str) -> Result<String, String> {
    use secrecy::ExposeSecret as _;
    let variables = environment();
    let secrets = secret::Secrets { folder, variables: &variables };
    let found = secrets.resolve(reference).map_err(|trouble| format!("{} {}", trouble.message, trouble.fix))?;
    Ok(found.secret.expose_secret().to_owned())
}

fn environment() -> BTreeMap<String, String> {
    std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect()
}
