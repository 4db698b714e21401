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
mod panic;
mod rate;
mod series;
mod shed;
pub(crate) mod trace;

use std::convert::Infallible;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http_body::Body as _;
use http_body_util::Limited;
use tower::util::{MapFutureLayer, MapRequestLayer};
use tower::{Service, ServiceBuilder};

use crate::app::App;

use envelope::EnvelopeLayer;
pub(crate) use envelope::RequestId;
use identify::IdentifyLayer;
pub(crate) use identify::same_site;
use observe::ObserveLayer;
pub use observe::describe_metrics;
use rate::RateLayer;
pub(crate) use rate::RateLimit;
use shed::ShedLayer;

/// What a layer stands around: a route, or the layers below. Layers are plain services, so that going through all of them
/// costs a few small boxes; axum's `from_fn` clones and boxes everything below it at every layer.
pub(super) trait Inside:
    Service<Request, Response = Response, Error = Infallible, Future: Send + 'static> + Clone + Send + 'static
{
}

impl<S> Inside for S where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send + 'static> + Clone + Send + 'static
{
}

/// Stands around everything that the public listener serves.
pub(crate) fn around(routes: Router, app: &App) -> Router {
    let limits = &app.settings.limits;
    let request_max = limits.request_max;
    routes.layer(
        ServiceBuilder::new()
            .layer(EnvelopeLayer(app.clone()))
            .layer(ObserveLayer::new())
            .layer(MapFutureLayer::new(panic::caught))
            .layer(ShedLayer::new(limits.requests_max))
            .layer(MapFutureLayer::new(move |answer| deadline::deadline(request_max, answer))),
    )
}

/// Bounds the body of each request to these routes.
pub(crate) fn bounded<S: Clone + Send + Sync + 'static>(routes: Router<S>, bytes_max: usize) -> Router<S> {
    routes.layer(MapRequestLayer::new(move |request: Request| {
        // Most requests have none, and what is not there needs no bound.
        if request.body().is_end_stream() {
            request
        } else {
            request.map(|body| Body::new(Limited::new(body, bytes_max)))
        }
    }))
}

/// Lets only callers through to these routes: the API, by header.
pub(crate) fn for_callers(routes: Router<App>, app: &App) -> Router<App> {
    routes.layer(ServiceBuilder::new().layer(IdentifyLayer::by_header(app)).layer(RateLayer(app.clone())))
}

/// Lets only callers through to these routes: pages, by header or by a browser's cookie.
pub(crate) fn for_browsers<S: Clone + Send + Sync + 'static>(routes: Router<S>, app: &App) -> Router<S> {
    routes.layer(ServiceBuilder::new().layer(IdentifyLayer::by_header_or_cookie(app)).layer(RateLayer(app.clone())))
}
