//! So many requests at once and no more: who finds no room is told so at once rather than late.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use tokio::sync::Semaphore;
use tower::{Layer, Service};

use super::Inside;
use crate::error::Error;

/// The room that all routes share.
#[derive(Clone)]
pub(super) struct ShedLayer(Arc<Semaphore>);

impl ShedLayer {
    pub(super) fn new(requests_max: usize) -> Self {
        Self(Arc::new(Semaphore::new(requests_max.min(Semaphore::MAX_PERMITS))))
    }
}

impl<S> Layer<S> for ShedLayer {
    type Service = Shed<S>;

    fn layer(&self, inner: S) -> Shed<S> {
        Shed { room: Arc::clone(&self.0), inner }
    }
}

/// A route behind that room.
#[derive(Clone)]
pub(super) struct Shed<S> {
    room: Arc<Semaphore>,
    inner: S,
}

impl<S: Inside> Service<Request> for Shed<S> {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match Arc::clone(&self.room).try_acquire_owned() {
            Err(_) => Box::pin(async { Ok(Error::Overloaded.into_response()) }),
            Ok(place) => {
                let answer = self.inner.call(request);
                Box::pin(async move {
                    let answer = answer.await;
                    drop(place);
                    answer
                })
            }
        }
    }
}
