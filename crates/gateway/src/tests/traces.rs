//! A request is a part of its caller's trace, and of nothing else that a caller may write into a header.

use opentelemetry::global;
use opentelemetry::trace::{SpanId, TracerProvider as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The exported span of one request with these headers.
async fn span_of(headers: &[(&str, &str)]) -> SpanData {
    // Whether a callsite speaks is remembered for the whole process, and other tests come and go with subscribers of
    // their own: a span may be passed over for their sake, so it is asked for again.
    for _ in 0..20 {
        if let Some(span) = attempt(headers).await {
            return span;
        }
    }
    panic!("no request left a span");
}

async fn attempt(headers: &[(&str, &str)]) -> Option<SpanData> {
    global::set_text_map_propagator(TraceContextPropagator::new());
    let memory = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(memory.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let mut request = request("GET", "/v1/subjects/anna-of-the-path/records/profile/key-of-the-path", READER);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = Scene::new().send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "no database is there");
    drop(guard);
    let mut spans = memory.get_finished_spans().unwrap();
    spans.retain(|span| span.name == "GET /v1/subjects/{subject}/records/{collection}/{key}");
    assert!(spans.len() <= 1, "one request, one span");
    spans.pop()
}

#[tokio::test]
async fn a_request_joins_the_trace_it_names_and_takes_nothing_else_from_its_headers() {
    let headers =
        [("traceparent", PARENT), ("tracestate", "shop=anna-of-the-state"), ("baggage", "who=anna-of-the-baggage")];
    let span = span_of(&headers).await;
    assert_eq!(span.span_context.trace_id().to_string(), TRACE);
    assert_eq!(span.parent_span_id.to_string(), "00f067aa0ba902b7");
    assert!(span.parent_span_is_remote);
    let everything = format!("{span:?}");
    for secret in ["anna", "key-of-the-path", READER] {
        assert!(!everything.contains(secret), "{secret} is in {everything}");
    }
}

#[tokio::test]
async fn a_trace_that_cannot_be_read_is_no_reason_to_refuse_and_no_parent() {
    for headers in [
        &[][..],
        &[("traceparent", "00-anna-anna-01")],
        &[("traceparent", PARENT), ("traceparent", PARENT)],
        &[("traceparent", "00-00000000000000000000000000000000-00f067aa0ba902b7-01")],
        &[("tracestate", "shop=1")],
    ] {
        let span = span_of(headers).await;
        assert_eq!(span.parent_span_id, SpanId::INVALID, "{headers:?}");
        assert_ne!(span.span_context.trace_id().to_string(), TRACE);
    }
}
