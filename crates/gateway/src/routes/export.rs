//! A part of a region's log as a file, streamed: neither side needs room for more than a few thousand leaves.
//!
//! Before the first byte leaves, the log says who asks for which entries; before the last, what was made of them, with its hash.

use std::io;
use std::ops::Range;

use api::{Scope, media, paths};
use audit::export::{Asked as Wanted, Export, Format, KINDS_MAX, NotExported};
use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures::stream::try_unfold;
use http::Uri;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use leaf::{Fact, FactKind, Kind, Reading};
use storage::{Log, RegionStore};
use tracing::error;

use super::proof::{Asked, Nothing};
use crate::app::App;
use crate::callers::Caller;
use crate::error::{Error, Missing};
use crate::from_wire::attribute::micros;
use crate::from_wire::query::Query;
use crate::places::Place;

/// A part of a region's log as a file: `jsonl` has the leaves verbatim, one per line; `csv` is for spreadsheets, and a cell that
/// one would take for a formula begins with an apostrophe; `parquet` has typed columns, and the leaf in `line`.
///
/// The file is complete when the answer ends as it should. What it leaves out (other kinds, other times) it leaves out: only an
/// evidence pack shows that nothing is missing.
#[utoipa::path(
    get, path = paths::LOG_EXPORT, tag = "proof", operation_id = "log_export",
    params(
        ("region" = String, Path, description = "The region whose log it is"),
        ("format" = String, Query, description = "`jsonl`, `csv` or `parquet`"),
        ("from" = Option<String>, Query, description = "From this time (RFC 3339) or entry on; from the beginning when absent"),
        ("to" = Option<String>, Query, description = "Up to this time (RFC 3339) or entry, exclusive; to what is committed now when absent"),
        ("kind" = Option<String>, Query, description = "Only these kinds, separated by commas, e.g. `decision.deny,transfer.out`"),
    ),
    responses((status = 200, description = "The file", body = Vec<u8>, content_type = "application/octet-stream"))
)]
pub(crate) async fn export(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Asked { region, .. }: Asked<Nothing>,
    uri: Uri,
) -> Result<Response, Error> {
    caller.may(Scope::AuditRead)?;
    let served = app.routing.regions().find(|store| *store.region() == region).cloned();
    let store =
        served.ok_or_else(|| app.not_done(routing::Error::NotServed { region: region.clone() }, Missing::Subject))?;
    let place = app.exports.take(caller.bucket)?;
    let log = store.log();
    let names = ["format", "from", "to", "kind"];
    let query = Query::read(&uri, &names)?;
    let formats = "`jsonl`, `csv` or `parquet`";
    let format = query.word("format", formats, Format::named)?.ok_or_else(|| Error::query("format", formats))?;
    let kinds = query.word("kind", "kinds of entries, separated by commas", kinds)?.unwrap_or_default();
    let range = bound(&log, &query, "from").await?.unwrap_or(0)..bound(&log, &query, "to").await?.unwrap_or(u64::MAX);
    let unread = |source| Error::Region { region: region.clone(), decision: None, missing: Missing::Subject, source };
    let wanted = Wanted { range, kinds: kinds.clone(), format };
    let export = Export::begin(log, wanted).await.map_err(|error| match error {
        NotExported::Unread(source) => unread(source),
        NotExported::Missing(_) | NotExported::Unwritten(_) => Error::Nonsense("the region log"),
    })?;
    let filter: Vec<String> = kinds.iter().map(|kind| format!("kind={kind}")).collect();
    let reading = Reading {
        actor: caller.actor.as_str().to_owned(),
        what: "export",
        filter: filter.clone(),
        at: Some(export.range()),
        ..Reading::default()
    };
    app.account_for_reading(&store, reading).await?;
    let Range { start, end } = export.range();
    let name = format!("attachment; filename=\"{region}-{start}-{end}.{}\"", format.name());
    let made = Making {
        app,
        store,
        actor: caller.actor.as_str().to_owned(),
        filter,
        format,
        export,
        held: None,
        _place: place,
    };
    let body = Body::from_stream(try_unfold(Some(made), pieces));
    Ok(([(CONTENT_TYPE, media_of(format).to_owned()), (CONTENT_DISPOSITION, name)], body).into_response())
}

/// An export under way.
struct Making {
    app: App,
    store: RegionStore,
    actor: String,
    filter: Vec<String>,
    format: Format,
    export: Export,
    /// The newest piece, which waits for the next one: the last may leave only when the log knows of the whole.
    held: Option<Vec<u8>>,
    /// Given back when the last byte has left, or whoever asked has gone.
    _place: Place,
}

async fn pieces(making: Option<Making>) -> io::Result<Option<(Bytes, Option<Making>)>> {
    let Some(mut making) = making else { return Ok(None) };
    loop {
        // A response whose body fails is cut off, which its reader sees.
        let broken = |error: &dyn std::error::Error| {
            error!(region = %making.store.region(), %error, "An export was cut off");
            io::Error::other("the export was cut off")
        };
        match making.export.next().await.map_err(|error| broken(&error))? {
            Some(piece) => {
                if let Some(ready) = making.held.replace(piece) {
                    return Ok(Some((ready.into(), Some(making))));
                }
            }
            None => {
                let made = making.export.made();
                let fact = Fact::export_make(
                    making.app.clock.now_us(),
                    &leaf::Export {
                        actor: making.actor.clone(),
                        format: making.format.name(),
                        at: made.range,
                        rows: made.rows,
                        bytes: made.bytes,
                        sha256: made.sha256,
                        filter: making.filter.clone(),
                        subject: None,
                        recipients: None,
                    },
                );
                making.store.record(fact).await.map_err(|error| broken(&error))?;
                return Ok(making.held.take().map(|last| (last.into(), None)));
            }
        }
    }
}

fn media_of(format: Format) -> &'static str {
    match format {
        Format::Jsonl => media::NDJSON,
        Format::Csv => media::CSV,
        Format::Parquet => media::PARQUET,
    }
}

fn kinds(text: &str) -> Option<Vec<String>> {
    let known = |kind: &str| Kind::named(kind).is_some() || FactKind::named(kind).is_some() || kind == "log.genesis";
    let kinds: Vec<String> = text.split(',').map(str::to_owned).collect();
    (kinds.len() <= KINDS_MAX && kinds.iter().all(|kind| known(kind))).then_some(kinds)
}

/// An entry's number as it is, or of the first entry at or behind a time.
async fn bound(log: &Log, query: &Query, name: &str) -> Result<Option<u64>, Error> {
    let seq = |text: &str| text.parse().ok().filter(|seq| *seq <= tlog::SIZE_MAX);
    let rule = "a time as in RFC 3339, or an entry's number";
    let read = |text: &str| seq(text).map(Ok).or_else(|| micros(text).map(Err));
    match query.word(name, rule, read)? {
        None => Ok(None),
        Some(Ok(seq)) => Ok(Some(seq)),
        Some(Err(at_us)) => {
            let region = log.region().clone();
            let found = audit::seq_at(log, at_us).await;
            let unread = |source| Error::Region { region, decision: None, missing: Missing::Subject, source };
            found.map(Some).map_err(unread)
        }
    }
}
