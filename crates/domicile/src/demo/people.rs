//! Who comes by: real addresses of public infrastructure (config/geoip/README.md says of whom), so that the bundled
//! database places them as it would place anybody.

/// Somebody seen from somewhere.
#[derive(Debug, Clone, Copy)]
pub(super) struct Visitor {
    /// What to call them.
    pub who: &'static str,
    /// Part of their subject identifier.
    pub slug: &'static str,
    /// The address they are seen from.
    pub address: &'static str,
    /// What they declared as their residence, if they did.
    pub declared: Option<&'static str>,
    /// Where they must end up, by the shipped policy.
    pub expected: Expected,
}

/// What must come of a visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// At home in this region.
    Home(&'static str),
    /// 451: the law of their place demands one that is not offered.
    Refused,
    /// 422: nobody can say where they are at home.
    Unresolved,
}

const fn seen(who: &'static str, slug: &'static str, address: &'static str, expected: Expected) -> Visitor {
    Visitor { who, slug, address, declared: None, expected }
}

/// Fifteen visits from a dozen countries.
pub(super) const VISITORS: [Visitor; 15] = [
    seen("visitor from Germany", "germany", "134.130.4.1", Expected::Home("eu-central")),
    seen("visitor from France", "france", "212.27.40.240", Expected::Home("eu-central")),
    seen("visitor from Réunion", "reunion", "102.35.0.1", Expected::Home("eu-central")),
    seen("visitor from Iceland", "iceland", "130.208.0.1", Expected::Home("eu-central")),
    seen("visitor from Germany, by IPv6", "germany-six", "2001:4ca0::1", Expected::Home("eu-central")),
    seen("visitor from Japan", "japan", "133.11.0.1", Expected::Home("eu-central")),
    seen("visitor from Brazil", "brazil", "143.107.1.1", Expected::Home("eu-central")),
    Visitor {
        who: "German on a trip to the US",
        slug: "traveller",
        address: "128.32.136.9",
        declared: Some("DE"),
        expected: Expected::Home("eu-central"),
    },
    seen("visitor from England", "england", "131.111.8.42", Expected::Home("uk-south")),
    seen("visitor from Gibraltar", "gibraltar", "195.244.192.1", Expected::Home("uk-south")),
    seen("visitor from the US", "us", "18.9.22.169", Expected::Home("us-east")),
    Visitor {
        who: "Californian on a trip to Switzerland",
        slug: "californian",
        address: "129.132.98.12",
        declared: Some("US-CA"),
        expected: Expected::Home("us-east"),
    },
    seen("visitor from China", "china", "166.111.8.28", Expected::Refused),
    seen("visitor from Russia", "russia", "194.85.32.18", Expected::Refused),
    seen("visitor from a private network", "nowhere", "10.11.12.13", Expected::Unresolved),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_tour_shows_what_it_promises() {
        let at_home = |region| VISITORS.iter().filter(|v| v.expected == Expected::Home(region)).count();
        assert!(at_home("eu-central") > 0 && at_home("uk-south") > 0 && at_home("us-east") > 0);
        assert!(VISITORS.iter().any(|v| v.slug == "reunion"), "an outermost region of the EU");
        assert!(VISITORS.iter().any(|v| v.expected == Expected::Refused), "a law that demands another place");
        let addresses: BTreeSet<_> = VISITORS.iter().map(|v| v.address).collect();
        assert_eq!(addresses.len(), VISITORS.len(), "an address is looked for as its visitor's own");
        assert!(VISITORS.iter().all(|v| v.address.parse::<std::net::IpAddr>().is_ok()));
    }
}
