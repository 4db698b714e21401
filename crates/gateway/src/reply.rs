//! What a region answered, on its way to the wire: as a response of its own, or as a line of a batch.

use api::{EventAccepted, Receipt, SubjectErasure, SubjectHome, media};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use routing::Answered;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use storage::{Effect, Extent, Found, SubjectState};

use crate::app::App;
use crate::error::{Error, Missing, Told};
use crate::from_wire::conditions::{Held, etag};
use crate::from_wire::cursor;
use crate::to_wire;

/// Headers that the answer about a record has.
const HEADERS_USUAL: usize = 16;

/// An answer about a subject.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) told: Told,
    pub(crate) version: Option<u64>,
    updated_at_us: Option<i64>,
    pub(crate) body: Option<Box<RawValue>>,
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        let headers = response.headers_mut();
        // With what the envelope adds: a map that has to grow hashes all it holds anew.
        headers.reserve(HEADERS_USUAL);
        if let Some(version) = self.version {
            to_wire::set(headers, "etag", etag(version));
        }
        if let Some(at_us) = self.updated_at_us {
            to_wire::set(headers, "last-modified", to_wire::http_date(at_us));
        }
        if let Some(body) = self.body {
            headers.insert(CONTENT_TYPE, http::HeaderValue::from_static(media::JSON));
            *response.body_mut() = Body::from(String::from(Box::<str>::from(body)));
        }
        to_wire::tell(self.told, response)
    }
}

/// What a change did.
///
/// # Errors
/// [`Error::Unwritable`] when the answer cannot be written as JSON.
pub(crate) fn effect(app: &App, answered: Answered<Effect>) -> Result<Reply, Error> {
    let told = to_wire::told(app, &answered);
    let reply =
        |status, version: Option<u64>, body| Reply { status, told: told.clone(), version, updated_at_us: None, body };
    let receipt = |version| {
        json(&Receipt {
            region: told.region.clone(),
            decision: told.decision.clone(),
            audit: told.audit.clone(),
            version,
        })
    };
    Ok(match answered.value {
        Effect::Created { version } => reply(StatusCode::CREATED, Some(version), Some(receipt(version)?)),
        Effect::Replaced { version } => reply(StatusCode::OK, Some(version), Some(receipt(version)?)),
        Effect::Deleted => reply(StatusCode::NO_CONTENT, None, None),
        Effect::Pinned { fresh, subject } => {
            let status = if fresh { StatusCode::CREATED } else { StatusCode::OK };
            reply(status, None, Some(json(&home(&told, &subject))?))
        }
        Effect::Erased { extent, erased_at_us } => {
            let body = json(&erasure(app, &told, &extent, Some(erased_at_us)))?;
            reply(StatusCode::OK, None, Some(body))
        }
        Effect::Published { event_id, topic, replayed } => {
            let accepted = EventAccepted {
                id: event_id,
                topic,
                replayed,
                region: told.region.clone(),
                decision: told.decision.clone(),
                audit: told.audit.clone(),
            };
            reply(StatusCode::ACCEPTED, None, Some(json(&accepted)?))
        }
    })
}

/// What a lookup of one thing found; 304 when the reader holds it already.
///
/// # Errors
/// That it is not there, or [`Error::Unwritable`].
pub(crate) fn found(app: &App, answered: Answered<Found>, missing: Missing, held: &Held) -> Result<Reply, Error> {
    let told = to_wire::told(app, &answered);
    let absent = |told| {
        let told = Box::new(told);
        match missing {
            Missing::Record => Error::RecordNotFound { told },
            Missing::Attribute => Error::AttributeNotFound { told },
            Missing::Subject => Error::SubjectNotFound { told },
        }
    };
    let whole =
        |told, body| Reply { status: StatusCode::OK, told, version: None, updated_at_us: None, body: Some(body) };
    let versioned = |told, version: u64, at_us, body| {
        let unchanged = held.has(version);
        Reply {
            status: if unchanged { StatusCode::NOT_MODIFIED } else { StatusCode::OK },
            told,
            version: Some(version),
            updated_at_us: Some(at_us),
            body: if unchanged { None } else { Some(body) },
        }
    };
    match answered.value {
        Found::Record(Some(record)) => Ok(versioned(told, record.version, record.updated_at_us, record.body)),
        Found::Attribute(Some(state)) => {
            let (version, at_us) = (state.version, state.updated_at_us);
            Ok(versioned(told, version, at_us, json(&to_wire::attribute(state))?))
        }
        Found::Subject(Some(subject)) => {
            let body = json(&home(&told, &subject))?;
            Ok(whole(told, body))
        }
        // An attribute without any history was never declared.
        Found::History { items, more: false } if items.is_empty() => Err(absent(told)),
        Found::History { items, more } => {
            let next = if more { items.last().map(|last| cursor::before_seq(last.seq)) } else { None };
            let items = items.into_iter().map(to_wire::attribute_change).collect();
            Ok(whole(told, json(&api::AttributeHistory { items, next })?))
        }
        Found::Extent(extent) => {
            let body = json(&erasure(app, &told, &extent, None))?;
            Ok(whole(told, body))
        }
        Found::Record(None) | Found::Attribute(None) | Found::Subject(None) => Err(absent(told)),
        Found::Records { items, more } => {
            let next = if more { items.last().map(|last| cursor::after_key(&last.key)) } else { None };
            let items = items.into_iter().map(to_wire::record).collect();
            Ok(whole(told, json(&api::RecordPage { items, next })?))
        }
        Found::Attributes(states) => {
            let items = states.into_iter().map(to_wire::attribute).collect();
            Ok(whole(told, json(&api::AttributeList { items })?))
        }
    }
}

fn home(told: &Told, subject: &SubjectState) -> SubjectHome {
    SubjectHome {
        region: told.region.clone(),
        state: subject.status.name().to_owned(),
        epoch: subject.epoch.0,
        registered_at: Some(to_wire::rfc3339(subject.registered_at_us)),
        decision: told.decision.clone(),
        audit: told.audit.clone(),
    }
}

/// What an erasure took, or would take when there is no time of it.
fn erasure(app: &App, told: &Told, extent: &Extent, erased_at_us: Option<i64>) -> SubjectErasure {
    let forget = app.settings.topics_forget.iter().find(|(region, _)| region.as_str() == told.region);
    let forget_by = erased_at_us.zip(forget).map(|(erased_at_us, (_, forget))| {
        erased_at_us.saturating_add(i64::try_from(forget.as_micros()).unwrap_or(i64::MAX))
    });
    SubjectErasure {
        region: told.region.clone(),
        dry_run: erased_at_us.is_none(),
        erased_at: erased_at_us.map(to_wire::rfc3339),
        records: extent.records,
        attributes: extent.attributes,
        history: extent.history,
        events: extent.events,
        topics_forget_by: forget_by.map(to_wire::rfc3339),
        idempotency_keys: extent.idempotency_keys,
        decision: told.decision.clone(),
        audit: told.audit.clone(),
    }
}

/// Writes a wire body.
///
/// # Errors
/// [`Error::Unwritable`].
pub(crate) fn json<T: Serialize>(body: &T) -> Result<Box<RawValue>, Error> {
    to_raw_value(body).map_err(Error::Unwritable)
}

/// A wire body as a response with 200.
///
/// # Errors
/// [`Error::Unwritable`].
pub(crate) fn ok<T: Serialize>(body: &T) -> Result<Response, Error> {
    let bytes = serde_json::to_vec(body).map_err(Error::Unwritable)?;
    Ok(([(CONTENT_TYPE, media::JSON)], bytes).into_response())
}
