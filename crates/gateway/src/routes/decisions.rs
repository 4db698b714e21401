//! Decisions of the regions served here: searched, one by one, and told in sentences.

use api::{DecisionExplanation, DecisionItem, DecisionPage, Scope, SearchedRegion, paths};
use axum::Extension;
use axum::extract::{FromRequestParts, State};
use axum::response::Response;
use http::Uri;
use http::request::Parts;
use residency::{DecisionId, Malformed, Operation, SubjectId};
use serde_json::value::RawValue;
use storage::DecisionFilter;
use uuid::Uuid;

use crate::app::App;
use crate::callers::Caller;
use crate::error::Error;
use crate::from_wire::cursor::Search;
use crate::from_wire::path::Segments;
use crate::from_wire::query::Query;
use crate::readings::Asked;
use crate::{reply, to_wire};

/// What the log keeps of a search as it was asked; the subject is kept as its tag only.
const LOGGED: [&str; 9] = ["from", "to", "actor", "rule", "outcome", "kind", "operation", "region", "limit"];

/// Searches the decisions of the regions that this gateway serves, newest first.
///
/// A region that does not answer is named in `regions`; its decisions come with a later search.
#[utoipa::path(
    get, path = paths::DECISIONS, tag = "decisions", operation_id = "decision_list",
    params(
        ("from" = Option<String>, Query, description = "Taken at or after this time, RFC 3339"),
        ("to" = Option<String>, Query, description = "Taken before this time, RFC 3339"),
        ("actor" = Option<String>, Query, description = "Who asked, e.g. `key:checkout`"),
        ("rule" = Option<String>, Query, description = "The rule that decided"),
        ("outcome" = Option<String>, Query, description = "`allow`, `deny` or `error`"),
        ("kind" = Option<String>, Query, description = "The kind of entry"),
        ("operation" = Option<String>, Query, description = "The operation, e.g. `record.put`"),
        ("subject" = Option<String>, Query, description = "About this subject; found by its tag in its home region's log"),
        ("region" = Option<String>, Query, description = "Only in this region's log"),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 200, description = "Decisions of one page; 50 when absent"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before, as it is"),
    ),
    responses((status = 200, description = "A page of decisions", body = DecisionPage))
)]
pub(crate) async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Error> {
    caller.may(Scope::AuditRead)?;
    let query = Query::read(&uri, &[&LOGGED[..], &["subject", "cursor"]].concat())?;
    let (filter, stores) = (filter(&query)?, query.stores(&app)?);
    let page = audit::search(&stores, &filter, &query.cursor(Search::Decisions)?).await;
    answered(&page.regions)?;
    let asked = Asked { what: "search", filter: query.said(&app, &LOGGED), subject: filter.subject.as_ref() };
    for store in stores.iter().filter(|store| page.answered(store.region())) {
        let rows = page.entries.iter().filter(|entry| entry.region == *store.region()).count() as u64;
        app.account_for_search(store, &caller, &asked, Some(rows)).await?;
    }
    let items = page.entries.into_iter().map(item).collect::<Result<_, _>>()?;
    let regions = page
        .regions
        .iter()
        .map(|asked| SearchedRegion { region: asked.region.to_string(), searched: asked.error.is_none() })
        .collect();
    reply::ok(&DecisionPage { items, regions, next: page.next.as_ref().map(|next| Search::Decisions.after(next)) })
}

/// One decision, as it stands in the log.
#[utoipa::path(
    get, path = paths::DECISION, tag = "decisions", operation_id = "decision_read",
    params(("id" = String, Path, description = "The decision's id, as in `Domicile-Decision`")),
    responses((status = 200, description = "The decision", body = DecisionItem))
)]
pub(crate) async fn read(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Named(id): Named,
) -> Result<Response, Error> {
    caller.may(Scope::AuditRead)?;
    reply::ok(&item(find(&app, &caller, id, "decision").await?)?)
}

