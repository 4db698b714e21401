//! Databases of every shape, good, bad and broken: what they say, which are let in, and how they are replaced.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use geoip::{GateError, GeoIp, Reason, Reload, Settings, Source};
use maxminddb_writer::Database;
use maxminddb_writer::metadata::IpVersion;
use maxminddb_writer::paths::IpAddrWithMask;
use residency::{Country, Finding, Nothing, Place};
use serde::Serialize;
use tempfile::TempDir;

const BUILT_S: u64 = 1_795_000_000;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const DEMO: &[u8] = include_bytes!("../../../config/geoip/iptoasn-country.mmdb.xz");

fn build_day() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(BUILT_S)
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn place(text: &str) -> Finding {
    Finding::Place(Place::new(text).expect("a place"))
}

fn country(text: &str) -> Country {
    Country::new(text).expect("a country")
}

/// Builds databases. Less specific networks come first.
struct Fixture(Database);

impl Fixture {
    fn new() -> Self {
        let mut database = Database::default();
        database.metadata.binary_format_major_version = 2;
        database.metadata.ip_version = IpVersion::V6;
        database.metadata.build_epoch = BUILT_S;
        database.metadata.database_type = "Test-Country".to_owned();
        Self(database)
    }

    fn with(mut self, network: &str, record: impl Serialize) -> Self {
        let mut path: IpAddrWithMask = network.parse().expect("a network");
        if let IpAddr::V4(v4) = path.addr {
            path = IpAddrWithMask::new(v4.to_ipv6_compatible().into(), path.mask + 96);
        }
        let data = self.0.insert_value(record).expect("a record");
        self.0.insert_node(path, data);
        self
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.write_to(Vec::new()).expect("a database")
    }

    fn write(&self, path: &Path) -> Settings {
        std::fs::write(path, self.bytes()).expect("a file");
        Settings::new(Source::File(path.to_owned()))
    }

    fn load(&self) -> GeoIp {
        let folder = TempDir::new().expect("a folder");
        GeoIp::load(&self.write(&folder.path().join("test.mmdb")), build_day()).expect("a good database")
    }
}

#[derive(Serialize)]
struct Asn {
    country_code: &'static str,
}

#[derive(Serialize)]
struct City {
    city: Names,
    country: Coded,
    subdivisions: Vec<Coded>,
    location: Location,
    registered_country: Coded,
}

#[derive(Serialize)]
struct Names {
    geoname_id: u32,
}

#[derive(Serialize)]
struct Location {
    latitude: f64,
}

#[derive(Serialize)]
struct Coded {
    iso_code: &'static str,
}

#[derive(Serialize)]
struct Anonymous {
    country: Coded,
    traits: Traits,
}

#[derive(Serialize)]
struct Traits {
    is_anonymous_proxy: bool,
}

#[derive(Serialize)]
struct OnlyRegistered {
    registered_country: Coded,
}

#[derive(Serialize)]
struct Flag {
    is_tor_exit_node: bool,
}

fn city(country: &'static str, subdivisions: &[&'static str]) -> City {
    City {
        city: Names { geoname_id: 7 },
        country: Coded { iso_code: country },
        subdivisions: subdivisions.iter().map(|iso_code| Coded { iso_code }).collect(),
        location: Location { latitude: 50.9 },
        registered_country: Coded { iso_code: "ZZ" },
    }
}

fn every_shape() -> Fixture {
    Fixture::new()
        .with("1.0.0.0/16", Asn { country_code: "AU" })
        .with("1.0.5.0/24", Asn { country_code: "NZ" })
        .with("2.0.0.0/16", city("DE", &[]))
        .with("2.1.0.0/16", city("US", &["CA", "06001"]))
        .with("2.2.0.0/16", city("ES", &["CN"]))
        .with("2.3.0.0/16", city("GB", &["a very long code"]))
        .with(
            "3.0.0.0/16",
            Anonymous { country: Coded { iso_code: "DE" }, traits: Traits { is_anonymous_proxy: true } },
        )
        .with(
            "3.1.0.0/16",
            Anonymous { country: Coded { iso_code: "DE" }, traits: Traits { is_anonymous_proxy: false } },
        )
        .with("3.2.0.0/16", Flag { is_tor_exit_node: true })
        .with("3.3.0.0/16", Asn { country_code: "A1" })
        .with("4.0.0.0/16", Asn { country_code: "EU" })
        .with("4.1.0.0/16", Asn { country_code: "" })
        .with("4.2.0.0/16", OnlyRegistered { registered_country: Coded { iso_code: "DE" } })
        .with("10.0.0.0/8", Asn { country_code: "DE" })
        .with("2001:0::/32", Asn { country_code: "DE" })
        .with("2a00::/16", Asn { country_code: "FR" })
}

