//! The signer: makes checkpoints of a region's log. It signs only what is committed, only what continues
//! what it signed before, and it remembers that in a file of its own before anybody else sees it.
//!
//! A database that lost something (a restore of an older backup, a failover to a replica that lagged, a
//! rewritten log) does not get another signature: the signer refuses, says so, and an alarm metric stands
//! until the matter is cleared up. One process signs at a time, by the lease on the log's cursor `signer`.

mod memory;
mod submit;

use std::time::Duration;

use metrics::{counter, gauge};
use storage::{CursorLease, Log};
use tlog::{Checkpoint, Hash, Note, SigningKey, tiles_for_consistency, tiles_for_root, verify_consistency};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

pub(crate) use self::memory::replace;
pub use self::memory::{Forgotten, Memory};
pub use self::submit::{Post, Submitted, Submitter};
use crate::proofs::{NoProof, read_tiles};

/// How often it looks for new leaves: a checkpoint is at most a second behind.
const EVERY: Duration = Duration::from_millis(700);
/// How long another process waits before it takes over.
const LEASE: Duration = Duration::from_secs(10);
/// The cursor whose lease makes one process the signer.
const CURSOR: &str = "signer";
/// How often a refusal is repeated in the log while it lasts.
const REPEAT: Duration = Duration::from_secs(30);
/// How often old checkpoints are thinned out.
const THIN_EVERY: Duration = Duration::from_secs(3_600);

/// Why the signer does not sign what the database shows.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The log is shorter than what was signed.
    #[error("the log of {origin} went backwards: {signed} leaves were signed and the database has {found}")]
    WentBackwards {
        /// The log.
        origin: String,
        /// The size that was signed.
        signed: u64,
        /// The size that the database shows.
        found: u64,
    },
    /// The log is not a continuation of what was signed.
    #[error("the log of {origin} was rewritten: its {found} leaves do not begin with the {signed} that were signed")]
    Rewritten {
        /// The log.
        origin: String,
        /// The size that was signed.
        signed: u64,
        /// The size that the database shows.
        found: u64,
    },
    /// The head and the tiles do not fit each other.
    #[error("the head of the log of {origin} has another root than its tiles at {size} leaves")]
    Torn {
        /// The log.
        origin: String,
        /// The size that the database shows.
        size: u64,
    },
    /// Somebody published another checkpoint of the same size.
    #[error("another checkpoint of {origin} with {size} leaves has been published: there are two histories")]
    SplitView {
        /// The log.
        origin: String,
        /// The size of both.
        size: u64,
    },
    /// A published checkpoint was not signed by this key.
    #[error("the newest published checkpoint of {origin} is not signed by this key; a new key needs a new origin")]
    OtherKey {
        /// The log.
        origin: String,
    },
    /// The memory cannot be relied on.
    #[error(transparent)]
    Forgotten(#[from] Forgotten),
}

impl Refusal {
    /// A word for it, for metrics and tests.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::WentBackwards { .. } => "went_backwards",
            Self::Rewritten { .. } => "rewritten",
            Self::Torn { .. } => "torn",
            Self::SplitView { .. } => "split_view",
            Self::OtherKey { .. } => "other_key",
            Self::Forgotten(_) => "forgotten",
        }
    }
}

/// Why one step did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum NotSigned {
    /// It must not be signed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The database did not answer; the next step may succeed.
    #[error("the log could not be read")]
    Unread(#[from] storage::Error),
}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Another process is the signer.
    NotOurs,
    /// There was nothing new.
    UpToDate,
    /// A checkpoint of this size was published.
    Signed(u64),
}

/// The signer of one region's log.
pub struct Signer {
    log: Log,
    key: SigningKey,
    memory: Memory,
    owner: String,
    lease: Option<(CursorLease, Instant)>,
    /// What was signed last, once the memory has been read.
    last: Option<Checkpoint>,
    /// The size of the newest published checkpoint, as far as is known.
    published: Option<u64>,
}

impl Signer {
    /// A signer. `owner` names this process among those that could sign.
    #[must_use]
    pub fn new(log: Log, key: SigningKey, memory: Memory, owner: impl Into<String>) -> Self {
        Self { log, key, memory, owner: owner.into(), lease: None, last: None, published: None }
    }

