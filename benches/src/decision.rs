//! What a decision costs, against a lookup in the country database alone: one thread, in this process.

use std::hint::black_box;
use std::net::IpAddr;
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context, Result};
use geoip::{GeoIp, Settings, Source as Database};
use maxminddb::{Reader, path};
use residency::{
    Country, Evidence, EvidenceList, Finding, Origin, Pin, Place, Policy, Region, Source, SubjectId, presets,
};
use storage::{Directory, DirectorySettings, Limits};
use world::World;

use crate::population;
use crate::progress::Progress;
use crate::report::{Comparison, Goal, median};
use crate::scene::POSTGRES;

/// The database that ships with domicile, packed.
const COUNTRIES: &[u8] = include_bytes!("../../config/geoip/iptoasn-country.mmdb.xz");
/// When the database is taken to be fresh: November 2026.
const LOADED_AT: Duration = Duration::from_secs(1_795_000_000);
/// Decisions in one sample, and samples: the median of them counts.
const TIMES: usize = 5_000;
const SAMPLES: usize = 51;
/// Pinned subjects that take turns.
const SUBJECTS: u64 = 1_000;
/// Addresses of seven networks in as many countries, one of them IPv6, and one of nobody.
const ADDRESSES: [&str; 8] = [
    "134.130.4.1",
    "212.27.40.240",
    "102.35.0.1",
    "131.111.8.42",
    "18.9.22.169",
    "129.132.98.12",
    "2001:4ca0::1",
    "10.1.2.3",
];

/// The three decisions of the table and their measure.
pub(crate) async fn decisions(progress: &Progress) -> Result<Vec<Comparison>> {
    progress.now("decisions, and lookups in the country database alone");
    let policy = Policy::parse(presets::SHIPPED_POLICY, presets::JURISDICTIONS, presets::LOCATIONS)
        .map_err(|mistakes| anyhow::anyhow!("the shipped policy is not sound: {mistakes:?}"))?;
    let countries = GeoIp::load(&Settings::new(Database::Bytes(COUNTRIES)), UNIX_EPOCH + LOADED_AT)?;
    let addresses: Vec<IpAddr> = ADDRESSES.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
    let alone = lookup_alone(&addresses)?;

    let mut turn = addresses.iter().cycle();
    let by_geoip = each_ns(|| {
        let mut evidence = EvidenceList::new();
        let finding = turn.next().map_or(Finding::Nothing(residency::Nothing::UnknownTenant), |ip| countries.find(*ip));
        evidence.push(Evidence { source: Source::GeoIp, origin: Origin::Connection, finding });
        black_box(policy.classify(black_box(evidence)));
    });
    let conflict = conflict()?;
    let by_conflict = each_ns(|| {
        let mut evidence = conflict.clone();
        evidence.push(Evidence {
            source: Source::GeoIp,
            origin: Origin::TrustedProxy,
            finding: countries.find(black_box(addresses[4])),
        });
        black_box(policy.classify(black_box(evidence)));
    });
    let (by_pin, digest) = with_a_cached_pin(&policy).await?;

    let against = |ns: f64| format!("{:.1} lookups alone, of {alone:.0} ns (maxminddb, country decoded)", ns / alone);
    let pin_detail = format!("{}; the subject's digest alone {digest:.0} ns", against(by_pin));
    let row =
        |name: &str, ns: f64, goal_us: f64| Comparison::value(name, ns / 1e3, "us", Goal::AtMost(goal_us), against(ns));
    let found = vec![
        Comparison { detail: pin_detail, ..row("decision with a cached pin", by_pin, 1.0) },
        row("decision by GeoIP", by_geoip, 2.0),
        row("decision of six conflicting signals", by_conflict, 5.0),
    ];
    found.iter().for_each(|one| progress.found(one));
    Ok(found)
}

/// The measure: the reader that everybody uses, with the country's code decoded.
fn lookup_alone(addresses: &[IpAddr]) -> Result<f64> {
    let mut unpacked = Vec::new();
    lzma_rs::xz_decompress(&mut std::io::Cursor::new(COUNTRIES), &mut unpacked).context("the database is damaged")?;
    let reader = Reader::from_source(unpacked)?;
    let mut turn = addresses.iter().cycle();
    Ok(each_ns(|| {
        let found = turn.next().and_then(|ip| reader.lookup(black_box(*ip)).ok());
        let code = found.and_then(|found| found.decode_path::<&str>(&path!["country_code"]).ok().flatten());
        black_box(code);
    }))
}

