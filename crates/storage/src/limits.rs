//! Every bound of this crate, each with its unit in the name or the type.

use std::time::Duration;

/// How much one store may hold, and how long it may wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Deeds and lookups that may be queued or under way in one region; past that, the answer is `Overloaded`.
    pub queue_deeds_max: usize,
    /// Bytes of content that these may hold together.
    pub queue_bytes_max: usize,
    /// Deeds in one transaction.
    pub batch_deeds_max: usize,
    /// Bytes of content in one transaction, and so of one deed.
    pub batch_bytes_max: usize,
    /// Bytes of a record, above which no merge patch lets it grow: what can be put.
    pub record_bytes_max: usize,
    /// Lookups in one SELECT. Of those that may be long, fewer are taken.
    pub batch_lookups_max: usize,
    /// Bytes of content that the lookups of one SELECT find together; what is more is asked for again, in smaller parts.
    /// One lookup alone may find more: a page of records, or all attributes of a subject. While a batch is taken up it is
    /// there twice, as the database sent it and as it is answered.
    pub batch_found_bytes_max: usize,
    /// Records that are created or replaced by the very statement that appends their leaves, which saves three round trips.
    /// Of larger batches the next one's records are rather written while this one's commit is under way.
    pub page_records_max: usize,
    /// How often a batch that is about to begin lets everybody else who is ready have a turn, for as long as it grows by it.
    /// On an idle machine that is one look around; on a busy one it is what makes batches large.
    pub gather_turns_max: u32,
    /// How long leaves that nobody waits for may gather before they are committed.
    pub gather_max: Duration,
    /// So many of them are a commit's worth, and do not wait for more.
    pub gather_leaves_max: usize,
    /// How often a batch is tried again after a conflict or a lost connection.
    pub attempts_max: u32,
    /// Leaves of buffered reads that may wait for the log; past that, reads are refused.
    pub buffered_leaves_max: usize,
    /// How old the oldest of them may be; past that, reads are refused.
    pub buffered_age_max: Duration,
    /// To establish and check one connection.
    pub connect_timeout: Duration,
    /// For the server to run one statement; ours is a little longer, since a server may also hang.
    pub statement_timeout: Duration,
    /// For one statement to wait for a lock.
    pub lock_timeout: Duration,
    /// For a caller to wait, whatever happens. For the preview of an erasure it may be as long as for the erasure.
    pub answer_timeout: Duration,
    /// How long the statements of one erasure may take; a subject with millions of events needs more than a deed may.
    pub erasure_timeout: Duration,
    /// The shortest pause before connecting again.
    pub reconnect_pause_min: Duration,
    /// The longest pause before connecting again.
    pub reconnect_pause_max: Duration,
    /// An idle connection is asked for a sign of life this often.
    pub idle_check_interval: Duration,
    /// Subjects whose state is remembered per region, and pins that the directory remembers when it is not told otherwise.
    pub subjects_cached_max: u64,
    /// Connections for reading the log: relay, forwarder, console, signer, scrubber. Searches use at most two of them.
    pub log_connections_max: u32,
    /// How long an idempotency key is remembered.
    pub idempotency_kept: Duration,
    /// For a query of decisions to wait until the index has caught up.
    pub index_wait_max: Duration,
    /// For `shutdown` to drain the queues.
    pub shutdown_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue_deeds_max: 65_536,
            queue_bytes_max: 64 << 20,
            batch_deeds_max: 4_096,
            batch_bytes_max: 16 << 20,
            record_bytes_max: 1 << 20,
            batch_lookups_max: 1_024,
            batch_found_bytes_max: 32 << 20,
            page_records_max: 128,
            gather_turns_max: 8,
            gather_max: Duration::from_millis(20),
            gather_leaves_max: 512,
            attempts_max: 5,
            buffered_leaves_max: 65_536,
            buffered_age_max: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(2),
            statement_timeout: Duration::from_secs(4),
            lock_timeout: Duration::from_secs(3),
            answer_timeout: Duration::from_secs(10),
            erasure_timeout: Duration::from_secs(60),
            reconnect_pause_min: Duration::from_millis(20),
            reconnect_pause_max: Duration::from_secs(1),
            idle_check_interval: Duration::from_secs(1),
            subjects_cached_max: 100_000,
            log_connections_max: 4,
            idempotency_kept: Duration::from_secs(24 * 60 * 60),
            index_wait_max: Duration::from_secs(5),
            shutdown_timeout: Duration::from_secs(10),
        }
    }
}
