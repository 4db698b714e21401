//! What an operator may decide about a forwarder, with units and bounds.

use std::time::Duration;

use residency::Purpose;

use crate::thrift::Budget;

/// The settings of one region's forwarder.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Values go out only with a granted consent for one of these purposes; empty means any granted purpose.
    pub purposes: Vec<Purpose>,
    /// What a day may cost.
    pub budget: Budget,
    /// Bounds.
    pub limits: Limits,
}

/// The bounds of a forwarder.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Rows (after reduction to the newest of each) in one batch.
    pub batch_rows_max: usize,
    /// Bytes of those rows.
    pub batch_bytes_max: usize,
    /// How long the first change of a batch waits for company: freshness against the warehouse's bill.
    pub batch_age_max: Duration,
    /// Changes read from the log at once (10,000 at most).
    pub read_rows_max: u32,
    /// How long a sink may take for one batch before it is tried again.
    pub apply_max: Duration,
    /// How long the cursor's lease lasts without renewal; another forwarder takes over after that.
    pub lease: Duration,
    /// The first wait between two looks at an idle log.
    pub poll_min: Duration,
    /// The longest such wait; also what a commit of another process may wait to be noticed.
    pub poll_max: Duration,
    /// The first wait after a trouble.
    pub backoff_min: Duration,
    /// The longest wait after repeated trouble.
    pub backoff_max: Duration,
    /// How long a shutdown waits for the batch under way.
    pub drain_max: Duration,
    /// An alarm is raised when the oldest entry that waits is older than this: a withdrawal or an erasure may be
    /// among what waits.
    pub lag_alarm: Duration,
    /// An alarm is raised when an erasure waits longer than this for the sink to follow.
    pub erasure_alarm: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            batch_rows_max: 1_000,
            batch_bytes_max: 4 << 20,
            batch_age_max: Duration::from_secs(2),
            read_rows_max: 2_000,
            apply_max: Duration::from_secs(300),
            lease: Duration::from_secs(15),
            poll_min: Duration::from_millis(5),
            poll_max: Duration::from_millis(500),
            backoff_min: Duration::from_millis(200),
            backoff_max: Duration::from_secs(60),
            drain_max: Duration::from_secs(10),
            lag_alarm: Duration::from_secs(300),
            erasure_alarm: Duration::from_secs(900),
        }
    }
}
