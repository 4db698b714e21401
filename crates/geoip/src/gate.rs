//! The load gate: a database is believed only when it is the one that was meant, whole, recent enough, large
//! enough, and right about addresses whose country is known. All reasons against it are given at once.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use residency::Country;

use crate::database::Database;
use crate::record::Answer;
use crate::unpack;

const DAY_S: u64 = 24 * 60 * 60;
/// How far into the future a build time may lie before a clock must be wrong, days.
const FUTURE_DAYS_MAX: u64 = 2;

/// Where a database comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file, `.mmdb` or `.mmdb.xz`. Reloaded when it changes.
    File(PathBuf),
    /// A file carried in the binary, packed or not. Never changes.
    Bytes(&'static [u8]),
}

/// Which database to load, and what it must prove.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it comes from.
    pub source: Source,
    /// SHA-256 of the unpacked database. Pin it where you can: many a flipped bit passes every other test.
    pub sha256: Option<[u8; 32]>,
    /// Public addresses whose country is certain; each must be found there.
    pub canaries: Vec<(IpAddr, Country)>,
    /// The oldest build that is accepted, days.
    pub age_days_max: Option<u32>,
    /// The fewest networks with a record that are accepted.
    pub networks_min: u64,
    /// The least share of public IPv4 addresses that must have a country, percent.
    pub coverage_percent_min: u8,
}

impl Settings {
    /// Asks for nothing but a readable database with at least one network: set the other fields for production.
    #[must_use]
    pub const fn new(source: Source) -> Self {
        Self {
            source,
            sha256: None,
            canaries: Vec::new(),
            age_days_max: None,
            networks_min: 1,
            coverage_percent_min: 0,
        }
    }
}

/// What is known of a loaded database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// What it calls itself, e.g. `GeoLite2-Country`.
    pub database_type: String,
    /// When it was built, seconds since 1970-01-01 UTC, as it says itself.
    pub built_s: u64,
    /// Networks with a record.
    pub networks: u64,
    /// Different records.
    pub records: u64,
    /// Share of public IPv4 addresses with a country, percent, rounded down.
    pub coverage_percent: u8,
    /// SHA-256 of the unpacked database.
    pub sha256: [u8; 32],
}

/// One reason why a database was not loaded.
#[derive(Debug)]
pub enum Reason {
    /// The file could not be read.
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is larger than [`DATABASE_BYTES_MAX`](crate::DATABASE_BYTES_MAX).
    TooLarge,
    /// The `.xz` file cannot be unpacked.
    Packing(String),
    /// It is no MaxMind DB, or a record or the search tree in it is broken.
    Broken(String),
    /// It is not the file that was meant.
    Sha256 {
        /// What the settings pin.
        expected: [u8; 32],
        /// What it has.
        found: [u8; 32],
    },
    /// It is too old.
    Age {
        /// Its age, days.
        days: u64,
        /// The oldest accepted, days.
        days_max: u32,
    },
    /// It was built in the future: its clock or ours is wrong.
    FromTheFuture,
    /// It has too few networks.
    Networks {
        /// What it has.
        found: u64,
        /// The fewest accepted.
        min: u64,
    },
    /// It knows the country of too few addresses.
    Coverage {
        /// What it has, percent.
        found: u8,
        /// The least accepted, percent.
        min: u8,
    },
    /// It is wrong about an address whose country is certain.
    Canary {
        /// The address.
        address: IpAddr,
        /// Its country.
        expected: Country,
        /// What the database says; absent if it has no country for it.
        found: Option<Country>,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, source } => write!(f, "the file {} cannot be read: {source}", path.display()),
            Self::TooLarge => write!(f, "it has more than {} bytes", unpack::DATABASE_BYTES_MAX),
            Self::Packing(why) => write!(f, "it cannot be unpacked: {why}"),
            Self::Broken(why) => write!(f, "it is broken, or no MaxMind DB: {why}"),
            Self::Sha256 { expected, found } => {
                write!(f, "its sha256 is {}, not {}", hex::encode(found), hex::encode(expected))
            }
            Self::Age { days, days_max } => write!(f, "it is {days} days old; at most {days_max} are accepted"),
            Self::FromTheFuture => f.write_str("it says that it was built in the future"),
            Self::Networks { found, min } => write!(f, "it has {found} networks; at least {min} are expected"),
            Self::Coverage { found, min } => {
                write!(
                    f,
                    "it knows the country of {found} % of the public IPv4 addresses; at least {min} % are expected"
                )
            }
            Self::Canary { address, expected, found: Some(found) } => {
                write!(f, "it places the canary {address} in {found}, not in {expected}")
            }
            Self::Canary { address, expected, found: None } => {
                write!(f, "it has no country for the canary {address}, which is in {expected}")
            }
        }
    }
}

/// Why a database was not loaded: every reason that was found.
#[derive(Debug, thiserror::Error)]
#[error("the GeoIP database was not accepted: {}", sentence(.reasons))]
pub struct GateError {
    /// The reasons; at least one.
    pub reasons: Vec<Reason>,
}

impl GateError {
    /// Whether the file could not even be read, so that trying again without a change makes sense.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        self.reasons.iter().any(|reason| matches!(reason, Reason::Unreadable { .. }))
    }
}

fn sentence(reasons: &[Reason]) -> String {
    reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Reads a database and lets it through, or says everything that speaks against it.
pub(crate) fn load(settings: &Settings, now: SystemTime) -> Result<Database, GateError> {
    let database = unpack::bytes(&settings.source)
        .and_then(Database::open)
        .map_err(|reason| GateError { reasons: vec![reason] })?;
    let reasons = objections(&database, settings, now);
    if reasons.is_empty() { Ok(database) } else { Err(GateError { reasons }) }
}

fn objections(database: &Database, settings: &Settings, now: SystemTime) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let summary = database.summary();
    if let Some(expected) = settings.sha256.filter(|expected| *expected != summary.sha256) {
        reasons.push(Reason::Sha256 { expected, found: summary.sha256 });
    }
    if let Some(days_max) = settings.age_days_max {
        let now_s = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        let days = now_s.saturating_sub(summary.built_s) / DAY_S;
        if days > u64::from(days_max) {
            reasons.push(Reason::Age { days, days_max });
        }
        if summary.built_s > now_s.saturating_add(FUTURE_DAYS_MAX * DAY_S) {
            reasons.push(Reason::FromTheFuture);
        }
    }
    if summary.networks < settings.networks_min {
        reasons.push(Reason::Networks { found: summary.networks, min: settings.networks_min });
    }
    if summary.coverage_percent < settings.coverage_percent_min {
        reasons.push(Reason::Coverage { found: summary.coverage_percent, min: settings.coverage_percent_min });
    }
    for (address, expected) in &settings.canaries {
        let found = match database.find(address.to_canonical()) {
            Answer::Place(place) => Some(place.country),
            Answer::Nothing(_) => None,
        };
        if found != Some(*expected) {
            reasons.push(Reason::Canary { address: *address, expected: *expected, found });
        }
    }
    reasons
}
