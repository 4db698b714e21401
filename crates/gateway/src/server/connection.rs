//! One connection: HTTP/1.1 or HTTP/2, with the clocks that hyper does not bring.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::Watcher;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use tower::ServiceExt as _;

use super::answer::{Answers, Tracked, Way};
use super::stall::Stall;
use crate::permitted::Peer;
use crate::settings::Limits;

/// How often HTTP/2 connections are asked whether they live.
const PING_EVERY: Duration = Duration::from_secs(20);
/// And how long they may take to say so.
const PONG_MAX: Duration = Duration::from_secs(20);
/// Resets of streams that a client may have pending before its connection is closed (rapid reset).
const RESETS_PENDING_MAX: usize = 20;

/// How connections are served.
pub(super) struct Connections {
    builder: Builder<TokioExecutor>,
    routes: Router,
    idle_max: Duration,
    stall_max: Duration,
}

impl Connections {
    pub(super) fn new(routes: Router, limits: &Limits) -> Self {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_read_max)
            .max_buf_size(limits.head_bytes_max.max(8 * 1024))
            .max_headers(limits.headers_max);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PONG_MAX)
            .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX))
            .max_concurrent_streams(limits.streams_per_connection_max)
            .max_pending_accept_reset_streams(RESETS_PENDING_MAX);
        Self { builder, routes, idle_max: limits.idle_max, stall_max: limits.write_stall_max }
    }

    /// Serves one connection until it ends, idles too long, or the server shuts down.
    pub(super) fn serve(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        watcher: Watcher,
    ) -> impl Future<Output = Result<(), Box<dyn std::error::Error + Send + Sync>>> + Send + use<> {
        let activity = Arc::new(Activity::begin());
        let service = {
            let (routes, activity) = (self.routes.clone(), Arc::clone(&activity));
            hyper::service::service_fn(move |request: Request<Incoming>| {
                let underway = Underway::begin(&activity);
                let routes = routes.clone();
                async move { Ok::<_, Infallible>(answer(routes, request, peer, underway).await) }
            })
        };
        let (builder, idle_max, stall_max) = (self.builder.clone(), self.idle_max, self.stall_max);
        let io = TokioIo::new(Stall::new(stream, self.stall_max));
        async move {
            let connection = builder.serve_connection(io, service).into_owned();
            let mut connection = pin!(watcher.watch(connection));
            // The clock runs also before the first byte of the first request, where hyper has none of its own. It is looked
            // at when it rings and not touched by requests, so a connection costs one timer, however busy it is.
            let mut clock = pin!(sleep_until(activity.since + idle_max.min(stall_max)));
            loop {
                tokio::select! {
                    ended = &mut connection => return ended,
                    () = &mut clock => {
                        let now = Instant::now();
                        let idle_until = activity.at_rest_since().unwrap_or(now) + idle_max;
                        if idle_until <= now {
                            return Ok(());
                        }
                        if activity.answers.any_stands_still() {
                            return Err("the peer does not take its answers".into());
                        }
                        // Between two looks at answers there is as much time as a peer has for taking one.
                        let next = if activity.answers.any() { idle_until.min(now + stall_max) } else { idle_until };
                        clock.as_mut().reset(next);
                    }
                }
            }
        }
    }
}

async fn answer(
    routes: Router,
    request: Request<Incoming>,
    peer: SocketAddr,
    underway: Underway,
) -> Response<Tracked<Underway>> {
    let streams = request.version() == Version::HTTP_2;
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(Peer(peer));
    let response = match routes.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let way =
        if streams { Way::Stream(Arc::clone(&underway.0.answers).begin(underway)) } else { Way::Socket(underway) };
    response.map(|body| Tracked::new(body, way))
}

/// How many requests of a connection are under way, and since when there has been none.
struct Activity {
    since: Instant,
    underway: AtomicUsize,
    /// The end of the last request, microseconds after `since`.
    rested_us: AtomicU64,
    /// What is being answered over HTTP/2.
    answers: Arc<Answers>,
}

impl Activity {
    fn begin() -> Self {
        Self {
            since: Instant::now(),
            underway: AtomicUsize::new(0),
            rested_us: AtomicU64::new(0),
            answers: Arc::default(),
        }
    }

    fn at_rest_since(&self) -> Option<Instant> {
        let rested = self.since + Duration::from_micros(self.rested_us.load(Ordering::Acquire));
        (self.underway.load(Ordering::Acquire) == 0).then_some(rested)
    }
}

/// A request under way, from its head to the last byte of its answer.
struct Underway(Arc<Activity>);

impl Underway {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.underway.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(activity))
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        let Self(activity) = self;
        let rested_us = u64::try_from(activity.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        activity.rested_us.store(rested_us, Ordering::Release);
        activity.underway.fetch_sub(1, Ordering::AcqRel);
    }
}
