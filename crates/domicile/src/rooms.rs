//! From the configuration to the rooms of the house: each room's own settings, and the rooms
//! themselves. Nothing is decided here; it is only carried over.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow};
use forwarder::{Credentials, FolderSink, Forwarder, ParquetSink, Sink, SnowflakeSettings, SnowflakeSink};
use geoip::{Forwarding, ForwardingSource, GeoIp};
use leaf::GatewayId;
use relay::{ClientCertificate, MissingTopics, Relay, Scram, Security, Tls};
use residency::Region;
use secrecy::ExposeSecret as _;
use storage::{DirectorySettings, Log, Pepper, Peppers, RegionSettings};

use crate::config::{self, Config, Database, Destination, SnowflakeLogin, raw};

/// The bundled country database: public domain, for demonstrations only (config/geoip/README.md).
static DEMO_DATABASE: &[u8] = include_bytes!("../../../config/geoip/iptoasn-country.mmdb.xz");

/// The name of this boot of this process in every leaf it writes.
pub(crate) fn gateway_id(config: &Config) -> anyhow::Result<GatewayId> {
    GatewayId::new(&config.gateway.instance, rand::random()).context("gateway.instance cannot be used in leaves")
}

/// The peppers of the directory.
pub(crate) fn peppers(config: &config::Directory) -> anyhow::Result<Peppers> {
    let (mut current, mut older) = (None, Vec::new());
    for (key_id, secret) in &config.peppers {
        let made = Pepper::new(*key_id, secret.expose_secret().as_bytes());
        let pepper = made.map_err(|why| anyhow!("pepper {key_id} cannot be used: {why}"))?;
        if *key_id == config.current_pepper { current = Some(pepper) } else { older.push(pepper) }
    }
    Ok(Peppers::new(current.context("no pepper is current")?, older))
}

/// How the directory is opened.
pub(crate) fn directory(config: &Config) -> anyhow::Result<DirectorySettings> {
    Ok(DirectorySettings {
        dsn: config.directory.postgres.dsn.clone(),
        peppers: peppers(&config.directory)?,
        cache_pins_max: config.directory.cache_pins_max,
        limits: limits(config),
    })
}

/// How a region that is served here is opened.
pub(crate) fn region(config: &Config, region: &Region, gateway: &GatewayId) -> anyhow::Result<RegionSettings> {
    let served = config.served.get(region).with_context(|| format!("region {region} is not served here"))?;
    Ok(RegionSettings {
        region: region.clone(),
        jurisdiction: served.jurisdiction.clone(),
        dsn: served.postgres.dsn.clone(),
        log_origin: served.log_origin.clone(),
        audit_reads: match served.audit_reads {
            raw::AuditReads::Durable => storage::AuditReads::Durable,
            raw::AuditReads::Buffered => storage::AuditReads::Buffered,
        },
        keeps_details: !config.gateway.audit_details.is_empty(),
        gateway: gateway.clone(),
        peppers: peppers(&config.directory)?,
        reader_connections: served.reader_connections,
        committer_connections: served.committer_connections,
        limits: limits(config),
    })
}

/// A store's bounds: its own, and shorter than the request that waits for it, so that the store's reason is heard. No
/// record grows above what a request can put.
fn limits(config: &Config) -> storage::Limits {
    let mut limits = storage::Limits::default();
    let request = Duration::from_millis(config.gateway.limits.request_ms_max);
    limits.answer_timeout = limits.answer_timeout.min(request * 4 / 5);
    limits.record_bytes_max = usize::try_from(config.gateway.limits.body_bytes_max).unwrap_or(usize::MAX);
    limits
}

/// The country database of the configuration; empty when there is none.
///
/// # Errors
/// Every reason why it did not pass the gate.
pub(crate) fn geoip(config: &Config) -> anyhow::Result<GeoIp> {
    let Some(settings) = &config.geoip else { return Ok(GeoIp::empty()) };
    let source = match &settings.database {
        Database::Demo => geoip::Source::Bytes(DEMO_DATABASE),
        Database::File(path) => geoip::Source::File(path.clone()),
    };
    load_geoip(&geoip::Settings {
        source,
        sha256: settings.sha256,
        canaries: settings.canaries.clone(),
        age_days_max: settings.age_days_max,
        networks_min: settings.networks_min,
        coverage_percent_min: settings.coverage_percent_min,
    })
}

