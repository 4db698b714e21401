//! Even our bugs answer in problem+json.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;

use axum::response::Response;
use futures::FutureExt as _;

use crate::problem;

/// Waits for an answer; a panic on the way to it is answered instead.
pub(super) async fn caught(answer: impl Future<Output = Result<Response, Infallible>>) -> Result<Response, Infallible> {
    // Nothing of the request is used again after a panic, so nothing can be found half changed.
    AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|panic| Ok(problem::from_panic(panic)))
}