#[test]
fn every_known_shape_says_its_country() {
    let geoip = every_shape().load();
    for (address, expected) in [
        ("1.0.0.1", place("AU")),
        ("1.0.5.1", place("NZ")),
        ("::ffff:1.0.5.1", place("NZ")),
        ("2.0.0.1", place("DE")),
        ("2.1.0.1", place("US-CA")),
        ("2.2.0.1", place("ES-CN")),
        ("2.3.0.1", place("GB")),
        ("3.1.0.1", place("DE")),
        ("2a00::1", place("FR")),
    ] {
        assert_eq!(geoip.find(ip(address)), expected, "{address}");
    }
}

#[test]
fn what_says_no_country_says_why() {
    let geoip = every_shape().load();
    for (address, expected) in [
        ("3.0.0.1", Nothing::Anonymised),
        ("3.2.0.1", Nothing::Anonymised),
        ("3.3.0.1", Nothing::Anonymised),
        ("4.0.0.1", Nothing::UnknownNetwork),
        ("4.1.0.1", Nothing::UnknownNetwork),
        ("4.2.0.1", Nothing::UnknownNetwork),
        ("9.9.9.9", Nothing::UnknownNetwork),
        ("10.1.2.3", Nothing::SpecialAddress),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", Nothing::SpecialAddress),
        ("192.0.2.1", Nothing::SpecialAddress),
    ] {
        assert_eq!(geoip.find(ip(address)), Finding::Nothing(expected), "{address}");
    }
    assert_eq!(GeoIp::empty().find(ip("9.9.9.9")), Finding::Nothing(Nothing::NoDatabase));
    assert_eq!(GeoIp::empty().built_s(), None);
}

#[test]
fn a_database_of_ipv4_only_answers_ipv6_with_unknown() {
    let mut database = Database::default();
    database.metadata.binary_format_major_version = 2;
    database.metadata.build_epoch = BUILT_S;
    let data = database.insert_value(Asn { country_code: "DE" }).expect("a record");
    database.insert_node("9.0.0.0/8".parse::<IpAddrWithMask>().expect("a network"), data);
    let geoip = Fixture(database).load();
    assert_eq!(geoip.find(ip("9.9.9.9")), place("DE"));
    assert_eq!(geoip.find(ip("2a00::1")), Finding::Nothing(Nothing::UnknownNetwork));
}

#[test]
fn the_gate_gives_every_reason_at_once() {
    let folder = TempDir::new().expect("a folder");
    let settings = Settings {
        sha256: Some([7; 32]),
        canaries: vec![(ip("1.0.0.1"), country("AU")), (ip("2.0.0.1"), country("FR")), (ip("9.9.9.9"), country("US"))],
        age_days_max: Some(30),
        networks_min: 1_000,
        coverage_percent_min: 50,
        ..every_shape().write(&folder.path().join("test.mmdb"))
    };
    let error = GeoIp::load(&settings, build_day() + 31 * DAY).expect_err("nothing about it is good");
    let [
        Reason::Sha256 { .. },
        Reason::Age { days: 31, days_max: 30 },
        Reason::Networks { min: 1_000, .. },
        Reason::Coverage { min: 50, .. },
        Reason::Canary { found: Some(found), .. },
        Reason::Canary { found: None, .. },
    ] = error.reasons.as_slice()
    else {
        panic!("{error}")
    };
    assert_eq!(*found, country("DE"));
    assert!(error.to_string().contains("31 days old"), "{error}");
}

#[test]
fn the_gate_lets_a_database_in_that_meets_every_demand() {
    let folder = TempDir::new().expect("a folder");
    let fixture = every_shape();
    let plain = fixture.write(&folder.path().join("test.mmdb"));
    let summary = GeoIp::load(&plain, build_day()).expect("a good database").summary().expect("it is loaded");
    assert_eq!((summary.built_s, summary.database_type.as_str()), (BUILT_S, "Test-Country"));
    let settings = Settings {
        sha256: Some(summary.sha256),
        canaries: vec![(ip("2.1.0.1"), country("US"))],
        age_days_max: Some(30),
        networks_min: summary.networks,
        coverage_percent_min: summary.coverage_percent,
        ..plain
    };
    GeoIp::load(&settings, build_day() + 30 * DAY).expect("it is just good enough");
    let error = GeoIp::load(&settings, build_day() - 3 * DAY).expect_err("built in the future");
    assert!(matches!(error.reasons.as_slice(), [Reason::FromTheFuture]), "{error}");
}

