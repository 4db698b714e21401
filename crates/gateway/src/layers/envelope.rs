//! The outermost layer: names the request on the way in; on the way out writes what problems there are,
//! and the headers that every answer has.

use std::convert::Infallible;
use std::task::{Context, Poll};

use api::headers as names;
use axum::extract::Request;
use axum::response::Response;
use futures::future::BoxFuture;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderValue};
use tower::{Layer, Service};

use super::Inside;
use crate::app::App;
use crate::problem;

/// Characters of a request id that a caller gives.
const CHARS_MAX: usize = 64;

/// Names one request: in its answer, in problems and in the logs. Held as the header that it becomes; visible ASCII.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(HeaderValue);

impl RequestId {
    fn of(headers: &HeaderMap, app: &App) -> Self {
        let fresh = || HeaderValue::try_from(app.fresh_id()).unwrap_or(HeaderValue::from_static("unnamed"));
        Self(given(headers).cloned().unwrap_or_else(fresh))
    }

    /// The name as text.
    pub(crate) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// The name as the `instance` of a problem.
    pub(crate) fn instance(&self) -> String {
        format!("urn:domicile:request:{}", self.as_str())
    }
}

/// Puts every answer into its envelope.
#[derive(Clone)]
pub(super) struct EnvelopeLayer(pub(super) App);

impl<S> Layer<S> for EnvelopeLayer {
    type Service = Envelope<S>;

    fn layer(&self, inner: S) -> Envelope<S> {
        Envelope { app: self.0.clone(), inner }
    }
}

/// A route whose answers come in an envelope.
#[derive(Clone)]
pub(super) struct Envelope<S> {
    app: App,
    inner: S,
}

impl<S: Inside> Service<Request> for Envelope<S> {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let id = RequestId::of(request.headers(), &self.app);
        request.extensions_mut().insert(id.clone());
        let answer = self.inner.call(request);
        Box::pin(async move { Ok(seal(answer.await?, id)) })
    }
}

/// Writes the problem, if the answer is one, and the headers that every answer has.
fn seal(response: Response, id: RequestId) -> Response {
    let mut response = problem::write(response, &id);
    let headers = response.headers_mut();
    headers.insert(names::REQUEST_ID, id.0);
    secure(headers);
    response
}

/// The caller's own name for the request, if it is a sober one: it will stand in our logs.
fn given(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut values = headers.get_all(names::REQUEST_ID).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let text = value.to_str().ok()?;
    let sober = (1..=CHARS_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    sober.then_some(value)
}

/// What browsers should know about every answer. Pages bring policies of their own.
fn secure(headers: &mut HeaderMap) {
    let defaults = [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        // Answers are about people: nothing in between may keep them.
        (CACHE_CONTROL, "no-store"),
        // Without effect on plain http; behind the edge's TLS it holds browsers to it.
        (STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
    ];
    for (name, value) in defaults {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sober_request_id_is_taken_over() {
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(names::REQUEST_ID, HeaderValue::from_str(value).unwrap());
            given(&headers).cloned()
        };
        assert_eq!(with("a-B_3.4"), Some(HeaderValue::from_static("a-B_3.4")));
        for value in ["", "a b", "anna@example.org", "a\"b", "{}", &"x".repeat(CHARS_MAX + 1)] {
            assert_eq!(with(value), None, "{value}");
        }
    }
}
