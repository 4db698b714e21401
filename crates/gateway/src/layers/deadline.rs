//! A request has a time. What was begun in a region is finished there; only the waiting ends.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use tokio::time::timeout;

use crate::error::Error;

/// Waits for an answer for at most so long.
pub(super) async fn deadline(
    request_max: Duration,
    answer: impl Future<Output = Result<Response, Infallible>>,
) -> Result<Response, Infallible> {
    match timeout(request_max, answer).await {
        Ok(answer) => answer,
        Err(_) => Ok(Error::DeadlineExceeded { seconds: request_max.as_secs() }.into_response()),
    }
}
