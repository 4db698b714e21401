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

mod backoff;
mod envelope;
mod error;
#[cfg(any(test, feature = "inspect"))]
mod inspect;
#[cfg(any(test, feature = "mock-broker"))]
pub mod mock;
mod producer;
mod pump;
mod settings;
mod source;
mod status;
mod topics;
mod window;

use std::sync::Arc;

use residency::Region;
use storage::Log;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use error::Error;
#[cfg(any(test, feature = "inspect"))]
pub use inspect::{Message, tail, topics};
pub use settings::{ClientCertificate, Compression, Limits, MissingTopics, Scram, Security, Settings, Tls};
pub use status::{RelayState, RelayStatus};

/// The topic, within its region, that takes entries which a broker will never accept:
/// `<region>.domicile.dead-letter.v1`.
#[must_use]
pub fn dead_letter_topic(region: &Region) -> String {
    format!("{region}.domicile.dead-letter.v1")
}

/// One region's relay. Cheap to clone; [`Relay::run`] is to be called once.
#[derive(Clone)]
pub struct Relay {
    log: Log,
    region: Region,
    settings: Arc<Settings>,
    status: status::Board,
}

impl Relay {
    /// A relay for one region. Does nothing until [`Relay::run`].
    #[must_use]
    pub fn new(settings: Settings, log: Log, region: Region) -> Self {
        let status = status::Board::new(&region);
        Self { log, region, settings: Arc::new(settings), status }
    }

    /// Relays until `shutdown` is cancelled; then waits for what is in flight (at most
    /// [`Limits::drain_max`]) and stores the cursor. Never gives up: every trouble is retried with
    /// jittered backoff and shown in [`Relay::status`].
    pub async fn run(&self, shutdown: CancellationToken) {
        let source = source::LogSource::new(self.log.clone());
        let pump = pump::Pump::new(source, self.region.clone(), Arc::clone(&self.settings), self.status.clone());
        pump.run(shutdown).await;
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
