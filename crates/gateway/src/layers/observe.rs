//! One span, one count and one duration per request. Labels and fields are templates, words of our own
//! and numbers: never a path, a query, a subject, a key or an address.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::{MatchedPath, Request};
use axum::response::Response;
use futures::future::BoxFuture;
use http::Method;
use metrics::{Gauge, Unit, describe_counter, describe_gauge, describe_histogram, gauge};
use tokio::time::Instant;
use tower::{Layer, Service};
use tracing::field::Empty;
use tracing::{Instrument as _, Span, debug, info_span, warn};

use super::series::{Kind, Series};
use super::trace::{self, TraceParent};
use super::{Inside, RequestId};
use crate::problem::Pending;

/// Explains this crate's metrics to the recorder in force.
pub fn describe_metrics() {
    describe_counter!("domicile_http_requests_total", "Requests by route, method, status and home region");
    describe_histogram!("domicile_http_request_seconds", Unit::Seconds, "Time from a request's head to its answer's");
    describe_gauge!("domicile_http_requests_in_flight", "Requests that have not been answered yet");
    describe_gauge!("domicile_http_connections", "Connections that are open");
    describe_counter!("domicile_panics_total", "Handlers, and work at batches of a region, that ended in a panic");
}

/// Observes every request.
#[derive(Clone)]
pub(super) struct ObserveLayer {
    series: Arc<Series>,
    in_flight: Gauge,
}

impl ObserveLayer {
    pub(super) fn new() -> Self {
        Self { series: Arc::default(), in_flight: gauge!("domicile_http_requests_in_flight") }
    }
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Observe<S> {
        Observe { by: self.clone(), inner }
    }
}

/// A route whose requests are observed.
#[derive(Clone)]
pub(super) struct Observe<S> {
    by: ObserveLayer,
    inner: S,
}

impl<S: Inside> Service<Request> for Observe<S> {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let observation = Observation::begin(&self.by.series, &request);
        let given = TraceParent::in_headers(request.headers());
        if let Some(given) = &given {
            given.adopt(&observation.span);
        }
        let in_flight = InFlight::enter(&self.by.in_flight);
        let answer = trace::within(given, self.inner.call(request).instrument(observation.span.clone()));
        Box::pin(async move {
            let response = answer.await?;
            drop(in_flight);
            observation.span.in_scope(|| observation.end(&response));
            Ok(response)
        })
    }
}

/// What stands for the path of a request that no route takes.
const NO_ROUTE: &str = "none";

/// One request, from its head on.
struct Observation {
    series: Arc<Series>,
    span: Span,
    method: &'static str,
    route: Option<MatchedPath>,
    request_id: Option<RequestId>,
    begun: Instant,
}

impl Observation {
    fn begin(series: &Arc<Series>, request: &Request) -> Self {
        let begun = Instant::now();
        let method = known(request.method());
        let route = request.extensions().get::<MatchedPath>().cloned();
        let request_id = request.extensions().get::<RequestId>().cloned();
        let path = route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
        let span = info_span!(
            "request",
            otel.kind = "server",
            otel.name = %format_args!("{method} {path}"),
            http.request.method = method,
            http.route = path,
            request_id = request_id.as_ref().map(RequestId::as_str),
            http.response.status_code = Empty,
            code = Empty,
            region = Empty,
            latency_us = Empty,
        );
        Self { series: Arc::clone(series), span, method, route, request_id, begun }
    }

    fn end(&self, response: &Response) {
        let Self { series, span, method, .. } = self;
        let route = self.route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
        let (status, took) = (response.status().as_u16(), self.begun.elapsed());
        let pending = response.extensions().get::<Pending>();
        let region = response
            .headers()
            .get(api::headers::REGION)
            .and_then(|value| value.to_str().ok())
            .or_else(|| pending.and_then(|pending| pending.problem.region.as_deref()))
            .unwrap_or("none");
        let latency_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        span.record("http.response.status_code", status);
        span.record("region", region);
        span.record("latency_us", latency_us);
        if let Some(Pending { problem, cause }) = pending {
            span.record("code", problem.code.as_str());
            let (code, request_id) = (problem.code.as_str(), self.request_id.as_ref().map(RequestId::as_str));
            // The one place where errors are logged.
            if response.status().is_server_error() {
                warn!(code, request_id, region, latency_us, %cause, "{method} {route} was answered {status}: {cause}");
            } else {
                debug!(code, request_id, region, latency_us, %cause, "{method} {route} was answered {status}: {cause}");
            }
        } else {
            debug!("{method} {route} was answered {status} in {latency_us} us");
        }
        series.count(&Kind { route: Cow::Borrowed(route), method, status, region: Cow::Borrowed(region) }, took);
    }
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

/// Counts a request as long as it lives, whether it is answered or given up.
struct InFlight(Gauge);

impl InFlight {
    fn enter(gauge: &Gauge) -> Self {
        gauge.increment(1);
        Self(gauge.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}
