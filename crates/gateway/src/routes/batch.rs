//! Many operations in one stream. Each line is routed by itself, under its own evidence, to its own
//! region; results come as they are done. Memory is bounded by the lines under way, not by the batch.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use api::{BatchLine, BatchResult, media, paths};
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use residency::{Read, Write};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

use crate::app::App;
use crate::callers::Caller;
use crate::error::{Error, Missing};
use crate::from_wire::body::{essence, typed};
use crate::from_wire::conditions::{Held, etag};
use crate::from_wire::evidence::{none_in, signals};
use crate::from_wire::line::{self, Deed, Lane, Line};
use crate::from_wire::lines::{LineLimits, Lines};
use crate::layers::{RequestId, trace};
use crate::permitted::{Admit as _, scope};
use crate::reply::{self, Reply};

/// Pieces of the answer that wait for the client to read them.
const PIECES_WAITING_MAX: usize = 16;
/// Results are sent together up to so many bytes; the last of them may go beyond. None waits for a result that is not there yet.
const PIECE_BYTES: usize = 16 * 1024;

/// Carries out one operation per line (`application/x-ndjson`), each routed to its own region.
///
/// Every line gets a result with the status that the same request by itself would have got; results come
/// as they are done and name their line. Lines about one record, one attribute, or the events of one
/// subject are carried out in the order they were sent; others run side by side. Evidence stands in the
/// lines: the connection's address says nothing about the people in a batch and is not used.
///
/// Read the answer while you send: a client that does not read is not read from either.
#[utoipa::path(
    post, path = paths::BATCH, tag = "batch", operation_id = "batch",
    request_body(content = BatchLine, content_type = media::NDJSON, description = "One operation per line"),
    responses((status = 200, description = "One result per line, as they are done", body = BatchResult, content_type = media::NDJSON))
)]
pub(crate) async fn batch(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Extension(request_id): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Error> {
    none_in(&headers)?;
    match essence(&headers)?.as_deref() {
        Some(media::NDJSON | "application/ndjson" | "application/jsonl") => {}
        _ => return Err(Error::ContentType { accepted: media::NDJSON }),
    }
    let place = app.batches.take(caller.bucket)?;
    let (results, answer) = mpsc::channel(PIECES_WAITING_MAX);
    let run = Run { app, credentials: credentials(&headers), bucket: caller.bucket, request_id, results };
    // The batch outlives its request's span, not its trace.
    tokio::spawn(trace::within(trace::current(), async move {
        run.through(body).await;
        drop(place);
    }));
    let stream = ReceiverStream::new(answer).map(Ok::<_, std::convert::Infallible>);
    Ok(([(CONTENT_TYPE, media::NDJSON)], Body::from_stream(stream)).into_response())
}

/// One batch under way.
struct Run {
    app: App,
    /// What the caller authenticated with. A batch may take long, so each line is checked by itself: a key that
    /// is revoked, or a token that expires, ends with the line before.
    credentials: HeaderMap,
    /// What the caller's limits are counted by.
    bucket: u128,
    request_id: RequestId,
    results: mpsc::Sender<Bytes>,
}

/// What a request says of who asks.
fn credentials(headers: &HeaderMap) -> HeaderMap {
    headers.get(AUTHORIZATION).map(|value| (AUTHORIZATION, value.clone())).into_iter().collect()
}

/// A line that has been read and waits for its turn.
struct Ready {
    number: u64,
    id: Option<String>,
    bytes: usize,
    line: Line,
}

/// A line that is done.
struct Done {
    lane: Lane,
    bytes: usize,
    result: BatchResult,
}

impl Run {
    /// Goes through the whole batch. Ends early when nobody reads the results any more.
    async fn through(self, body: Body) {
        let limits = &self.app.settings.limits;
        let line_limits = LineLimits {
            line_bytes_max: limits.batch_line_bytes_max,
            bytes_max: limits.batch_bytes_max,
            read_max: limits.body_read_max,
        };
        let mut lines = Lines::new(body, line_limits);
        let mut running: FuturesUnordered<BoxFuture<'_, Done>> = FuturesUnordered::new();
        // The key of a lane is there while a line of it is running; its queue holds those behind.
        let mut lanes: HashMap<Lane, VecDeque<Ready>> = HashMap::new();
        let (mut open_lines, mut open_bytes, mut ended) = (0_usize, 0_usize, false);
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        loop {
            let room = open_lines < limits.batch_lines_in_flight_max && open_bytes < limits.batch_bytes_in_flight_max;
            if !room {
                // While we do not read, the client cannot be slow.
                lines.pause();
            }
            let result = tokio::select! {
                biased;
                Some(Done { lane, bytes, result }) = running.next(), if !running.is_empty() => {
                    open_lines -= 1;
                    open_bytes -= bytes;
                    match lanes.get_mut(&lane).and_then(VecDeque::pop_front) {
                        Some(next) => running.push(self.carry_out(lane, next).boxed()),
                        None => drop(lanes.remove(&lane)),
                    }
                    result
                }
                line = lines.next(), if room && !ended => {
                    let Some((number, bytes)) = line else {
                        ended = true;
                        continue;
                    };
                    match self.read(number, bytes) {
                        Err(result) => *result,
                        Ok(ready) => {
                            open_lines += 1;
                            open_bytes += ready.bytes;
                            let lane = ready.line.lane();
                            match lanes.get_mut(&lane) {
                                Some(queue) => queue.push_back(ready),
                                None => {
                                    lanes.insert(lane.clone(), VecDeque::new());
                                    running.push(self.carry_out(lane, ready).boxed());
                                }
                            }
                            continue;
                        }
                    }
                }
                // Nothing else is ready: what is known by now is told now.
                () = std::future::ready(()), if !piece.is_empty() => {
                    if !self.tell(&mut piece, limits.write_stall_max).await {
                        break;
                    }
                    continue;
                }
                else => break,
            };
            // Strings and checked JSON texts can always be written.
            let _ = serde_json::to_writer(&mut piece, &result);
            piece.push(b'\n');
            if piece.len() >= PIECE_BYTES && !self.tell(&mut piece, limits.write_stall_max).await {
                break;
            }
        }
    }

    /// Sends a piece of the answer; whether somebody still reads.
    async fn tell(&self, piece: &mut Vec<u8>, patience: Duration) -> bool {
        let bytes = std::mem::replace(piece, Vec::with_capacity(PIECE_BYTES));
        matches!(timeout(patience, self.results.send(bytes.into())).await, Ok(Ok(())))
    }

    fn read(&self, number: u64, bytes: Result<Bytes, Error>) -> Result<Ready, Box<BatchResult>> {
        let failed = |id, error: &Error| Box::new(self.failed(number, id, error));
        let bytes = bytes.map_err(|error| failed(None, &error))?;
        let line: BatchLine = typed(&bytes).map_err(|error| failed(None, &error))?;
        let id = line::id(&line).map_err(|error| failed(None, &error))?;
        match Line::read(line, self.app.clock.now_us(), &self.app.settings.event_types) {
            Ok(line) => Ok(Ready { number, id, bytes: bytes.len(), line }),
            Err(error) => Err(failed(id, &error)),
        }
    }

    /// Carries out one line. Whatever happens to it happens to it alone.
    async fn carry_out(&self, lane: Lane, Ready { number, id, bytes, line }: Ready) -> Done {
        // A batch is no way around the caller's rate: its lines wait for their turn.
        self.app.rate.wait(self.bucket).await;
        let request_max = self.app.settings.limits.request_max;
        let outcome = match timeout(request_max, AssertUnwindSafe(self.perform(line)).catch_unwind()).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_panic)) => Err(Error::Panicked),
            Err(_) => Err(Error::DeadlineExceeded { seconds: request_max.as_secs() }),
        };
        let result = match outcome {
            Ok(reply) => succeeded(number, id, reply),
            Err(error) => self.failed(number, id, &error),
        };
        Done { lane, bytes, result }
    }

    /// The three moves of a handler, for a line.
    async fn perform(&self, line: Line) -> Result<Reply, Error> {
        let Line { subject, operation, resource, stated, deed } = line;
        let app = &self.app;
        let caller = app.callers.by_header(&self.credentials).await?;
        caller.may(scope(operation))?;
        caller.may_act_for(&subject)?;
        let signals = signals(app, &caller, stated, &subject, None)?;
        let request = routing::Request { subject, operation, resource, actor: caller.actor, signals };
        match deed {
            Deed::Read(lookup) => {
                let permit = Read::admit(&app.routing, request).await.map_err(|error| app.not_admitted(error))?;
                let missing = Missing::from(&lookup);
                reply::found(app, app.read(permit, lookup).await?, missing, &Held::Nothing)
            }
            Deed::Write(change) => {
                let permit = Write::admit(&app.routing, request).await.map_err(|error| app.not_admitted(error))?;
                reply::effect(app, app.write(permit, *change).await?)
            }
        }
    }

    fn failed(&self, line: u64, id: Option<String>, error: &Error) -> BatchResult {
        let mut problem = error.problem();
        problem.instance = Some(self.request_id.instance());
        BatchResult {
            line,
            id,
            status: problem.status,
            region: problem.region.clone(),
            decision: problem.decision.clone(),
            audit: problem.audit.clone(),
            etag: problem.current_etag.clone(),
            body: None,
            problem: Some(Box::new(problem)),
        }
    }
}

fn succeeded(line: u64, id: Option<String>, reply: Reply) -> BatchResult {
    BatchResult {
        line,
        id,
        status: reply.status.as_u16(),
        region: Some(reply.told.region),
        decision: Some(reply.told.decision),
        audit: reply.told.audit,
        etag: reply.version.map(etag),
        body: reply.body,
        problem: None,
    }
}
