//! Zero-party data: declared by the person, with purpose and consent; forwarded to the region's Snowflake.

use api::{AttributeHistory, AttributeItem, AttributeList, PutAttribute, Receipt, paths};
use axum::extract::{FromRequestParts, State};
use http::request::Parts;
use storage::{Change, Lookup};

use super::conditions::{Known, When};
use crate::app::App;
use crate::error::{Error, Missing};
use crate::from_wire::attribute::consents;
use crate::from_wire::body::Json;
use crate::from_wire::conditions::Held;
use crate::from_wire::cursor;
use crate::from_wire::path::OneAttribute;
use crate::from_wire::query::Query;
use crate::permitted::{Permitted, op};
use crate::reply::{self, Reply};

/// Everything that the subject has declared, in the byte order of the names.
#[utoipa::path(
    get, path = paths::ATTRIBUTES, tag = "zero-party", operation_id = "zero_party_list",
    params(("subject" = String, Path, description = "The subject, 1 to 256 bytes")),
    responses((status = 200, description = "The declared attributes", body = AttributeList))
)]
pub(crate) async fn list(
    State(app): State<App>,
    Permitted { permit, .. }: Permitted<op::ZeroPartyList>,
) -> Result<Reply, Error> {
    let answered = app.read(permit.spend()?, Lookup::Attributes).await?;
    reply::found(&app, answered, Missing::Attribute, &Held::Nothing)
}

/// Reads one declared attribute with its consents.
#[utoipa::path(
    get, path = paths::ATTRIBUTE, tag = "zero-party", operation_id = "zero_party_read",
    params(
        ("subject" = String, Path, description = "The subject, 1 to 256 bytes"),
        ("attribute" = String, Path, description = "The attribute, 1 to 64 characters of A-Z, a-z, 0-9, `.`, `_`, `-`"),
        ("If-None-Match" = Option<String>, Header, description = "Answer 304 if the version is one of these"),
    ),
    responses(
        (status = 200, description = "The attribute", body = AttributeItem, headers(("ETag" = String, description = "`\"<version>\"`"))),
        (status = 304, description = "The caller holds this version"),
    )
)]
pub(crate) async fn read(
    State(app): State<App>,
    Known(held): Known,
    Permitted { permit, target: OneAttribute { attribute } }: Permitted<op::ZeroPartyRead>,
) -> Result<Reply, Error> {
    let answered = app.read(permit.spend()?, Lookup::Attribute(attribute)).await?;
    reply::found(&app, answered, Missing::Attribute, &held)
}

/// Changes of one page of a history, unless the caller asks for another number.
const PAGE_CHANGES: u16 = 20;
/// Changes of one page of a history.
const PAGE_CHANGES_MAX: u16 = 100;

/// Which page of a history. Read before the permit is asked for, so that no decision is taken in vain.
pub(crate) struct Page {
    before: Option<u64>,
    limit: u16,
}

impl FromRequestParts<App> for Page {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Error> {
        let query = Query::pick(&parts.uri, &["limit", "cursor"])?;
        let limit = query.number("limit", 1, PAGE_CHANGES_MAX, PAGE_CHANGES)?;
        Ok(Self { before: query.text("cursor").map(cursor::seq).transpose()?, limit })
    }
}

/// What an attribute was and what was agreed to when, under which notice; the newest change first. When an attribute is
/// withdrawn its values go from here too, and the consents stay: they prove what was allowed.
#[utoipa::path(
    get, path = paths::ATTRIBUTE_HISTORY, tag = "zero-party", operation_id = "zero_party_history",
    params(
        ("subject" = String, Path, description = "The subject, 1 to 256 bytes"),
        ("attribute" = String, Path, description = "The attribute"),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 100, description = "Changes of one page; 20 when absent"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before, as it is"),
    ),
    responses((status = 200, description = "A page of the history", body = AttributeHistory))
)]
pub(crate) async fn history(
    State(app): State<App>,
    Page { before, limit }: Page,
    Permitted { permit, target: OneAttribute { attribute } }: Permitted<op::ZeroPartyRead>,
) -> Result<Reply, Error> {
    let answered = app.read(permit.spend()?, Lookup::History { attribute, before, limit }).await?;
    reply::found(&app, answered, Missing::Attribute, &Held::Nothing)
}

/// Declares an attribute, or changes its value or consents. The consents replace the earlier ones.
#[utoipa::path(
    put, path = paths::ATTRIBUTE, tag = "zero-party", operation_id = "zero_party_put",
    params(
        ("subject" = String, Path, description = "The subject, 1 to 256 bytes"),
        ("attribute" = String, Path, description = "The attribute"),
        ("If-Match" = Option<String>, Header, description = "Only if the version is one of these, or `*`: if there is one"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: only if there is none"),
    ),
    request_body = PutAttribute,
    responses(
        (status = 200, description = "Changed", body = Receipt, headers(("ETag" = String, description = "The new version"))),
        (status = 201, description = "Declared", body = Receipt, headers(("ETag" = String, description = "The first version"))),
    )
)]
pub(crate) async fn put(
    State(app): State<App>,
    When(when): When,
    Permitted { permit, target: OneAttribute { attribute } }: Permitted<op::ZeroPartyPut>,
    declared: Result<Json<PutAttribute>, Error>,
) -> Result<Reply, Error> {
    let checked = declared.and_then(|Json(declared)| Ok((consents(&declared, app.clock.now_us())?, declared)));
    let (permit, (consents, PutAttribute { value, source, .. })) = permit.spend_on(checked).await?;
    let answered = app.write(permit, Change::PutAttribute { attribute, value, consents, source, when }).await?;
    reply::effect(&app, answered)
}

/// Withdraws an attribute: value and consents.
#[utoipa::path(
    delete, path = paths::ATTRIBUTE, tag = "zero-party", operation_id = "zero_party_delete",
    params(
        ("subject" = String, Path, description = "The subject, 1 to 256 bytes"),
        ("attribute" = String, Path, description = "The attribute"),
        ("If-Match" = Option<String>, Header, description = "Only if the version is one of these"),
    ),
    responses((status = 204, description = "Withdrawn"))
)]
pub(crate) async fn delete(
    State(app): State<App>,
    When(when): When,
    Permitted { permit, target: OneAttribute { attribute } }: Permitted<op::ZeroPartyDelete>,
) -> Result<Reply, Error> {
    let answered = app.write(permit.spend()?, Change::DeleteAttribute { attribute, when }).await?;
    reply::effect(&app, answered)
}
