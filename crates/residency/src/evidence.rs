//! What a classification considers: signals about where a person is at home, each with its source,
//! its weight and where it came from. Absence is evidence of nothing, and says why.

use arrayvec::ArrayVec;

use crate::words::{Place, Region};

/// The kinds of evidence, heaviest first. The order is the design's and not configurable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The directory already knows the subject's home.
    ExistingPin,
    /// The subject's tenant is placed by the policy.
    TenantPin,
    /// A claim in a verified token about this very subject.
    VerifiedClaim,
    /// The residence the person declared, passed on by the application.
    DeclaredResidence,
    /// The country of the client's network address.
    GeoIp,
    /// What the operator wrote for the case that nothing else speaks.
    OperatorDefault,
}

impl Source {
    /// Every source, heaviest first.
    pub const ALL: [Self; 6] = [
        Self::ExistingPin,
        Self::TenantPin,
        Self::VerifiedClaim,
        Self::DeclaredResidence,
        Self::GeoIp,
        Self::OperatorDefault,
    ];

    /// The weight that is shown and logged; only its order matters.
    #[must_use]
    pub const fn weight(self) -> u8 {
        match self {
            Self::ExistingPin => 100,
            Self::TenantPin => 80,
            Self::VerifiedClaim => 60,
            Self::DeclaredResidence => 40,
            Self::GeoIp => 20,
            Self::OperatorDefault => 10,
        }
    }

    /// The stable name used in leaves, answers and policy files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ExistingPin => "existing_pin",
            Self::TenantPin => "tenant_pin",
            Self::VerifiedClaim => "verified_claim",
            Self::DeclaredResidence => "declared_residence",
            Self::GeoIp => "geoip",
            Self::OperatorDefault => "operator_default",
        }
    }
}

/// Where a signal came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The directory of pins.
    Directory,
    /// The policy file.
    Policy,
    /// A claim of the caller's verified token.
    Token,
    /// A `Domicile-…` header (or the same field of a classify body).
    Header,
    /// The peer address of the connection.
    Connection,
    /// A forwarding header, believed because every hop behind it is a trusted proxy.
    TrustedProxy,
}

impl Origin {
    /// The stable name used in leaves and answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Policy => "policy",
            Self::Token => "token",
            Self::Header => "header",
            Self::Connection => "connection",
            Self::TrustedProxy => "trusted_proxy",
        }
    }
}

/// What a signal says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It names the home region itself.
    Home(Region),
    /// It names a country or subdivision, which the policy places.
    Place(Place),
    /// It was looked for and says nothing.
    Nothing(Nothing),
}

/// Why a signal says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Nothing {
    /// The address is private, shared, reserved, documentation, a tunnel or the like.
    SpecialAddress,
    /// The network hides its users: VPN, proxy, Tor, satellite or anycast.
    Anonymised,
    /// The database has no country for this network, or a code that is no country.
    UnknownNetwork,
    /// A forwarding header from a trusted peer that cannot be read.
    MalformedForwarding,
    /// The caller may not state this kind of evidence.
    NotBelieved,
    /// The claim is about somebody else than this subject.
    OtherSubject,
    /// The policy does not know this tenant.
    UnknownTenant,
    /// No database is loaded.
    NoDatabase,
}

impl Nothing {
    /// The stable name used in leaves and answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SpecialAddress => "special_address",
            Self::Anonymised => "anonymised",
            Self::UnknownNetwork => "unknown_network",
            Self::MalformedForwarding => "malformed_forwarding",
            Self::NotBelieved => "not_believed",
            Self::OtherSubject => "other_subject",
            Self::UnknownTenant => "unknown_tenant",
            Self::NoDatabase => "no_database",
        }
    }
}

/// One signal about where a person is at home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// Which kind it is; it carries the weight.
    pub source: Source,
    /// Where it came from.
    pub origin: Origin,
    /// What it says.
    pub finding: Finding,
}

/// Everything considered for one request: at most one signal of each source, heaviest first once classified.
pub type EvidenceList = ArrayVec<Evidence, 6>;
