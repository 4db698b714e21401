//! A request has a time. What was begun in a region is finished there; only the waiting ends.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;

use crate::app::App;
use crate::error::Error;

pub(super) async fn deadline(State(app): State<App>, request: Request, next: Next) -> Response {
    let request_max = app.settings.limits.request_max;
    match timeout(request_max, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Error::DeadlineExceeded { seconds: request_max.as_secs() }.into_response(),
    }
}
