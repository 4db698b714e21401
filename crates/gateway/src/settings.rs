//! What an operator can set of the HTTP face. Plain values: the binary has checked them already.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use geoip::Forwarding;
use residency::Region;

use crate::callers::JwtSettings;

/// The settings of one gateway process.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the API listens. TLS ends at the edge in front of it.
    pub listen: SocketAddr,
    /// Where health, readiness and metrics listen. Never to be exposed.
    pub admin_listen: SocketAddr,
    /// Who may forward a client's address, and how.
    pub forwarding: Forwarding,
    /// Whether the address of the connection's peer is evidence of where a person is, when nobody
    /// forwarded or stated a better one. Switch it off where all callers are application servers.
    pub peer_address: bool,
    /// The identity provider; without one only API keys are accepted.
    pub jwt: Option<JwtSettings>,
    /// Whether the console's cookie is for TLS only. Browsers then refuse it on plain http, except
    /// (most of them) on this machine's own addresses.
    pub cookie_secure: bool,
    /// The types of events that callers may publish; each type is a topic.
    pub event_types: EventTypes,
    /// How long after an erasure a message of that person may still be in a topic of the region; regions without topics,
    /// and those whose topics may keep messages for ever, are not among them.
    pub topics_forget: BTreeMap<Region, Duration>,
    /// Bounds.
    pub limits: Limits,
}

/// Which types of events callers may publish: names, and beginnings that end in `.*`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventTypes(Option<Vec<String>>);

impl EventTypes {
    /// Only these: `shop.order-placed`, or `shop.*` for every type that begins with `shop.`.
    #[must_use]
    pub fn only(patterns: Vec<String>) -> Self {
        Self(Some(patterns))
    }

    /// Whether a type is among them.
    #[must_use]
    pub fn allow(&self, event_type: &str) -> bool {
        let Some(patterns) = &self.0 else { return true };
        patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(beginning) => event_type.starts_with(beginning),
            None => event_type == pattern,
        })
    }
}

impl Default for Settings {
    fn default() -> Self {
        let here = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        Self {
            listen: here(8080),
            admin_listen: here(9090),
            forwarding: Forwarding::none(),
            peer_address: true,
            jwt: None,
            cookie_secure: true,
            event_types: EventTypes::default(),
            topics_forget: BTreeMap::new(),
            limits: Limits::default(),
        }
    }
}

/// The bounds of the HTTP face.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of one request's body; more is answered 413.
    pub body_bytes_max: usize,
    /// Bytes of one line of a batch; more fails that line.
    pub batch_line_bytes_max: usize,
    /// Bytes of a whole batch, which is streamed; the lines beyond are not read.
    pub batch_bytes_max: u64,
    /// Lines of one batch that are under way or waiting for one another.
    pub batch_lines_in_flight_max: usize,
    /// Bytes of those lines together; one line more may be read.
    pub batch_bytes_in_flight_max: usize,
    /// Batches at once; more are answered 503.
    pub batches_max: usize,
    /// Batches at once of one caller; more are answered 429.
    pub caller_batches_max: usize,
    /// Exports of a log at once, each of which holds a few thousand leaves; more are answered 503.
    pub exports_max: usize,
    /// Exports at once of one caller; more are answered 429.
    pub caller_exports_max: usize,
    /// Logins at once, of browsers that have not said yet who they are; more are answered 503.
    pub logins_max: usize,
    /// Bytes of request line and headers together; more is answered 431. At least 8 KiB.
    pub head_bytes_max: usize,
    /// Headers of one request.
    pub headers_max: usize,
    /// How long a client may take to send its request's head.
    pub head_read_max: Duration,
    /// How long a client may take to send a body, or the next line of a batch.
    pub body_read_max: Duration,
    /// How long a request may take in all; then it is answered 504. A batch's stream is not under it.
    pub request_max: Duration,
    /// How long a client may leave an answer unread before its connection is closed; on HTTP/2, where each stream is looked at
    /// from time to time, up to twice as long.
    pub write_stall_max: Duration,
    /// How long a connection may stand without a request.
    pub idle_max: Duration,
    /// Requests at once; more are answered 503 without delay.
    pub requests_max: usize,
    /// Connections at once; more wait in the kernel's backlog.
    pub connections_max: usize,
    /// Streams at once on one HTTP/2 connection.
    pub streams_per_connection_max: u32,
    /// Requests per second of one caller, on average; more are answered 429. `None`: no limit.
    pub caller_requests_per_s_max: Option<NonZeroU32>,
    /// Requests of one caller that may come at once.
    pub caller_burst_max: NonZeroU32,
    /// Callers that are counted apart; the rest share one count.
    pub callers_counted_max: usize,
    /// How long the process says that it is not ready before it stops accepting, so that balancers notice.
    pub drain_notice: Duration,
    /// How long a shutdown waits for requests under way.
    pub drain_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let one = NonZeroU32::MIN;
        Self {
            body_bytes_max: 900 * 1024,
            batch_line_bytes_max: 900 * 1024,
            batch_bytes_max: 64 * 1024 * 1024,
            batch_lines_in_flight_max: 1_024,
            batch_bytes_in_flight_max: 8 * 1024 * 1024,
            batches_max: 32,
            caller_batches_max: 8,
            exports_max: 8,
            caller_exports_max: 4,
            logins_max: 64,
            head_bytes_max: 64 * 1024,
            headers_max: 100,
            head_read_max: Duration::from_secs(10),
            body_read_max: Duration::from_secs(15),
            request_max: Duration::from_secs(30),
            write_stall_max: Duration::from_secs(30),
            idle_max: Duration::from_secs(75),
            requests_max: 1_024,
            connections_max: 8_192,
            streams_per_connection_max: 256,
            caller_requests_per_s_max: NonZeroU32::new(20_000),
            caller_burst_max: NonZeroU32::new(40_000).unwrap_or(one),
            callers_counted_max: 100_000,
            drain_notice: Duration::from_secs(0),
            drain_max: Duration::from_secs(20),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_type_is_allowed_by_its_name_or_by_its_domain() {
        let types = EventTypes::only(vec!["shop.*".to_owned(), "billing.paid".to_owned()]);
        for allowed in ["shop.order-placed", "shop.a.b.v2", "billing.paid"] {
            assert!(types.allow(allowed), "{allowed}");
        }
        for refused in ["shop", "shopping.spree", "billing.paid.v2", "billing", ""] {
            assert!(!types.allow(refused), "{refused}");
        }
        assert!(EventTypes::default().allow("anything"));
        assert!(!EventTypes::only(Vec::new()).allow("anything"));
    }
}
