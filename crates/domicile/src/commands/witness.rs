//! `domicile witness`: a small HTTP service around [`audit::witness`].

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, anyhow};
use audit::witness::{REQUEST_BYTES_MAX, Witness};
use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequest as _, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use gateway::Limits;
use tlog::{KeyKind, VerifierKey};
use tokio::time::timeout;

use super::Failure;
use super::audit::key;
use crate::{cli, print, rooms};

/// Connections at once; more wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 256;
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 16;
/// How long a client may take to send a checkpoint.
const BODY_READ_MAX: Duration = Duration::from_secs(15);
/// How long the end waits for requests under way.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Runs until it is told to end.
pub(crate) async fn run(args: &cli::Witness) -> Result<ExitCode, Failure> {
    let key = key::read(&args.key)?;
    if key.public().kind() != KeyKind::Witness {
        return Err(anyhow!("{} is a log's key; make one with --witness", args.key.display()).into());
    }
    let log = |text: &String| -> anyhow::Result<VerifierKey> {
        let key: VerifierKey = text.parse().with_context(|| format!("{text} is no public key"))?;
        if key.kind() == KeyKind::Log { Ok(key) } else { Err(anyhow!("{} is not a log's key", key.name())) }
    };
    let logs = args.logs.iter().map(log).collect::<anyhow::Result<Vec<_>>>()?;
    std::fs::create_dir_all(&args.state).with_context(|| format!("{} cannot be made", args.state.display()))?;
    let listener = tokio::net::TcpListener::bind(args.listen).await;
    let listener = listener.with_context(|| format!("{} cannot be listened on", args.listen))?;
    let address = listener.local_addr().context("the listener has no address")?;
    print::note(format!("The witness {} watches {} logs and listens on http://{address}.", key.public(), logs.len()));
    let witness = Arc::new(Witness::new(key, logs, &args.state));
    let limits = Limits { streams_per_connection_max: STREAMS_MAX, drain_max: DRAIN_MAX, ..Limits::default() };
    gateway::serve_routes("witness", listener, router(witness), CONNECTIONS_MAX, &limits, ended()).await;
    Ok(ExitCode::SUCCESS)
}

fn router(witness: Arc<Witness>) -> Router {
    Router::new()
        .route("/add-checkpoint", post(add_checkpoint))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .with_state(witness)
}

async fn add_checkpoint(State(witness): State<Arc<Witness>>, request: Request) -> Response {
    let body = match timeout(BODY_READ_MAX, String::from_request(request, &())).await {
        Ok(Ok(body)) => body,
        Ok(Err(refused)) => return refused.into_response(),
        Err(_) => return StatusCode::REQUEST_TIMEOUT.into_response(),
    };
    let now_s = rooms::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // It waits for the disk.
    match tokio::task::spawn_blocking(move || witness.add_checkpoint(&body, now_s)).await {
        Ok(answer) => {
            let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status, [(CONTENT_TYPE, answer.media)], answer.body).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn ended() {
    if let Ok(stop) = crate::serve::stop_token() {
        stop.cancelled().await;
    } else {
        std::future::pending::<()>().await;
    }
}
