//! Events for the home region's topics.

use api::{EventAccepted, StructuredEvent, media, paths};
use axum::extract::State;
use storage::Change;

use super::conditions::IdempotencyKey;
use crate::app::App;
use crate::error::Error;
use crate::from_wire::body::EventBody;
use crate::from_wire::event::idempotency;
use crate::permitted::{Permitted, op};
use crate::reply::{self, Reply};

/// Publishes a CloudEvent about the subject. 202 means: it is durable in the home region's log, and will
/// reach its topic in the order of that log.
///
/// Structured mode as `application/cloudevents+json`, or binary mode with `ce-…` headers and the data as
/// the body. Without an `Idempotency-Key` a repetition is a second event.
#[utoipa::path(
    post, path = paths::EVENTS, tag = "events", operation_id = "event_publish",
    params(
        ("subject" = String, Path, description = "The subject, 1 to 256 bytes"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 128 visible ASCII characters; the same key and event again publishes nothing"),
    ),
    request_body(content = StructuredEvent, content_type = media::CLOUDEVENT, description = "A CloudEvent 1.0"),
    responses((status = 202, description = "Durable, and on its way to the topic", body = EventAccepted))
)]
pub(crate) async fn publish(
    State(app): State<App>,
    IdempotencyKey(key): IdempotencyKey,
    Permitted { permit, .. }: Permitted<op::EventPublish>,
    event: Result<EventBody, Error>,
) -> Result<Reply, Error> {
    let (permit, EventBody(event)) = permit.spend_on(event).await?;
    let idempotency = key.map(|key| idempotency(key, &event));
    let answered = app.write(permit, Change::PublishEvent { event, idempotency }).await?;
    reply::effect(&app, answered)
}
