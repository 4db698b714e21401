//! Where a request would go, and why; nothing is pinned, nothing is logged.

use std::sync::Arc;

use api::{Classification, Classify, Outcome, Scope, paths};
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use residency::{Operation, SubjectId};
use routing::Explanation;

use crate::app::App;
use crate::callers::Caller;
use crate::error::{Error, Missing};
use crate::from_wire::body::Json;
use crate::from_wire::evidence::{Stated, none_in, signals};
use crate::permitted::Peer;
use crate::{reply, to_wire};

/// Explains where a write about this subject would go. No side effect.
///
/// The evidence stands in the body, not in headers; it is believed under the same scopes.
#[utoipa::path(
    post, path = paths::CLASSIFY, tag = "classify", operation_id = "classify",
    request_body = Classify,
    responses((status = 200, description = "Where, or why nowhere", body = Classification))
)]
pub(crate) async fn classify(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    Json(question): Json<Classify>,
) -> Result<Response, Error> {
    caller.may(Scope::Classify)?;
    none_in(&headers)?;
    let subject =
        SubjectId::new(&question.subject).map_err(|malformed| Error::invalid("subject", malformed.to_string()))?;
    caller.may_act_for(&subject)?;
    let stated = Stated::in_fields(
        question.residence.as_deref(),
        question.tenant.as_deref(),
        question.client_address.as_deref(),
    )?;
    let connection = peer.map(|Extension(Peer(peer))| (peer, &headers));
    let signals = signals(&app, &caller, stated, &subject, connection)?;
    let resource: Option<Arc<str>> = None;
    let request =
        routing::Request { subject, operation: Operation::SubjectPin, resource, actor: caller.actor, signals };
    let explanation = app.routing.explain(&request).await.map_err(|error| app.not_done(error, Missing::Subject))?;
    reply::ok(&classification(&explanation))
}

fn classification(explanation: &Explanation) -> Classification {
    let verdict = &explanation.verdict;
    let (outcome, region, jurisdiction, reason) = match &verdict.outcome {
        residency::Outcome::Home { region, jurisdiction } => {
            (Outcome::Home, Some(region.to_string()), Some(jurisdiction.to_string()), None)
        }
        residency::Outcome::Unresolved(why) => (Outcome::Unresolved, None, None, Some(why.code().to_owned())),
        residency::Outcome::Refused { reason, .. } => (Outcome::Refused, None, None, Some(reason.to_string())),
    };
    Classification {
        outcome,
        region,
        jurisdiction,
        served_here: explanation.served_here,
        home: explanation.home_url.clone(),
        pinned: explanation.pin.is_some(),
        rule: verdict.rule.to_string(),
        policy: explanation.policy.version().to_owned(),
        policy_hash: explanation.policy.hash_hex().to_owned(),
        winner: verdict.winner,
        signals: to_wire::signals(&verdict.evidence),
        reason,
        geoip_built_s: explanation.geoip_built_s,
    }
}