/// From a subject's name: its digest, the pin in memory, the policy's word. And the digest alone.
async fn with_a_cached_pin(policy: &Policy) -> Result<(f64, f64)> {
    let mut builder = World::with_regions(["eu-central"]).without_brokers().without_snowflakes().gateways_not_started();
    for (name, value) in POSTGRES {
        builder = builder.postgres_setting(name, value);
    }
    let world = builder.start().await?;
    population::settle(&world, 1..=SUBJECTS).await?;
    // Room for all of them, however unevenly they fall into the cache's shards.
    let directory = open(&world, SUBJECTS * 4)?;
    let subjects: Vec<SubjectId> =
        (1..=SUBJECTS).map(|n| SubjectId::new(&population::subject(n))).collect::<Result<_, _>>()?;
    for subject in &subjects {
        directory.home_of(subject).await?.context("a subject is not pinned")?;
    }
    let runtime = tokio::runtime::Handle::current();
    let mut turn = subjects.iter().cycle();
    // One future for a whole sample: what is measured is the lookup, not the entering of a runtime.
    let mut samples = Vec::new();
    for _ in 0..SAMPLES {
        let began = Instant::now();
        tokio::task::block_in_place(|| {
            runtime.block_on(async {
                for _ in 0..TIMES {
                    let Some(subject) = turn.next() else { break };
                    let pin: Option<Pin> = directory.home_of(black_box(subject)).await?;
                    let pin = pin.context("a pin was forgotten")?;
                    let mut evidence = EvidenceList::new();
                    let finding = Finding::Home(pin.region);
                    evidence.push(Evidence { source: Source::ExistingPin, origin: Origin::Directory, finding });
                    black_box(policy.classify(black_box(evidence)));
                }
                Ok::<_, anyhow::Error>(())
            })
        })?;
        samples.push(per_time_ns(began));
    }
    let mut turn = subjects.iter().cycle();
    let digest = each_ns(|| {
        black_box(turn.next().map(|subject| directory.digest(black_box(subject))));
    });
    drop(directory);
    world.shutdown().await;
    Ok((median(samples), digest))
}

/// The directory of a world, in this process.
pub(crate) fn open(world: &World, cache_pins_max: u64) -> Result<Directory> {
    Ok(Directory::open(DirectorySettings {
        dsn: world.directory().dsn("gateway", "directory").into(),
        peppers: world.peppers()?,
        cache_pins_max,
        limits: Limits::default(),
    }))
}

/// As many as a decision can hold, with the address that is looked up: a tenant's home, two claims and two
/// declarations, for three regions. All of them weigh, so all have to be settled.
fn conflict() -> Result<EvidenceList> {
    let place = |code: &str| Ok::<_, anyhow::Error>(Finding::Place(Place::from(Country::new(code)?)));
    let mut evidence = EvidenceList::new();
    let mut push = |source, origin, finding| evidence.push(Evidence { source, origin, finding });
    push(Source::DeclaredResidence, Origin::Header, place("GB")?);
    push(Source::VerifiedClaim, Origin::Token, place("US")?);
    push(Source::TenantPin, Origin::Header, Finding::Home(Region::new("uk-south")?));
    push(Source::VerifiedClaim, Origin::Token, place("FR")?);
    push(Source::DeclaredResidence, Origin::Header, place("IT")?);
    Ok(evidence)
}

/// The median time of one call, nanoseconds.
fn each_ns(mut call: impl FnMut()) -> f64 {
    let samples = (0..SAMPLES).map(|_| {
        let began = Instant::now();
        (0..TIMES).for_each(|_| call());
        per_time_ns(began)
    });
    median(samples.collect())
}

#[expect(clippy::cast_precision_loss, reason = "a mean")]
fn per_time_ns(began: Instant) -> f64 {
    began.elapsed().as_nanos() as f64 / TIMES as f64
}