/// The bundled country database.
pub(crate) fn demo_geoip() -> anyhow::Result<GeoIp> {
    load_geoip(&geoip::Settings::new(geoip::Source::Bytes(DEMO_DATABASE)))
}

fn load_geoip(settings: &geoip::Settings) -> anyhow::Result<GeoIp> {
    GeoIp::load(settings, now()).context("the GeoIP database was not accepted")
}

/// The machine's clock, for the age of files.
#[expect(clippy::disallowed_methods, reason = "the binary is the front door of time")]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

/// The same in microseconds since 1970-01-01 UTC.
pub(crate) fn now_us() -> i64 {
    let since = now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Whose forwarding headers are believed.
pub(crate) fn forwarding(settings: &config::Forwarding) -> Forwarding {
    let source = match settings.source {
        raw::ForwardingSource::None => ForwardingSource::None,
        raw::ForwardingSource::XForwardedFor => ForwardingSource::XForwardedFor,
        raw::ForwardingSource::Forwarded => ForwardingSource::Forwarded,
        raw::ForwardingSource::Header => match &settings.header {
            Some(name) => ForwardingSource::Header(name.clone()),
            None => ForwardingSource::None, // believing nobody is the safe reading of a header without a name
        },
    };
    Forwarding { source, trusted: settings.trusted.clone() }
}

/// A region's relay.
pub(crate) fn relay(config: &Config, region: &Region, log: Log) -> Option<Relay> {
    let served = config.served.get(region)?;
    let redpanda = served.redpanda.as_ref()?;
    let events = &config.events;
    let settings = relay::Settings {
        brokers: redpanda.brokers.join(","),
        security: security(redpanda),
        missing_topics: match redpanda.missing_topics {
            raw::MissingTopics::Create => MissingTopics::Create {
                partitions: redpanda.topic_partitions,
                replication: redpanda.topic_replicas,
                retention: redpanda.topic_retention,
            },
            raw::MissingTopics::Refuse => MissingTopics::Refuse,
            raw::MissingTopics::LeaveToBrokers => MissingTopics::LeaveToBrokers,
        },
        forget_max: redpanda.topics_forget,
        log_origin: Some(served.log_origin.clone()),
        registry: redpanda.schema_registry.as_ref().map(|registry| relay::Registry {
            url: registry.url.clone(),
            login: registry.login.clone(),
            authorities: redpanda.ca_file.clone(),
        }),
        limits: relay::Limits {
            message_bytes_max: usize::try_from(events.message_bytes_max).unwrap_or(usize::MAX),
            batch_rows_max: events.relay_batch_rows_max,
            poll_max: Duration::from_millis(events.idle_ms_max),
            lease: Duration::from_secs(events.lease_s),
            answer_max: Duration::from_secs(events.broker_answer_s_max),
            lag_alarm: Duration::from_secs(events.relay_lag_alarm_s),
            ..relay::Limits::default()
        },
        ..relay::Settings::plain("")
    };
    Some(Relay::new(settings, log))
}

fn security(redpanda: &config::Redpanda) -> Security {
    let client = redpanda.client_certificate.as_ref();
    let tls = (redpanda.security == raw::KafkaSecurity::Tls).then(|| Tls {
        authorities: redpanda.ca_file.clone(),
        client: client.map(|(certificate, key)| ClientCertificate {
            certificate: certificate.clone(),
            key: key.clone(),
            key_password: None,
        }),
    });
    match (&redpanda.sasl, tls) {
        (Some(sasl), tls) => Security::Scram(Scram {
            tls,
            sha512: sasl.mechanism == raw::SaslMechanism::ScramSha512,
            username: sasl.user.clone(),
            password: sasl.password.clone(),
        }),
        (None, Some(tls)) => Security::Tls(tls),
        (None, None) => Security::Plain,
    }
}

/// How the forwarder logs in to an account, and what it does there.
pub(crate) fn snowflake_settings(account: &config::SnowflakeAccount) -> SnowflakeSettings {
    SnowflakeSettings {
        account: account.account.clone(),
        user: account.user.clone(),
        credentials: match &account.login {
            SnowflakeLogin::PrivateKey(key) => Credentials::KeyPair(key.clone()),
            SnowflakeLogin::Password(password) => Credentials::Password(password.clone()),
        },
        role: account.role.clone(),
        warehouse: Some(account.warehouse.clone()),
        database: account.database.clone(),
        schema: account.schema.clone(),
        base_url: account.base_url.clone(),
        location: account.location.clone(),
        price: account.price,
        retention_days: account.retention_days,
        request_max: account.request_max,
        create: account.create,
    }
}

/// A region's forwarder.
///
/// # Errors
/// When its sink cannot be made.
pub(crate) fn forwarder(config: &Config, region: &Region, log: Log) -> anyhow::Result<Option<Forwarder>> {
    let Some(snowflake) = config.served.get(region).and_then(|served| served.snowflake.as_ref()) else {
        return Ok(None);
    };
    let sink: Arc<dyn Sink> = match &snowflake.destination {
        Destination::Folder(path, raw::FolderFormat::Ndjson) => Arc::new(FolderSink::new(path, region.clone())),
        Destination::Folder(path, raw::FolderFormat::Parquet) => Arc::new(ParquetSink::new(path, region.clone())),
        Destination::Account(account) => {
            let made = SnowflakeSink::new(&snowflake_settings(account), region.clone());
            Arc::new(made.with_context(|| format!("the Snowflake of {region} cannot be used"))?)
        }
    };
    let events = &config.events;
    let rows = usize::try_from(events.forwarder_batch_rows_max).unwrap_or(usize::MAX);
    let limits = forwarder::Limits {
        batch_rows_max: rows,
        // Several changes of one attribute become one row.
        read_rows_max: events.forwarder_batch_rows_max.saturating_mul(2).min(10_000),
        batch_age_max: Duration::from_millis(events.forwarder_batch_ms_max),
        poll_max: Duration::from_millis(events.idle_ms_max),
        lease: Duration::from_secs(events.lease_s),
        lag_alarm: Duration::from_secs(events.forwarder_lag_alarm_s),
        erasure_alarm: Duration::from_secs(events.erasure_alarm_s),
        ..forwarder::Limits::default()
    };
    let settings = forwarder::Settings { purposes: snowflake.purposes.clone(), budget: snowflake.budget, limits };
    Ok(Some(Forwarder::new(settings, log, sink)))
}

/// The way to a witness at this submission prefix.
///
/// # Errors
/// When no HTTP client can be made.
pub(crate) fn witness(url: &str) -> anyhow::Result<WitnessPost> {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build().context("no HTTP client")?;
    Ok(WitnessPost { client, url: format!("{}/add-checkpoint", url.trim_end_matches('/')) })
}

/// Posts checkpoints to a witness.
#[derive(Clone)]
pub(crate) struct WitnessPost {
    client: reqwest::Client,
    url: String,
}

impl audit::Post for WitnessPost {
    fn add_checkpoint(&self, body: String) -> futures::future::BoxFuture<'_, Result<(u16, String), String>> {
        Box::pin(async move {
            let said = |error: reqwest::Error| format!("{:#}", anyhow::Error::from(error.without_url()));
            let mut answer = self.client.post(&self.url).body(body).send().await.map_err(said)?;
            let mut content = Vec::new();
            while let Some(chunk) = answer.chunk().await.map_err(said)? {
                content.extend_from_slice(&chunk);
                if content.len() > audit::witness::REQUEST_BYTES_MAX {
                    return Err("its answer is longer than 64 KiB".to_owned());
                }
            }
            Ok((answer.status().as_u16(), String::from_utf8_lossy(&content).into_owned()))
        })
    }
}
