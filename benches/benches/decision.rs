//! What a decision costs, against a GeoIP lookup alone: the same database, the same addresses.

use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use divan::{Bencher, black_box};
use geoip::{GeoIp, Settings, Source as Database};
use residency::{Country, Evidence, EvidenceList, Finding, Origin, Place, Policy, Region, Source, presets};

fn main() {
    divan::main();
}

fn policy() -> Policy {
    Policy::parse(presets::SHIPPED_POLICY, presets::JURISDICTIONS, presets::LOCATIONS)
        .expect("the shipped policy is sound")
}

fn geoip() -> GeoIp {
    let bytes = include_bytes!("../../config/geoip/iptoasn-country.mmdb.xz");
    let november_2026 = UNIX_EPOCH + Duration::from_secs(1_795_000_000);
    GeoIp::load(&Settings::new(Database::Bytes(bytes)), november_2026).expect("the bundled database")
}

fn addresses() -> Vec<IpAddr> {
    let texts =
        ["134.130.4.1", "212.27.40.240", "102.35.0.1", "131.111.8.42", "18.9.22.169", "129.132.98.12", "2001:4ca0::1"];
    texts.iter().map(|text| text.parse().expect("an address")).collect()
}

fn region(name: &str) -> Region {
    Region::new(name).expect("a region")
}

fn place(code: &str) -> Finding {
    Finding::Place(Place::from(Country::new(code).expect("a country")))
}

fn signal(source: Source, origin: Origin, finding: Finding) -> Evidence {
    Evidence { source, origin, finding }
}

/// The measure for all others.
#[divan::bench]
fn geoip_lookup_alone(bencher: Bencher<'_, '_>) {
    let (database, addresses) = (geoip(), addresses());
    let mut turn = addresses.iter().cycle();
    bencher.bench_local(|| database.find(black_box(*turn.next().expect("a cycle has no end"))));
}

#[divan::bench]
fn decision_with_a_cached_pin(bencher: Bencher<'_, '_>) {
    let (policy, home) = (policy(), region("eu-central"));
    bencher.bench_local(|| {
        let mut evidence = EvidenceList::new();
        evidence.push(signal(Source::ExistingPin, Origin::Directory, Finding::Home(home.clone())));
        policy.classify(black_box(evidence))
    });
}

#[divan::bench]
fn decision_by_geoip(bencher: Bencher<'_, '_>) {
    let (policy, database, addresses) = (policy(), geoip(), addresses());
    let mut turn = addresses.iter().cycle();
    bencher.bench_local(|| {
        let mut evidence = EvidenceList::new();
        let found = database.find(*turn.next().expect("a cycle has no end"));
        evidence.push(signal(Source::GeoIp, Origin::Connection, found));
        policy.classify(black_box(evidence))
    });
}

/// As many as a decision can hold, all of them of weight but the address, for three regions.
#[divan::bench]
fn decision_with_six_conflicting_signals(bencher: Bencher<'_, '_>) {
    let (policy, database, address) = (policy(), geoip(), addresses()[4]);
    bencher.bench_local(|| {
        let mut evidence = EvidenceList::new();
        evidence.push(signal(Source::DeclaredResidence, Origin::Header, place("GB")));
        evidence.push(signal(Source::VerifiedClaim, Origin::Token, place("US")));
        evidence.push(signal(Source::TenantPin, Origin::Header, Finding::Home(region("uk-south"))));
        evidence.push(signal(Source::VerifiedClaim, Origin::Token, place("FR")));
        evidence.push(signal(Source::DeclaredResidence, Origin::Header, place("IT")));
        evidence.push(signal(Source::GeoIp, Origin::TrustedProxy, database.find(black_box(address))));
        policy.classify(black_box(evidence))
    });
}
