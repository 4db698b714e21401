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

/// What stands around every route. One for all of them: they share its room and its counts.
pub(crate) struct Layers {
    app: App,
    envelope: EnvelopeLayer,
    observe: ObserveLayer,
    shed: ShedLayer,
}

impl Layers {
    pub(crate) fn new(app: &App) -> Self {
        let requests_max = app.settings.limits.requests_max;
        Self {
            app: app.clone(),
            envelope: EnvelopeLayer(app.clone()),
            observe: ObserveLayer::new(),
            shed: ShedLayer::new(requests_max),
        }
    }

    /// Stands around routes that `callers` may use. All layers are one layer to axum, so a route is boxed once rather than
    /// once for each of them.
    pub(crate) fn around(&self, routes: Router, callers: Callers, body: Bodies) -> Router {
        let limits = &self.app.settings.limits;
        let (request_max, bytes_max) = (limits.request_max, limits.body_bytes_max);
        routes.layer(
            ServiceBuilder::new()
                .layer(self.envelope.clone())
                .layer(self.observe.clone())
                .layer(MapFutureLayer::new(panic::caught))
                .layer(self.shed.clone())
                .layer(MapFutureLayer::new(move |answer| deadline::deadline(request_max, answer)))
                .layer(IdentifyLayer::new(&self.app, callers))
                .layer(RateLayer::new(&self.app, callers))
                .layer(MapRequestLayer::new(move |request: Request| match body {
                    // Most requests have none, and what is not there needs no bound.
                    Bodies::Whole if !request.body().is_end_stream() => {
                        request.map(|body| Body::new(Limited::new(body, bytes_max)))
                    }
                    Bodies::Whole | Bodies::Streamed => request,
                })),
        )
    }
}

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Callers {
    /// Everybody: health, and the way in.
    Everybody,
    /// The API's way: who says who they are by `Authorization`.
    ByHeader,
    /// The pages' way: by `Authorization`, or by the cookie of a browser that logged in.
    ByHeaderOrCookie,
}

/// What bodies a route takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bodies {
    /// Read as a whole, so bounded as a whole.
    Whole,
    /// Streams, which their reader bounds piece by piece.
    Streamed,
}
