//! A bad network between a forwarder and its Snowflake: one request in so many goes wrong, in every way by turns.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// What goes wrong, by turns.
const FAULTS: [Fault; 6] =
    [Fault::Unavailable, Fault::SessionLost, Fault::Cut, Fault::Late, Fault::DoneButUnanswered, Fault::Garbled];

#[derive(Debug, Clone, Copy)]
enum Fault {
    /// 503 before it reached Snowflake.
    Unavailable,
    /// Snowflake does not know the session any more.
    SessionLost,
    /// The connection breaks before the question gets through.
    Cut,
    /// Snowflake takes longer than it keeps a request waiting, and says where to ask again.
    Late,
    /// Snowflake did it, and the answer breaks off.
    DoneButUnanswered,
    /// An answer that is no JSON.
    Garbled,
}

/// The network.
pub(super) struct Proxy {
    pub(super) url: String,
    state: Arc<Shared>,
    server: tokio::task::JoinHandle<()>,
}

struct Shared {
    upstream: RwLock<String>,
    http: reqwest::Client,
    /// One statement in so many goes wrong; 0 is none.
    one_in: AtomicU64,
    statements: AtomicU64,
    faults: AtomicUsize,
    late: Mutex<Option<(u8, Bytes)>>,
}

impl Proxy {
    pub(super) async fn start(one_in: u64) -> Result<Self> {
        let state = Arc::new(Shared {
            upstream: RwLock::default(),
            http: reqwest::Client::builder().no_proxy().build()?,
            one_in: AtomicU64::new(one_in),
            statements: AtomicU64::new(0),
            faults: AtomicUsize::new(0),
            late: Mutex::default(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let app = Router::new().fallback(pass).with_state(Arc::clone(&state));
        let server = tokio::spawn(async move {
            // It ends with the task.
            drop(axum::serve(listener, app).await);
        });
        Ok(Self { url, state, server })
    }

    /// Leads nowhere: everything is unavailable, until it leads somewhere again.
    pub(super) fn lead_nowhere(&self) {
        self.lead_to("");
    }

    /// Where it leads. Until then everything is unavailable.
    pub(super) fn lead_to(&self, upstream: &str) {
        if let Ok(mut place) = self.state.upstream.write() {
            upstream.clone_into(&mut place);
        }
    }

    /// From now on nothing goes wrong.
    pub(super) fn heal(&self) {
        self.state.one_in.store(0, Ordering::Relaxed);
    }

    /// How often something went wrong.
    pub(super) fn faults(&self) -> usize {
        self.state.faults.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Shared {
    fn next_fault(&self) -> Option<Fault> {
        let one_in = self.one_in.load(Ordering::Relaxed);
        let statement = self.statements.fetch_add(1, Ordering::Relaxed) + 1;
        if one_in == 0 || !statement.is_multiple_of(one_in) {
            return None;
        }
        Some(FAULTS[self.faults.fetch_add(1, Ordering::Relaxed) % FAULTS.len()])
    }

    async fn forward(
        &self,
        method: Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Option<(StatusCode, Bytes)> {
        let upstream = self.upstream.read().ok()?.clone();
        if upstream.is_empty() {
            return None;
        }
        let mut request = self.http.request(method, format!("{upstream}{uri}")).body(body);
        for (name, value) in headers {
            if name != "host" && name != "content-length" && name != "accept-encoding" {
                request = request.header(name, value);
            }
        }
        let answer = request.send().await.ok()?;
        Some((answer.status(), answer.bytes().await.ok()?))
    }
}

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

async fn pass(State(state): State<Arc<Shared>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    if uri.path() == "/queries/late/result" {
        let late = state.late.lock().ok().and_then(|mut late| late.take());
        return match late {
            Some((0, answer)) => (JSON, answer).into_response(),
            Some((more, answer)) => {
                if let Ok(mut late) = state.late.lock() {
                    *late = Some((more - 1, answer));
                }
                (JSON, in_progress()).into_response()
            }
            None => StatusCode::NOT_FOUND.into_response(),
        };
    }
    let fault = if uri.path().ends_with("/query-request") { state.next_fault() } else { None };
    match fault {
        Some(Fault::Unavailable) => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Some(Fault::SessionLost) => {
            let lost =
                json!({"success": false, "code": "390112", "message": "Your session has expired.", "data": null});
            return (JSON, lost.to_string()).into_response();
        }
        Some(Fault::Cut) => return cut(),
        Some(Fault::Garbled) => return (JSON, "<html>").into_response(),
        Some(Fault::Late | Fault::DoneButUnanswered) | None => {}
    }
    let Some((status, answer)) = state.forward(method, &uri, &headers, body).await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    match fault {
        Some(Fault::Late) => {
            if let Ok(mut late) = state.late.lock() {
                *late = Some((2, answer));
            }
            (JSON, in_progress()).into_response()
        }
        Some(_) => cut(),
        None => (status, JSON, answer).into_response(),
    }
}

/// An answer that begins and breaks off: the connection is closed under it.
fn cut() -> Response {
    let parts = futures::stream::iter([Ok(Bytes::from_static(b"{\"succ")), Err(std::io::Error::other("cut"))]);
    let mut answer = Response::new(Body::from_stream(parts));
    answer.headers_mut().insert("content-type", axum::http::HeaderValue::from_static("application/json"));
    answer
}

fn in_progress() -> String {
    let data = json!({"getResultUrl": "/queries/late/result", "queryId": "1"});
    json!({"success": true, "code": "333333", "message": null, "data": data}).to_string()
}

/// How long a forwarder may need to see through a bad network.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);
