//! Export by OTLP over plain http to a collector nearby.
//!
//! The batch processors that run on tokio are used on purpose: the default ones have a thread of their
//! own, in which the http client finds no reactor and dies silently.

use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::metrics::periodic_reader_with_async_runtime::PeriodicReader;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::runtime::Tokio;
use opentelemetry_sdk::trace::span_processor_with_async_runtime::BatchSpanProcessor;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use tracing_opentelemetry::OpenTelemetryLayer;

use crate::config::Otlp;

/// An export that takes longer is given up.
const EXPORT_MAX: Duration = Duration::from_secs(5);

/// Who speaks: the service, its version and its instance.
pub(super) fn resource(instance: &str) -> Resource {
    Resource::builder_empty()
        .with_service_name("domicile")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("service.instance.id", instance.to_owned()))
        .build()
}

/// The exporter of spans. A caller's sampling decision (W3C trace context) is respected.
pub(super) fn tracer(settings: &Otlp, resource: Resource) -> anyhow::Result<SdkTracerProvider> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_endpoint(format!("{}/v1/traces", settings.endpoint))
        .with_timeout(EXPORT_MAX)
        .build()
        .context("the exporter of traces cannot be made")?;
    global::set_text_map_propagator(TraceContextPropagator::new());
    Ok(SdkTracerProvider::builder()
        .with_span_processor(BatchSpanProcessor::builder(exporter, Tokio).build())
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.trace_ratio))))
        .with_resource(resource)
        .build())
}

/// The layer that turns our spans into exported ones, without source locations and threads.
pub(super) fn layer<S>(provider: &SdkTracerProvider) -> OpenTelemetryLayer<S, SdkTracer>
where
    S: tracing::Subscriber + for<'span> tracing_subscriber::registry::LookupSpan<'span>,
{
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("domicile"))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
}

/// The exporter of metrics.
pub(super) fn meter(settings: &Otlp, resource: Resource) -> anyhow::Result<SdkMeterProvider> {
    let exporter = MetricExporter::builder()
        .with_http()
        .with_endpoint(format!("{}/v1/metrics", settings.endpoint))
        .with_timeout(EXPORT_MAX)
        .build()
        .context("the exporter of metrics cannot be made")?;
    let reader =
        PeriodicReader::builder(exporter, Tokio).with_interval(settings.metrics_every).with_timeout(EXPORT_MAX).build();
    Ok(SdkMeterProvider::builder().with_reader(reader).with_resource(resource).build())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::Router;
    use axum::extract::State;
    use axum::http::Uri;
    use opentelemetry::metrics::MeterProvider as _;
    use opentelemetry::trace::Tracer as _;

    use super::*;

    type Seen = Arc<Mutex<Vec<String>>>;

    /// A collector that notes what it was sent.
    async fn collector() -> (String, Seen) {
        let seen = Seen::default();
        let note = |State(seen): State<Seen>, uri: Uri, body: axum::body::Bytes| async move {
            let said = String::from_utf8_lossy(&body).contains("gateway-7");
            seen.lock().expect("not poisoned").push(format!("{} {said}", uri.path()));
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
        let routes = Router::new().fallback(note).with_state(Arc::clone(&seen));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (endpoint, seen)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn spans_and_metrics_reach_the_collector_before_a_shutdown_ends() {
        let (endpoint, seen) = collector().await;
        let settings =
            Otlp { endpoint, traces: true, metrics: true, trace_ratio: 1.0, metrics_every: Duration::from_secs(3600) };
        let traces = tracer(&settings, resource("gateway-7")).expect("an exporter");
        let metrics = meter(&settings, resource("gateway-7")).expect("an exporter");
        traces.tracer("test").in_span("a deed", |_| {});
        metrics.meter("test").u64_counter("deeds").build().add(1, &[]);
        let flushed = tokio::task::spawn_blocking(move || (traces.shutdown(), metrics.shutdown())).await;
        let (traces, metrics) = flushed.expect("it does not panic");
        traces.expect("sent");
        metrics.expect("sent");
        let mut seen = seen.lock().expect("not poisoned").clone();
        seen.sort();
        assert_eq!(seen, ["/v1/metrics true", "/v1/traces true"]);
    }
}
