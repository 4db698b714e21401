//! What the process says about itself: log lines on standard error, spans and metrics for those who
//! collect them. Nothing personal is in any of it: what has a subject, a key, a token or a body has no
//! `Display`, and libraries that would print one are kept quiet whatever the filter says.

mod metrics;
mod otlp;

use std::io::IsTerminal as _;

use anyhow::Context as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{FilterFn, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

pub(crate) use self::metrics::Metrics;
use crate::config::raw::LogFormat;
use crate::config::{Config, Telemetry as Settings};

/// Libraries whose details could hold tokens, SQL with values or bodies: never below a warning.
const QUIET_TARGETS: &[&str] =
    &["snowflake_api", "sqlx", "rdkafka", "librdkafka", "hyper", "h2", "reqwest", "rustls", "opentelemetry"];

/// Telemetry in operation. Ends with [`Telemetry::flush`], so that nothing is lost at a shutdown.
pub(crate) struct Telemetry {
    /// What `/metrics` renders.
    pub metrics: Metrics,
    tracer: Option<SdkTracerProvider>,
}

/// Starts telemetry; to be called once, inside the runtime.
///
/// # Errors
/// When an exporter cannot be made.
pub(crate) fn start(config: &Config) -> anyhow::Result<Telemetry> {
    let settings = &config.telemetry;
    let resource = otlp::resource(&config.gateway.instance);
    let tracer = match &settings.otlp {
        Some(export) if export.traces => Some(otlp::tracer(export, resource.clone())?),
        _ => None,
    };
    let filter = EnvFilter::try_new(&settings.filter).context("the log filter cannot be read")?;
    let json = format(settings) == LogFormat::Json;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = if json {
        lines.json().flatten_event(true).with_span_list(false).boxed()
    } else {
        lines.with_ansi(std::io::stderr().is_terminal()).compact().boxed()
    };
    let spans = tracer.as_ref().map(|provider| otlp::layer(provider).with_filter(LevelFilter::INFO));
    tracing_subscriber::registry()
        .with(quiet())
        .with(lines.with_filter(filter))
        .with(spans)
        .try_init()
        .context("logging was started before")?;
    let metrics = Metrics::start(settings.otlp.as_ref().filter(|export| export.metrics), resource)?;
    Ok(Telemetry { metrics, tracer })
}

/// Logs for commands: warnings and worse, for people.
pub(crate) fn start_for_commands() {
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).without_time().compact();
    // A second start (in tests) is harmless: the first one stays.
    drop(tracing_subscriber::registry().with(quiet()).with(lines.with_filter(LevelFilter::WARN)).try_init());
}

impl Telemetry {
    /// Sends what is still here. Blocks for as long as the collector takes, at most a few seconds.
    pub(crate) fn flush(&self) {
        if let Some(tracer) = &self.tracer {
            drop(tracer.shutdown()); // a collector that has gone away is no reason to fail a shutdown
        }
        self.metrics.flush();
    }
}

fn format(settings: &Settings) -> LogFormat {
    let fitting = if std::io::stderr().is_terminal() { LogFormat::Human } else { LogFormat::Json };
    settings.format.unwrap_or(fitting)
}

/// Keeps chatty libraries at warnings and worse.
fn quiet() -> FilterFn {
    filter_fn(|metadata| {
        let level = *metadata.level();
        level <= tracing::Level::WARN || !is_quiet(metadata.target())
    })
}

fn is_quiet(target: &str) -> bool {
    let within = |root: &str| target.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'));
    QUIET_TARGETS.iter().any(|root| within(root) || target.strip_prefix(root).is_some_and(|r| r.starts_with('_')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_that_could_tell_secrets_are_quiet_and_our_own_rooms_are_not() {
        for target in ["snowflake_api::session", "sqlx::query", "hyper_util::client", "rdkafka::client"] {
            assert!(is_quiet(target), "{target}");
        }
        for target in ["storage::region", "gateway", "forwarder::pump", "relay", "domicile"] {
            assert!(!is_quiet(target), "{target}");
        }
    }
}
