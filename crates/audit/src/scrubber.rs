//! The scrubber: hashes the stored leaves again and again, against their tiles and the signed root. A consistency
//! proof does not see that a stored leaf was edited, because the tree was not; this does, and raises an alarm.
//!
//! It works at leisure: a pass takes about three quarters of a minute, and longer where the log is so long that this
//! would be more leaves a second than it may read. One process scrubs a log at a time.

use std::time::Duration;

use metrics::{counter, gauge};
use storage::{CursorLease, FoundViolation, Log};
use tlog::{Frontier, TILE_WIDTH, Tile, leaf_hash};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::registers;
use crate::registrar::Rule;

/// How long a pass takes, if the log is not too long for that.
const PASS: Duration = Duration::from_secs(45);
/// Leaves in one step, a multiple of a tile's.
const STEP_LEAVES: u64 = 1_024;
/// The shortest pause between two steps, and between two passes of a short log.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause after a step, and how long a short log rests between passes.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How long another process waits before it takes over.
const LEASE: Duration = Duration::from_secs(60);
/// The cursor whose lease makes one process the scrubber.
const CURSOR: &str = "scrubber";

/// Something that is stored is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The line has another hash than the one stored with it.
    #[error("leaf {seq} is not what was hashed when it was written")]
    Leaf {
        /// Which.
        seq: u64,
    },
    /// The leaf's stored hash is not the one in its tile.
    #[error("leaf {seq} has another hash than its tile")]
    Tile {
        /// Which.
        seq: u64,
    },
    /// A leaf is not there.
    #[error("leaf {seq} is gone")]
    Gone {
        /// Which.
        seq: u64,
    },
    /// All leaves together do not come to the signed root.
    #[error("the first {size} leaves do not come to the root that was signed")]
    Root {
        /// The size of the checkpoint.
        size: u64,
    },
}

impl Damage {
    /// A word for it, for metrics and tests.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Leaf { .. } => "leaf_edited",
            Self::Tile { .. } => "leaf_differs_from_tile",
            Self::Gone { .. } => "leaf_gone",
            Self::Root { .. } => "root_differs",
        }
    }

    /// What the register of violations says of it: the same damage stands there once, however often it is seen.
    #[must_use]
    pub fn violation(&self) -> FoundViolation {
        let seq = match self {
            Self::Leaf { seq } | Self::Tile { seq } | Self::Gone { seq } => Some(*seq),
            Self::Root { .. } => None,
        };
        let at = seq.map_or_else(String::new, |seq| format!(":{seq}"));
        FoundViolation {
            mark: format!("damage:{}{at}", self.name()),
            rule: Rule::Damage.name(),
            seq,
            says: format!("{self} ({})", self.name()),
            at_us: None,
        }
    }
}

/// The scrubber of one region's log.
pub struct Scrubber {
    log: Log,
    owner: String,
    leaves_per_s_max: u32,
}

impl Scrubber {
    /// A scrubber that reads at most so many leaves a second (at least one step of 1,024 every 10 s). `owner` names this
    /// process among those that could do it.
    #[must_use]
    pub fn new(log: Log, owner: impl Into<String>, leaves_per_s_max: u32) -> Self {
        Self { log, owner: owner.into(), leaves_per_s_max: leaves_per_s_max.max(1) }
    }

