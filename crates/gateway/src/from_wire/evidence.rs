//! From what a caller says beside its request to signals. Believing is decided here, weighing is not.
//!
//! Only three headers speak about a person's home. Whatever else may come along (`CF-IPCountry`,
//! `X-Region`, `?region=`) is not read by anybody.

use std::net::{IpAddr, SocketAddr};

use api::{Scope, headers};
use geoip::ClientAddress;
use http::HeaderMap;
use residency::{Origin, Place, SubjectId, Tenant};
use routing::{Claim, ClientSignal, Signals, TenantSignal};

use crate::app::App;
use crate::callers::Caller;
use crate::error::Error;

/// What a caller states, read but not yet believed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Stated {
    residence: Option<Place>,
    tenant: Option<Tenant>,
    client_address: Option<IpAddr>,
}

impl Stated {
    /// Reads the evidence headers.
    ///
    /// # Errors
    /// [`Error::HeaderRepeated`] when one stands twice, [`Error::Header`] when one cannot be read.
    pub(crate) fn in_headers(headers: &HeaderMap) -> Result<Self, Error> {
        Ok(Self {
            residence: read(headers, headers::RESIDENCE, PLACE, |text| Place::new(text).ok())?,
            tenant: read(headers, headers::TENANT, TENANT, |text| Tenant::new(text).ok())?,
            client_address: read(headers, headers::CLIENT_ADDRESS, ADDRESS, address)?,
        })
    }

    /// Reads the fields of the same names, of a classify body or a batch line.
    ///
    /// # Errors
    /// [`Error::Invalid`] when one cannot be read.
    pub(crate) fn in_fields(
        residence: Option<&str>,
        tenant: Option<&str>,
        client_address: Option<&str>,
    ) -> Result<Self, Error> {
        Ok(Self {
            residence: field("residence", residence, PLACE, |text| Place::new(text).ok())?,
            tenant: field("tenant", tenant, TENANT, |text| Tenant::new(text).ok())?,
            client_address: field("client_address", client_address, ADDRESS, address)?,
        })
    }
}

const PLACE: &str = "a country or subdivision, `DE` or `US-CA`";
const TENANT: &str = "1 to 64 characters of A-Z, a-z, 0-9, `.`, `_` and `-`";
const ADDRESS: &str = "an IPv4 or IPv6 address, without port";

/// Refuses evidence headers where each line of a body brings its own.
///
/// # Errors
/// [`Error::HeaderMisplaced`] names the first.
pub(crate) fn none_in(headers: &HeaderMap) -> Result<(), Error> {
    match [headers::RESIDENCE, headers::TENANT, headers::CLIENT_ADDRESS]
        .into_iter()
        .find(|name| headers.contains_key(*name))
    {
        Some(name) => Err(Error::HeaderMisplaced(name)),
        None => Ok(()),
    }
}

/// Turns what was stated, what the caller's credentials say and what the connection shows into signals.
/// Without a connection (a line of a batch) only a stated address speaks of the network.
///
/// # Errors
/// [`Error::TenantMismatch`] when a caller bound to one tenant names another: were that merely not
/// believed, naming another would be a way around the tenant's pin.
pub(crate) fn signals(
    app: &App,
    caller: &Caller,
    stated: Stated,
    subject: &SubjectId,
    connection: Option<(SocketAddr, &HeaderMap)>,
) -> Result<Signals, Error> {
    let claim = caller.token.as_ref().and_then(|facts| {
        let about_this_subject = facts.subject.as_ref() == Some(subject);
        facts.residence.map(|place| Claim { place, about_this_subject })
    });
    let client = client(app, caller, stated.client_address, connection);
    Ok(Signals { tenant: tenant(caller, stated.tenant)?, claim, declared: stated.residence, client })
}

fn tenant(caller: &Caller, stated: Option<Tenant>) -> Result<Option<TenantSignal>, Error> {
    if caller.scopes.contains(Scope::EvidenceTenant) {
        return Ok(stated.or_else(|| caller.tenant.clone()).map(|tenant| TenantSignal { tenant, believed: true }));
    }
    match (stated, &caller.tenant) {
        (Some(stated), Some(bound)) if stated != *bound => Err(Error::TenantMismatch),
        (_, Some(bound)) => Ok(Some(TenantSignal { tenant: bound.clone(), believed: true })),
        (stated, None) => Ok(stated.map(|tenant| TenantSignal { tenant, believed: false })),
    }
}

