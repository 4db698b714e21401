//! Whether the process lives, whether it should be sent requests, and what it counts.

use std::sync::Arc;

use api::{media, paths};
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde::Serialize;
use storage::Health;
use storage::admin::{SchemaLevel, Set};

use crate::app::App;

/// Renders what has been counted, as Prometheus text.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// The admin listener: without callers, so never to be exposed.
pub(crate) fn admin(app: &App, metrics: RenderMetrics) -> Router {
    let render = move || {
        let text = metrics();
        async move { ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text) }
    };
    Router::new()
        .route(paths::HEALTHZ, get(healthz))
        .route(paths::READYZ, get(readyz))
        .route(paths::METRICS, get(render))
        .with_state(app.clone())
}

/// The process answers. Says nothing about what it depends on: restarting it would not help those.
pub(crate) async fn healthz() -> Response {
    ([(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, "no-store")], "ok\n").into_response()
}

/// Whether balancers should send requests here. A region that is down does not make the gateway
/// unready: its other regions are served, and its own requests get a clear 503.
///
/// With `?deep=1`, for a deployer's gate: every store is asked now, on a new connection, and all of them must answer, be
/// the right one, and have a schema that this program knows how to use.
async fn readyz(State(app): State<App>, RawQuery(query): RawQuery) -> Response {
    if query.is_some_and(|query| query.split('&').any(|pair| pair == "deep=1")) {
        return deep(&app).await;
    }
    let regions: Vec<_> = app
        .routing
        .regions()
        .map(|store| RegionReadiness { region: store.region().to_string(), state: name(&store.health()) })
        .collect();
    let directory = name(&app.routing.directory().health());
    let draining = app.is_draining();
    let ready = !draining && directory == UP && regions.iter().any(|region| region.state == UP);
    let readiness = Readiness { ready, draining, directory, regions };
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    // Words and booleans can always be written.
    let body = serde_json::to_vec(&readiness).unwrap_or_default();
    (status, [(CONTENT_TYPE, media::JSON), (CACHE_CONTROL, "no-store")], body).into_response()
}

async fn deep(app: &App) -> Response {
    let usable = |asked: Result<SchemaLevel, storage::Error>, set: Set| match asked {
        Ok(SchemaLevel { level, .. }) if level < set.level() => {
            format!("its schema has level {level} and this program needs {}: `domicile migrate`", set.level())
        }
        Ok(_) => UP.to_owned(),
        Err(error) => error.to_string(),
    };
    let directory = usable(app.routing.directory().schema_level().await, Set::Directory);
    let mut regions = Vec::new();
    for store in app.routing.regions() {
        let state = usable(store.schema_level().await, Set::Region);
        regions.push(DeepRegion { region: store.region().to_string(), state });
    }
    let draining = app.is_draining();
    let ready = !draining && directory == UP && regions.iter().all(|region| region.state == UP);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::to_vec(&DeepReadiness { ready, draining, directory, regions }).unwrap_or_default();
    (status, [(CONTENT_TYPE, media::JSON), (CACHE_CONTROL, "no-store")], body).into_response()
}

#[derive(Serialize)]
struct DeepReadiness {
    ready: bool,
    draining: bool,
    directory: String,
    regions: Vec<DeepRegion>,
}

#[derive(Serialize)]
struct DeepRegion {
    region: String,
    state: String,
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    draining: bool,
    directory: &'static str,
    regions: Vec<RegionReadiness>,
}

#[derive(Serialize)]
struct RegionReadiness {
    region: String,
    state: &'static str,
}

const UP: &str = "up";

fn name(health: &Health) -> &'static str {
    match health {
        Health::Up => UP,
        Health::Down { .. } => "down",
        Health::Misplaced { .. } => "misplaced",
    }
}
