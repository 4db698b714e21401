//! The HTTP face: routes, layers, callers, and handlers that make three moves.
//!
//! Every request about a subject takes the same way: the layers name it, bound it and find out who asks;
//! the extractor turns path, headers and credentials into signals and asks routing for a permit; only
//! then is the body read; the handler carries the permit to the region and the answer to the wire.
//!
//! TLS ends at the edge in front of this server: it speaks HTTP/1.1 and cleartext HTTP/2.

#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test may panic"))]

mod app;
mod callers;
mod docs;
mod error;
mod from_wire;
mod layers;
mod openapi;
mod permitted;
mod places;
mod problem;
mod readings;
mod reply;
mod routes;
mod server;
mod settings;
#[cfg(test)]
mod tests;
mod to_wire;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::Router;
use http::HeaderName;
use residency::Region;
use routing::{Clock, Routing};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;
use tracing::info;

use crate::app::{App, Inner};
use crate::callers::{Callers, Jwks, Sessions, Tokens};
use crate::docs::Docs;
use crate::layers::RateLimit;
use crate::places::Places;
use crate::server::Server;

pub use callers::{Algorithm, ClaimNames, JwksSource, JwtSettings, KeyOwner, KeyRing, NoJwks};
pub use layers::describe_metrics;
pub use routes::RenderMetrics;
pub use server::{NotBound, serve_routes};
pub use settings::{EventTypes, Limits, Settings};

/// What the HTTP face is wired from.
pub struct Parts {
    /// Carries operations to regions.
    pub routing: Routing,
    /// The API keys; usually `directory.keys()`.
    pub keys: Arc<dyn KeyRing>,
    /// The name of each region's log, as receipts show it.
    pub log_origins: BTreeMap<Region, String>,
    /// Time, for what callers leave out, and request ids.
    pub clock: Arc<dyn Clock>,
    /// Renders metrics for the admin listener.
    pub metrics: RenderMetrics,
    /// The console's pages, behind the callers' layer: `console::router(…)`.
    pub console: Option<Router>,
    /// The console's login page and stylesheet, open to everybody: `console::doorstep()`.
    pub doorstep: Option<Router>,
}

/// Why the HTTP face cannot be put up.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// A listener could not be opened.
    #[error(transparent)]
    NotBound(#[from] NotBound),
    /// The identity provider's key set cannot be used.
    #[error("tokens cannot be checked")]
    NoJwks(#[from] NoJwks),
    /// The forwarding header is no header's name.
    #[error("the configured forwarding header is not a header name")]
    ForwardingHeader,
}

/// The HTTP face, listening but not yet serving.
pub struct Gateway {
    app: App,
    public: TcpListener,
    admin: TcpListener,
    routes: Router,
    admin_routes: Router,
}

impl Gateway {
    /// Wires the parts and opens both listeners.
    ///
    /// # Errors
    /// [`NotReady`].
    pub async fn bind(settings: Settings, parts: Parts) -> Result<Self, NotReady> {
        let (listen, admin_listen) = (settings.listen, settings.admin_listen);
        let Parts { routing, keys, log_origins, clock, metrics, console, doorstep } = parts;
        let app = app(settings, routing, keys, log_origins, clock)?;
        let routes = routes::public(&app, console, doorstep);
        let admin_routes = routes::admin(&app, metrics);
        let public = server::bind(listen).await?;
        let admin = server::bind(admin_listen).await?;
        Ok(Self { app, public, admin, routes, admin_routes })
    }

    /// Where the API listens; of interest when the settings say port 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.public.local_addr().unwrap_or(self.app.settings.listen)
    }

    /// Where health, readiness and metrics listen.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.local_addr().unwrap_or(self.app.settings.admin_listen)
    }

    /// Serves until `shutdown` is ready; then says that it is not ready, stops accepting, and finishes
    /// what is under way within `drain_max`. The admin listener goes last.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send + 'static) {
        let (address, admin_address) = (self.address(), self.admin_address());
        let Self { app, public, admin, routes, admin_routes } = self;
        info!(%address, %admin_address, "The API listens on {address}; health and metrics on {admin_address}");
        let limits = app.settings.limits.clone();
        let public = Server::public(public, routes, &limits);
        let admin = Server::admin(admin, admin_routes, &limits);
        let (done, mut over) = watch::channel(false);
        let admin = tokio::spawn(admin.run(async move { drop(over.wait_for(|over| *over).await) }, limits.idle_max));
        let notice = limits.drain_notice;
        let stop = {
            let app = app.clone();
            async move {
                shutdown.await;
                app.drain();
                sleep(notice).await;
            }
        };
        public.run(stop, limits.drain_max).await;
        done.send_replace(true);
        admin.abort();
        drop(admin.await);
    }
}

/// Wires, listens and serves: [`Gateway::bind`] and [`Gateway::serve`] in one.
///
/// # Errors
/// As for [`Gateway::bind`].
pub async fn serve(
    settings: Settings,
    parts: Parts,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), NotReady> {
    Gateway::bind(settings, parts).await?.serve(shutdown).await;
    Ok(())
}

/// The API's description, OpenAPI 3.1, as `/openapi.json` serves it.
#[must_use]
pub fn openapi() -> serde_json::Value {
    openapi::document()
}

/// Makes the shared state.
fn app(
    settings: Settings,
    routing: Routing,
    keys: Arc<dyn KeyRing>,
    log_origins: BTreeMap<Region, String>,
    clock: Arc<dyn Clock>,
) -> Result<App, NotReady> {
    let tokens = match settings.jwt.clone() {
        None => None,
        Some(jwt) => {
            let jwks = Jwks::new(jwt.jwks.clone())?;
            Some(Tokens::new(jwt, jwks))
        }
    };
    let forwarded_in = match settings.forwarding.header_name() {
        None => None,
        Some(name) => Some(HeaderName::try_from(name).map_err(|_| NotReady::ForwardingHeader)?),
    };
    let limits = &settings.limits;
    let document = openapi::document();
    Ok(App::new(Inner {
        callers: Callers::new(keys, tokens, Sessions::new(settings.cookie_secure)),
        rate: RateLimit::new(limits.caller_requests_per_s_max, limits.caller_burst_max, limits.callers_counted_max),
        sittings: readings::Sittings::default(),
        batches: Places::new(limits.batches_max, limits.caller_batches_max),
        exports: Places::new(limits.exports_max, limits.caller_exports_max),
        logins: Semaphore::new(limits.logins_max),
        draining: AtomicBool::new(false),
        docs: Docs::of(&document),
        event_docs: Docs::of_events(),
        openapi: serde_json::to_vec(&document).unwrap_or_default().into(),
        log_origins,
        forwarded_in,
        clock,
        routing,
        settings,
    }))
}
