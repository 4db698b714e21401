//! fakesnow as a child process, shared by the tests that run at the same time, and a proxy with faults.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// A Snowflake stand-in that ends with its last user, and with this process at the latest.
pub(super) struct Fakesnow {
    child: Mutex<Child>,
    pub(super) url: String,
}

/// Python imports half a gigabyte of libraries, on a cold disk and a busy machine.
const START_PATIENCE: Duration = Duration::from_secs(300);

static SHARED: tokio::sync::Mutex<Weak<Fakesnow>> = tokio::sync::Mutex::const_new(Weak::new());

impl Fakesnow {
    pub(super) async fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().await;
        if let Some(running) = shared.upgrade() {
            return running;
        }
        let started = Arc::new(Self::start().await);
        *shared = Arc::downgrade(&started);
        started
    }

    async fn start() -> Self {
        let python = python();
        assert!(
            python.is_file(),
            "the Snowflake stand-in fakesnow is not installed: run `cargo xtask tools`, or name a Python that has \
             it in DOMICILE_FAKESNOW_PYTHON"
        );
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../world/assets/fakesnow_compat.py");
        for _ in 0..20 {
            // Below the range from which systems hand out ports: it takes seconds until it listens, and nobody must be
            // given its port meanwhile.
            let port = rand::random_range(20_000..32_000);
            if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok()
                && let Some(started) = Self::start_on(port, &python, &script).await
            {
                return started;
            }
        }
        panic!("fakesnow ended by itself on 20 ports");
    }

    /// `None` when it ended by itself.
    async fn start_on(port: u16, python: &Path, script: &Path) -> Option<Self> {
        let child = Command::new(python)
            .arg(script)
            .arg(port.to_string())
            .arg("--with-parent")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Self { child: Mutex::new(child), url: format!("http://127.0.0.1:{port}") };
        let begun = Instant::now();
        while begun.elapsed() < START_PATIENCE {
            if started.child.lock().unwrap().try_wait().unwrap().is_some() {
                return None;
            }
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Some(started);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("fakesnow did not listen within {} s", START_PATIENCE.as_secs());
    }
}

impl Drop for Fakesnow {
    fn drop(&mut self) {
        if let Ok(mut child) = self.child.lock() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(crate) fn python() -> PathBuf {
    if let Some(named) = std::env::var_os("DOMICILE_FAKESNOW_PYTHON") {
        return named.into();
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    cache.unwrap_or_default().join("domicile/tools/fakesnow-0.12.1/bin/python")
}

/// What goes wrong with one statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// 503 before it reached Snowflake.
    Unavailable,
    /// Snowflake does not know the session any more, and says so without `data`.
    SessionLost,
    /// An answer that is no JSON.
    Garbled,
    /// Snowflake did it, and the answer got lost.
    DoneButUnanswered,
    /// Snowflake takes longer than it keeps a request waiting.
    InProgress,
}

/// Stands between a sink and fakesnow.
pub(super) struct Proxy {
    pub(super) url: String,
    state: Arc<ProxyState>,
    server: tokio::task::JoinHandle<()>,
}

struct ProxyState {
    upstream: String,
    http: reqwest::Client,
    /// How many statements pass before each fault.
    faults: Mutex<VecDeque<(u32, Fault)>>,
    /// The answer of a statement in progress, and how often it is still not ready.
    late: Mutex<Option<(u32, Bytes)>>,
}

impl Proxy {
    pub(super) async fn start(upstream: &str) -> Self {
        let state = Arc::new(ProxyState {
            upstream: upstream.to_owned(),
            http: reqwest::Client::new(),
            faults: Mutex::default(),
            late: Mutex::default(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = axum::Router::new().fallback(pass).with_state(Arc::clone(&state));
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, state, server }
    }

    /// Lets `statements` pass and then fails one; faults are met in the order of these calls.
    pub(super) fn after(&self, statements: u32, fault: Fault) {
        self.state.faults.lock().unwrap().push_back((statements, fault));
    }

    /// Faults that were not met yet.
    pub(super) fn pending(&self) -> usize {
        self.state.faults.lock().unwrap().len()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl ProxyState {
    fn next_fault(&self) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let (passing, fault) = faults.front_mut()?;
        if *passing > 0 {
            *passing -= 1;
            return None;
        }
        let fault = *fault;
        faults.pop_front();
        Some(fault)
    }

    async fn forward(&self, method: Method, uri: &Uri, headers: &HeaderMap, body: Bytes) -> (StatusCode, Bytes) {
        let mut request = self.http.request(method, format!("{}{uri}", self.upstream)).body(body);
        for (name, value) in headers {
            if name != "host" && name != "content-length" && name != "accept-encoding" {
                request = request.header(name, value);
            }
        }
        let response = request.send().await.unwrap();
        (response.status(), response.bytes().await.unwrap())
    }
}

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

async fn pass(
    State(state): State<Arc<ProxyState>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if uri.path() == "/queries/late/result" {
        assert!(headers.contains_key("authorization"), "a statement in progress is asked for with the session's token");
        let mut late = state.late.lock().unwrap();
        return match late.take() {
            Some((0, answer)) => (JSON, answer).into_response(),
            Some((more, answer)) => {
                *late = Some((more - 1, answer));
                (JSON, in_progress()).into_response()
            }
            None => StatusCode::NOT_FOUND.into_response(),
        };
    }
    let fault = if uri.path().ends_with("/query-request") { state.next_fault() } else { None };
    match fault {
        Some(Fault::Unavailable) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Some(Fault::SessionLost) => {
            let lost =
                json!({"success": false, "code": "390112", "message": "Your session has expired.", "data": null});
            (JSON, lost.to_string()).into_response()
        }
        Some(Fault::Garbled) => (JSON, "<html>").into_response(),
        Some(Fault::DoneButUnanswered) => {
            state.forward(method, &uri, &headers, body).await;
            (JSON, "{\"succ").into_response()
        }
        Some(Fault::InProgress) => {
            let (_, answer) = state.forward(method, &uri, &headers, body).await;
            *state.late.lock().unwrap() = Some((2, answer));
            (JSON, in_progress()).into_response()
        }
        None => {
            let (status, answer) = state.forward(method, &uri, &headers, body).await;
            (status, JSON, answer).into_response()
        }
    }
}

fn in_progress() -> String {
    let data = json!({"getResultUrl": "/queries/late/result", "queryId": "1"});
    json!({"success": true, "code": "333333", "message": null, "data": data}).to_string()
}
