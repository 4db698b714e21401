//! Records: a JSON body under subject, collection and key, with its version as the entity tag.

use api::{Receipt, RecordPage, media, paths};
use axum::extract::{FromRequestParts, State};
use http::request::Parts;
use residency::RecordKey;
use storage::{Change, Lookup};

use super::conditions::{Known, When};
use crate::app::App;
use crate::error::{Error, Missing};
use crate::from_wire::body::{Document, MergePatch};
use crate::from_wire::conditions::Held;
use crate::from_wire::cursor;
use crate::from_wire::path::{OneCollection, OneRecord};
use crate::from_wire::query::Query;
use crate::permitted::{Permitted, op};
use crate::reply::{self, Reply};

/// Records of one page, unless the caller asks for another number.
const PAGE_RECORDS: u16 = 100;
/// Records of one page.
const PAGE_RECORDS_MAX: u16 = 1_000;

/// Reads one record. The body is the record; its version is the `ETag`.
#[utoipa::path(
    get, path = paths::RECORD, tag = "records", operation_id = "record_read",
    params(
        ("subject" = String, Path, description = "The subject, 1 to 256 bytes"),
        ("collection" = String, Path, description = "The collection, 1 to 64 characters of A-Z, a-z, 0-9, `.`, `_`, `-`"),
        ("key" = String, Path, description = "The key, 1 to 512 bytes; `%2F` is a slash"),
        ("If-None-Match" = Option<String>, Header, description = "Answer 304 if the version is one of these"),
    ),
    responses(
        (status = 200, description = "The record", body = serde_json::Value, content_type = media::JSON,
            headers(("ETag" = String, description = "`\"<version>\"`"), ("Last-Modified" = String, description = "When it was last changed"))),
        (status = 304, description = "The caller holds this version", headers(("ETag" = String, description = "`\"<version>\"`"))),
    )
)]
pub(crate) async fn read(
    State(app): State<App>,
    Known(held): Known,
    Permitted { permit, target: OneRecord { collection, key } }: Permitted<op::RecordRead>,
) -> Result<Reply, Error> {
    let answered = app.read(permit.spend()?, Lookup::Record { collection, key }).await?;
    reply::found(&app, answered, Missing::Record, &held)
}

/// Which page of a list. Read before the permit is asked for, so that no decision is taken in vain.
pub(crate) struct Page {
    after: Option<RecordKey>,
    limit: u16,
}

impl FromRequestParts<App> for Page {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Error> {
        // What else stands in the query is nobody's business: a `region` there changes nothing.
        let query = Query::pick(&parts.uri, &["limit", "cursor"])?;
        let limit = query.number("limit", 1, PAGE_RECORDS_MAX, PAGE_RECORDS)?;
        Ok(Self { after: query.text("cursor").map(cursor::key).transpose()?, limit })
    }
}

/// Lists the records of a collection in the byte order of their keys.
#[utoipa::path(
    get, path = paths::RECORDS, tag = "records", operation_id = "record_list",
    params(
        ("subject" = String, Path, description = "The subject, 1 to 256 bytes"),
        ("collection" = String, Path, description = "The collection"),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 1000, description = "Records of one page; 100 when absent"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before, as it is"),
    ),
    responses((status = 200, description = "A page of records", body = RecordPage))
)]
pub(crate) async fn list(
    State(app): State<App>,
    Page { after, limit }: Page,
    Permitted { permit, target: OneCollection { collection } }: Permitted<op::RecordList>,
) -> Result<Reply, Error> {
    let answered = app.read(permit.spend()?, Lookup::Records { collection, after, limit }).await?;
    reply::found(&app, answered, Missing::Record, &Held::Nothing)
}

/// Creates or replaces a record. When it answers, the change, its event and its audit leaf are durable.
#[utoipa::path(
    put, path = paths::RECORD, tag = "records", operation_id = "record_put",
    params(
        ("subject" = String, Path, description = "The subject, 1 to 256 bytes"),
        ("collection" = String, Path, description = "The collection"),
        ("key" = String, Path, description = "The key, 1 to 512 bytes; `%2F` is a slash"),
        ("If-Match" = Option<String>, Header, description = "Only if the version is one of these, or `*`: if there is one"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: only if there is none"),
    ),
    request_body(content = serde_json::Value, content_type = media::JSON, description = "The record: any JSON",
        example = json!({"street": "Domkloster 4", "city": "Köln"})),
    responses(
        (status = 200, description = "Replaced", body = Receipt, headers(("ETag" = String, description = "The new version"))),
        (status = 201, description = "Created", body = Receipt, headers(("ETag" = String, description = "The first version"))),
    )
)]
pub(crate) async fn put(
    State(app): State<App>,
    When(when): When,
    Permitted { permit, target: OneRecord { collection, key } }: Permitted<op::RecordPut>,
    body: Result<Document, Error>,
) -> Result<Reply, Error> {
    let (permit, Document(body)) = permit.spend_on(body).await?;
    let answered = app.write(permit, Change::PutRecord { collection, key, body, when }).await?;
    reply::effect(&app, answered)
}

/// Merges a patch (RFC 7396) into a record that exists.
#[utoipa::path(
    patch, path = paths::RECORD, tag = "records", operation_id = "record_patch",
    params(
        ("subject" = String, Path, description = "The subject, 1 to 256 bytes"),
        ("collection" = String, Path, description = "The collection"),
        ("key" = String, Path, description = "The key, 1 to 512 bytes; `%2F` is a slash"),
        ("If-Match" = Option<String>, Header, description = "Only if the version is one of these"),
    ),
    request_body(content = serde_json::Value, content_type = media::MERGE_PATCH,
        description = "The merge patch; `null` removes. Numbers must fit 64-bit integers or 15 decimal digits",
        example = json!({"city": "Bonn", "street": null})),
    responses((status = 200, description = "Merged", body = Receipt, headers(("ETag" = String, description = "The new version"))))
)]
pub(crate) async fn patch(
    State(app): State<App>,
    When(when): When,
    Permitted { permit, target: OneRecord { collection, key } }: Permitted<op::RecordPatch>,
    patch: Result<MergePatch, Error>,
) -> Result<Reply, Error> {
    let (permit, MergePatch(patch)) = permit.spend_on(patch).await?;
    let answered = app.write(permit, Change::PatchRecord { collection, key, patch, when }).await?;
    reply::effect(&app, answered)
}

/// Deletes a record that exists.
#[utoipa::path(
    delete, path = paths::RECORD, tag = "records", operation_id = "record_delete",
    params(
        ("subject" = String, Path, description = "The subject, 1 to 256 bytes"),
        ("collection" = String, Path, description = "The collection"),
        ("key" = String, Path, description = "The key, 1 to 512 bytes; `%2F` is a slash"),
        ("If-Match" = Option<String>, Header, description = "Only if the version is one of these"),
    ),
    responses((status = 204, description = "Deleted"))
)]
pub(crate) async fn delete(
    State(app): State<App>,
    When(when): When,
    Permitted { permit, target: OneRecord { collection, key } }: Permitted<op::RecordDelete>,
) -> Result<Reply, Error> {
    let answered = app.write(permit.spend()?, Change::DeleteRecord { collection, key, when }).await?;
    reply::effect(&app, answered)
}