/// One decision, told in sentences: what was asked, what was considered, what decided, and what would have
/// changed the answer.
#[utoipa::path(
    get, path = paths::DECISION_EXPLAIN, tag = "decisions", operation_id = "decision_explain",
    params(("id" = String, Path, description = "The decision's id, as in `Domicile-Decision`")),
    responses((status = 200, description = "The explanation", body = DecisionExplanation))
)]
pub(crate) async fn explain(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Named(id): Named,
) -> Result<Response, Error> {
    caller.may(Scope::AuditRead)?;
    let entry = find(&app, &caller, id, "explain").await?;
    let explanation = audit::explain(entry.line.as_bytes(), Some(&app.routing.policy()))
        .map_err(|_| Error::Nonsense("the region log"))?;
    reply::ok(&DecisionExplanation {
        id: explanation.parsed.decision.id.to_string(),
        region: entry.region.to_string(),
        sentences: explanation.sentences(),
        item: item(entry)?,
    })
}

/// The decision that the path names.
pub(crate) struct Named(DecisionId);

impl FromRequestParts<App> for Named {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Error> {
        let malformed = Malformed { what: "decision id", rule: "a UUID, as in `Domicile-Decision`" };
        let parse = |text: &str| Uuid::try_parse(text).map(DecisionId).map_err(|_| malformed);
        Segments::of(parts).await?.word("id", parse).map(Self)
    }
}

async fn find(app: &App, caller: &Caller, id: DecisionId, what: &'static str) -> Result<audit::Entry, Error> {
    let stores: Vec<_> = app.routing.regions().cloned().collect();
    let (found, asked) = audit::find(&stores, id).await;
    match found {
        Some(entry) => {
            let asked = Asked { what, filter: vec![format!("id={id}")], subject: None };
            for store in stores.iter().filter(|store| *store.region() == entry.region) {
                app.account_for_search(store, caller, &asked, Some(1)).await?;
            }
            Ok(entry)
        }
        // It may well be in the log of a region that did not answer: that is no "not found".
        None => match asked.into_iter().find_map(|asked| asked.error) {
            Some(error) => Err(Error::Unsearched(error)),
            None => Err(Error::DecisionNotFound),
        },
    }
}

/// Fails when no region answered at all.
fn answered(asked: &[audit::Answered]) -> Result<(), Error> {
    match asked.iter().find_map(|asked| asked.error.as_ref()) {
        Some(error) if asked.iter().all(|asked| asked.error.is_some()) => Err(Error::Unsearched(error.clone())),
        Some(_) | None => Ok(()),
    }
}

fn item(entry: audit::Entry) -> Result<DecisionItem, Error> {
    Ok(DecisionItem {
        region: entry.region.to_string(),
        seq: entry.seq,
        leaf: to_wire::hash(&entry.leaf_hash),
        decision: RawValue::from_string(entry.line).map_err(|_| Error::Nonsense("the region log"))?,
    })
}

/// The filter of a query.
fn filter(query: &Query) -> Result<DecisionFilter, Error> {
    let text = |name: &str| query.text(name).map(str::to_owned);
    let operation = |text: &str| Operation::ALL.into_iter().any(|known| known.name() == text).then(|| text.to_owned());
    let named = |known: bool, text: &str| known.then(|| text.to_owned());
    Ok(DecisionFilter {
        from_us: query.time("from")?,
        to_us: query.time("to")?,
        actor: text("actor"),
        rule: text("rule"),
        outcome: query
            .word("outcome", "`allow`, `deny` or `error`", |text| named(leaf::Out::named(text).is_some(), text))?,
        kind: query.word("kind", "a kind of entry", |text| named(leaf::Kind::named(text).is_some(), text))?,
        operation: query.word("operation", "an operation, e.g. `record.put`", operation)?,
        subject: query
            .word("subject", "1 to 256 bytes without control characters", |text| SubjectId::new(text).ok())?,
        before_seq: None,
        limit: query.limit()?,
    })
}
