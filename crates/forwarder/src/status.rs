//! How a forwarder is doing: a value for those who ask, and the same as metrics, labelled by region only.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use follow::{Lag, Report};
use metrics::{counter, describe_counter, describe_gauge, gauge};
use residency::Region;
use tokio::sync::watch;

use crate::sink::Applied;
use crate::thrift::Usage;

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
    /// How far the cursor is behind, when last looked at (every second); entries of every kind count.
    pub lag: Lag,
    /// Whether it has been behind for longer than [`Limits::lag_alarm`](crate::Limits::lag_alarm).
    pub alarm: bool,
    /// Batches that the sink took since start.
    pub batches: u64,
    /// Rows that were new or newer in the sink since start.
    pub rows: u64,
    /// Rows refused since start: of another region, not understood, or not taken by the sink.
    pub refused: u64,
    /// What the sink has used since start.
    pub usage: Usage,
    /// How long the first change of a batch waits for company now: longer than usual when a day's budget is spent.
    pub batch_age: Duration,
    /// Subjects that the sink forgot since start.
    pub erased: u64,
    /// Batches tried again since start.
    pub retries: u64,
    /// The last trouble, as a sentence.
    pub trouble: Option<String>,
}

/// See [`describe_metrics`](crate::describe_metrics).
pub(crate) fn describe() {
    for (name, meaning) in [
        ("domicile_forwarder_batches_total", "Batches that the sink took"),
        ("domicile_forwarder_rows_total", "Rows that were new or newer in the sink"),
        ("domicile_forwarder_erased_total", "Subjects that the sink has forgotten"),
        ("domicile_forwarder_refused_total", "Rows that were refused; tombstones stand in their place"),
        ("domicile_forwarder_retries_total", "Batches tried again"),
        ("domicile_forwarder_queries_total", "Statements run in the warehouse"),
        ("domicile_forwarder_bytes_total", "Bytes of those statements"),
    ] {
        describe_counter!(name, meaning);
    }
    for (name, meaning) in [
        ("domicile_forwarder_lag_entries", "Entries of the region log behind the cursor"),
        ("domicile_forwarder_lag_seconds", "Seconds since the oldest of them was committed"),
        ("domicile_forwarder_lag_alarm", "1 while that is longer than events.forwarder_lag_alarm_s"),
        (
            "domicile_erasure_open_seconds",
            "How long the oldest erasure waits that the sink has not followed; 0 when none does",
        ),
        ("domicile_erasure_alarm", "1 while that is longer than events.erasure_alarm_s"),
        ("domicile_forwarder_credits_estimated", "Credits used since the start, estimated from the time awake"),
        ("domicile_forwarder_batch_age_seconds", "How long the first change of a batch waits for company"),
    ] {
        describe_gauge!(name, meaning);
    }
}

/// Where a forwarder writes its status.
#[derive(Clone)]
pub(crate) struct Board {
    sender: watch::Sender<ForwarderStatus>,
    region: Region,
    /// Whether the cursor is ours, as far as is known.
    holds: Arc<AtomicBool>,
}

impl Board {
    pub(crate) fn new(region: &Region, sink: &'static str) -> Self {
        let (sender, _) = watch::channel(ForwarderStatus {
            region: region.clone(),
            sink,
            state: ForwarderState::Stopped,
            seq: 0,
            head: 0,
            lag: Lag::default(),
            alarm: false,
            batches: 0,
            rows: 0,
            refused: 0,
            erased: 0,
            usage: Usage::default(),
            batch_age: Duration::ZERO,
            retries: 0,
            trouble: None,
        });
        Self { sender, region: region.clone(), holds: Arc::default() }
    }

    /// Shows the counters that an alert looks at from the beginning: of one that is born at 1 nobody sees the increase.
    pub(crate) fn begin(&self) {
        counter!("domicile_forwarder_refused_total", "region" => self.label()).increment(0);
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

    pub(crate) fn erased(&self, subjects: u64) {
        self.sender.send_modify(|status| status.erased += subjects);
        counter!("domicile_forwarder_erased_total", "region" => self.label()).increment(subjects);
    }

    pub(crate) fn refused(&self, rows: u64) {
        self.sender.send_modify(|status| status.refused += rows);
        counter!("domicile_forwarder_refused_total", "region" => self.label()).increment(rows);
    }

    pub(crate) fn applied(&self, applied: Applied, usage: Usage, batch_age: Duration) {
        let region = || self.label();
        counter!("domicile_forwarder_queries_total", "region" => region()).absolute(usage.queries);
        counter!("domicile_forwarder_bytes_total", "region" => region()).absolute(usage.bytes);
        gauge!("domicile_forwarder_credits_estimated", "region" => region()).set(usage.credits);
        gauge!("domicile_forwarder_batch_age_seconds", "region" => region()).set(batch_age.as_secs_f64());
        self.sender.send_modify(|status| {
            status.batches += 1;
            (status.usage, status.batch_age) = (usage, batch_age);
            status.rows += applied.changed;
        });
        counter!("domicile_forwarder_batches_total", "region" => self.label()).increment(1);
        counter!("domicile_forwarder_rows_total", "region" => self.label()).increment(applied.changed);
        if applied.refused > 0 {
            self.refused(applied.refused);
        }
    }

    /// Notes that the cursor was taken, and where it stands.
    pub(crate) fn holds(&self, seq: u64) {
        self.progress(seq, seq);
        self.holds.store(true, Ordering::Relaxed);
    }

    /// Notes that another one holds the cursor, or may.
    pub(crate) fn holds_no_more(&self) {
        self.holds.store(false, Ordering::Relaxed);
    }

    /// Where the cursor stands, if this forwarder holds it. Through the wait after a trouble with the sink it does.
    pub(crate) fn position(&self) -> Option<u64> {
        self.holds.load(Ordering::Relaxed).then(|| self.sender.borrow().seq)
    }

    /// Notes where cursor and head stand.
    pub(crate) fn progress(&self, seq: u64, head: u64) {
        self.sender.send_if_modified(|status| {
            let before = (status.seq, status.head);
            status.seq = seq;
            status.head = status.head.max(head).max(seq);
            status.lag.entries = status.head - seq;
            before != (status.seq, status.head)
        });
    }

    /// Takes what the watchman found; nothing when another one follows.
    pub(crate) fn report(&self, report: Option<Report>) {
        let (mut lag, alarm) = (Lag::default(), report.is_some_and(|report| report.alarm));
        self.sender.send_modify(|status| {
            if let Some(report) = report {
                status.head = status.head.max(report.head);
                lag = Lag { entries: status.head - status.seq, age: report.lag.age };
            }
            (status.lag, status.alarm) = (lag, alarm);
        });
        // A gauge is a float; a lag is far below 2^53.
        gauge!("domicile_forwarder_lag_entries", "region" => self.label()).set(lag.entries as f64);
        gauge!("domicile_forwarder_lag_seconds", "region" => self.label()).set(lag.age.as_secs_f64());
        gauge!("domicile_forwarder_lag_alarm", "region" => self.label()).set(f64::from(u8::from(alarm)));
    }

    /// Notes how long the oldest erasure waits.
    pub(crate) fn open_erasure(&self, open: Duration, alarm: bool) {
        gauge!("domicile_erasure_open_seconds", "region" => self.label()).set(open.as_secs_f64());
        gauge!("domicile_erasure_alarm", "region" => self.label()).set(f64::from(u8::from(alarm)));
    }

    fn label(&self) -> String {
        self.region.to_string()
    }
}
