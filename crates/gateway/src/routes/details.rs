//! Identifying details of one decision, for whoever may see them: a scope of its own, and a leaf for every look.

use api::{LeafDetail, LeafDetails, Scope, paths};
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use leaf::Reading;

use super::proof::{Asked, Seq, served, unread};
use crate::app::App;
use crate::callers::Caller;
use crate::error::Error;
use crate::reply;

/// What lies sealed beside one leaf: details that identify somebody, each with the salt that shows that the leaf
/// committed to it. Needs the scope `audit:details`; that they were looked at is itself in the log.
#[utoipa::path(
    get, path = paths::LOG_DETAILS, tag = "proof", operation_id = "log_details",
    params(
        ("region" = String, Path, description = "The region whose log it is"),
        ("seq" = u64, Path, description = "The entry's index, as in `Domicile-Audit`"),
    ),
    responses((status = 200, description = "The details", body = LeafDetails))
)]
pub(crate) async fn details(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Asked { region, what: Seq(seq) }: Asked<Seq>,
) -> Result<Response, Error> {
    caller.may(Scope::AuditDetails)?;
    let store = served(&app, region)?;
    let log = store.log();
    let found = log.details(seq).await.map_err(|error| unread(&log, error))?.ok_or(Error::NotInLog)?;
    let actor = caller.actor.as_str().to_owned();
    let reading = Reading { actor, what: "details", at: Some(seq..seq + 1), rows: Some(1), ..Reading::default() };
    app.account_for_reading(store, reading).await?;
    let detail = |detail: &leaf::Detail| LeafDetail {
        name: detail.name.clone(),
        salt: Some(hex::encode(detail.salt)),
        value: Some(detail.value.clone()),
        commitment: hex::encode(detail.commitment()),
    };
    reply::ok(&LeafDetails {
        region: store.region().to_string(),
        seq,
        details: found.details.fields().iter().map(detail).collect(),
        line: found.leaf.line,
    })
}
