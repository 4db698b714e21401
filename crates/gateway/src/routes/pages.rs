//! The API's description, for programs and for people. Made once, at the start.

use api::media;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};

use crate::app::App;
use crate::docs::Docs;

/// OpenAPI 3.1.
pub(crate) async fn openapi(State(app): State<App>) -> Response {
    ([(CONTENT_TYPE, media::JSON)], app.openapi.clone()).into_response()
}

/// The same, readable, without scripts and without anything from elsewhere.
pub(crate) async fn docs(State(app): State<App>) -> Response {
    page(&app.docs)
}

/// The events of the topics, likewise.
pub(crate) async fn events(State(app): State<App>) -> Response {
    page(&app.event_docs)
}

fn page(docs: &Docs) -> Response {
    let headers =
        [(CONTENT_TYPE, "text/html; charset=utf-8"), (CONTENT_SECURITY_POLICY, docs.content_security_policy.as_str())];
    (headers, docs.html.clone()).into_response()
}