#[test]
fn a_new_file_takes_over_and_a_bad_one_changes_nothing() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("test.mmdb");
    let settings =
        Settings { networks_min: 1, ..Fixture::new().with("1.0.0.0/16", Asn { country_code: "AU" }).write(&path) };
    let geoip = GeoIp::load(&settings, build_day()).expect("a good database");
    let clone = geoip.clone();
    assert_eq!(geoip.reload_if_changed(build_day()).expect("nothing to object to"), Reload::Unchanged);

    Fixture::new()
        .with("1.0.0.0/16", Asn { country_code: "NZ" })
        .with("2.0.0.0/8", Asn { country_code: "FR" })
        .write(&path);
    let Reload::Replaced(summary) = geoip.reload_if_changed(build_day()).expect("a good database") else {
        panic!("the file changed")
    };
    assert_eq!(summary.networks, 2);
    assert_eq!(clone.find(ip("1.0.0.1")), place("NZ"), "clones see the new one");

    std::fs::write(&path, b"not a database").expect("a file");
    let error = geoip.reload_if_changed(build_day()).expect_err("it is no database");
    assert!(matches!(error.reasons.as_slice(), [Reason::Broken(_)]), "{error}");
    assert_eq!(geoip.find(ip("1.0.0.1")), place("NZ"), "the old one stays in force");
    assert_eq!(geoip.reload_if_changed(build_day()).expect("not tried again"), Reload::Unchanged);

    std::fs::remove_file(&path).expect("it is there");
    let error = geoip.reload_if_changed(build_day()).expect_err("there is no file");
    assert!(error.is_unreadable(), "{error}");
    assert_eq!(geoip.find(ip("1.0.0.1")), place("NZ"), "the old one stays in force");

    Fixture::new().with("1.0.0.0/16", Asn { country_code: "AU" }).write(&path);
    assert!(matches!(geoip.reload_if_changed(build_day()), Ok(Reload::Replaced(_))));
    assert_eq!(geoip.find(ip("1.0.0.1")), place("AU"));
}

/// Loads, and if it is let in asks it about many addresses. Must not panic, whatever the bytes.
fn survives(bytes: Vec<u8>) -> Result<GeoIp, GateError> {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("broken.mmdb");
    std::fs::write(&path, bytes).expect("a file");
    let loaded = GeoIp::load(&Settings::new(Source::File(path)), build_day());
    if let Ok(geoip) = &loaded {
        for first in 0..=255 {
            let _ = geoip.find(IpAddr::from([first, 0, 5, 1]));
            let _ = geoip.find(IpAddr::from([first, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]));
        }
    }
    loaded
}

#[test]
fn no_flipped_bit_makes_it_panic() {
    let good = every_shape().bytes();
    let mut refused = 0;
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        refused += usize::from(survives(bytes).is_err());
    }
    assert!(refused > 0, "some flips must be noticed");
}

#[test]
fn no_flipped_bit_passes_a_pinned_sha256() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("test.mmdb");
    let good = every_shape().bytes();
    let plain = every_shape().write(&path);
    let sha256 = GeoIp::load(&plain, build_day()).expect("a good database").summary().map(|summary| summary.sha256);
    for at in (0..good.len()).step_by(7) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        std::fs::write(&path, bytes).expect("a file");
        GeoIp::load(&Settings { sha256, ..plain.clone() }, build_day()).expect_err("one bit is wrong");
    }
}

#[test]
fn a_tree_whose_branches_grow_together_is_not_walked_for_ever() {
    // 24-bit records: six bytes a node. Sixty nodes, each leading to the next on both sides, have 2^60 leaves.
    let mut bytes = every_shape().bytes();
    for node in 0..60_u8 {
        bytes[usize::from(node) * 6..][..6].copy_from_slice(&[0, 0, node + 1, 0, 0, node + 1]);
    }
    let error = survives(bytes).expect_err("it is no tree");
    assert!(error.to_string().contains("grow together"), "{error}");
}

#[test]
fn no_truncation_makes_it_panic() {
    let good = every_shape().bytes();
    for length in (0..good.len()).step_by(11) {
        let _ = survives(good[..length].to_vec());
    }
}

#[test]
fn no_damage_to_a_packed_file_makes_it_panic_or_pass() {
    // Its beginning is enough: the container is checked before and while anything is unpacked.
    for at in (0..64).chain([1_000, 5_000, 20_000]) {
        let mut bytes = DEMO[..24_000].to_vec();
        bytes[at] ^= 0x04;
        survives(bytes).expect_err("the end is missing");
    }
}

#[test]
fn the_demonstrations_database_is_whole_and_says_what_its_readme_says() {
    let settings = Settings {
        sha256: Some(
            hex::decode("93cc3158038b5ddd3cef52652ba6d7a134ece0496117fae0a3ab6e7b5101815e")
                .expect("hex")
                .try_into()
                .expect("32 bytes"),
        ),
        networks_min: 100_000,
        coverage_percent_min: 80,
        age_days_max: Some(365),
        ..Settings::new(Source::Bytes(DEMO))
    };
    let geoip = GeoIp::load(&settings, build_day()).expect("the file that ships is good");
    let readme = include_str!("../../../config/geoip/README.md");
    let mut told = 0;
    for line in readme.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, address, code, ..] = cells.as_slice() else { continue };
        let Ok(address) = address.parse::<IpAddr>() else { continue };
        assert_eq!(geoip.find(address), place(code), "{address}");
        told += 1;
    }
    assert!(told >= 10, "the table of addresses was found");
    assert_eq!(geoip.reload_if_changed(build_day()).expect("it never changes"), Reload::Unchanged);
}
