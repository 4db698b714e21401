//! Two listeners, bounded connections, and a way down that loses nothing.
//!
//! Every connection is a task with five clocks: for a request's head, for standing idle, for a socket and for an HTTP/2 stream
//! that nobody reads from, and for HTTP/2 pings. TLS ends at the edge in front of this server.

mod answer;
mod connection;
mod stall;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::server::graceful::GracefulShutdown;
use metrics::gauge;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::settings::Limits;
use connection::Connections;

/// How long accepting pauses after the system ran out of something, e.g. file descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// Connections of the admin listener.
const ADMIN_CONNECTIONS_MAX: usize = 64;

/// Where a listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct NotBound {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

/// Serves routes that are not the API's on a listener of their own, under the same clocks: so many connections at once, and in
/// each the bounds of `limits`. Ends when `stop` is ready and what was under way then is finished, within `limits.drain_max`.
pub async fn serve_routes(
    name: &'static str,
    listener: TcpListener,
    routes: Router,
    connections_max: usize,
    limits: &Limits,
    stop: impl Future<Output = ()>,
) {
    Server::new(name, listener, routes, limits, connections_max).run(stop, limits.drain_max).await;
}

/// Opens a listener.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, NotBound> {
    TcpListener::bind(address).await.map_err(|source| NotBound { address, source })
}

/// One listener with what it serves.
pub(crate) struct Server {
    name: &'static str,
    listener: TcpListener,
    connections: Connections,
    places: Arc<Semaphore>,
    graceful: GracefulShutdown,
}

impl Server {
    pub(crate) fn public(listener: TcpListener, routes: Router, limits: &Limits) -> Self {
        Self::new("api", listener, routes, limits, limits.connections_max)
    }

    pub(crate) fn admin(listener: TcpListener, routes: Router, limits: &Limits) -> Self {
        Self::new("admin", listener, routes, limits, ADMIN_CONNECTIONS_MAX)
    }

    fn new(name: &'static str, listener: TcpListener, routes: Router, limits: &Limits, connections_max: usize) -> Self {
        Self {
            name,
            listener,
            connections: Connections::new(routes, limits),
            places: Arc::new(Semaphore::new(connections_max)),
            graceful: GracefulShutdown::new(),
        }
    }

    /// Accepts until told to stop; then waits for what is under way, within bounds.
    pub(crate) async fn run(self, stop: impl Future<Output = ()>, drain_max: Duration) {
        tokio::pin!(stop);
        loop {
            // A place first: connections that cannot be served wait in the kernel, not in our memory.
            let place = tokio::select! {
                biased;
                () = &mut stop => break,
                place = Arc::clone(&self.places).acquire_owned() => place,
            };
            let accepted = tokio::select! {
                biased;
                () = &mut stop => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.serve(stream, peer, place.ok()),
                Err(error) => {
                    warn!(listener = self.name, %error, "A connection could not be accepted");
                    sleep(PAUSE).await;
                }
            }
        }
        drop(self.listener);
        let open = self.graceful.count();
        info!(listener = self.name, open, "No more connections are accepted; {open} are being finished");
        if timeout(drain_max, self.graceful.shutdown()).await.is_err() {
            warn!(listener = self.name, "Some requests were still under way when the time for shutting down was over");
        }
    }

    fn serve(&self, stream: TcpStream, peer: SocketAddr, place: Option<tokio::sync::OwnedSemaphorePermit>) {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "Nagle's algorithm could not be switched off");
        }
        let connection = self.connections.serve(stream, peer, self.graceful.watcher());
        let name = self.name;
        tokio::spawn(async move {
            gauge!("domicile_http_connections", "listener" => name).increment(1);
            if let Err(error) = connection.await {
                // Clients go away all the time; what they were doing is not ours to log.
                debug!(listener = name, error = %error, "A connection ended early");
            }
            gauge!("domicile_http_connections", "listener" => name).decrement(1);
            drop(place);
        });
    }
}
