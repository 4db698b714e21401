//! One caller cannot take the place of all: requests are counted per caller (generic cell rate algorithm).

use std::convert::Infallible;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use futures::future::{Either, Ready, ready};
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::time::sleep;
use tower::{Layer, Service};

use super::{Callers, Inside};
use crate::app::App;
use crate::callers::Caller;
use crate::error::Error;

/// The count that callers share when too many are counted apart.
const SHARED: u128 = 0;
/// How often it is looked at how many are counted, in checks: the bound may be passed by as many.
const LOOK_EVERY: u64 = 1_024;

/// The counts.
pub(crate) struct RateLimit {
    limiter: Option<DefaultKeyedRateLimiter<u128>>,
    clock: DefaultClock,
    callers_max: usize,
    checks: AtomicU64,
    full: AtomicBool,
}

impl RateLimit {
    pub(crate) fn new(per_second: Option<NonZeroU32>, burst: NonZeroU32, callers_max: usize) -> Self {
        let limiter = per_second.map(|rate| RateLimiter::dashmap(Quota::per_second(rate).allow_burst(burst)));
        let clock = DefaultClock::default();
        Self { limiter, clock, callers_max, checks: AtomicU64::new(0), full: AtomicBool::new(false) }
    }

    /// Counts one request, or says how long to wait.
    pub(crate) fn check(&self, bucket: u128) -> Result<(), Duration> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        if self.checks.fetch_add(1, Ordering::Relaxed) % LOOK_EVERY == LOOK_EVERY - 1 {
            self.look(limiter);
        }
        let bucket = if self.full.load(Ordering::Relaxed) { SHARED } else { bucket };
        limiter.check_key(&bucket).map_err(|until| until.wait_time_from(self.clock.now()))
    }

    /// Callers that have been quiet need no count: a fresh one says the same. Only if all have been busy
    /// is there no more room.
    fn look(&self, limiter: &DefaultKeyedRateLimiter<u128>) {
        if limiter.len() >= self.callers_max {
            limiter.retain_recent();
        }
        self.full.store(limiter.len() >= self.callers_max, Ordering::Relaxed);
    }

    /// Waits for the caller's turn.
    pub(crate) async fn wait(&self, bucket: u128) {
        while let Err(wait) = self.check(bucket) {
            sleep(wait.max(Duration::from_millis(1))).await;
        }
    }
}

/// Counts every caller's requests.
#[derive(Clone)]
pub(super) struct RateLayer {
    app: App,
    callers: Callers,
}

impl RateLayer {
    pub(super) fn new(app: &App, callers: Callers) -> Self {
        Self { app: app.clone(), callers }
    }
}

impl<S> Layer<S> for RateLayer {
    type Service = Rated<S>;

    fn layer(&self, inner: S) -> Rated<S> {
        Rated { app: self.app.clone(), callers: self.callers, inner }
    }
}

/// A route that a caller may use so often.
#[derive(Clone)]
pub(super) struct Rated<S> {
    app: App,
    callers: Callers,
    inner: S,
}

impl<S: Inside> Service<Request> for Rated<S> {
    type Response = Response;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Response, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let refused = match request.extensions().get::<Caller>() {
            None if self.callers == Callers::Everybody => return Either::Left(self.inner.call(request)),
            None => Error::Unauthenticated,
            Some(caller) => match self.app.rate.check(caller.bucket) {
                Ok(()) => return Either::Left(self.inner.call(request)),
                Err(wait) => Error::RateLimited { retry_after_s: wait.as_secs().saturating_add(1) },
            },
        };
        Either::Right(ready(Ok(refused.into_response())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(burst: u32, callers_max: usize) -> RateLimit {
        RateLimit::new(NonZeroU32::new(1), NonZeroU32::new(burst).unwrap(), callers_max)
    }

    #[test]
    fn each_caller_has_its_own_count() {
        let limit = limit(2, 10);
        assert!(limit.check(1).is_ok() && limit.check(1).is_ok());
        // One more each second is within the rate, so a slow machine gets a few more through.
        let wait = (0..1_000).find_map(|_| limit.check(1).err()).unwrap();
        assert!(wait <= Duration::from_secs(1));
        assert!(limit.check(2).is_ok());
    }

    #[test]
    fn counts_do_not_grow_without_bound() {
        let limit = limit(1, 100);
        for bucket in 1..100_000 {
            let _ = limit.check(bucket);
        }
        let counted = limit.limiter.as_ref().map_or(0, RateLimiter::len);
        assert!(counted <= 100 + 2 * LOOK_EVERY as usize, "{counted}");
    }

    #[test]
    fn without_a_rate_nobody_is_counted() {
        let limit = RateLimit::new(None, NonZeroU32::MIN, 1);
        assert!((0..1_000).all(|_| limit.check(1).is_ok()));
    }
}
