//! How a relay is doing: a value for those who ask, and the same as metrics, labelled by region only.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use follow::{Lag, Report};
use metrics::{counter, describe_counter, describe_gauge, gauge};
use residency::Region;
use tokio::sync::watch;

use crate::keeping::Keeps;

/// What a relay is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayState {
    /// Not started, or ended.
    Stopped,
    /// Another relay holds the cursor's lease.
    Standby,
    /// Relaying.
    Running,
    /// Waiting after a trouble.
    Waiting,
}

/// How a relay is doing.
#[derive(Debug, Clone)]
pub struct RelayStatus {
    /// The region.
    pub region: Region,
    /// What it is doing.
    pub state: RelayState,
    /// The cursor: every entry up to this sequence number is acknowledged by the brokers.
    pub seq: u64,
    /// The newest entry of the region log when last looked.
    pub head: u64,
    /// How far the cursor is behind, when last looked at (every second).
    pub lag: Lag,
    /// Whether it has been behind for longer than [`Limits::lag_alarm`](crate::Limits::lag_alarm).
    pub alarm: bool,
    /// Entries handed to the producer and not yet acknowledged.
    pub in_flight: usize,
    /// Entries acknowledged since start.
    pub rows: u64,
    /// Entries acknowledged per second, over the last look.
    pub rate: u64,
    /// Entries that were in their topics already when this relay began: a predecessor had sent them.
    pub already_there: u64,
    /// Times the unacknowledged entries were sent anew since start.
    pub retries: u64,
    /// Entries sent to the dead-letter topic since start.
    pub dead_letters: u64,
    /// Schemas of events that are registered in the schema registry.
    pub schemas: usize,
    /// Topics of the region that keep messages for longer than they may.
    pub keeping_too_long: usize,
    /// The last trouble, as a sentence.
    pub trouble: Option<String>,
}

/// See [`describe_metrics`](crate::describe_metrics).
pub(crate) fn describe() {
    for (name, meaning) in [
        ("domicile_relay_entries_total", "Events that the brokers acknowledged"),
        ("domicile_relay_retries_total", "Times the unacknowledged events were sent anew"),
        ("domicile_relay_dead_letters_total", "Events that went to the dead-letter topic"),
        ("domicile_relay_already_there_total", "Events that a predecessor had sent already"),
    ] {
        describe_counter!(name, meaning);
    }
    for (name, meaning) in [
        ("domicile_relay_lag_entries", "Entries of the region log behind the cursor"),
        ("domicile_relay_lag_seconds", "Seconds since the oldest of them was committed"),
        ("domicile_relay_lag_alarm", "1 while that is longer than events.relay_lag_alarm_s"),
        ("domicile_relay_entries_per_second", "Events acknowledged in the last second"),
        ("domicile_relay_in_flight_entries", "Events handed to the producer and not acknowledged"),
        ("domicile_relay_schemas_registered", "Schemas that are registered in the schema registry"),
        (
            "domicile_relay_topics_forget_seconds",
            "The longest that a message stays in a topic of the region, of those that say",
        ),
        ("domicile_relay_topics_keeping_too_long", "Topics that keep messages for longer than topics_forget_hours_max"),
    ] {
        describe_gauge!(name, meaning);
    }
}

/// Where a relay writes its status.
#[derive(Clone)]
pub(crate) struct Board {
    sender: watch::Sender<RelayStatus>,
    /// When the rate was last reckoned, and how many entries there had been.
    measured: Arc<Mutex<(Instant, u64)>>,
    /// Whether the cursor is ours, as far as is known.
    holds: Arc<AtomicBool>,
}

impl Board {
    pub(crate) fn new(region: &Region) -> Self {
        let (sender, _) = watch::channel(RelayStatus {
            region: region.clone(),
            state: RelayState::Stopped,
            seq: 0,
            head: 0,
            lag: Lag::default(),
            alarm: false,
            in_flight: 0,
            rows: 0,
            rate: 0,
            already_there: 0,
            retries: 0,
            dead_letters: 0,
            schemas: 0,
            keeping_too_long: 0,
            trouble: None,
        });
        Self { sender, measured: Arc::new(Mutex::new((Instant::now(), 0))), holds: Arc::default() }
    }

    /// Shows the counter that an alert looks at from the beginning: of one that is born at 1 nobody sees the increase.
    pub(crate) fn begin(&self) {
        counter!("domicile_relay_dead_letters_total", "region" => self.region()).increment(0);
    }

