//! The policy: a declarative table that can be read aloud, diffed and proven.
//!
//! A table is read once ([`Policy::parse`], every mistake at once), compiled into a lookup by code,
//! and then only asked: [`Policy::classify`] weighs evidence, [`Policy::permit`] opens a region,
//! [`Policy::check`] proves the table sound. A policy whose table would break a law it names itself
//! cannot be loaded at all; one that is merely incomplete loads, and `check` says what is missing.

mod check;
mod compile;
mod fields;
mod grant;
mod hash;
mod iso3166;
mod preset;
mod read;
mod rules;
mod transfers;
mod weigh;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

pub use check::{CheckFinding, CheckReport, CountryPlacement, Gravity};
pub use hash::PolicyHashes;

use crate::evidence::{Finding, Nothing, Source};
use crate::words::{Country, Jurisdiction, Place, Region, Tenant};
use crate::{Evidence, EvidenceList};

/// The longest policy text that is read, bytes.
pub const POLICY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The most rules a policy may hold.
pub const RULES_MAX: usize = 1_000;
/// The longest sentence (a reason, a title) in a policy, bytes.
pub const SENTENCE_BYTES_MAX: usize = 400;

/// Names a rule of the policy, e.g. `eea`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RuleId(Arc<str>);

impl RuleId {
    /// Wraps a rule's name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What weighing the evidence came to.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// Where, or why nowhere.
    pub outcome: Outcome,
    /// What was considered, heaviest first.
    pub evidence: EvidenceList,
    /// Index into `evidence` of the signal that decided.
    pub winner: Option<u8>,
    /// The rule that decided: one of the file's, or one of [`BUILT_IN_RULES`].
    pub rule: RuleId,
}

/// Where a person is at home, or why that cannot be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// At home in this region.
    Home {
        /// The region.
        region: Region,
        /// Its jurisdiction.
        jurisdiction: Jurisdiction,
    },
    /// It cannot be said.
    Unresolved(Unresolved),
    /// A law, or the policy on purpose, demands a place that we do not have.
    Refused {
        /// The place that was recognised.
        place: Place,
        /// The policy's sentence.
        reason: Arc<str>,
    },
}

/// Why a home could not be resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unresolved {
    /// No signal said anything.
    NoEvidence,
    /// Signals of weight contradict each other and the policy refuses such conflicts.
    Conflict,
    /// The place is none that the policy knows.
    UnknownPlace(Place),
    /// A pin names a region that the policy does not have (any more).
    UnknownRegion,
}

impl Unresolved {
    /// The stable code used in leaves and problem bodies.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoEvidence => "no_evidence",
            Self::Conflict => "conflict",
            Self::UnknownPlace(_) => "unknown_place",
            Self::UnknownRegion => "unknown_region",
        }
    }
}

/// The rules that are no rows of the table. A policy file cannot use these names.
pub const BUILT_IN_RULES: [&str; 8] = [
    "existing-pin",
    "tenant-pin",
    "stated-region",
    "operator-default",
    "no-evidence",
    "conflict",
    "unknown-place",
    "unknown-region",
];

/// What the policy says of one region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionRule {
    /// The one jurisdiction it lies in.
    pub jurisdiction: Jurisdiction,
    /// Where it may run, the first preferred. All lie inside the jurisdiction.
    pub placements: Vec<Placement>,
}

/// A location of a cloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The provider, e.g. `azure`.
    pub cloud: Arc<str>,
    /// Its name for the location, e.g. `germanywestcentral`.
    pub location: Arc<str>,
    /// The country it stands in, from the locations preset.
    pub country: Country,
    /// The metropolitan area it stands in, from the locations preset: one disaster's reach.
    pub area: Arc<str>,
}

/// Where a location stands, seen from a jurisdiction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Siting {
    /// In this country, which is a member.
    Inside(Country),
    /// In this country, which is none.
    Outside(Country),
    /// The locations preset does not have it, so nothing is proven.
    Unknown,
}

/// A mistake in a policy or preset file: where, what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, e.g. `rule[3].region`.
    pub key: String,
    /// What is wrong, as a sentence.
    pub message: String,
    /// What to do about it, as a sentence.
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.key, self.message, self.fix)
    }
}

impl std::error::Error for Problem {}

/// The policy in force: read, proven lawful, and compiled. Immutable.
#[derive(Debug)]
pub struct Policy {
    text: Arc<str>,
    hashes: PolicyHashes,
    hash_hex: String,
    version: String,
    conflict: Conflict,
    weighty: Vec<Source>,
    jurisdictions: BTreeMap<Jurisdiction, JurisdictionRule>,
    regions: BTreeMap<Region, RegionRule>,
    rules: Vec<Rule>,
    tenants: HashMap<Tenant, Region>,
    transfers: transfers::Transfers,
    default_region: Option<Region>,
    preset: preset::Preset,
    locations: preset::Locations,
    lookup: compile::Lookup,
    built_in: weigh::BuiltIn,
}

