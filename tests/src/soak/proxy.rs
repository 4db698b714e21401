//! A bad network between a forwarder and its Snowflake: one request in so many goes wrong, in every way by turns.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use anyhow::{Result, ensure};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::stage::PATIENCE;
use crate::until;

/// What goes wrong, by turns.
const FAULTS: [Fault; 8] = [
    Fault::Unavailable,
    Fault::Silent,
    Fault::SessionLost,
    Fault::Cut,
    Fault::Late,
    Fault::DoneButUnanswered,
    Fault::Garbled,
    Fault::DoneButSilent,
];

#[derive(Debug, Clone, Copy)]
enum Fault {
    /// 503 before it reached Snowflake.
    Unavailable,
    /// The connection was accepted, and nothing comes of it: whoever asked has to give up.
    Silent,
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
    /// Snowflake did it, and nothing comes back.
    DoneButSilent,
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
    faults: AtomicU64,
    /// Connections that are silent now.
    silent: AtomicU64,
    late: Mutex<Option<(u8, Bytes)>>,
}

/// A connection that is silent until the other side ends it.
struct Silence<'a>(&'a AtomicU64);

impl<'a> Silence<'a> {
    fn begin(silent: &'a AtomicU64) -> Self {
        silent.fetch_add(1, Ordering::Relaxed);
        Self(silent)
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What went wrong.
#[derive(Debug, Clone, Copy)]
pub(super) struct Met {
    /// How often anything did.
    pub(super) faults: u64,
    /// How often it was a connection that said nothing.
    pub(super) silences: u64,
}

impl Proxy {
    pub(super) async fn start(one_in: u64) -> Result<Self> {
        let state = Arc::new(Shared {
            upstream: RwLock::default(),
            http: reqwest::Client::builder().no_proxy().build()?,
            one_in: AtomicU64::new(one_in),
            statements: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            silent: AtomicU64::new(0),
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

    /// What went wrong until now, once nobody hangs on a silent connection any more.
    ///
    /// # Errors
    /// When somebody still does, or there is something that did not go wrong once.
    pub(super) async fn met(&self) -> Result<Met> {
        until("The last silent connection to be given up", PATIENCE, || async {
            self.state.silent.load(Ordering::Relaxed) == 0
        })
        .await?;
        let faults = self.state.faults.load(Ordering::Relaxed);
        let kinds = FAULTS.len() as u64;
        ensure!(faults >= kinds, "only {faults} faults were met, and there are {kinds} kinds");
        let silences = (0..faults).filter(|turn| fault(*turn).is_silent()).count() as u64;
        Ok(Met { faults, silences })
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
        Some(fault(self.faults.fetch_add(1, Ordering::Relaxed)))
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

impl Fault {
    fn is_silent(self) -> bool {
        matches!(self, Self::Silent | Self::DoneButSilent)
    }
}

/// Whose turn it is.
fn fault(turn: u64) -> Fault {
    FAULTS[usize::try_from(turn).unwrap_or_default() % FAULTS.len()]
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
        Some(Fault::Silent) => return silence(&state.silent).await,
        Some(Fault::Cut) => return cut(),
        Some(Fault::Garbled) => return (JSON, "<html>").into_response(),
        Some(Fault::Late | Fault::DoneButUnanswered | Fault::DoneButSilent) | None => {}
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
        Some(Fault::DoneButSilent) => silence(&state.silent).await,
        Some(_) => cut(),
        None => (status, JSON, answer).into_response(),
    }
}

/// No answer, ever. The server lets go of this when the other side ends the connection.
async fn silence(silent: &AtomicU64) -> Response {
    let _silence = Silence::begin(silent);
    std::future::pending().await
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