    pub(crate) fn now(&self) -> RelayStatus {
        self.sender.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<RelayStatus> {
        self.sender.subscribe()
    }

    pub(crate) fn state(&self, state: RelayState) {
        self.sender.send_if_modified(|status| std::mem::replace(&mut status.state, state) != state);
    }

    pub(crate) fn trouble(&self, trouble: String) {
        self.sender.send_modify(|status| {
            status.state = RelayState::Waiting;
            status.retries += 1;
            status.trouble = Some(trouble);
        });
        counter!("domicile_relay_retries_total", "region" => self.region()).increment(1);
    }

    pub(crate) fn dead_letter(&self) {
        self.sender.send_modify(|status| status.dead_letters += 1);
        counter!("domicile_relay_dead_letters_total", "region" => self.region()).increment(1);
    }

    pub(crate) fn schemas(&self, registered: usize) {
        self.sender.send_modify(|status| status.schemas = registered);
        gauge!("domicile_relay_schemas_registered", "region" => self.region()).set(registered as f64);
    }

    /// How long the region's topics keep messages, and how long they may.
    pub(crate) fn topics_keep(&self, found: &BTreeMap<String, Keeps>, max: Duration) {
        let bounded = found.values().filter_map(|keeps| match keeps {
            Keeps::AtMost(duration) => Some(*duration),
            Keeps::ForEver | Keeps::NotSaid => None,
        });
        let longest = bounded.max().unwrap_or_default();
        let too_long = found.values().filter(|keeps| keeps.exceeds(max)).count();
        self.sender.send_modify(|status| status.keeping_too_long = too_long);
        gauge!("domicile_relay_topics_forget_seconds", "region" => self.region()).set(longest.as_secs_f64());
        gauge!("domicile_relay_topics_keeping_too_long", "region" => self.region()).set(too_long as f64);
    }

    pub(crate) fn already_there(&self) {
        self.sender.send_modify(|status| status.already_there += 1);
        counter!("domicile_relay_already_there_total", "region" => self.region()).increment(1);
    }

    /// Notes that the cursor was taken, and where it stands.
    pub(crate) fn holds(&self, seq: u64) {
        self.progress(seq, seq, 0, 0);
        self.holds.store(true, Ordering::Relaxed);
    }

    /// Notes that another one holds the cursor, or may.
    pub(crate) fn holds_no_more(&self) {
        self.holds.store(false, Ordering::Relaxed);
    }

    /// Where the cursor stands, if this relay holds it.
    pub(crate) fn position(&self) -> Option<u64> {
        self.holds.load(Ordering::Relaxed).then(|| self.sender.borrow().seq)
    }

    /// Notes where cursor and head stand.
    pub(crate) fn progress(&self, seq: u64, head: u64, in_flight: usize, acknowledged: u64) {
        self.sender.send_if_modified(|status| {
            let before = (status.seq, status.head, status.in_flight);
            status.seq = seq;
            status.head = status.head.max(head).max(seq);
            status.in_flight = in_flight;
            status.rows += acknowledged;
            status.lag.entries = status.head - seq;
            before != (status.seq, status.head, status.in_flight) || acknowledged > 0
        });
        if acknowledged > 0 {
            counter!("domicile_relay_entries_total", "region" => self.region()).increment(acknowledged);
        }
    }

    /// Takes what the watchman found; nothing when another one follows.
    pub(crate) fn report(&self, report: Option<Report>) {
        let (mut lag, mut in_flight, mut rate) = (Lag::default(), 0, 0);
        let alarm = report.is_some_and(|report| report.alarm);
        self.sender.send_modify(|status| {
            if let Some(report) = report {
                status.head = status.head.max(report.head);
                lag = Lag { entries: status.head - status.seq, age: report.lag.age };
                in_flight = status.in_flight;
            }
            (status.lag, status.alarm, status.in_flight) = (lag, alarm, in_flight);
            if let Ok(mut measured) = self.measured.lock() {
                let (since, before) = std::mem::replace(&mut *measured, (Instant::now(), status.rows));
                let seconds = since.elapsed().as_secs_f64().max(0.001);
                status.rate = ((status.rows - before) as f64 / seconds).round() as u64;
            }
            if report.is_none() {
                status.rate = 0;
            }
            rate = status.rate;
        });
        gauge!("domicile_relay_entries_per_second", "region" => self.region()).set(rate as f64);
        // A gauge is a float; a lag is far below 2^53.
        gauge!("domicile_relay_lag_entries", "region" => self.region()).set(lag.entries as f64);
        gauge!("domicile_relay_lag_seconds", "region" => self.region()).set(lag.age.as_secs_f64());
        gauge!("domicile_relay_lag_alarm", "region" => self.region()).set(f64::from(u8::from(alarm)));
        gauge!("domicile_relay_in_flight_entries", "region" => self.region()).set(in_flight as f64);
    }

    fn region(&self) -> String {
        self.sender.borrow().region.to_string()
    }
}