/// What happens when signals of weight name different regions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    /// The region in the strictest jurisdiction wins.
    Strictest,
    /// Nobody wins: the request is refused as unresolved.
    Refuse,
}

/// What the policy says of one jurisdiction.
#[derive(Debug, Clone)]
struct JurisdictionRule {
    title: String,
    law: String,
    strictness: u16,
    members: Selector,
}

/// One row of the table: these places go there, or nowhere.
#[derive(Debug, Clone)]
struct Rule {
    name: RuleId,
    selector: Selector,
    /// The region, or the sentence why there is none.
    verdict: Result<Region, Arc<str>>,
    /// The jurisdiction the row claims its region lies in.
    jurisdiction: Option<Jurisdiction>,
    /// Why people may be at home outside their own jurisdiction.
    because: Option<String>,
}

/// Which places a rule or jurisdiction means: codes named one by one, and preset rows with certain values.
#[derive(Debug, Clone, Default)]
struct Selector {
    codes: Vec<Place>,
    /// Every column must hold one of its values.
    preset: Vec<(preset::Column, Vec<String>)>,
}

impl Policy {
    /// Reads, proves and compiles a policy: `text` is the table (TOML), the others are the presets it chooses from.
    ///
    /// # Errors
    /// Every mistake at once: of form, of reference, and every row that would put data where the table's
    /// own jurisdictions forbid it ([`Gravity::Unlawful`]). What is only incomplete is left to [`Policy::check`].
    pub fn parse(text: &str, jurisdictions_csv: &str, locations_csv: &str) -> Result<Self, Vec<Problem>> {
        read::policy(text, jurisdictions_csv, locations_csv)
    }

    /// The text it was read from, byte for byte.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The hash that decisions name: it covers the table and both presets.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        self.hashes.policy
    }

    /// Its hash and those of what it is made of.
    #[must_use]
    pub fn hashes(&self) -> &PolicyHashes {
        &self.hashes
    }

    /// Whether a decision that names this hash was taken by this policy. Older logs name a policy by the hash of
    /// its text alone.
    #[must_use]
    pub fn answers_to(&self, hash: &[u8; 32]) -> bool {
        *hash == self.hashes.policy || *hash == self.hashes.text
    }

    /// [`hash`](Self::hash) in lower-case hex.
    #[must_use]
    pub fn hash_hex(&self) -> &str {
        &self.hash_hex
    }

    /// The version its author gave it.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Every region, by name.
    pub fn regions(&self) -> impl Iterator<Item = (&Region, &RegionRule)> {
        self.regions.iter()
    }

    /// What it says of one region.
    #[must_use]
    pub fn region(&self, region: &Region) -> Option<&RegionRule> {
        self.regions.get(region)
    }

    /// The title and the law of a jurisdiction, as the file words them.
    #[must_use]
    pub fn jurisdiction(&self, jurisdiction: &Jurisdiction) -> Option<(&str, &str)> {
        self.jurisdictions.get(jurisdiction).map(|rule| (rule.title.as_str(), rule.law.as_str()))
    }

    /// Whether a location of a cloud, written `cloud/location`, stands inside a jurisdiction. For stores that are no
    /// Postgres: a region's brokers and its warehouse have to stand inside too.
    #[must_use]
    pub fn siting(&self, location: &str, jurisdiction: &Jurisdiction) -> Siting {
        let found = location.split_once('/').and_then(|(cloud, location)| self.locations.find(cloud, location));
        match (found, self.jurisdictions.get(jurisdiction)) {
            (Some(found), Some(rule)) if self.is_member(found.country.into(), rule) => Siting::Inside(found.country),
            (Some(found), _) => Siting::Outside(found.country),
            (None, _) => Siting::Unknown,
        }
    }

    /// Whether a country belongs to a jurisdiction: for what is kept by somebody who names the country and no cloud.
    #[must_use]
    pub fn holds(&self, country: Country, jurisdiction: &Jurisdiction) -> bool {
        self.jurisdictions.get(jurisdiction).is_some_and(|rule| self.is_member(country.into(), rule))
    }

    /// The region an operator wrote for the case that nothing else speaks; absent unless written.
    #[must_use]
    pub fn default_region(&self) -> Option<&Region> {
        self.default_region.as_ref()
    }

    /// The home of a tenant's people: its region, or that the policy does not know the tenant.
    #[must_use]
    pub fn tenant_home(&self, tenant: &Tenant) -> Finding {
        match self.tenants.get(tenant) {
            Some(region) => Finding::Home(region.clone()),
            None => Finding::Nothing(Nothing::UnknownTenant),
        }
    }

    /// The tenants the policy places, with their regions, in no order.
    pub fn tenants(&self) -> impl Iterator<Item = (&Tenant, &Region)> {
        self.tenants.iter()
    }
}
