//! A region's log as C2SP tlog-tiles: what a verifier needs and nothing more. Entries say who asked and why it
//! was decided so, and name no subject; all the same they are for auditors only.

use api::{PolicyItem, PolicyList, Scope, media, paths};
use axum::Extension;
use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse, Response};
use http::Uri;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use residency::{Malformed, Region};
use storage::{KeptPolicy, Log, RegionStore};
use tlog::Tile;

use crate::app::App;
use crate::callers::Caller;
use crate::error::{Error, Missing};
use crate::from_wire::path::Segments;
use crate::from_wire::query::Query;
use crate::reply;

/// The newest checkpoint of a region's log: its size and root, signed by the log's key, with the cosignatures
/// of witnesses as they arrive (C2SP tlog-checkpoint).
#[utoipa::path(
    get, path = paths::LOG_CHECKPOINT, tag = "proof", operation_id = "log_checkpoint",
    params(
        ("region" = String, Path, description = "The region whose log it is"),
        ("witnessed" = Option<bool>, Query, description = "`true`: the newest that a witness has cosigned"),
    ),
    responses((status = 200, description = "A signed note", body = String, content_type = "text/plain"))
)]
pub(crate) async fn checkpoint(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Asked { region, .. }: Asked<Nothing>,
    uri: Uri,
) -> Result<Response, Error> {
    let log = log(&app, &caller, region)?;
    let query = Query::read(&uri, &["witnessed"])?;
    let witnessed = query.word("witnessed", "`true` or `false`", |text| text.parse::<bool>().ok())?.unwrap_or(false);
    let found = log.checkpoint(witnessed).await.map_err(|error| unread(&log, error))?.ok_or(Error::NotInLog)?;
    Ok(answer(media::NOTE, found.note))
}

/// A tile of a region's log: up to 256 hashes, `<level>/<index>` or `<level>/<index>.p/<width>`; or the entries
/// beneath a tile of level 0, each behind its length in two bytes, `entries/<index>` (C2SP tlog-tiles).
#[utoipa::path(
    get, path = paths::LOG_TILE, tag = "proof", operation_id = "log_tile",
    params(
        ("region" = String, Path, description = "The region whose log it is"),
        ("tile" = String, Path, description = "e.g. `0/x001/234`, `1/000.p/17`, `entries/x001/234`; slashes stay as they are"),
    ),
    responses((status = 200, description = "Hashes or entries", body = Vec<u8>, content_type = "application/octet-stream"))
)]
pub(crate) async fn tile(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Asked { region, what }: Asked<WhichTile>,
) -> Result<Response, Error> {
    let store = store(&app, &caller, region)?;
    let log = store.log();
    let bytes = match what {
        WhichTile::Hashes(tile) => {
            let hashes = log.tile(tile).await.map_err(|error| unread(&log, error))?.ok_or(Error::NotInLog)?;
            hashes.concat()
        }
        WhichTile::Entries(tile) => {
            let first = tile.index() * u64::from(tlog::TILE_WIDTH);
            let rows = log.leaves(first, u32::from(tile.width())).await.map_err(|error| unread(&log, error))?;
            // Old ones may have been let go; the next ones there are not these.
            let there = rows.iter().zip(first..).take_while(|(row, seq)| row.seq == *seq).count();
            if there != usize::from(tile.width()) {
                return Err(Error::NotInLog);
            }
            app.account_for_tiles(store, &caller, rows.len() as u64).await?;
            audit::bundle(rows.iter().map(|row| row.line.as_bytes()))
        }
    };
    Ok(answer(media::TILE, bytes))
}

/// The proof that an entry is in a region's log, under its newest checkpoint (C2SP tlog-proof). With the entry's
/// own bytes and the log's public key it can be verified offline, for ever.
#[utoipa::path(
    get, path = paths::LOG_PROOF, tag = "proof", operation_id = "log_proof",
    params(
        ("region" = String, Path, description = "The region whose log it is"),
        ("seq" = u64, Path, description = "The entry's index, as in `Domicile-Audit`"),
    ),
    responses((status = 200, description = "A proof", body = String, content_type = "text/plain"))
)]
pub(crate) async fn entry(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Asked { region, what: Seq(seq) }: Asked<Seq>,
) -> Result<Response, Error> {
    let log = log(&app, &caller, region)?;
    match audit::entry_proof(&log, seq).await {
        Ok(proof) => Ok(answer(media::NOTE, proof.to_string())),
        Err(audit::NoProof::NotSigned) => Err(Error::NotInLog),
        Err(audit::NoProof::Incomplete(_)) => Err(Error::Nonsense("the region log")),
        Err(audit::NoProof::Unread(error)) => Err(unread(&log, error)),
    }
}

