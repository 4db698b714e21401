//! The client's address behind proxies. A forwarding header is believed only from a trusted peer, from one
//! configured source, and read from the right, hop by hop, as long as hops are trusted. What cannot be read is
//! unknown, never "the proxy": a proxy's own country would be a wrong answer that looks right.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

/// The most hops that are followed. A longer chain is malformed.
pub const HOPS_MAX: usize = 32;
/// The longest header value that is read, bytes.
const VALUE_BYTES_MAX: usize = 8 * 1024;

/// Which header tells the client's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForwardingSource {
    /// None: the peer is the client.
    None,
    /// `X-Forwarded-For`: a list of addresses, the latest hop last.
    XForwardedFor,
    /// `Forwarded` (RFC 7239): the `for` parameter of each element, the latest hop last.
    Forwarded,
    /// A header with one address and nothing else, e.g. `CF-Connecting-IP`.
    Header(String),
}

/// Whose forwarding headers are believed, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarding {
    /// The one header that is read.
    pub source: ForwardingSource,
    /// The networks of our own proxies.
    pub trusted: Vec<IpNet>,
}

/// Where a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAddress {
    /// The peer of the connection itself: no header was looked at.
    Peer(IpAddr),
    /// As the trusted proxies say.
    Forwarded(IpAddr),
    /// A trusted proxy is the peer, and what it says names no client.
    Malformed,
}

impl Forwarding {
    /// Believes nobody: the peer is the client.
    #[must_use]
    pub const fn none() -> Self {
        Self { source: ForwardingSource::None, trusted: Vec::new() }
    }

    /// The name of the header to hand to [`Forwarding::client_address`], in lower case; none if no header is read.
    #[must_use]
    pub fn header_name(&self) -> Option<String> {
        match &self.source {
            ForwardingSource::None => None,
            ForwardingSource::XForwardedFor => Some("x-forwarded-for".to_owned()),
            ForwardingSource::Forwarded => Some("forwarded".to_owned()),
            ForwardingSource::Header(name) => Some(name.to_ascii_lowercase()),
        }
    }

    /// Finds the client: the rightmost address that is not one of our own proxies.
    ///
    /// `values` are all values of the header named by [`Forwarding::header_name`], in the order of arrival. They
    /// are not looked at unless the peer is trusted. A trusted peer that sends no header, a header that ends
    /// before a client is named, or an element on the way that cannot be read: [`ClientAddress::Malformed`].
    /// What stands to the left of the client's address was written by the client and is never looked at.
    pub fn client_address<'a>(&self, peer: IpAddr, values: impl Iterator<Item = &'a [u8]>) -> ClientAddress {
        let peer = peer.to_canonical();
        if self.source == ForwardingSource::None || !self.trusts(peer) {
            return ClientAddress::Peer(peer);
        }
        let values: Vec<&[u8]> = values.take(HOPS_MAX + 1).collect();
        if values.len() > HOPS_MAX {
            return ClientAddress::Malformed;
        }
        let client = match &self.source {
            ForwardingSource::None => None,
            ForwardingSource::Header(_) => match values.as_slice() {
                [value] => text(value).and_then(plain_address).filter(|ip| !self.trusts(*ip)),
                _ => None,
            },
            ForwardingSource::XForwardedFor => {
                let hops = values.iter().rev().flat_map(|value| match text(value) {
                    Some(value) => value.rsplit(',').map(address_with_port).collect(),
                    None => vec![None],
                });
                self.rightmost_stranger(hops)
            }
            ForwardingSource::Forwarded => {
                let hops = values.iter().rev().flat_map(|value| match text(value).and_then(forwarded_for) {
                    Some(nodes) => nodes.into_iter().rev().collect(),
                    None => vec![None],
                });
                self.rightmost_stranger(hops)
            }
        };
        client.map_or(ClientAddress::Malformed, ClientAddress::Forwarded)
    }

    fn trusts(&self, ip: IpAddr) -> bool {
        self.trusted.iter().any(|net| net.contains(&ip))
    }

    /// Goes from the latest hop to the earliest while hops are ours. `None` among the hops is one that cannot be read.
    fn rightmost_stranger(&self, hops: impl Iterator<Item = Option<IpAddr>>) -> Option<IpAddr> {
        for hop in hops.take(HOPS_MAX) {
            let hop = hop?;
            if !self.trusts(hop) {
                return Some(hop);
            }
        }
        None
    }
}

fn text(value: &[u8]) -> Option<&str> {
    if value.len() > VALUE_BYTES_MAX { None } else { std::str::from_utf8(value).ok() }
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

fn plain_address(value: &str) -> Option<IpAddr> {
    trim(value).parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

/// `1.2.3.4`, `1.2.3.4:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`: what proxies write into X-Forwarded-For.
fn address_with_port(value: &str) -> Option<IpAddr> {
    let value = trim(value);
    let ip = if let Ok(ip) = value.parse::<IpAddr>() {
        ip
    } else if let Some(bracketed) = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        bracketed.parse::<Ipv6Addr>().ok()?.into()
    } else {
        value.parse::<SocketAddr>().ok()?.ip()
    };
    Some(ip.to_canonical())
}

/// The `for` of each element of a `Forwarded` value (RFC 7239, section 4), `None` where it names no address. `None`
/// altogether if the value breaks the grammar, since then no comma in it can be trusted to part two elements.
fn forwarded_for(value: &str) -> Option<Vec<Option<IpAddr>>> {
    let mut nodes = Vec::new();
    let mut rest = trim(value);
    loop {
        let mut node = None;
        loop {
            let (name, after) = take_token(rest)?;
            let (parameter, after) = take_token_or_quoted(after.strip_prefix('=')?)?;
            if name.eq_ignore_ascii_case("for") {
                if node.is_some() {
                    return None;
                }
                node = Some(forwarded_node(&parameter));
            }
            rest = trim(after);
            match rest.strip_prefix(';') {
                Some(after) => rest = trim(after),
                None => break,
            }
        }
        nodes.push(node.flatten());
        if rest.is_empty() {
            return Some(nodes);
        }
        rest = trim(rest.strip_prefix(',')?);
    }
}

/// A node name (RFC 7239, section 6): IPv6 in brackets. `unknown` and obfuscated names are no address.
fn forwarded_node(node: &str) -> Option<IpAddr> {
    if node.starts_with('[') || node.contains('.') { address_with_port(node) } else { None }
}

fn take_token(text: &str) -> Option<(&str, &str)> {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let end = text.bytes().position(|b| !is_token(b)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn take_token_or_quoted(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        return take_token(text).map(|(token, rest)| (token.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            _ => value.push(character),
        }
    }
    None
}

#[cfg(test)]
mod tests;
