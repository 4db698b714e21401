//! From what a caller says to evidence: each signal once, with its origin, and with the reason when
//! it says nothing. Believing or not believing a caller is decided in the faces; weighing is the policy's.

use std::net::IpAddr;
use std::sync::Arc;

use geoip::GeoIp;
use residency::{
    Actor, Evidence, EvidenceList, Finding, Nothing, Operation, Origin, Pin, Place, Policy, Source, SubjectId, Tenant,
};

/// One request for a decision, as the faces understood it: made of headers and path, never of a body.
#[derive(Debug, Clone)]
pub struct Request {
    /// Whose data.
    pub subject: SubjectId,
    /// What for.
    pub operation: Operation,
    /// The coarse class of what is touched, e.g. the collection's name.
    pub resource: Option<Arc<str>>,
    /// Who asks.
    pub actor: Actor,
    /// What was said about the subject's home.
    pub signals: Signals,
}

/// What was said, beside the request, about where its subject is at home.
#[derive(Debug, Clone, Default)]
pub struct Signals {
    /// The tenant named by the caller.
    pub tenant: Option<TenantSignal>,
    /// The residence claim of the caller's verified token.
    pub claim: Option<Claim>,
    /// The residence that the person declared.
    pub declared: Option<Place>,
    /// The client's network address.
    pub client: Option<ClientSignal>,
}

/// A tenant, as named by the caller.
#[derive(Debug, Clone)]
pub struct TenantSignal {
    /// The tenant.
    pub tenant: Tenant,
    /// Whether the caller may speak for it.
    pub believed: bool,
}

/// A residence claim of a verified token.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    /// The claimed residence.
    pub place: Place,
    /// Whether the token is about the subject of this request.
    pub about_this_subject: bool,
}

/// What is known of the client's network address.
#[derive(Debug, Clone, Copy)]
pub enum ClientSignal {
    /// An address, and who said so.
    Address {
        /// The address.
        address: IpAddr,
        /// Who said so.
        origin: Origin,
    },
    /// A trusted proxy sent a forwarding header that cannot be read.
    Malformed,
    /// The caller stated an address but may not.
    NotBelieved,
}

/// Gathers the evidence, heaviest first.
pub(crate) fn evidence(policy: &Policy, geoip: &GeoIp, pin: Option<&Pin>, signals: &Signals) -> EvidenceList {
    let mut list = EvidenceList::new();
    let mut add = |source, origin, finding| list.push(Evidence { source, origin, finding });
    if let Some(pin) = pin {
        add(Source::ExistingPin, Origin::Directory, Finding::Home(pin.region.clone()));
    }
    if let Some(TenantSignal { tenant, believed }) = &signals.tenant {
        let finding = if *believed { policy.tenant_home(tenant) } else { Finding::Nothing(Nothing::NotBelieved) };
        add(Source::TenantPin, Origin::Header, finding);
    }
    if let Some(claim) = signals.claim {
        let finding = match claim.about_this_subject {
            true => Finding::Place(claim.place),
            false => Finding::Nothing(Nothing::OtherSubject),
        };
        add(Source::VerifiedClaim, Origin::Token, finding);
    }
    if let Some(place) = signals.declared {
        add(Source::DeclaredResidence, Origin::Header, Finding::Place(place));
    }
    match signals.client {
        Some(ClientSignal::Address { address, origin }) => add(Source::GeoIp, origin, geoip.find(address)),
        Some(ClientSignal::Malformed) => {
            add(Source::GeoIp, Origin::TrustedProxy, Finding::Nothing(Nothing::MalformedForwarding));
        }
        Some(ClientSignal::NotBelieved) => add(Source::GeoIp, Origin::Header, Finding::Nothing(Nothing::NotBelieved)),
        None => {}
    }
    list
}
