//! One span, one count and one duration per request. Labels and fields are templates, words of our own
//! and numbers: never a path, a query, a subject, a key or an address.

use std::borrow::Cow;

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use http::Method;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use tokio::time::Instant;
use tracing::field::Empty;
use tracing::{Instrument as _, Span, debug, info_span, warn};

use super::RequestId;
use super::trace::{self, TraceParent};
use crate::problem::Pending;

/// Explains this crate's metrics to the recorder in force.
pub fn describe_metrics() {
    describe_counter!("domicile_http_requests_total", "Requests by route, method, status and home region");
    describe_histogram!("domicile_http_request_seconds", Unit::Seconds, "Time from a request's head to its answer's");
    describe_gauge!("domicile_http_requests_in_flight", "Requests that have not been answered yet");
    describe_gauge!("domicile_http_connections", "Connections that are open");
    describe_counter!("domicile_panics_total", "Handlers that panicked");
}

pub(super) async fn observe(request: Request, next: Next) -> Response {
    let method = known(request.method());
    let route: Cow<'static, str> = match request.extensions().get::<MatchedPath>() {
        Some(template) => template.as_str().to_owned().into(),
        None => "none".into(),
    };
    let request_id = request.extensions().get::<RequestId>().cloned();
    let span = info_span!(
        "request",
        otel.kind = "server",
        otel.name = %format_args!("{method} {route}"),
        http.request.method = method,
        http.route = %route,
        request_id = request_id.as_ref().map(RequestId::as_str),
        http.response.status_code = Empty,
        code = Empty,
        region = Empty,
        latency_us = Empty,
    );
    let given = TraceParent::in_headers(request.headers());
    if let Some(given) = &given {
        given.adopt(&span);
    }
    let begun = Instant::now();
    let in_flight = InFlight::enter();
    let response = trace::within(given, next.run(request).instrument(span.clone())).await;
    drop(in_flight);
    span.in_scope(|| finished(&span, method, route, begun, &response));
    response
}

fn finished(span: &Span, method: &'static str, route: Cow<'static, str>, begun: Instant, response: &Response) {
    let (status, elapsed) = (response.status(), begun.elapsed());
    let pending = response.extensions().get::<Pending>();
    let region = response
        .headers()
        .get(api::headers::REGION)
        .and_then(|value| value.to_str().ok())
        .or_else(|| pending.and_then(|pending| pending.problem.region.as_deref()))
        .unwrap_or("none")
        .to_owned();
    let latency_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    span.record("http.response.status_code", status.as_u16());
    span.record("region", region.as_str());
    span.record("latency_us", latency_us);
    if let Some(Pending { problem, cause }) = pending {
        span.record("code", problem.code.as_str());
        // The one place where errors are logged.
        if status.is_server_error() {
            warn!(code = problem.code, cause = %cause, "{method} {route} was answered {}: {cause}", status.as_u16());
        } else {
            debug!(code = problem.code, cause = %cause, "{method} {route} was answered {}: {cause}", status.as_u16());
        }
    } else {
        debug!("{method} {route} was answered {} in {latency_us} us", status.as_u16());
    }
    histogram!(
        "domicile_http_request_seconds",
        "route" => route.clone(), "method" => method, "status" => class(status.as_u16()), "region" => region.clone()
    )
    .record(elapsed.as_secs_f64());
    counter!(
        "domicile_http_requests_total",
        "route" => route, "method" => method, "status" => status.as_str().to_owned(), "region" => region
    )
    .increment(1);
}

/// A method as a label: callers can make up methods, and labels must not grow.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

const fn class(status: u16) -> &'static str {
    match status / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

/// Counts a request as long as it lives, whether it is answered or given up.
struct InFlight;

impl InFlight {
    fn enter() -> Self {
        gauge!("domicile_http_requests_in_flight").increment(1);
        Self
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        gauge!("domicile_http_requests_in_flight").decrement(1);
    }
}
