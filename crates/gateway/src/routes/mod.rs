//! What the public listener serves. Every route of the API is registered with its description, so that
//! neither can be without the other.

mod batch;
mod classify;
mod conditions;
mod decisions;
mod details;
mod events;
mod export;
mod health;
mod login;
mod pages;
mod proof;
mod records;
mod registers;
mod subjects;
mod zero_party;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::layers::{Bodies, Callers, Layers};
use crate::problem::{no_method, no_route};
use crate::readings;

pub use health::RenderMetrics;
pub(crate) use health::admin;

/// The API: routes and description, still without what stands around them.
pub(crate) fn api() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(classify::classify))
        .routes(routes!(subjects::read, subjects::pin, subjects::erase))
        .routes(routes!(records::read, records::put, records::patch, records::delete))
        .routes(routes!(records::list))
        .routes(routes!(events::publish))
        .routes(routes!(zero_party::list))
        .routes(routes!(zero_party::read, zero_party::put, zero_party::delete))
        .routes(routes!(zero_party::history))
        .routes(routes!(decisions::list))
        .routes(routes!(decisions::read))
        .routes(routes!(decisions::explain))
        .routes(routes!(proof::checkpoint))
        .routes(routes!(proof::tile))
        .routes(routes!(proof::entry))
        .routes(routes!(proof::policies))
        .routes(routes!(export::export))
        .routes(routes!(registers::violations))
        .routes(routes!(registers::acknowledge))
        .routes(routes!(registers::transfers))
        .routes(routes!(details::details))
}

/// The one route whose body has no end that it must wait for.
pub(crate) fn streamed() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(batch::batch))
}

/// The description of the API, to be served by it.
pub(crate) fn description() -> utoipa::openapi::OpenApi {
    let mut description = api().into_openapi();
    description.merge(streamed().into_openapi());
    description
}

/// Everything on the public listener.
pub(crate) fn public(app: &App, console: Option<Router>, doorstep: Option<Router>) -> Router {
    let (api, _) = api().split_for_parts();
    let (streamed, _) = streamed().split_for_parts();
    // The fallback is behind the callers' layer: even what does not exist is told to callers only.
    let api = api.fallback(no_route).method_not_allowed_fallback(no_method).with_state(app.clone());
    let streamed = streamed.method_not_allowed_fallback(no_method).with_state(app.clone());
    let mut pages = Router::new()
        .route(api::paths::OPENAPI, get(pages::openapi))
        .route(api::paths::DOCS, get(pages::docs))
        .route(api::paths::EVENT_DOCS, get(pages::events))
        .with_state(app.clone());
    if let Some(console) = console {
        pages = pages.merge(console.layer(from_fn_with_state(app.clone(), readings::of_console)));
    }
    let mut open = Router::new()
        .route(api::paths::HEALTHZ, get(health::healthz))
        .route(api::paths::CONSOLE_LOGIN, post(login::login))
        .route(api::paths::CONSOLE_LOGOUT, post(login::logout))
        .with_state(app.clone());
    if let Some(doorstep) = doorstep {
        open = open.merge(doorstep);
    }
    let (pages, open) = (pages.method_not_allowed_fallback(no_method), open.method_not_allowed_fallback(no_method));
    let layers = Layers::new(app);
    layers
        .around(api, Callers::ByHeader, Bodies::Whole)
        .merge(layers.around(streamed, Callers::ByHeader, Bodies::Streamed))
        .merge(layers.around(pages, Callers::ByHeaderOrCookie, Bodies::Whole))
        .merge(layers.around(open, Callers::Everybody, Bodies::Whole))
}
