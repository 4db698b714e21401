//! What a region's log is told of the sink's forgetting, and what it knows of erasures that no sink has followed yet.

use std::time::Duration;

use async_trait::async_trait;
use storage::Log;

use crate::change::Forgotten;
use crate::error::Error;

/// The region's memory of erasures. A seam, so that the loop can be tested without Postgres.
#[async_trait]
pub(crate) trait Ledger: Send + Sync {
    /// The sink has forgotten these; `by` names what did it. Harmless when repeated.
    async fn forgotten(&self, sink: &'static str, by: &str, erased: &[Forgotten]) -> Result<(), Error>;

    /// How long the oldest erasure waits.
    async fn oldest_open(&self) -> Result<Option<Duration>, Error>;
}

#[async_trait]
impl Ledger for Log {
    async fn forgotten(&self, sink: &'static str, by: &str, erased: &[Forgotten]) -> Result<(), Error> {
        let forgotten: Vec<([u8; 32], u64)> = erased.iter().map(|one| (one.digest, one.seq)).collect();
        self.erased_downstream(sink, by, &forgotten).await.map(drop).map_err(unanswered)
    }

    async fn oldest_open(&self) -> Result<Option<Duration>, Error> {
        self.oldest_open_erasure().await.map_err(unanswered)
    }
}

fn unanswered(error: storage::Error) -> Error {
    Error::Log(Box::new(follow::Trouble::from(error)))
}
