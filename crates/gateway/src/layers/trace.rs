//! W3C trace context (<https://www.w3.org/TR/trace-context/>): a request joins the trace of whoever sent it,
//! and what it changes carries the trace on to the region's topics.
//!
//! Only `traceparent` is taken: two numbers and a flag, of fixed length. `tracestate` and `baggage` are free
//! text, in which anything could stand; they get neither into spans nor onto topics.

use http::HeaderMap;
use opentelemetry::propagation::Extractor;
use opentelemetry::trace::{TraceContextExt as _, TraceFlags};
use opentelemetry::{Context, global};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The header, and the CloudEvents extension of the same name.
pub(crate) const TRACEPARENT: &str = "traceparent";

tokio::task_local! {
    /// The trace that this task was given. Ambient, as the span is.
    static GIVEN: Option<TraceParent>;
}

/// `00-<32 hex>-<16 hex>-<2 hex>`: a trace, whose span is the parent, and whether it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TraceParent(String);

impl TraceParent {
    /// Reads one. Versions to come are not guessed at.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let hex = |part: &str, chars: usize| {
            part.len() == chars && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        };
        let something = |part: &str| part.bytes().any(|byte| byte != b'0');
        let mut parts = text.splitn(4, '-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let sound =
            version == "00" && hex(trace, 32) && something(trace) && hex(span, 16) && something(span) && hex(flags, 2);
        sound.then(|| Self(text.to_owned()))
    }

    /// The one that a request came with. One that is malformed or stands twice is none: a trace is never a
    /// reason to refuse a request.
    pub(super) fn in_headers(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let only = values.next().filter(|_| values.next().is_none())?;
        Self::new(only.to_str().ok()?)
    }

    /// Makes the trace's span the parent of ours. Without an exporter of traces nothing happens.
    pub(super) fn adopt(&self, span: &Span) {
        let parent = global::get_text_map_propagator(|trace| trace.extract_with_context(&Context::new(), self));
        // It fails where no traces are exported, and there it means nothing.
        let _ = span.set_parent(parent);
    }

    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

/// Shows the propagator this one header and no other.
impl Extractor for TraceParent {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACEPARENT).then_some(self.0.as_str())
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

/// Runs `work` as a part of this trace.
pub(crate) async fn within<F: Future>(trace: Option<TraceParent>, work: F) -> F::Output {
    GIVEN.scope(trace, work).await
}

/// What to hand on: our own span where traces are exported, else what we were given.
pub(crate) fn current() -> Option<TraceParent> {
    let own = Context::map_current(|context| {
        let span = context.span();
        let span = span.span_context();
        span.is_valid().then(|| {
            let flags = span.trace_flags() & TraceFlags::SAMPLED;
            TraceParent(format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), flags.to_u8()))
        })
    });
    own.or_else(|| GIVEN.try_with(Clone::clone).ok().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_trace_parent_is_read_to_the_letter_or_not_at_all() {
        assert_eq!(TraceParent::new(GOOD).unwrap().into_string(), GOOD);
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceParent::new(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_header_that_stands_twice_is_none() {
        let mut headers = HeaderMap::new();
        assert_eq!(TraceParent::in_headers(&headers), None);
        headers.append(TRACEPARENT, GOOD.parse().unwrap());
        assert!(TraceParent::in_headers(&headers).is_some());
        headers.append(TRACEPARENT, GOOD.parse().unwrap());
        assert_eq!(TraceParent::in_headers(&headers), None);
    }

    #[tokio::test]
    async fn what_was_given_is_handed_on_and_nothing_else() {
        assert_eq!(current(), None);
        let given = TraceParent::new(GOOD);
        assert_eq!(within(given.clone(), async { current() }).await, given);
        assert_eq!(within(None, async { current() }).await, None);
    }
}
