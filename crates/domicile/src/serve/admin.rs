//! The admin listener of a process without a gateway: alive, ready, metrics.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::get;
use gateway::Limits;
use storage::{Health, RegionStore};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::telemetry::Metrics;

/// What the exposition format of Prometheus calls itself.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Connections at once; more wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 64;
/// How long the end of the process waits for whoever is still being answered.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// Answers until it is told to stop, and whoever asked before that within [`DRAIN_MAX`].
///
/// # Errors
/// When the address cannot be listened on.
pub(super) async fn run(
    listen: SocketAddr,
    metrics: Metrics,
    stores: &[RegionStore],
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let stores = stores.to_vec();
    let ready = move || {
        let down: Vec<String> = stores
            .iter()
            .filter(|store| !matches!(store.health(), Health::Up))
            .map(|store| store.region().to_string())
            .collect();
        std::future::ready(match down.is_empty() {
            true => (StatusCode::OK, "ready\n".to_owned()),
            false => (StatusCode::SERVICE_UNAVAILABLE, format!("not reachable: {}\n", down.join(", "))),
        })
    };
    let router = Router::new().route("/healthz", get(|| async { "well\n" })).route("/readyz", get(ready)).route(
        "/metrics",
        get(move || {
            let text = metrics.render();
            async move { ([(header::CONTENT_TYPE, PROMETHEUS_TEXT)], text).into_response() }
        }),
    );
    let limits = Limits { drain_max: DRAIN_MAX, ..Limits::default() };
    gateway::serve_routes("admin", listener, router, CONNECTIONS_MAX, &limits, stop.cancelled_owned()).await;
    Ok(())
}
