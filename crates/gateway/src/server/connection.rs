//! One connection: HTTP/1.1 or HTTP/2, with the clocks that hyper does not bring.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::Watcher;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::sleep;
use tower::ServiceExt as _;

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
        let activity = Arc::new(Activity::default());
        let service = {
            let (routes, activity) = (self.routes.clone(), Arc::clone(&activity));
            hyper::service::service_fn(move |request: Request<Incoming>| {
                let underway = Underway::begin(&activity);
                let routes = routes.clone();
                async move { Ok::<_, Infallible>(answer(routes, request, peer, underway).await) }
            })
        };
        let (builder, idle_max) = (self.builder.clone(), self.idle_max);
        let io = TokioIo::new(Stall::new(stream, self.stall_max));
        async move {
            let connection = builder.serve_connection(io, service).into_owned();
            let mut connection = pin!(watcher.watch(connection));
            loop {
                // Between requests the clock runs, also before the first byte of the first one, where
                // hyper has no clock of its own.
                let idle = async {
                    activity.at_rest().await;
                    tokio::select! {
                        () = sleep(idle_max) => true,
                        () = activity.changed.notified() => false,
                    }
                };
                tokio::select! {
                    ended = &mut connection => return ended,
                    over = idle => if over && activity.underway.load(Ordering::Acquire) == 0 {
                        return Ok(());
                    },
                }
            }
        }
    }
}

async fn answer(routes: Router, request: Request<Incoming>, peer: SocketAddr, underway: Underway) -> Response<Tracked> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(Peer(peer));
    let response = match routes.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    response.map(|body| Tracked { body, _underway: underway })
}

/// How many requests of a connection are under way.
#[derive(Default)]
struct Activity {
    underway: AtomicUsize,
    changed: Notify,
}

impl Activity {
    /// Waits until none is.
    async fn at_rest(&self) {
        while self.underway.load(Ordering::Acquire) > 0 {
            self.changed.notified().await;
        }
    }
}

/// A request under way, from its head to the last byte of its answer.
struct Underway(Arc<Activity>);

impl Underway {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.underway.fetch_add(1, Ordering::AcqRel);
        activity.changed.notify_one();
        Self(Arc::clone(activity))
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.underway.fetch_sub(1, Ordering::AcqRel);
        self.0.changed.notify_one();
    }
}

/// An answer's body that knows when it is over.
struct Tracked {
    body: Body,
    _underway: Underway,
}

impl HttpBody for Tracked {
    type Data = bytes::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
