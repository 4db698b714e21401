//! What of a request identifies somebody and is kept, sealed, beside its leaf, where the operator wants it. The leaf
//! itself never holds any of it.

use std::net::IpAddr;

use residency::Stated;

use crate::signals::{ClientSignal, Request};

/// One thing that can be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DetailKind {
    /// The subject's own name.
    Subject,
    /// The network that the client's address lies in: the first 24 bits of IPv4, 48 of IPv6.
    ClientNetwork,
    /// The tenant that the caller named.
    Tenant,
}

impl DetailKind {
    /// Its name beside the leaf.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::ClientNetwork => "client_network",
            Self::Tenant => "tenant",
        }
    }
}

/// What a request states of these.
pub(crate) fn stated(kinds: &[DetailKind], request: &Request) -> Option<Stated> {
    if kinds.is_empty() {
        return None;
    }
    let value = |kind: &DetailKind| match kind {
        DetailKind::Subject => Some(request.subject.expose().to_owned()),
        DetailKind::ClientNetwork => match request.signals.client {
            Some(ClientSignal::Address { address, .. }) => Some(network(address)),
            Some(ClientSignal::Malformed | ClientSignal::NotBelieved) | None => None,
        },
        DetailKind::Tenant => request.signals.tenant.as_ref().map(|signal| signal.tenant.as_str().to_owned()),
    };
    Stated::new(kinds.iter().filter_map(|kind| Some((kind.name(), value(kind)?))).collect())
}

fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}::/48")
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn an_address_is_kept_as_its_network_only() {
        for (address, kept) in [
            ("203.0.113.77", "203.0.113.0/24"),
            ("::ffff:203.0.113.77", "203.0.113.0/24"),
            ("2001:db8:aa:bb::1", "2001:db8:aa::/48"),
        ] {
            assert_eq!(network(address.parse().unwrap()), kept);
        }
    }
}
