//! Preconditions as extractors. They are headers, so they are read before the permit is asked for: a
//! request that cannot be understood should not pin anybody.

use axum::extract::FromRequestParts;
use http::request::Parts;
use storage::Precondition;

use crate::app::App;
use crate::error::Error;
use crate::from_wire::conditions::{self, Held};
use crate::from_wire::event::idempotency_key;

/// What a change demands of the present state.
pub(crate) struct When(pub(crate) Precondition);

impl FromRequestParts<App> for When {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Error> {
        conditions::for_change(&parts.headers).map(Self)
    }
}

/// What a reader already holds.
pub(crate) struct Known(pub(crate) Held);

impl FromRequestParts<App> for Known {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Error> {
        conditions::for_read(&parts.headers).map(Self)
    }
}

/// The key that makes a repeated event harmless.
pub(crate) struct IdempotencyKey(pub(crate) Option<String>);

impl FromRequestParts<App> for IdempotencyKey {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Error> {
        idempotency_key(&parts.headers).map(Self)
    }
}
