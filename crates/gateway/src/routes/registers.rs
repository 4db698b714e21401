//! The registers of the regions served here: violations, which somebody answers for, and transfers across a border.

use api::{
    Acknowledge, Acknowledged, OtherSide, RegisterState, Scope, TransferItem, TransferPage, TransferSide,
    ViolationItem, ViolationPage, paths,
};
use audit::registers::{self, REASON_CHARS_MAX};
use axum::Extension;
use axum::extract::{FromRequestParts, State};
use axum::response::Response;
use http::Uri;
use http::request::Parts;
use residency::{Malformed, Region};
use storage::{RegionStore, TransferFilter, TransferRow, Violation, ViolationFilter};

use crate::app::App;
use crate::callers::Caller;
use crate::error::{Error, Missing};
use crate::from_wire::body::Json;
use crate::from_wire::cursor::Search;
use crate::from_wire::path::Segments;
use crate::from_wire::query::Query;
use crate::readings::Asked;
use crate::{reply, to_wire};

/// What violations are chosen by, and the log keeps of the question.
const VIOLATIONS_BY: [&str; 4] = ["from", "to", "rule", "acknowledged"];
/// The same of transfers.
const TRANSFERS_BY: [&str; 7] = ["from", "to", "out_of", "into", "basis", "actor", "matched"];
/// Which page of which register is meant.
const PAGE: [&str; 3] = ["region", "limit", "cursor"];

/// What was not as it should be in the regions that this gateway serves, newest first: denied attempts, counts of gateways
/// that are missing, repeated or leapt, transfers without their other side, damage that the scrubber found.
///
/// The registers follow the logs at leisure; `behind` says by how many entries.
#[utoipa::path(
    get, path = paths::VIOLATIONS, tag = "registers", operation_id = "violation_list",
    params(
        ("from" = Option<String>, Query, description = "At or after this time, RFC 3339"),
        ("to" = Option<String>, Query, description = "Before this time, RFC 3339"),
        ("rule" = Option<String>, Query, description = "`denied`, `gap`, `jump`, `repeated`, `transfer_unmatched`, `unreadable` or `damage`"),
        ("acknowledged" = Option<bool>, Query, description = "Whether somebody has answered for it"),
        ("region" = Option<String>, Query, description = "Only in this region's register"),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 200, description = "Violations of one page; 50 when absent"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before, as it is"),
    ),
    responses((status = 200, description = "A page of violations", body = ViolationPage))
)]
pub(crate) async fn violations(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Error> {
    caller.may(Scope::AuditRead)?;
    let query = Query::read(&uri, &[&VIOLATIONS_BY[..], &PAGE].concat())?;
    let rule = |text: &str| audit::Rule::named(text).map(|rule| rule.name().to_owned());
    let filter = ViolationFilter {
        rule: query.word("rule", "a rule, e.g. `denied`", rule)?,
        acknowledged: query.flag("acknowledged")?,
        from_us: query.time("from")?,
        to_us: query.time("to")?,
        entries: None,
        before_id: None,
        limit: query.limit()?,
    };
    let stores = query.stores(&app)?;
    let page = registers::violations(&stores, &filter, &query.cursor(Search::Violations)?).await;
    account(&app, &caller, &stores, &page, "violations", query.said(&app, &VIOLATIONS_BY)).await?;
    let items = page.items.iter().map(|(region, one)| violation(region, one)).collect();
    let next = page.next.as_ref().map(|next| Search::Violations.after(next));
    reply::ok(&ViolationPage { items, regions: states(&page.regions), next })
}

/// Somebody answers for a violation. Who, when and a salted hash of the reason are a leaf of the region's log before the
/// register says so; the first acknowledgement stays.
#[utoipa::path(
    post, path = paths::VIOLATION_ACKNOWLEDGE, tag = "registers", operation_id = "violation_acknowledge",
    params(("id" = String, Path, description = "The violation, as in its `id`: `eu-central.17`")),
    request_body = Acknowledge,
    responses((status = 200, description = "The violation with its acknowledgement: yours, or the one that was there before", body = ViolationItem))
)]
pub(crate) async fn acknowledge(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Named { region, id }: Named,
    Json(said): Json<Acknowledge>,
) -> Result<Response, Error> {
    caller.may(Scope::AuditAcknowledge)?;
    let reason = said.reason.trim();
    if reason.is_empty() || reason.chars().count() > REASON_CHARS_MAX || reason.contains('\0') {
        return Err(Error::invalid("reason", "1 to 500 characters"));
    }
    let served = app.routing.regions().find(|store| *store.region() == region);
    let store =
        served.ok_or_else(|| app.not_done(routing::Error::NotServed { region: region.clone() }, Missing::Subject))?;
    let by = caller.actor.as_str();
    let done = registers::acknowledge(store, id, by, reason, rand::random(), app.clock.now_us()).await;
    match done.map_err(|error| not_acknowledged(&region, error))? {
        registers::Acknowledged::Now(stands) | registers::Acknowledged::Before(stands) => {
            reply::ok(&violation(&region, &stands))
        }
        registers::Acknowledged::Unknown => Err(Error::ViolationNotFound),
    }
}

