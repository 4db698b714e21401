//! Problems on their way out: [`Error`] becomes a response that carries its [`Problem`]; the envelope
//! layer, which knows the request id, writes the body. So even a panic's answer names its request.

use std::error::Error as _;
use std::fmt::Write as _;
use std::sync::Arc;

use api::{Code, Problem, headers, media};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, StatusCode};

use crate::error::Error;
use crate::layers::RequestId;
use crate::to_wire;

/// A problem that has not been written yet, and what the log should know of its cause.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    pub(crate) problem: Arc<Problem>,
    pub(crate) cause: Arc<str>,
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let pending = Pending { problem: Arc::new(self.problem()), cause: chain(&self).into() };
        let mut response =
            StatusCode::from_u16(pending.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR).into_response();
        response.extensions_mut().insert(pending);
        response
    }
}

/// Writes the body and the headers of a pending problem; other responses pass as they are.
pub(crate) fn write(mut response: Response, request_id: &RequestId) -> Response {
    let Some(Pending { problem, .. }) = response.extensions().get::<Pending>().cloned() else {
        return response;
    };
    let mut problem = Arc::unwrap_or_clone(problem);
    problem.instance = Some(request_id.instance());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media::PROBLEM));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if problem.status == 401 {
        let challenge = match problem.code == Code::CredentialsRefused.name() {
            true => "Bearer realm=\"domicile\", error=\"invalid_token\"",
            false => "Bearer realm=\"domicile\"",
        };
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    if let Some(seconds) = problem.retry_after_s {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    let mut tell = |name: &'static str, value: Option<String>| {
        if let Some(value) = value.and_then(|text| HeaderValue::try_from(text).ok()) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    tell(headers::REGION, problem.region.clone());
    tell(headers::DECISION, problem.decision.clone());
    tell(headers::AUDIT, problem.audit.as_ref().map(to_wire::audit_header));
    tell("etag", problem.current_etag.clone());
    // A struct of strings and numbers can always be written.
    *response.body_mut() = Body::from(serde_json::to_vec(&problem).unwrap_or_default());
    response
}

/// An error and its causes as one line. None of them holds data: storage and routing promise so.
fn chain(error: &Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let _ = write!(line, ": {next}");
        cause = next.source();
    }
    line
}

/// The answer to a path that no route has.
pub(crate) async fn no_route() -> Error {
    Error::RouteNotFound
}

/// The answer to a method that a route does not have. axum adds `Allow`.
pub(crate) async fn no_method() -> Error {
    Error::MethodNotAllowed
}

/// The answer to a request that made a handler panic.
pub(crate) fn from_panic(_panic: Box<dyn std::any::Any + Send>) -> http::Response<Body> {
    metrics::counter!("domicile_panics_total").increment(1);
    // The panic's own message may hold data of the request; the hook of the binary has its place in the code.
    Error::Panicked.into_response()
}
