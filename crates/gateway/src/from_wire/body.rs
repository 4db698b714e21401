//! Bodies. Nothing here runs before a permit exists: the extractors stand last in their handlers.

use api::media;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::{BodyExt as _, LengthLimitError};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::json::{self, Numbers};
use crate::app::App;
use crate::error::Error;

/// A JSON text as it was written: strict, bounded, complete.
pub(crate) struct Document(pub(crate) Box<RawValue>);

impl FromRequest<App> for Document {
    type Rejection = Error;

    async fn from_request(request: Request, app: &App) -> Result<Self, Error> {
        expect_json(request.headers())?;
        let bytes = whole(request, app).await?;
        json::raw(&bytes, Numbers::Stored).map(Self).map_err(Error::Json)
    }
}

/// A merge patch (RFC 7396).
pub(crate) struct MergePatch(pub(crate) serde_json::Value);

impl FromRequest<App> for MergePatch {
    type Rejection = Error;

    async fn from_request(request: Request, app: &App) -> Result<Self, Error> {
        if essence(request.headers())?.as_deref() != Some(media::MERGE_PATCH) {
            return Err(Error::ContentType { accepted: media::MERGE_PATCH });
        }
        let bytes = whole(request, app).await?;
        patch(&bytes).map(Self)
    }
}

/// Reads a merge patch.
///
/// # Errors
/// [`Error::Json`] when it is not strict JSON, or holds a number that merging would round.
pub(crate) fn patch(text: &[u8]) -> Result<serde_json::Value, Error> {
    let text = json::check(text, Numbers::Merged).map_err(Error::Json)?;
    serde_json::from_str(text).map_err(|_| Error::invalid("body", "a JSON merge patch"))
}

/// A JSON body of a known form.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, app: &App) -> Result<Self, Error> {
        expect_json(request.headers())?;
        let bytes = whole(request, app).await?;
        typed(&bytes).map(Self)
    }
}

/// Reads a JSON text of a known form.
///
/// # Errors
/// [`Error::Json`] when it is not strict JSON, [`Error::Invalid`] when it has another form.
pub(crate) fn typed<T: DeserializeOwned>(text: &[u8]) -> Result<T, Error> {
    let text = json::check(text, Numbers::Stored).map_err(Error::Json)?;
    serde_json::from_str(text).map_err(|error| Error::invalid("body", form(&error)))
}

/// What serde finds wrong, without what it quotes from the text: names of fields are ours only as long
/// as they are expected.
fn form(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let said = match text.as_str() {
        missing if missing.starts_with("missing field") => {
            missing.split(" at line").next().unwrap_or(missing).to_owned()
        }
        unknown if unknown.starts_with("unknown field") => match unknown.find(", expected") {
            Some(at) => format!("unknown field{}", unknown[at..].split(" at line").next().unwrap_or_default()),
            None => "unknown field".to_owned(),
        },
        _ => "a value of another kind than the schema says".to_owned(),
    };
    format!("{said} (line {}, column {})", error.line(), error.column())
}

/// An event's body, structured or binary; the headers say which.
pub(crate) struct EventBody(pub(crate) storage::OutgoingEvent);

impl FromRequest<App> for EventBody {
    type Rejection = Error;

    async fn from_request(request: Request, app: &App) -> Result<Self, Error> {
        let headers = request.headers().clone();
        let is_binary = headers.contains_key("ce-specversion");
        let event = match essence(&headers)?.as_deref() {
            Some(media::CLOUDEVENT) => {
                let bytes = whole(request, app).await?;
                let text = json::raw(&bytes, Numbers::Stored).map_err(Error::Json)?;
                super::event::structured(&text)
            }
            Some(media::CLOUDEVENTS_BATCH) => Err(Error::ContentType { accepted: EVENT_TYPES }),
            _ if is_binary => {
                let bytes = whole(request, app).await?;
                let content_type = super::evidence::one(&headers, CONTENT_TYPE.as_str(), "a media type")?;
                super::event::binary(&headers, content_type, &bytes)
            }
            _ => Err(Error::ContentType { accepted: EVENT_TYPES }),
        };
        super::event::allowed(event?, &app.settings.event_types).map(Self)
    }
}

const EVENT_TYPES: &str =
    "application/cloudevents+json for one structured event, or any beside `ce-…` headers for a binary one";

/// Reads a body to its end, in time. Its size is bounded by the layer around the routes; a body that
/// says by itself that it is too large is refused before it is sent.
async fn whole(request: Request, app: &App) -> Result<Bytes, Error> {
    let limits = &app.settings.limits;
    let bytes_max = limits.body_bytes_max;
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|bytes| bytes > bytes_max) {
        return Err(Error::BodyTooLarge { bytes_max });
    }
    match tokio::time::timeout(limits.body_read_max, request.into_body().collect()).await {
        Err(_) => Err(Error::BodyTooSlow { seconds: limits.body_read_max.as_secs() }),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if is_too_large(&error) => Err(Error::BodyTooLarge { bytes_max }),
        Ok(Err(_)) => Err(Error::BodyUnreadable),
    }
}

/// Whether reading ended at the bound of the layer.
fn is_too_large(error: &axum::Error) -> bool {
    std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source())
        .any(|error| error.is::<LengthLimitError>())
}

/// Demands `application/json`, with no charset but UTF-8.
pub(crate) fn expect_json(headers: &HeaderMap) -> Result<(), Error> {
    match essence(headers)?.as_deref() {
        Some(media::JSON) => Ok(()),
        _ => Err(Error::ContentType { accepted: media::JSON }),
    }
}

/// The media type without its parameters, in lower case. A charset other than UTF-8 is none of ours.
pub(crate) fn essence(headers: &HeaderMap) -> Result<Option<String>, Error> {
    let Some(text) = super::evidence::one(headers, CONTENT_TYPE.as_str(), "a media type (RFC 9110, section 8.3)")?
    else {
        return Ok(None);
    };
    let mut parts = text.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
    let foreign = parts.filter_map(|parameter| parameter.split_once('=')).any(|(name, value)| {
        name.eq_ignore_ascii_case("charset") && !value.trim_matches('"').eq_ignore_ascii_case("utf-8")
    });
    if foreign { Err(Error::ContentType { accepted: "a type in UTF-8" }) } else { Ok(Some(essence)) }
}
