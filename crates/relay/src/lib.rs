//! Region log -> Redpanda. The only crate that speaks the Kafka protocol.
//!
//! A [`Relay`] is a cursor over one region's log. It reads the outbox in log order, sends every entry to
//! its topic in that region's brokers, and moves the cursor over the unbroken run of acknowledged
//! entries, never past an entry that has not been acknowledged.
//!
//! What holds:
//! - **Nothing lost**: `acks=all`, an idempotent producer, and a cursor that only follows acknowledgements.
//! - **In order per subject**: the key is the subject digest, and a failed entry is never overtaken by a
//!   later one of its partition (`enable.gapless.guarantee`, no per-message expiry; see `producer`).
//!   After a failure everything from the cursor on is sent again, so a consumer that skips entries whose
//!   `domicile_seq` is not above the last one it saw for a subject sees each entry once, in order.
//! - **Nothing abroad**: an entry whose topic does not begin with the region's name is not sent.
//! - **Bounded**: rows and bytes in flight, rows and bytes read ahead; a slow broker lets the region log
//!   grow, not this process.
//!
//! What is deliberately absent: a second way to reach a broker, and any label or log line with a key in it.

#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test may panic"))]

mod arrived;
#[cfg(any(test, feature = "inspect"))]
pub mod bare;
mod envelope;
mod error;
#[cfg(any(test, feature = "inspect"))]
mod inspect;
mod keeping;
#[cfg(any(test, feature = "mock-broker"))]
pub mod mock;
mod producer;
mod pump;
mod registry;
mod settings;
mod status;
mod topics;
mod window;

use std::collections::BTreeMap;
use std::sync::Arc;

use follow::{LogSource, Range, Source};
use residency::Region;
use storage::{Channel, Log};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use error::Error;
pub use follow::{Lag, Part};
#[cfg(any(test, feature = "inspect"))]
pub use inspect::{Message, tail, topics};
pub use keeping::{Keeps, forgets_within};
pub use registry::Registry;
pub use settings::{ClientCertificate, Compression, Limits, MissingTopics, Scram, Security, Settings, Tls};
pub use status::{RelayState, RelayStatus};

/// The topic, within its region, that takes entries which a broker will never accept:
/// `<region>.domicile.dead-letter.v1`.
#[must_use]
pub fn dead_letter_topic(region: &Region) -> String {
    format!("{region}.domicile.dead-letter.v1")
}

/// The cursor's name in the region's database.
pub const CURSOR: &str = "relay";

/// Says what the relays' metrics mean, once, to whoever collects them.
pub fn describe_metrics() {
    status::describe();
}

/// One region's relay. Cheap to clone; [`Relay::run`] is to be called once.
#[derive(Clone)]
pub struct Relay {
    log: Log,
    settings: Arc<Settings>,
    status: status::Board,
}

impl Relay {
    /// A relay for the region of this log. Does nothing until [`Relay::run`].
    #[must_use]
    pub fn new(settings: Settings, log: Log) -> Self {
        let status = status::Board::new(log.region());
        Self { log, settings: Arc::new(settings), status }
    }

    /// Relays until `shutdown` is cancelled; then waits for what is in flight (at most
    /// [`Limits::drain_max`]) and stores the cursor. Never gives up: every trouble is retried with
    /// jittered backoff and shown in [`Relay::status`].
    pub async fn run(&self, shutdown: CancellationToken) {
        let source = LogSource::new(self.log.clone(), Channel::Events, CURSOR);
        let pump = pump::Pump::new(source, Arc::clone(&self.settings), self.status.clone());
        let region = self.log.region();
        let schemas = async {
            if let Some(registry) = &self.settings.registry {
                registry.keep(region, &self.status).await;
            }
        };
        let beside = async {
            tokio::join!(schemas, keeping::watch(&self.settings, region, &self.status));
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = Box::pin(pump.run(shutdown)) => {}
            () = beside => {}
        }
    }

    /// Sends the entries from one position to another (both included) once more, marked by the header
    /// `domicile_replay`, whether they are in their topics or not. Ends when all of them are acknowledged or
    /// `shutdown` is cancelled; the status says how far it came. The cursor stays where it is, and the region's
    /// relay may go on meanwhile: a consumer that skips what it has seen of (`domicile_log`, `domicile_seq`) is
    /// not disturbed by either. To be called on a [`Relay`] that does not [`run`](Relay::run).
    pub async fn replay(&self, from: u64, to: u64, shutdown: CancellationToken) -> RelayStatus {
        let source = LogSource::new(self.log.clone(), Channel::Events, CURSOR);
        let settings = Arc::new(Settings { replay: true, ..(*self.settings).clone() });
        let pump = pump::Pump::new(Range::new(source, from, to), settings, self.status.clone());
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

    /// What [`Relay::replay`] would send, by topic, and the newest position there is.
    ///
    /// # Errors
    /// When the region log does not answer.
    pub async fn survey(&self, from: u64, to: u64) -> Result<(BTreeMap<String, Part>, u64), Error> {
        let source = LogSource::new(self.log.clone(), Channel::Events, CURSOR);
        let look = async { Ok((follow::survey(&source, from, to).await?, source.head().await?)) };
        look.await.map_err(|trouble: follow::Trouble| Error::Log(Box::new(trouble)))
    }

    /// How the relay is doing now.
    #[must_use]
    pub fn status(&self) -> RelayStatus {
        self.status.now()
    }

    /// The status as it changes, for whoever waits for a lag to reach zero.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<RelayStatus> {
        self.status.watch()
    }
}