    /// Scrubs until it is told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let region = self.log.region().to_string();
        let alarm = gauge!("domicile_log_damaged", "region" => region.clone());
        alarm.set(0.0);
        let passes = async {
            loop {
                match self.log.acquire_cursor(CURSOR, &self.owner, LEASE).await {
                    Ok(Some(lease)) => match self.pass(Some(&lease)).await {
                        Ok(None) => {
                            alarm.set(0.0);
                            counter!("domicile_log_scrubbed_total", "region" => region.clone()).increment(1);
                        }
                        Ok(Some(damage)) => {
                            alarm.set(1.0);
                            let check = damage.name();
                            error!(region, check, "The region log is damaged: {damage}");
                            if let Err(cause) = registers::open(&self.log, Rule::Damage, &[damage.violation()]).await {
                                warn!(region, %cause, "The damage could not be put into the register of violations");
                            }
                        }
                        Err(cause) => warn!(region, %cause, "The region log could not be read for scrubbing"),
                    },
                    // Whoever does it instead tells what it finds.
                    Ok(None) => alarm.set(0.0),
                    Err(cause) => warn!(region, %cause, "The region log could not be read for scrubbing"),
                }
                sleep(PAUSE_MAX).await;
            }
        };
        info!(region, "The region log is scrubbed");
        tokio::select! {
            () = passes => {}
            () = stop.cancelled() => {}
        }
    }

    /// One pass over everything that is signed, or, where nothing is, over everything. The first damage ends it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn pass(&self, lease: Option<&CursorLease>) -> Result<Option<Damage>, storage::Error> {
        let signed = self.log.checkpoint(false).await?;
        let size = match &signed {
            Some(checkpoint) => checkpoint.size,
            None => self.log.head().await?.size,
        };
        let mut frontier = Frontier::new();
        let pace = self.pace(size);
        let (mut at, mut renewed) = (0, Instant::now());
        // Of what was let go the hashes are left, which the root still speaks for. Lines that are there are read all the
        // same: the leaf that says what goes is older than its going.
        let pruned = self.log.pruned_to().await?.min(size);
        while at < pruned && self.log.leaves(at, 1).await?.first().is_none_or(|row| row.seq != at) {
            let Some(tile) = Tile::new(0, at / u64::from(TILE_WIDTH), TILE_WIDTH) else { break };
            let Some(hashes) = self.log.tile(tile).await? else { return Ok(Some(Damage::Gone { seq: at })) };
            hashes.into_iter().for_each(|hash| frontier.push(hash));
            at += u64::from(TILE_WIDTH);
        }
        while at < size {
            let begun = Instant::now();
            if let Some(damage) = self.step(at, size, &mut frontier).await? {
                return Ok(Some(damage));
            }
            at += STEP_LEAVES;
            if let Some(lease) = lease.filter(|_| renewed.elapsed() > LEASE / 3) {
                self.log.advance_cursor(lease, 0, LEASE).await?;
                renewed = Instant::now();
            }
            if lease.is_some() && at < size {
                sleep(pace.saturating_sub(begun.elapsed()).max(PAUSE_MIN)).await;
            }
        }
        let root_differs = signed.is_some_and(|checkpoint| frontier.root() != checkpoint.root);
        Ok(root_differs.then_some(Damage::Root { size }))
    }

    /// How long a step may take.
    fn pace(&self, size: u64) -> Duration {
        let steps = size.div_ceil(STEP_LEAVES).max(1);
        let by_rate = Duration::from_secs_f64(STEP_LEAVES as f64 / f64::from(self.leaves_per_s_max));
        let by_pass = PASS / u32::try_from(steps).unwrap_or(u32::MAX);
        by_pass.max(by_rate).min(PAUSE_MAX)
    }

    async fn step(&self, at: u64, size: u64, frontier: &mut Frontier) -> Result<Option<Damage>, storage::Error> {
        let count = STEP_LEAVES.min(size - at);
        let rows = self.log.leaves(at, u32::try_from(count).unwrap_or(u32::MAX)).await?;
        for (seq, row) in (at..at + count).zip(rows.iter().map(Some).chain(std::iter::repeat(None))) {
            let Some(row) = row.filter(|row| row.seq == seq) else { return Ok(Some(Damage::Gone { seq })) };
            if leaf_hash(row.line.as_bytes()) != row.leaf_hash {
                return Ok(Some(Damage::Leaf { seq }));
            }
            frontier.push(row.leaf_hash);
        }
        let width = u64::from(TILE_WIDTH);
        for index in at / width..(at + count) / width {
            let Some(tile) = Tile::new(0, index, TILE_WIDTH) else { continue };
            let first = index * width;
            let Some(hashes) = self.log.tile(tile).await? else { return Ok(Some(Damage::Gone { seq: first })) };
            let stored = rows.iter().skip(usize::try_from(first - at).unwrap_or(0)).zip(&hashes);
            if let Some((row, _)) = stored.into_iter().find(|(row, hash)| row.leaf_hash != **hash) {
                return Ok(Some(Damage::Tile { seq: row.seq }));
            }
        }
        Ok(None)
    }
}
