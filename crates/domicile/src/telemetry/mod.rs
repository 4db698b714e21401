//! What the process says about itself: log lines on standard error, spans and metrics for those who
//! collect them. Nothing personal is in any of it: what has a subject, a key, a token or a body has no
//! `Display`, and libraries that would print one are kept quiet whatever the filter says.

mod metrics;
mod otlp;

use std::io::IsTerminal as _;

use anyhow::Context as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{FilterExt as _, FilterFn, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer};

pub(crate) use self::metrics::Metrics;
use crate::config::raw::LogFormat;
use crate::config::{Config, Telemetry as Settings};

/// Libraries whose details could hold tokens, SQL with values or bodies: never below a warning. Those that
/// the forwarder works with, it names itself.
const QUIET_TARGETS: &[&str] = &["sqlx", "rdkafka", "librdkafka", "rustls", "opentelemetry"];

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
    let lines = lines(format(settings), &settings.filter, std::io::stderr)?;
    let registry = tracing_subscriber::registry().with(lines);
    // Two ways rather than an optional layer, which would have every span made even while it is none.
    let started = match &tracer {
        None => registry.try_init(),
        Some(provider) => registry.with(otlp::layer(provider).with_filter(LevelFilter::INFO.and(quiet()))).try_init(),
    };
    started.context("logging was started before")?;
    let metrics = Metrics::start(settings.otlp.as_ref().filter(|export| export.metrics), resource)?;
    Ok(Telemetry { metrics, tracer })
}

/// Logs for commands: warnings and worse, for people.
pub(crate) fn start_for_commands() {
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).without_time().compact();
    // A second start (in tests) is harmless: the first one stays.
    drop(tracing_subscriber::registry().with(lines.with_filter(LevelFilter::WARN.and(quiet()))).try_init());
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

/// The log lines that the filter lets through.
///
/// A line says what it is about by itself, so spans are kept for lines only where details are asked for (`debug` or
/// `trace`): a span that nobody exports would cost every request more than its decision does.
fn lines<S, W>(form: LogFormat, filter: &str, writer: W) -> anyhow::Result<impl Layer<S>>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(filter).context("the log filter cannot be read")?;
    let detailed = filter.max_level_hint().is_none_or(|level| level >= LevelFilter::DEBUG);
    let wanted = filter_fn(move |metadata| detailed || metadata.is_event());
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match form {
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
        LogFormat::Human => lines.with_ansi(std::io::stderr().is_terminal()).compact().boxed(),
    };
    Ok(lines.with_filter(filter.and(quiet()).and(wanted)))
}

/// Keeps chatty libraries at warnings and worse. A part of each layer's filter: as a layer of its own it would have every
/// span made, whether or not anybody wants it.
fn quiet() -> FilterFn {
    filter_fn(|metadata| {
        let level = *metadata.level();
        level <= tracing::Level::WARN || !is_quiet(metadata.target())
    })
}

fn is_quiet(target: &str) -> bool {
    // The library itself, its modules, and its relatives: `hyper`, `hyper::client`, `hyper_util`.
    let of = |root: &str| target.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '_']));
    QUIET_TARGETS.iter().chain(forwarder::QUIET_TARGETS).any(|root| of(root))
}

#[cfg(test)]
mod tests {
    use std::io::{Result, Write};
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Page {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("not poisoned").clone()).expect("lines are text")
        }
    }

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }

        fn flush(&mut self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn libraries_that_could_tell_secrets_are_quiet_and_our_own_rooms_are_not() {
        for target in forwarder::QUIET_TARGETS.iter().chain(QUIET_TARGETS) {
            assert!(is_quiet(target), "{target}");
        }
        for target in ["snowflake_api::session", "sqlx::query", "hyper_util::client", "rdkafka::client"] {
            assert!(is_quiet(target), "{target}");
        }
        for target in ["storage::region", "gateway", "forwarder::pump", "relay", "domicile"] {
            assert!(!is_quiet(target), "{target}");
        }
    }

    #[test]
    fn a_request_has_a_span_only_where_somebody_looks_at_it() {
        for (filter, looked_at) in [("warn", false), ("info", false), ("info,storage=debug", true), ("trace", true)] {
            let lines = lines(LogFormat::Json, filter, std::io::sink).expect("a filter");
            let subscriber = tracing_subscriber::registry().with(lines);
            tracing::subscriber::with_default(subscriber, || {
                let span = tracing::info_span!("request", filter);
                assert_eq!(!span.is_disabled(), looked_at, "{filter}");
            });
        }
    }

    /// `snowflake_api` speaks through the `log` facade: SQL with people's data, and its session's token.
    #[test]
    fn no_filter_makes_the_snowflake_client_tell_its_sql_or_its_token() {
        // While there is only one subscriber in a process, a thread without any can decide for all that a line is not to
        // be heard (tracing-core, `Rebuilder::JustOne`); the tests beside this one are such threads.
        let _second = tracing::Dispatch::new(tracing_subscriber::registry());
        drop(tracing_log::LogTracer::init());
        for filter in ["trace", "snowflake_api=trace", "info,snowflake_api::session=debug,snowflake_jwt=trace"] {
            for form in [LogFormat::Json, LogFormat::Human] {
                let page = Page::default();
                let writer = page.clone();
                let lines = lines(form, filter, move || writer.clone()).expect("a filter");
                let subscriber = tracing_subscriber::registry().with(lines);
                tracing::subscriber::with_default(subscriber, || {
                    log::debug!(target: "snowflake_api", "Executing: MERGE … 'anna@example.org'");
                    log::info!(target: "snowflake_api", "Executing: MERGE … 'anna@example.org'");
                    log::trace!(target: "snowflake_api::session", "Auth response: token-of-a-session");
                    tracing::debug!(target: "snowflake_jwt", "token-of-a-session");
                    tracing::info!(target: "reqwest::connect", "token-of-a-session");
                    log::warn!(target: "snowflake_api", "a warning is heard");
                    tracing::info!(target: "forwarder::pump", "and so are we");
                });
                let text = page.text();
                assert!(!text.contains("anna") && !text.contains("token"), "{filter}: {text}");
                assert!(text.contains("a warning is heard"), "{filter}: {text}");
                assert_eq!(text.contains("and so are we"), filter != "snowflake_api=trace", "{filter}: {text}");
            }
        }
    }
}
