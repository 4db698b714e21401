//! How a relay is doing: a value for those who ask, and the same as metrics, labelled by region only.

use std::time::Instant;

use metrics::{counter, gauge};
use residency::Region;
use tokio::sync::watch;

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
    /// Entries between cursor and head.
    pub lag: u64,
    /// Since when the cursor has been behind the head; `None` when it has caught up.
    pub behind_since: Option<Instant>,
    /// Entries handed to the producer and not yet acknowledged.
    pub in_flight: usize,
    /// Entries acknowledged since start.
    pub rows: u64,
    /// Times the unacknowledged entries were sent anew since start.
    pub retries: u64,
    /// Entries sent to the dead-letter topic since start.
    pub dead_letters: u64,
    /// The last trouble, as a sentence.
    pub trouble: Option<String>,
}

/// Where a relay writes its status.
#[derive(Clone)]
pub(crate) struct Board {
    sender: watch::Sender<RelayStatus>,
}

impl Board {
    pub(crate) fn new(region: &Region) -> Self {
        let (sender, _) = watch::channel(RelayStatus {
            region: region.clone(),
            state: RelayState::Stopped,
            seq: 0,
            head: 0,
            lag: 0,
            behind_since: None,
            in_flight: 0,
            rows: 0,
            retries: 0,
            dead_letters: 0,
            trouble: None,
        });
        Self { sender }
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

    /// Notes where cursor and head stand.
    pub(crate) fn progress(&self, seq: u64, head: u64, in_flight: usize, acknowledged: u64) {
        let (mut lag, mut behind_since): (u64, Option<Instant>) = (0, None);
        self.sender.send_if_modified(|status| {
            let before = (status.seq, status.head, status.in_flight);
            status.seq = seq;
            status.head = status.head.max(head).max(seq);
            status.in_flight = in_flight;
            status.rows += acknowledged;
            lag = status.head - seq;
            status.lag = lag;
            status.behind_since = if lag == 0 { None } else { status.behind_since.or_else(|| Some(Instant::now())) };
            behind_since = status.behind_since;
            before != (status.seq, status.head, status.in_flight) || acknowledged > 0
        });
        // A gauge is a float; a lag is far below 2^53.
        gauge!("domicile_relay_lag_entries", "region" => self.region()).set(lag as f64);
        let behind = behind_since.map(|since| since.elapsed()).unwrap_or_default();
        gauge!("domicile_relay_behind_seconds", "region" => self.region()).set(behind.as_secs_f64());
        gauge!("domicile_relay_in_flight_entries", "region" => self.region()).set(in_flight as f64);
        if acknowledged > 0 {
            counter!("domicile_relay_entries_total", "region" => self.region()).increment(acknowledged);
        }
    }

    fn region(&self) -> String {
        self.sender.borrow().region.to_string()
    }
}
