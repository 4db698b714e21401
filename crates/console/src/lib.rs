//! The compliance pages: where each region stands, what was decided and why, and who is placed where.
//! Rendered on the server, with one stylesheet of our own, no scripts and nothing from elsewhere.
//!
//! Who may come in is the gateway's business: it stands before [`router`] with its check, and serves
//! [`doorstep`] without one. It also says who that is ([`Visitor`]), so that no entry is shown before the log knows to
//! whom. No page shows who a decision was about.

mod decision;
mod decisions;
mod filter;
mod overview;
mod page;
mod policy;
#[cfg(test)]
mod sample;
mod visitor;

use std::sync::Arc;

use axum::Router;
use axum::middleware::map_response;
use axum::response::Html;
use axum::routing::get;
use residency::Policy;
use storage::RegionStore;

pub use page::{CONTENT_SECURITY_POLICY, REFERRER};
pub use visitor::{Accounts, Asked, Unlogged, Visitor};

/// What the pages are made from. Cheap to clone.
#[derive(Clone)]
pub struct Console {
    regions: Arc<[RegionStore]>,
    policy: Arc<dyn Fn() -> Arc<Policy> + Send + Sync>,
}

impl Console {
    /// Pages about these regions; `policy` gives the policy in force whenever it is asked.
    pub fn new(
        regions: impl IntoIterator<Item = RegionStore>,
        policy: impl Fn() -> Arc<Policy> + Send + Sync + 'static,
    ) -> Self {
        Self { regions: regions.into_iter().collect(), policy: Arc::new(policy) }
    }

    fn policy(&self) -> Arc<Policy> {
        (self.policy)()
    }
}

/// The pages beneath `/console`. To be served only to callers who may see them, with the [`Visitor`] as an extension of each
/// request: a page that shows entries answers 500 without one.
pub fn router(console: Console) -> Router {
    Router::new()
        .route("/console", get(overview::show))
        .route("/console/decisions", get(decisions::show).post(decisions::show_one_person))
        .route("/console/decisions/{id}", get(decision::show))
        .route("/console/policy", get(policy::show))
        .layer(map_response(page::guard))
        .with_state(console)
}

/// What stands before the door: the login page and the stylesheet. They say nothing about anybody.
/// The gateway handles the form's `POST /console/login` (field `key`) and the header's `POST /console/logout`.
pub fn doorstep() -> Router {
    Router::new()
        .route("/console/login", get(async || login_page(None)))
        .route("/console/style.css", get(page::style))
        .layer(map_response(page::guard))
}

/// The login page, with a sentence about what went wrong, if anything did. Answer it with the headers that
/// [`doorstep`] sets, in any case with [`CONTENT_SECURITY_POLICY`] and [`REFERRER`].
pub fn login_page(error: Option<&str>) -> Html<String> {
    page::login(error)
}