/// The policies that were in force in a region, by the hash that entries name, with the tables they choose from: whoever
/// has them can take every decision again.
#[utoipa::path(
    get, path = paths::LOG_POLICIES, tag = "proof", operation_id = "log_policies",
    params(("region" = String, Path, description = "The region whose log it is")),
    responses((status = 200, description = "The newest 256 policies", body = PolicyList))
)]
pub(crate) async fn policies(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Asked { region, .. }: Asked<Nothing>,
) -> Result<Response, Error> {
    let log = log(&app, &caller, region)?;
    let kept = log.policies().await.map_err(|error| unread(&log, error))?;
    let item = |kept: KeptPolicy| PolicyItem {
        sha256: hex::encode(kept.sha256),
        text: kept.text,
        jurisdictions: kept.jurisdictions,
        locations: kept.locations,
    };
    reply::ok(&PolicyList { items: kept.into_iter().map(item).collect() })
}

fn log(app: &App, caller: &Caller, region: Region) -> Result<Log, Error> {
    store(app, caller, region).map(RegionStore::log)
}

fn store<'a>(app: &'a App, caller: &Caller, region: Region) -> Result<&'a RegionStore, Error> {
    caller.may(Scope::AuditRead)?;
    served(app, region)
}

/// The region, if this gateway serves it.
pub(super) fn served(app: &App, region: Region) -> Result<&RegionStore, Error> {
    let served = app.routing.regions().find(|store| *store.region() == region);
    served.ok_or_else(|| app.not_done(routing::Error::NotServed { region }, Missing::Subject))
}

pub(super) fn unread(log: &Log, source: storage::Error) -> Error {
    Error::Region { region: log.region().clone(), decision: None, missing: Missing::Subject, source }
}

fn answer(media: &'static str, body: impl Into<Body>) -> Response {
    ([(CONTENT_TYPE, media)], body.into()).into_response()
}

/// What the path asks for.
pub(crate) struct Asked<What> {
    pub(super) region: Region,
    pub(super) what: What,
}

/// The rest of such a path.
pub(crate) trait Rest: Sized + Send {
    fn read(segments: &Segments) -> Result<Self, Error>;
}

impl<What: Rest> FromRequestParts<App> for Asked<What> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Error> {
        let segments = Segments::of(parts).await?;
        Ok(Self { region: segments.word("region", Region::new)?, what: What::read(&segments)? })
    }
}

/// Nothing more.
pub(crate) struct Nothing;

impl Rest for Nothing {
    fn read(_: &Segments) -> Result<Self, Error> {
        Ok(Self)
    }
}

/// An entry's index.
pub(crate) struct Seq(pub(super) u64);

impl Rest for Seq {
    fn read(segments: &Segments) -> Result<Self, Error> {
        let malformed = Malformed { what: "seq", rule: "a whole number from 0 to 2^53 - 1" };
        let plain = |text: &str| text.parse().ok().filter(|seq| *seq <= tlog::SIZE_MAX).ok_or(malformed);
        segments.word("seq", plain).map(Self)
    }
}

/// A tile of hashes, or what lies beneath one.
pub(crate) enum WhichTile {
    Hashes(Tile),
    Entries(Tile),
}

impl Rest for WhichTile {
    fn read(segments: &Segments) -> Result<Self, Error> {
        let malformed = Malformed {
            what: "tile",
            rule: "a tile's path as in C2SP tlog-tiles, such as `0/x001/234`, `1/000.p/17` or `entries/x001/234`",
        };
        segments.word("tile", |text| {
            let (tile, entries) = match text.strip_prefix("entries/") {
                Some(index) => (format!("tile/0/{index}").parse(), true),
                None => (format!("tile/{text}").parse(), false),
            };
            let tile: Tile = tile.map_err(|_| malformed)?;
            Ok(if entries { Self::Entries(tile) } else { Self::Hashes(tile) })
        })
    }
}
