//! One record of a database, in the shapes we know, and what it says.

use maxminddb::{LookupResult, MaxMindDbError};
use residency::{Country, Finding, Nothing, Place, Subdivision};
use serde::Deserialize;

/// What a record says, small enough to keep one for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Place(Place),
    Nothing(Nothing),
}

impl From<Answer> for Finding {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Place(place) => Self::Place(place),
            Answer::Nothing(nothing) => Self::Nothing(nothing),
        }
    }
}

/// GeoLite2 and GeoIP2 (Country, City, Enterprise; also the top-level flags of Anonymous IP), and iptoasn.
/// `registered_country` is left out on purpose: it says where a network's owner is, not its users.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Record<'a> {
    #[serde(borrow)]
    country: Coded<'a>,
    #[serde(borrow)]
    subdivisions: Vec<Coded<'a>>,
    country_code: Option<&'a str>,
    traits: Traits,
    is_anonymous: bool,
    is_anonymous_vpn: bool,
    is_public_proxy: bool,
    is_residential_proxy: bool,
    is_tor_exit_node: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Coded<'a> {
    #[serde(borrow)]
    iso_code: Option<&'a str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Traits {
    is_anonymous: bool,
    is_anonymous_proxy: bool,
    is_anonymous_vpn: bool,
    is_anycast: bool,
    is_public_proxy: bool,
    is_residential_proxy: bool,
    is_satellite_provider: bool,
    is_tor_exit_node: bool,
}

/// Decodes a record whole, so that a broken one is found at load and not by a request.
pub(crate) fn answer(found: &LookupResult<'_, Vec<u8>>) -> Result<Answer, MaxMindDbError> {
    let record: Record<'_> = found.decode()?.unwrap_or_default();
    Ok(record.answer())
}

impl Record<'_> {
    fn answer(&self) -> Answer {
        let code = self.country.iso_code.or(self.country_code);
        // MaxMind's legacy codes for anonymous proxies and satellites, Cloudflare's for Tor.
        if self.hides_its_users() || matches!(code, Some("A1" | "A2" | "T1")) {
            return Answer::Nothing(Nothing::Anonymised);
        }
        let country = match code {
            // "Europe", "Asia/Pacific", "unknown": no country, whatever is written there.
            None | Some("EU" | "AP" | "XX" | "ZZ") => None,
            Some(code) => Country::new(code).ok(),
        };
        let Some(country) = country else { return Answer::Nothing(Nothing::UnknownNetwork) };
        let subdivision = self.subdivisions.first().and_then(|s| s.iso_code).and_then(|s| Subdivision::new(s).ok());
        Answer::Place(Place { country, subdivision })
    }

    fn hides_its_users(&self) -> bool {
        let Traits {
            is_anonymous,
            is_anonymous_proxy,
            is_anonymous_vpn,
            is_anycast,
            is_public_proxy,
            is_residential_proxy,
            is_satellite_provider,
            is_tor_exit_node,
        } = self.traits;
        let by_trait = is_anonymous
            || is_anonymous_proxy
            || is_anonymous_vpn
            || is_anycast
            || is_public_proxy
            || is_residential_proxy
            || is_satellite_provider
            || is_tor_exit_node;
        by_trait
            || self.is_anonymous
            || self.is_anonymous_vpn
            || self.is_public_proxy
            || self.is_residential_proxy
            || self.is_tor_exit_node
    }
}
