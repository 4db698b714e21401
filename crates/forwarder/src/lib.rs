//! Region log -> Snowflake: zero-party data with consent, exactly once in effect. The only crate that
//! speaks to Snowflake.
//!
//! A [`Forwarder`] is a cursor over one region's log. It reads zero-party changes in log order, keeps the
//! newest of each (subject digest, attribute), and hands them to a [`Sink`]. The cursor is stored after the
//! sink has them, so every change arrives at least once; the sink takes a row only if its log position is
//! above the one it has, so that a repetition changes nothing.
//!
//! What holds:
//! - **Consent**: a value goes out only with a granted consent for a configured purpose. Without one, or
//!   after a withdrawal or deletion, what goes out is a tombstone: no value, and a log position that stops
//!   a late replay from bringing the value back.
//! - **Nothing abroad**: a row of another region is refused by the loop and again by the sink, and a sink
//!   whose tables belong to another region is not used.
//! - **Bounded**: rows, bytes and age of a batch, bytes of a statement, time of a statement.
//!
//! Two sinks: [`SnowflakeSink`], and [`FolderSink`], which writes NDJSON files and is for machines without
//! Snowflake.
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test may panic"))]

mod backoff;
mod change;
mod error;
mod folder;
mod pump;
mod settings;
mod sink;
mod snowflake;
mod source;
mod status;

use std::sync::Arc;

use residency::Region;
use storage::Log;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use change::Row;
pub use error::Error;
pub use folder::FolderSink;
pub use settings::{Limits, Settings};
pub use sink::{Applied, Sink};
pub use snowflake::{Credentials, SnowflakeSettings, SnowflakeSink};
pub use status::{ForwarderState, ForwarderStatus};

/// Log targets that must never be heard below `warn`: `snowflake_api` writes SQL text, which holds personal
/// data, and its session token at `debug`; the HTTP client beneath it writes headers at `trace`. Whoever
/// sets up logging adds `<target>=warn` for each, behind anything an operator configured.
pub const QUIET_TARGETS: &[&str] =
    &["snowflake_api", "snowflake_jwt", "reqwest", "reqwest_middleware", "reqwest_retry", "hyper", "hyper_util", "h2"];

/// One region's forwarder. Cheap to clone; [`Forwarder::run`] is to be called once.
#[derive(Clone)]
pub struct Forwarder {
    log: Log,
    region: Region,
    settings: Arc<Settings>,
    sink: Arc<dyn Sink>,
    status: status::Board,
}

impl Forwarder {
    /// A forwarder for one region. Does nothing until [`Forwarder::run`].
    #[must_use]
    pub fn new(settings: Settings, log: Log, region: Region, sink: Arc<dyn Sink>) -> Self {
        let status = status::Board::new(&region, sink.name());
        Self { log, region, settings: Arc::new(settings), sink, status }
    }

    /// Forwards until `shutdown` is cancelled; the batch under way is finished or given up within
    /// [`Limits::drain_max`], and repeated after a restart. Never gives up: every trouble is retried with
    /// jittered backoff and shown in [`Forwarder::status`].
    pub async fn run(&self, shutdown: CancellationToken) {
        let source = source::LogSource::new(self.log.clone());
        let (settings, sink, board) = (Arc::clone(&self.settings), Arc::clone(&self.sink), self.status.clone());
        pump::Pump::new(source, self.region.clone(), settings, sink, board).run(shutdown).await;
    }

    /// How the forwarder is doing now.
    #[must_use]
    pub fn status(&self) -> ForwarderStatus {
        self.status.now()
    }

    /// The status as it changes, for whoever waits for a lag to reach zero.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<ForwarderStatus> {
        self.status.watch()
    }
}

/// What a sink holds now, tombstones included, ordered by subject digest and attribute; only one subject's
/// rows if a digest (hexadecimal) is given. At most `limit` rows. For the demo, for tests and for an
/// operator's questions.
///
/// # Errors
/// As [`Sink::rows`].
pub async fn inspect(sink: &dyn Sink, subject_digest: Option<&str>, limit: u32) -> Result<Vec<Row>, Error> {
    sink.rows(subject_digest, limit).await
}