fn client(
    app: &App,
    caller: &Caller,
    stated: Option<IpAddr>,
    connection: Option<(SocketAddr, &HeaderMap)>,
) -> Option<ClientSignal> {
    if let Some(address) = stated
        && caller.scopes.contains(Scope::EvidenceClientAddress)
    {
        return Some(ClientSignal::Address { address, origin: Origin::Header });
    }
    // Stated by somebody who may not: as if it had not been said, so that saying it suppresses nothing.
    let unheard = stated.map(|_| ClientSignal::NotBelieved);
    let Some((peer, headers)) = connection else { return unheard };
    let values = app.forwarded_in.iter().flat_map(|name| headers.get_all(name)).map(http::HeaderValue::as_bytes);
    match app.settings.forwarding.client_address(peer.ip(), values) {
        ClientAddress::Forwarded(address) => Some(ClientSignal::Address { address, origin: Origin::TrustedProxy }),
        ClientAddress::Malformed => Some(ClientSignal::Malformed),
        ClientAddress::Peer(address) if app.settings.peer_address => {
            Some(ClientSignal::Address { address, origin: Origin::Connection })
        }
        ClientAddress::Peer(_) => unheard,
    }
}

/// The one value of a header.
///
/// # Errors
/// [`Error::HeaderRepeated`] or [`Error::Header`].
pub(crate) fn one<'h>(
    headers: &'h HeaderMap,
    name: &'static str,
    rule: &'static str,
) -> Result<Option<&'h str>, Error> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Error::HeaderRepeated(name));
    }
    value.to_str().map(Some).map_err(|_| Error::Header { name, rule })
}

fn read<T>(
    headers: &HeaderMap,
    name: &'static str,
    rule: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, Error> {
    match one(headers, name, rule)? {
        None => Ok(None),
        Some(text) => parse(text).map(Some).ok_or(Error::Header { name, rule }),
    }
}

fn field<T>(
    at: &'static str,
    text: Option<&str>,
    rule: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, Error> {
    text.map(|text| parse(text).ok_or_else(|| Error::invalid(at, rule))).transpose()
}

fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    #[test]
    fn evidence_is_read_from_three_headers_and_no_other() {
        let tricks = headers(&[
            ("cf-ipcountry", "US"),
            ("x-region", "us-east"),
            ("x-forwarded-for", "2.160.0.1"),
            ("forwarded", "for=2.160.0.1"),
            ("x-real-ip", "2.160.0.1"),
            ("domicile-region", "us-east"),
        ]);
        assert_eq!(Stated::in_headers(&tricks).unwrap(), Stated::default());
    }

    #[test]
    fn a_header_that_stands_twice_is_refused_even_if_both_agree() {
        let twice = headers(&[("domicile-residence", "DE"), ("domicile-residence", "DE")]);
        assert!(matches!(Stated::in_headers(&twice), Err(Error::HeaderRepeated("domicile-residence"))));
    }

    #[test]
    fn malformed_evidence_is_refused_rather_than_left_out() {
        for (name, value) in [
            ("domicile-residence", "Germany"),
            ("domicile-residence", ""),
            ("domicile-residence", "DE, US"),
            ("domicile-tenant", "a b"),
            ("domicile-client-address", "2.160.0.1:80"),
            ("domicile-client-address", "localhost"),
            ("domicile-client-address", "2.160.0.1, 8.8.8.8"),
        ] {
            assert!(
                matches!(Stated::in_headers(&headers(&[(name, value)])), Err(Error::Header { .. })),
                "{name}: {value}"
            );
        }
    }

    fn caller(scopes: &[Scope], tenant: Option<&str>) -> Caller {
        Caller {
            actor: residency::Actor::new("key:test"),
            bucket: 0,
            scopes: scopes.iter().copied().collect(),
            tenant: tenant.map(|name| Tenant::new(name).unwrap()),
            token: None,
        }
    }

    #[test]
    fn a_bound_tenant_speaks_by_itself_and_cannot_be_talked_away() {
        let bound = caller(&[], Some("acme"));
        assert!(
            matches!(tenant(&bound, None), Ok(Some(signal)) if signal.believed && signal.tenant.as_str() == "acme")
        );
        assert!(matches!(tenant(&bound, Tenant::new("acme").ok()), Ok(Some(signal)) if signal.believed));
        assert!(matches!(tenant(&bound, Tenant::new("other").ok()), Err(Error::TenantMismatch)));
    }

    #[test]
    fn a_tenant_is_believed_only_from_those_who_may_name_it() {
        let anybody = caller(&[], None);
        assert!(matches!(tenant(&anybody, Tenant::new("acme").ok()), Ok(Some(signal)) if !signal.believed));
        let trusted = caller(&[Scope::EvidenceTenant], Some("acme"));
        assert!(
            matches!(tenant(&trusted, Tenant::new("other").ok()), Ok(Some(signal)) if signal.believed && signal.tenant.as_str() == "other")
        );
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(bytes in proptest::collection::vec(0x20..=0xff_u8, 0..60)) {
            let mut map = HeaderMap::new();
            for name in [headers::RESIDENCE, headers::TENANT, headers::CLIENT_ADDRESS] {
                if let Ok(value) = http::HeaderValue::from_bytes(&bytes) {
                    map.insert(name, value);
                }
            }
            let _ = Stated::in_headers(&map);
        }
    }
}
