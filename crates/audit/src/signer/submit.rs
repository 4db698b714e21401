//! Submitting checkpoints to witnesses (C2SP tlog-witness), and keeping their cosignatures. A witness that lags or is
//! away holds nobody up: a checkpoint is published at once and is witnessed when it is.

use std::time::Duration;

use futures::future::BoxFuture;
use metrics::{counter, gauge};
use storage::Log;
use tlog::{AddCheckpoint, Note, Signature, Verified, VerifierKey};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::proofs::{NoProof, consistency_proof};

/// How often a new checkpoint is submitted.
const EVERY: Duration = Duration::from_secs(5);
/// How long another process waits before it takes over.
const LEASE: Duration = Duration::from_secs(30);

/// The way to a witness: posts a body to its `add-checkpoint` and returns status and body.
pub trait Post: Send + Sync + 'static {
    /// Posts.
    ///
    /// The error is a sentence why there is no answer.
    fn add_checkpoint(&self, body: String) -> BoxFuture<'_, Result<(u16, String), String>>;
}

/// What one submission came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// There was nothing new to submit.
    UpToDate,
    /// The checkpoint of this size is cosigned.
    Cosigned(u64),
    /// The witness has seen another history of this log. This is an alarm.
    Refused {
        /// What it answered.
        status: u16,
        /// What it said.
        says: String,
    },
}

/// Submits one log's checkpoints to one witness.
pub struct Submitter<P> {
    log: Log,
    witness: VerifierKey,
    post: P,
    owner: String,
}

impl<P: Post> Submitter<P> {
    /// A submitter. `owner` names this process among those that could do it.
    #[must_use]
    pub fn new(log: Log, witness: VerifierKey, post: P, owner: impl Into<String>) -> Self {
        Self { log, witness, post, owner: owner.into() }
    }

    /// Submits until it is told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let (region, witness) = (self.log.region().to_string(), self.witness.name().to_owned());
        let labels = || [("region", region.clone()), ("witness", witness.clone())];
        let alarm = gauge!("domicile_witness_refuses", &labels());
        alarm.set(0.0);
        let cursor = format!("witness {witness}");
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            match self.log.acquire_cursor(&cursor, &self.owner, LEASE).await {
                Ok(Some(_)) => {}
                Ok(None) => {
                    alarm.set(0.0); // whoever does it instead tells what it is answered
                    continue;
                }
                Err(_) => continue,
            }
            match self.submit().await {
                Ok(Submitted::UpToDate) => alarm.set(0.0),
                Ok(Submitted::Cosigned(_)) => {
                    alarm.set(0.0);
                    counter!("domicile_cosignatures_total", &labels()).increment(1);
                }
                Ok(Submitted::Refused { status, says }) => {
                    alarm.set(1.0);
                    error!(
                        region,
                        witness, status, "The witness {witness} has seen another history of this log: {says}"
                    );
                }
                Err(why) => warn!(region, witness, why, "No cosignature by {witness}: {why}"),
            }
        }
    }

    /// Submits the newest checkpoint, if the witness has not cosigned it.
    ///
    /// # Errors
    /// A sentence why there is no cosignature this time.
    pub async fn submit(&self) -> Result<Submitted, String> {
        let unread = |error: storage::Error| error.to_string();
        let Some(checkpoint) = self.log.checkpoint(false).await.map_err(unread)? else {
            return Ok(Submitted::UpToDate);
        };
        let mut old = self.log.cosigned_by(self.witness.name()).await.map_err(unread)?;
        if old >= checkpoint.size {
            return Ok(Submitted::UpToDate);
        }
        let note: Note = checkpoint.note.parse().map_err(|_| "the newest checkpoint cannot be read".to_owned())?;
        // A witness may know a larger size than this database remembers; it says so once.
        for attempt in 0..2 {
            let proof = match consistency_proof(&self.log, old, checkpoint.size).await {
                Ok(hashes) => AddCheckpoint { old_size: old, hashes, checkpoint: note.clone() },
                Err(NoProof::Unread(error)) => return Err(error.to_string()),
                Err(error) => return Err(error.to_string()),
            };
            let (status, body) = self.post.add_checkpoint(proof.to_string()).await?;
            let refused = |says: &str| Submitted::Refused { status, says: says.trim().chars().take(200).collect() };
            match status {
                200 => return self.keep(&note, checkpoint.size, &body).await,
                409 => match body.trim().parse::<u64>() {
                    Ok(size) if attempt == 0 && size != old && size <= checkpoint.size => old = size,
                    Ok(size) if size > checkpoint.size => {
                        return Ok(refused(&format!("it has seen {size} leaves, and there are {}", checkpoint.size)));
                    }
                    _ => return Ok(refused(&body)),
                },
                422 => return Ok(refused(&body)),
                _ => return Err(format!("it answered {status}: {}", body.trim())),
            }
        }
        Err("it changed its mind about the size it has seen".to_owned())
    }

    /// Keeps the line that is this witness's, if it is right.
    async fn keep(&self, note: &Note, size: u64, body: &str) -> Result<Submitted, String> {
        for line in body.lines() {
            let Ok(signature) = line.parse::<Signature>() else { continue };
            // Alone under the log's text: other lines are not this one's business.
            let Ok(mut cosigned) = Note::new(note.text().to_owned()) else { continue };
            cosigned.add(signature);
            if matches!(self.witness.verify(&cosigned), Ok(Verified::Cosigned { .. })) {
                let kept = self.log.keep_cosignature(size, self.witness.name(), line).await;
                return kept.map(|()| Submitted::Cosigned(size)).map_err(|error| error.to_string());
            }
        }
        Err("its answer holds no right cosignature".to_owned())
    }
}
