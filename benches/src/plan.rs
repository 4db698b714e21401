//! How much is loaded, for how long and how often.

use std::time::Duration;

/// The size of a run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// `full` or `quick`: only runs of one size are compared with each other.
    pub(crate) name: &'static str,
    /// Rows in `records` beforehand.
    pub(crate) rows: u64,
    /// Subjects they belong to.
    pub(crate) subjects: u64,
    /// How long each load lasts.
    pub(crate) load: Duration,
    /// How long a gateway is driven before it is measured: caches are filled, connections made.
    pub(crate) warm_up: Duration,
    /// How often each comparison is repeated; the median counts.
    pub(crate) rounds: usize,
    /// Numbers of connections, and of pgbench's clients.
    pub(crate) clients: &'static [u32],
    /// Turns of a hundred requests on one connection.
    pub(crate) turns_alone: u32,
    /// Lines of the batch.
    pub(crate) batch_lines: u64,
    /// Leaves of the log that is verified.
    pub(crate) proof_leaves: u64,
    /// Leaves of the tree that proofs are taken out of.
    pub(crate) proof_tree: u64,
    /// Pinned subjects, few and many.
    pub(crate) pins: (u64, u64),
    /// Events of the backlog that a relay drains.
    pub(crate) drained_events: u64,
}

impl Plan {
    pub(crate) fn full() -> Self {
        Self {
            name: "full",
            rows: 1_000_000,
            subjects: 10_000,
            load: Duration::from_secs(8),
            warm_up: Duration::from_secs(2),
            rounds: 3,
            clients: &[16, 64, 256],
            turns_alone: 50,
            batch_lines: 1_000_000,
            proof_leaves: 1_000_000,
            proof_tree: 10_000_000,
            pins: (1_000, 10_000_000),
            drained_events: 1_000_000,
        }
    }

    pub(crate) fn quick() -> Self {
        Self {
            name: "quick",
            rows: 100_000,
            subjects: 1_000,
            load: Duration::from_secs(2),
            warm_up: Duration::from_secs(1),
            rounds: 1,
            turns_alone: 10,
            batch_lines: 100_000,
            proof_leaves: 100_000,
            proof_tree: 1_000_000,
            pins: (1_000, 500_000),
            drained_events: 100_000,
            ..Self::full()
        }
    }
}