    /// Signs until it is told to stop. Never gives up; troubles are told and counted.
    pub async fn run(mut self, stop: CancellationToken) {
        let region = self.log.region().to_string();
        let alarm = gauge!("domicile_signer_refuses", "region" => region.clone());
        let signed_size = gauge!("domicile_signed_size", "region" => region.clone());
        let age = gauge!("domicile_checkpoint_age_seconds", "region" => region.clone());
        alarm.set(0.0);
        info!(region, key = %self.key.public(), "The region log is signed; this is the key to verify it with");
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut told_at, mut thin_at): (Option<Instant>, _) = (None, Instant::now());
        // When the newest checkpoint was last seen to cover the whole log. A process that does not sign has no age.
        let mut covered_at = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let step = self.step().await;
            if step.is_ok() {
                covered_at = Instant::now();
            }
            age.set(covered_at.elapsed().as_secs_f64());
            match step {
                Ok(step) => {
                    if told_at.take().is_some() {
                        info!(region, "The region log is signed again");
                    }
                    alarm.set(0.0);
                    if let Step::Signed(size) = step {
                        counter!("domicile_checkpoints_total", "region" => region.clone()).increment(1);
                        signed_size.set(size as f64);
                    }
                    if step != Step::NotOurs && thin_at.elapsed() >= THIN_EVERY {
                        thin_at = Instant::now();
                        drop(self.log.thin_checkpoints().await);
                    }
                }
                Err(NotSigned::Refused(refusal)) => {
                    alarm.set(1.0);
                    if told_at.is_none_or(|at| at.elapsed() >= REPEAT) {
                        told_at = Some(Instant::now());
                        let check = refusal.name();
                        error!(region, check, "The region log is not signed any more: {}", sentence(&refusal));
                    }
                }
                Err(NotSigned::Unread(cause)) => warn!(region, %cause, "The region log could not be read for signing"),
            }
        }
    }

    /// Looks once and signs what is new.
    ///
    /// # Errors
    /// [`NotSigned`].
    pub async fn step(&mut self) -> Result<Step, NotSigned> {
        if !self.leads().await? {
            (self.last, self.published) = (None, None);
            return Ok(Step::NotOurs);
        }
        let origin = self.key.public().name().to_owned();
        let last = self.last().await?;
        let head = self.log.head().await?;
        if let Some(last) = &last {
            self.continues(last, head.size, &head.root).await?;
        }
        // What was remembered and then could not be published is signed again, to the same bytes.
        if head.size == 0 || self.published == Some(head.size) {
            return Ok(Step::UpToDate);
        }
        // Its own leaves and tiles must come to the head's root: what is signed can be proven.
        let torn = || Refusal::Torn { origin: origin.clone(), size: head.size };
        let needed = tiles_for_root(head.size).map_err(|_| torn())?;
        let tiles = read_tiles(&self.log, head.size, needed).await.map_err(|error| or(error, torn()))?;
        if tiles.root() != Ok(head.root) {
            return Err(torn().into());
        }
        self.sign(Checkpoint::new(&origin, head.size, head.root)).await
    }

    async fn sign(&mut self, checkpoint: Checkpoint) -> Result<Step, NotSigned> {
        let split = || Refusal::SplitView { origin: checkpoint.origin.clone(), size: checkpoint.size };
        let mut note = Note::new(checkpoint.to_string()).map_err(|_| split())?;
        let signature = self.key.sign(note.text(), 0);
        note.add(signature);
        self.remember(&note).await?;
        self.last = Some(checkpoint.clone());
        let published = self.log.publish_checkpoint(checkpoint.size, &checkpoint.root, &note.to_string()).await?;
        if published != checkpoint.root {
            return Err(split().into());
        }
        self.published = Some(checkpoint.size);
        if let Some((lease, _)) = &self.lease {
            self.log.advance_cursor(lease, checkpoint.size, LEASE).await?;
        }
        Ok(Step::Signed(checkpoint.size))
    }

    /// Takes or renews the lease.
    async fn leads(&mut self) -> Result<bool, NotSigned> {
        if self.lease.as_ref().is_some_and(|(_, renewed)| renewed.elapsed() < LEASE / 3) {
            return Ok(true);
        }
        let lease = self.log.acquire_cursor(CURSOR, &self.owner, LEASE).await?;
        self.lease = lease.map(|lease| (lease, Instant::now()));
        Ok(self.lease.is_some())
    }

    /// The larger of what this process remembers and what the database shows as signed by this key.
    async fn last(&mut self) -> Result<Option<Checkpoint>, NotSigned> {
        if self.last.is_some() {
            return Ok(self.last.clone());
        }
        let (memory, key) = (self.memory.clone(), self.key.public().clone());
        let recalled = tokio::task::spawn_blocking(move || memory.recall(&key)).await;
        let recalled = recalled.unwrap_or_else(|panicked| Err(self.memory.unusable(std::io::Error::other(panicked))));
        let remembered = recalled.map_err(Refusal::from)?;
        let origin = self.key.public().name();
        let published = match self.log.checkpoint(false).await? {
            None => None,
            Some(published) => {
                let other_key = || Refusal::OtherKey { origin: origin.to_owned() };
                let note: Note = published.note.parse().map_err(|_| other_key())?;
                self.key.public().verify(&note).map_err(|_| other_key())?;
                let checkpoint: Checkpoint = note.text().parse().map_err(|_| other_key())?;
                self.published = Some(checkpoint.size);
                Some((checkpoint, note))
            }
        };
        self.last = match (remembered, published) {
            // Another process with this key went on from there; that must be a continuation, too.
            (Some(ours), Some((theirs, note))) if theirs.size > ours.size => {
                self.continues(&ours, theirs.size, &theirs.root).await?;
                self.remember(&note).await?;
                Some(theirs)
            }
            (Some(ours), Some((theirs, _))) if theirs.size == ours.size && theirs.root != ours.root => {
                return Err(Refusal::SplitView { origin: origin.to_owned(), size: ours.size }.into());
            }
            (Some(ours), _) => Some(ours),
            (None, Some((theirs, note))) => {
                warn!(origin, "The signer has no memory of its own and takes over what is published");
                self.remember(&note).await?;
                Some(theirs)
            }
            (None, None) => None,
        };
        Ok(self.last.clone())
    }

    /// Checks that the log of this size and root begins with what was signed.
    async fn continues(&self, last: &Checkpoint, size: u64, root: &Hash) -> Result<(), NotSigned> {
        let (origin, signed) = (last.origin.clone(), last.size);
        if size < signed {
            return Err(Refusal::WentBackwards { origin, signed, found: size }.into());
        }
        let rewritten = || Refusal::Rewritten { origin: origin.clone(), signed, found: size };
        let needed = tiles_for_consistency(size, signed).map_err(|_| rewritten())?;
        let tiles = read_tiles(&self.log, size, needed).await.map_err(|error| or(error, rewritten()))?;
        let proof = tiles.consistency(signed).map_err(|_| rewritten())?;
        verify_consistency(signed, size, &proof, &last.root, root).map_err(|_| rewritten().into())
    }

    async fn remember(&self, note: &Note) -> Result<(), Refusal> {
        let (memory, note) = (self.memory.clone(), note.clone());
        match tokio::task::spawn_blocking(move || memory.remember(&note)).await {
            Ok(done) => Ok(done?),
            Err(panicked) => Err(self.memory.unusable(std::io::Error::other(panicked)).into()),
        }
    }
}

/// A database that does not answer is no reason to refuse; everything else is this one.
fn or(error: NoProof, refusal: Refusal) -> NotSigned {
    match error {
        NoProof::Unread(error) => NotSigned::Unread(error),
        NoProof::NotSigned | NoProof::Incomplete(_) => refusal.into(),
    }
}

/// A refusal with its cause.
fn sentence(refusal: &Refusal) -> String {
    match std::error::Error::source(refusal) {
        Some(cause) => format!("{refusal}: {cause}"),
        None => refusal.to_string(),
    }
}
