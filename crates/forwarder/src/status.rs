//! How a forwarder is doing: a value for those who ask, and the same as metrics, labelled by region only.

use std::time::Instant;

use metrics::{counter, gauge};
use residency::Region;
use tokio::sync::watch;

use crate::sink::Applied;

/// What a forwarder is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwarderState {
    /// Not started, or ended.
    Stopped,
    /// Another forwarder holds the cursor's lease.
    Standby,
    /// Forwarding.
    Running,
    /// Waiting after a trouble.
    Waiting,
}

/// How a forwarder is doing.
#[derive(Debug, Clone)]
pub struct ForwarderStatus {
    /// The region.
    pub region: Region,
    /// The kind of sink, e.g. `snowflake`.
    pub sink: &'static str,
    /// What it is doing.
    pub state: ForwarderState,
    /// The cursor: every zero-party change up to this sequence number is in the sink.
    pub seq: u64,
    /// The newest entry of the region log when last looked.
    pub head: u64,
    /// Entries between cursor and head, zero-party or not.
    pub lag: u64,
    /// Since when the cursor has been behind the head; `None` when it has caught up.
    pub behind_since: Option<Instant>,
    /// Batches that the sink took since start.
    pub batches: u64,
    /// Rows that were new or newer in the sink since start.
    pub rows: u64,
    /// Rows refused since start: of another region, not understood, or not taken by the sink.
    pub refused: u64,
    /// Batches tried again since start.
    pub retries: u64,
    /// The last trouble, as a sentence.
    pub trouble: Option<String>,
}

/// Where a forwarder writes its status.
#[derive(Clone)]
pub(crate) struct Board {
    sender: watch::Sender<ForwarderStatus>,
    region: Region,
}

impl Board {
    pub(crate) fn new(region: &Region, sink: &'static str) -> Self {
        let (sender, _) = watch::channel(ForwarderStatus {
            region: region.clone(),
            sink,
            state: ForwarderState::Stopped,
            seq: 0,
            head: 0,
            lag: 0,
            behind_since: None,
            batches: 0,
            rows: 0,
            refused: 0,
            retries: 0,
            trouble: None,
        });
        Self { sender, region: region.clone() }
    }

    pub(crate) fn now(&self) -> ForwarderStatus {
        self.sender.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<ForwarderStatus> {
        self.sender.subscribe()
    }

    pub(crate) fn state(&self, state: ForwarderState) {
        self.sender.send_if_modified(|status| std::mem::replace(&mut status.state, state) != state);
    }

    pub(crate) fn trouble(&self, trouble: String) {
        self.sender.send_modify(|status| {
            status.state = ForwarderState::Waiting;
            status.retries += 1;
            status.trouble = Some(trouble);
        });
        counter!("domicile_forwarder_retries_total", "region" => self.label()).increment(1);
    }

    pub(crate) fn refused(&self, rows: u64) {
        self.sender.send_modify(|status| status.refused += rows);
        counter!("domicile_forwarder_refused_total", "region" => self.label()).increment(rows);
    }

    pub(crate) fn applied(&self, applied: Applied) {
        self.sender.send_modify(|status| {
            status.batches += 1;
            status.rows += applied.changed;
        });
        counter!("domicile_forwarder_batches_total", "region" => self.label()).increment(1);
        counter!("domicile_forwarder_rows_total", "region" => self.label()).increment(applied.changed);
        if applied.refused > 0 {
            self.refused(applied.refused);
        }
    }

    /// Notes where cursor and head stand.
    pub(crate) fn progress(&self, seq: u64, head: u64) {
        let (mut lag, mut behind_since): (u64, Option<Instant>) = (0, None);
        self.sender.send_if_modified(|status| {
            let before = (status.seq, status.head);
            status.seq = seq;
            status.head = status.head.max(head).max(seq);
            status.lag = status.head - seq;
            status.behind_since =
                if status.lag == 0 { None } else { status.behind_since.or_else(|| Some(Instant::now())) };
            (lag, behind_since) = (status.lag, status.behind_since);
            before != (status.seq, status.head)
        });
        let behind = behind_since.map(|since| since.elapsed()).unwrap_or_default();
        // A gauge is a float; a lag is far below 2^53.
        gauge!("domicile_forwarder_lag_entries", "region" => self.label()).set(lag as f64);
        gauge!("domicile_forwarder_behind_seconds", "region" => self.label()).set(behind.as_secs_f64());
    }

    fn label(&self) -> String {
        self.region.to_string()
    }
}
