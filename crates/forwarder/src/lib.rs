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
//! Three sinks: [`SnowflakeSink`]; and for those without Snowflake [`ParquetSink`] and [`FolderSink`], which write
//! Parquet and NDJSON files.
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test may panic"))]

mod change;
mod disk;
mod error;
mod folder;
mod lake;
mod ledger;
mod pump;
mod settings;
mod sink;
mod snowflake;
mod status;
#[cfg(test)]
mod testing;
mod thrift;

use std::collections::BTreeMap;
use std::sync::Arc;

use follow::{LogSource, Range, Source};
use storage::{Channel, Log};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use change::{Forgotten, Row};
pub use error::Error;
pub use folder::FolderSink;
pub use follow::{Lag, Part};
pub use lake::ParquetSink;
pub use settings::{Limits, Settings};
pub use sink::{Applied, Place, Sink};
pub use snowflake::{Credentials, SnowflakeSettings, SnowflakeSink, Step};
pub use status::{ForwarderState, ForwarderStatus};
pub use thrift::{Budget, Price, Usage};

/// Log targets that must never be heard below `warn`: `snowflake_api` writes SQL text, which holds personal
/// data, and its session token at `debug`; the HTTP client beneath it writes headers at `trace`. Whoever
/// sets up logging adds `<target>=warn` for each, behind anything an operator configured.
pub const QUIET_TARGETS: &[&str] =
    &["snowflake_api", "snowflake_jwt", "reqwest", "reqwest_middleware", "reqwest_retry", "hyper", "hyper_util", "h2"];

/// The cursor's name in the region's database.
pub const CURSOR: &str = "forwarder";

/// Says what the forwarders' metrics mean, once, to whoever collects them.
pub fn describe_metrics() {
    status::describe();
}

/// One region's forwarder. Cheap to clone; [`Forwarder::run`] is to be called once.
#[derive(Clone)]
pub struct Forwarder {
    log: Log,
    settings: Arc<Settings>,
    sink: Arc<dyn Sink>,
    status: status::Board,
}

impl Forwarder {
    /// A forwarder for the region of this log. Does nothing until [`Forwarder::run`].
    #[must_use]
    pub fn new(settings: Settings, log: Log, sink: Arc<dyn Sink>) -> Self {
        let status = status::Board::new(log.region(), sink.name());
        Self { log, settings: Arc::new(settings), sink, status }
    }

    /// Forwards until `shutdown` is cancelled; the batch under way is finished or given up within
    /// [`Limits::drain_max`], and repeated after a restart. Never gives up: every trouble is retried with
    /// jittered backoff and shown in [`Forwarder::status`].
    pub async fn run(&self, shutdown: CancellationToken) {
        let source = LogSource::new(self.log.clone(), Channel::ZeroParty, CURSOR);
        let (settings, sink, board) = (Arc::clone(&self.settings), Arc::clone(&self.sink), self.status.clone());
        let pump = pump::Pump::new(source, settings, sink, board).telling(Arc::new(self.log.clone()));
        Box::pin(pump.run(shutdown)).await;
    }

    /// Hands the zero-party changes from one position to another (both included) to the sink once more. What is
    /// there already, or newer, stays. Ends when the sink has taken all of them or `shutdown` is cancelled; the
    /// status says how far it came. The cursor stays where it is, and the region's forwarder may go on meanwhile, in
    /// this process as another [`Forwarder`]. A sink that takes no replays says so in the status.
    pub async fn replay(&self, from: u64, to: u64, shutdown: CancellationToken) -> ForwarderStatus {
        if let Err(refusal @ Error::Settings(_)) = self.sink.setup(Place::Beside).await {
            self.status.trouble(refusal.to_string());
            return self.status();
        }
        let source = Range::new(LogSource::new(self.log.clone(), Channel::ZeroParty, CURSOR), from, to);
        let (settings, sink, board) = (Arc::clone(&self.settings), Arc::clone(&self.sink), self.status.clone());
        let pump = pump::Pump::new(source, settings, sink, board).beside();
        let done = shutdown.child_token();
        let mut watch = self.watch();
        tokio::join!(Box::pin(pump.run(done.clone())), async {
            // The sender lives in `self`, so that the wait ends by the position or by the token only.
            tokio::select! {
                // The value is let go of at once: it keeps everybody else from writing.
                () = async { drop(watch.wait_for(|status| status.seq >= to).await) } => done.cancel(),
                () = done.cancelled() => {}
            }
        });
        self.status()
    }

    /// What [`Forwarder::replay`] would hand over, by topic, and the newest position there is.
    ///
    /// # Errors
    /// When the region log does not answer.
    pub async fn survey(&self, from: u64, to: u64) -> Result<(BTreeMap<String, Part>, u64), Error> {
        let source = LogSource::new(self.log.clone(), Channel::ZeroParty, CURSOR);
        let look = async { Ok((follow::survey(&source, from, to).await?, source.head().await?)) };
        look.await.map_err(|trouble: follow::Trouble| Error::Log(Box::new(trouble)))
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
