//! The schemas of the events made here, registered where consumers look for them: Redpanda's schema registry, or
//! another one that speaks Confluent's REST API (<https://docs.confluent.io/platform/current/schema-registry/develop/api.html>).
//!
//! A registry is a catalogue here: messages carry plain JSON and name their schema in `ce_dataschema`, so that a
//! consumer needs no registry to read them, and a registry that is away keeps no event waiting.

use std::path::PathBuf;
use std::time::Duration;

use api::EventSchema;
use follow::{Backoff, sentence};
use residency::Region;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use storage::topic_of;
use tracing::{error, info, warn};

use crate::status::Board;

/// How long the registry may take for one request.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// The waits between attempts at a registry that is away.
const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(60);
const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// A schema registry.
#[derive(Debug, Clone)]
pub struct Registry {
    /// Its base URL.
    pub url: String,
    /// User and password, where it asks for them.
    pub login: Option<(String, SecretString)>,
    /// PEM file of the authorities to trust beside the well-known ones.
    pub authorities: Option<PathBuf>,
}

/// Why a schema was not registered.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the authorities' file cannot be used")]
    Authorities(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the registry did not answer")]
    Away(#[source] reqwest::Error),
    #[error("the registry answered {0}")]
    Status(u16),
    #[error("the registry holds an incompatible schema of this name")]
    Incompatible,
}

impl Registry {
    /// Registers every schema of the region's topics, however long that takes. Registering what is there already
    /// changes nothing.
    pub(crate) async fn keep(&self, region: &Region, board: &Board) {
        let mut backoff = Backoff::new(BACKOFF_MIN, BACKOFF_MAX);
        let client = loop {
            match self.client().await {
                Ok(client) => break client,
                Err(refusal) => tell_and_wait(region, &refusal, &mut backoff).await,
            }
        };
        let mut registered = 0;
        for schema in &EventSchema::ALL {
            let subject = format!("{}-value", topic_of(region, schema.event_type));
            loop {
                match self.register(&client, &subject, schema).await {
                    Ok(()) => {
                        registered += 1;
                        backoff.reset();
                        break board.schemas(registered);
                    }
                    Err(Refusal::Incompatible) => {
                        error!(%region, subject, "The schema registry of {region} holds another schema as {subject}: it was left alone");
                        break;
                    }
                    Err(refusal) => tell_and_wait(region, &refusal, &mut backoff).await,
                }
            }
        }
        info!(%region, registered, "{registered} schemas are registered for {region}");
    }

    async fn client(&self) -> Result<reqwest::Client, Refusal> {
        let mut builder = reqwest::Client::builder().timeout(ANSWER_MAX).redirect(reqwest::redirect::Policy::none());
        if let Some(path) = &self.authorities {
            let pem = tokio::fs::read(path).await.map_err(|error| Refusal::Authorities(error.into()))?;
            let authorities = reqwest::Certificate::from_pem_bundle(&pem);
            for authority in authorities.map_err(|error| Refusal::Authorities(error.into()))? {
                builder = builder.add_root_certificate(authority);
            }
        }
        builder.build().map_err(Refusal::Away)
    }

    async fn register(&self, client: &reqwest::Client, subject: &str, schema: &EventSchema) -> Result<(), Refusal> {
        let body = json!({"schemaType": "JSON", "schema": schema.text});
        let url = format!("{}/subjects/{subject}/versions", self.url.trim_end_matches('/'));
        let mut request = client.post(url).header("content-type", CONTENT_TYPE).body(body.to_string());
        if let Some((user, password)) = &self.login {
            request = request.basic_auth(user, Some(password.expose_secret()));
        }
        let answer = request.send().await.map_err(|error| Refusal::Away(error.without_url()))?;
        match answer.status().as_u16() {
            200..=299 => Ok(()),
            409 => Err(Refusal::Incompatible),
            status => Err(Refusal::Status(status)),
        }
    }
}

async fn tell_and_wait(region: &Region, refusal: &Refusal, backoff: &mut Backoff) {
    let wait = backoff.wait();
    let error = sentence(refusal);
    warn!(%region, error, wait_ms = wait.as_millis() as u64, "The schemas of {region} could not be registered; it will be tried again");
    tokio::time::sleep(wait).await;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use axum::extract::{Path, State};
    use axum::http::{HeaderMap, StatusCode};
    use axum::routing::post;
    use axum::{Json, Router};
    use follow::testing::region;
    use serde_json::Value;

    use super::*;

    #[derive(Default)]
    struct StandIn {
        /// Requests that are answered 503 before it is well.
        unwell: u32,
        schemas: BTreeMap<String, Value>,
        requests: u32,
    }

    type Shared = Arc<Mutex<StandIn>>;

    async fn register(
        State(state): State<Shared>,
        Path(subject): Path<String>,
        headers: HeaderMap,
        body: String,
    ) -> Result<Json<Value>, StatusCode> {
        let mut state = state.lock().unwrap();
        state.requests += 1;
        if state.unwell > 0 {
            state.unwell -= 1;
            return Err(StatusCode::SERVICE_UNAVAILABLE);
        }
        let login = headers.get("authorization").and_then(|value| value.to_str().ok());
        if login != Some("Basic ZG9taWNpbGU6Z2VoZWlt") {
            return Err(StatusCode::UNAUTHORIZED);
        }
        assert_eq!(headers["content-type"], CONTENT_TYPE);
        let body: Value = serde_json::from_str(&body).unwrap();
        let known = state.schemas.entry(subject).or_insert_with(|| body.clone());
        if *known == body { Ok(Json(json!({"id": 1}))) } else { Err(StatusCode::CONFLICT) }
    }

    async fn stand_in(state: &Shared) -> Registry {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let app = Router::new().route("/subjects/{subject}/versions", post(register)).with_state(Arc::clone(state));
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Registry { url, login: Some(("domicile".to_owned(), SecretString::from("geheim"))), authorities: None }
    }

    async fn kept(registry: &Registry) -> usize {
        let board = Board::new(&region());
        tokio::time::timeout(Duration::from_secs(30), registry.keep(&region(), &board)).await.unwrap();
        board.now().schemas
    }

    #[tokio::test]
    async fn every_schema_is_registered_for_the_regions_topic_although_the_registry_was_away() {
        let state = Shared::default();
        state.lock().unwrap().unwell = 2;
        let registry = stand_in(&state).await;
        assert_eq!(kept(&registry).await, EventSchema::ALL.len());
        for schema in EventSchema::ALL {
            let found = state.lock().unwrap().schemas[&format!("eu-central.{}.v1-value", schema.event_type)].clone();
            assert_eq!(found, json!({"schemaType": "JSON", "schema": schema.text}));
        }
        assert_eq!(kept(&registry).await, EventSchema::ALL.len(), "again, and nothing changes");
        assert_eq!(usize::try_from(state.lock().unwrap().requests).unwrap(), 2 + 2 * EventSchema::ALL.len());
    }

    #[tokio::test]
    async fn somebody_elses_schema_of_the_same_name_is_left_alone_and_the_others_are_registered() {
        let state = Shared::default();
        let foreign = json!({"schemaType": "JSON", "schema": "{}"});
        let name = "eu-central.domicile.record-changed.v1-value".to_owned();
        state.lock().unwrap().schemas.insert(name.clone(), foreign.clone());
        let registry = stand_in(&state).await;
        assert_eq!(kept(&registry).await, EventSchema::ALL.len() - 1);
        assert_eq!(state.lock().unwrap().schemas[&name], foreign);
    }
}