/// What crossed a border, newest first: the entries of decisions that led to a transfer, and the counterparts that the other
/// region's log has of them.
#[utoipa::path(
    get, path = paths::TRANSFERS, tag = "registers", operation_id = "transfer_list",
    params(
        ("from" = Option<String>, Query, description = "At or after this time, RFC 3339"),
        ("to" = Option<String>, Query, description = "Before this time, RFC 3339"),
        ("out_of" = Option<String>, Query, description = "Out of this region"),
        ("into" = Option<String>, Query, description = "Into this region"),
        ("basis" = Option<String>, Query, description = "On this legal basis"),
        ("actor" = Option<String>, Query, description = "Who caused it, e.g. `key:checkout`"),
        ("matched" = Option<bool>, Query, description = "Whether the other side was seen in the other region's log"),
        ("region" = Option<String>, Query, description = "Only in this region's log"),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 200, description = "Transfers of one page; 50 when absent"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before, as it is"),
    ),
    responses((status = 200, description = "A page of transfers", body = TransferPage))
)]
pub(crate) async fn transfers(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Error> {
    caller.may(Scope::AuditRead)?;
    let query = Query::read(&uri, &[&TRANSFERS_BY[..], &PAGE].concat())?;
    let region = |name: &str| Ok::<_, Error>(query.region(name)?.map(|region| region.to_string()));
    let text = |name: &str| query.text(name).map(str::to_owned);
    let filter = TransferFilter {
        from: region("out_of")?,
        to: region("into")?,
        basis: text("basis"),
        actor: text("actor"),
        matched: query.flag("matched")?,
        from_us: query.time("from")?,
        to_us: query.time("to")?,
        from_seq: None,
        before_seq: None,
        limit: query.limit()?,
    };
    let stores = query.stores(&app)?;
    let page = registers::transfers(&stores, &filter, &query.cursor(Search::Transfers)?).await;
    account(&app, &caller, &stores, &page, "transfers", query.said(&app, &TRANSFERS_BY)).await?;
    let served: Vec<Region> = app.routing.regions().map(|store| store.region().clone()).collect();
    let other_side =
        |region: &Region, one: &TransferRow| audit::OtherSide::of(one, region, &served, app.clock.now_us());
    let items = page.items.iter().map(|(region, one)| transfer(region, one, other_side(region, one))).collect();
    let next = page.next.as_ref().map(|next| Search::Transfers.after(next));
    reply::ok(&TransferPage { items, regions: states(&page.regions), next })
}

fn not_acknowledged(region: &Region, error: registers::NotAcknowledged) -> Error {
    let region = region.clone();
    match error {
        // Where it is not known whether the leaf stands, nobody may say that nothing was changed.
        registers::NotAcknowledged::Unread(source)
        | registers::NotAcknowledged::Unlogged(
            source @ (storage::Error::OutcomeUnknown { .. } | storage::Error::Internal(_)),
        ) => Error::Region { region, decision: None, missing: Missing::Subject, source },
        registers::NotAcknowledged::Unlogged(source) => Error::Unaudited { region, source },
        registers::NotAcknowledged::Unregistered(source) => Error::Unregistered { region, source },
    }
}

/// The leaves of a reading, in every log that answered, before anything is shown. Fails when none did.
async fn account<T>(
    app: &App,
    caller: &Caller,
    stores: &[RegionStore],
    page: &registers::Page<T>,
    what: &'static str,
    filter: Vec<String>,
) -> Result<(), Error> {
    let errors = || page.regions.iter().filter_map(|asked| asked.behind.as_ref().err());
    if let Some(error) = errors().next().filter(|_| errors().count() == page.regions.len()) {
        return Err(Error::Unsearched(error.clone()));
    }
    let asked = Asked { what, filter, subject: None };
    let answered =
        |store: &RegionStore| page.regions.iter().any(|asked| asked.region == *store.region() && asked.behind.is_ok());
    for store in stores.iter().filter(|store| answered(store)) {
        let rows = page.items.iter().filter(|(region, _)| region == store.region()).count() as u64;
        app.account_for_search(store, caller, &asked, Some(rows)).await?;
    }
    Ok(())
}

fn states(asked: &[registers::Asked]) -> Vec<RegisterState> {
    let state = |asked: &registers::Asked| RegisterState {
        region: asked.region.to_string(),
        searched: asked.behind.is_ok(),
        behind: asked.behind.as_ref().ok().copied(),
    };
    asked.iter().map(state).collect()
}

fn violation(region: &Region, violation: &Violation) -> ViolationItem {
    ViolationItem {
        id: format!("{region}.{}", violation.id),
        region: region.to_string(),
        rule: violation.rule.clone(),
        seq: violation.seq,
        says: violation.says.clone(),
        at: to_wire::rfc3339(violation.at_us),
        acknowledged: violation.acknowledged.as_ref().map(|said| Acknowledged {
            by: said.by.clone(),
            at: to_wire::rfc3339(said.at_us),
            reason: said.reason.clone(),
        }),
    }
}

fn transfer(region: &Region, row: &TransferRow, other_side: audit::OtherSide) -> TransferItem {
    TransferItem {
        region: region.to_string(),
        seq: row.seq,
        leaf: to_wire::hash(&row.leaf_hash),
        id: row.id.to_string(),
        side: if row.counterpart { TransferSide::Counterpart } else { TransferSide::Decision },
        at: to_wire::rfc3339(row.at_us),
        from: row.from.clone(),
        to: row.to.clone(),
        basis: row.basis.clone(),
        instrument: row.instrument.clone(),
        actor: row.actor.clone(),
        rows: row.rows,
        bytes: row.bytes,
        matched: row.matched_us.is_some(),
        other_side: match other_side {
            audit::OtherSide::Seen => OtherSide::Seen,
            audit::OtherSide::Awaited => OtherSide::Awaited,
            audit::OtherSide::Missing => OtherSide::Missing,
            audit::OtherSide::NotServedHere => OtherSide::NotServedHere,
        },
    }
}

/// The violation that the path names.
pub(crate) struct Named {
    region: Region,
    id: u64,
}

impl FromRequestParts<App> for Named {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Error> {
        let malformed = Malformed { what: "violation", rule: "a region and a number, e.g. `eu-central.17`" };
        let parse = |text: &str| {
            let (region, id) = text.rsplit_once('.').ok_or(malformed)?;
            let id = id.parse().ok().filter(|id| *id <= tlog::SIZE_MAX).ok_or(malformed)?;
            Ok(Self { region: Region::new(region)?, id })
        };
        Segments::of(parts).await?.word("id", parse)
    }
}

#[cfg(test)]
mod tests {
    use registers::NotAcknowledged;

    use super::*;

    #[test]
    fn only_an_acknowledgement_that_left_nothing_is_said_to_have_changed_nothing() {
        let region = Region::new("eu-central").unwrap();
        let full = || storage::Error::Overloaded { region: region.clone() };
        let open = || storage::Error::OutcomeUnknown { region: region.clone() };
        for (error, code) in [
            (NotAcknowledged::Unread(full()), "overloaded"),
            (NotAcknowledged::Unlogged(full()), "audit_unavailable"),
            (NotAcknowledged::Unlogged(open()), "outcome_unknown"),
            (NotAcknowledged::Unregistered(full()), "outcome_unknown"),
        ] {
            let said = format!("{error:?}");
            assert_eq!(not_acknowledged(&region, error).problem().code, code, "{said}");
        }
    }
}
