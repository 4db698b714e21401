//! A release that misbehaves, for the tests of deploying: the real program behind a little proxy that spoils what goes
//! through it. `REAL` names the real program, `FLAW` says what is wrong:
//!
//! * `unready`: it lives and never becomes ready;
//! * `errors`: one answer of twenty is a 500;
//! * `crash`: it ends after a hundred requests.
//!
//! Every request that reaches the API is counted in the file that `COUNT` names. The smoke test is left alone, so that
//! what is wrong shows only while it serves.

use std::env;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

const ONE_IN: u64 = 20;
const CRASHES_AFTER: u64 = 100;

struct Spoiler {
    flaw: String,
    upstream: String,
    http: reqwest::Client,
    requests: AtomicU64,
    count: Option<String>,
    real: Pid,
}

#[tokio::main]
async fn main() -> Result<()> {
    let real = env::var("REAL").context("REAL names the real program")?;
    let args: Vec<String> = env::args().skip(1).collect();
    let mut command = Command::new(real);
    command.args(&args);
    if args.first().is_none_or(|first| first != "serve") {
        let status = command.status()?;
        std::process::exit(status.code().unwrap_or(1));
    }
    let listens = ["DOMICILE__GATEWAY__LISTEN", "DOMICILE__GATEWAY__ADMIN_LISTEN"];
    let mut fronts = Vec::new();
    for variable in listens {
        let front = TcpListener::bind(env::var(variable)?).await?;
        let behind = format!("127.0.0.1:{}", world::free_port()?);
        command.env(variable, &behind);
        fronts.push((front, format!("http://{behind}")));
    }
    let mut child = command.spawn()?;
    let pid = Pid::from_child(&child);
    let (requests, count) = (AtomicU64::new(0), env::var("COUNT").ok());
    let http = reqwest::Client::builder().no_proxy().build()?;
    let flaw = env::var("FLAW").unwrap_or_default();
    let (admin, public) = (fronts.pop().context("two")?, fronts.pop().context("two")?);
    let spoiler = |upstream: String, requests: AtomicU64| {
        Arc::new(Spoiler {
            flaw: flaw.clone(),
            upstream,
            http: http.clone(),
            requests,
            count: count.clone(),
            real: pid,
        })
    };
    let api = Router::new().fallback(spoil).with_state(spoiler(public.1, requests));
    let health = Router::new().fallback(tell).with_state(spoiler(admin.1, AtomicU64::new(0)));
    tokio::spawn(async move { axum::serve(public.0, api).await });
    tokio::spawn(async move { axum::serve(admin.0, health).await });
    let mut told = signal(SignalKind::terminate())?;
    let ended = tokio::task::spawn_blocking(move || child.wait());
    tokio::select! {
        _ = told.recv() => {
            let _ = kill_process(pid, Signal::TERM);
        }
        _ = ended => {}
    }
    Ok(())
}

async fn spoil(state: State<Arc<Spoiler>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let smoke = uri.path().contains("domicile-smoke");
    let number = state.requests.fetch_add(1, Ordering::SeqCst) + 1;
    if let Some(count) = &state.count {
        // Whole or not at all: it may end at any moment.
        let beside = format!("{count}.{number}");
        drop(std::fs::write(&beside, number.to_string()).and_then(|()| std::fs::rename(&beside, count)));
    }
    match state.flaw.as_str() {
        "errors" if !smoke && number.is_multiple_of(ONE_IN) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        "crash" if !smoke && number > CRASHES_AFTER => {
            let _ = kill_process(state.real, Signal::KILL);
            std::process::exit(1);
        }
        _ => forward(&state, method, &uri, headers, body).await,
    }
}

async fn tell(state: State<Arc<Spoiler>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    match state.flaw.as_str() {
        "unready" if uri.path() == "/readyz" => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        _ => forward(&state, method, &uri, headers, body).await,
    }
}

async fn forward(state: &Spoiler, method: Method, uri: &Uri, headers: HeaderMap, body: Bytes) -> Response {
    let url = format!("{}{}", state.upstream, uri);
    let answer = state.http.request(method, url).headers(headers).body(body).send().await;
    let Ok(answer) = answer else { return StatusCode::BAD_GATEWAY.into_response() };
    let (status, headers) = (answer.status(), answer.headers().clone());
    let mut response = Response::new(Body::from(answer.bytes().await.unwrap_or_default()));
    *response.status_mut() = status;
    for (name, value) in headers.iter().filter(|(name, _)| *name != "transfer-encoding" && *name != "connection") {
        response.headers_mut().append(name, value.clone());
    }
    response
}
