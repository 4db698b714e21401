//! What stands around every route, in order of arrival, each with its reason.
//!
//! ```text
//! envelope     names the request; writes problems and security headers on the way out
//! observe      one span, one count, one duration per request: also for those refused below; a part of
//!              the caller's trace, if it says which
//! panic        even our bugs answer in problem+json
//! shed         says no at once rather than late
//! deadline     nobody waits for ever
//! body bound   no handler sees more bytes than it may
//! identify     who asks, before anything is done for them
//! rate         one caller cannot take the place of all
//! ```

mod deadline;
mod envelope;
mod identify;
mod observe;
mod rate;
pub(crate) mod trace;

use axum::Router;
use axum::body::Body;
use axum::error_handling::HandleErrorLayer;
use axum::extract::Request;
use axum::middleware::{from_fn, from_fn_with_state, map_request};
use http_body_util::Limited;
use tower::ServiceBuilder;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::load_shed::LoadShedLayer;
use tower_http::catch_panic::CatchPanicLayer;

use crate::app::App;
use crate::error::Error;
use crate::problem;

pub(crate) use envelope::RequestId;
pub(crate) use identify::same_site;
pub use observe::describe_metrics;
pub(crate) use rate::RateLimit;

/// Stands around everything that the public listener serves.
pub(crate) fn around(routes: Router, app: &App) -> Router {
    let limits = &app.settings.limits;
    routes.layer(
        ServiceBuilder::new()
            .layer(from_fn_with_state(app.clone(), envelope::envelope))
            .layer(from_fn(observe::observe))
            .layer(CatchPanicLayer::custom(problem::from_panic))
            .layer(HandleErrorLayer::new(shed))
            .layer(LoadShedLayer::new())
            .layer(GlobalConcurrencyLimitLayer::new(limits.requests_max))
            .layer(from_fn_with_state(app.clone(), deadline::deadline)),
    )
}

/// Bounds the body of each request to these routes.
pub(crate) fn bounded<S: Clone + Send + Sync + 'static>(routes: Router<S>, bytes_max: usize) -> Router<S> {
    routes.layer(map_request(move |request: Request| async move {
        request.map(|body| Body::new(Limited::new(body, bytes_max)))
    }))
}

/// Lets only callers through to these routes: the API, by header.
pub(crate) fn for_callers(routes: Router<App>, app: &App) -> Router<App> {
    routes.layer(
        ServiceBuilder::new()
            .layer(from_fn_with_state(app.clone(), identify::by_header))
            .layer(from_fn_with_state(app.clone(), rate::limit)),
    )
}

/// Lets only callers through to these routes: pages, by header or by a browser's cookie.
pub(crate) fn for_browsers<S: Clone + Send + Sync + 'static>(routes: Router<S>, app: &App) -> Router<S> {
    routes.layer(
        ServiceBuilder::new()
            .layer(from_fn_with_state(app.clone(), identify::by_header_or_cookie))
            .layer(from_fn_with_state(app.clone(), rate::limit)),
    )
}

/// The only error of the layers below is that there is no room.
async fn shed(_: tower::BoxError) -> Error {
    Error::Overloaded
}
