//! What the lines of the log cost: to write one, to prove it canonical, to read it, against hashing its bytes alone.

use divan::{Bencher, black_box};
use leaf::{GatewayId, Kind, Leaf, Out, SubjectTag};
use residency::{
    Actor, Country, Decision, DecisionId, Evidence, EvidenceList, Finding, Operation, Origin, Region, RuleId, Source,
};
use sha2::{Digest as _, Sha256};

fn main() {
    divan::main();
}

/// A decision as most are: a pin decides, an address is noted beside it.
fn decision() -> Decision {
    let region = Region::new("eu-central").expect("a region");
    let mut evidence = EvidenceList::new();
    let pin = Finding::Home(region.clone());
    evidence.push(Evidence { source: Source::ExistingPin, origin: Origin::Directory, finding: pin });
    let place = Finding::Place(Country::new("DE").expect("a country").into());
    evidence.push(Evidence { source: Source::GeoIp, origin: Origin::Connection, finding: place });
    Decision {
        id: DecisionId("01936f3e-8f4c-7bbd-a1b0-9d5c1f0a2b3c".parse().expect("a UUID")),
        at_us: 1_795_380_156_000_042,
        actor: Actor::new("key:checkout"),
        operation: Operation::RecordRead,
        resource: Some("profile".into()),
        via: region,
        evidence,
        winner: Some(0),
        rule: RuleId::new("existing-pin"),
        policy_hash: [0x5a; 32],
        geoip_built_s: Some(1_780_272_000),
        transfer: None,
        stated: None,
    }
}

fn encode(decision: &Decision, gateway: &GatewayId, line: &mut Vec<u8>) {
    let leaf = Leaf {
        decision,
        kind: Kind::of(decision.operation),
        gateway,
        gseq: 4_711,
        subject: Some(SubjectTag([0xc3; 32])),
        home: Some(&decision.via),
        out: Out::Allow,
        why: None,
        rows: 1,
        bytes: 317,
        details: None,
    };
    leaf.encode_into(line);
}

fn gateway() -> GatewayId {
    GatewayId::new("eu-gw-1", 0x7f3a).expect("a gateway")
}

fn line() -> Vec<u8> {
    let mut line = Vec::new();
    encode(&decision(), &gateway(), &mut line);
    line
}

/// The measure for all others.
#[divan::bench]
fn sha256_alone(bencher: Bencher<'_, '_>) {
    let line = line();
    bencher.bench_local(|| Sha256::digest(black_box(&line)));
}

#[divan::bench]
fn leaf_encoding(bencher: Bencher<'_, '_>) {
    let (decision, gateway) = (decision(), gateway());
    let mut line = Vec::with_capacity(1_024);
    bencher.bench_local(|| {
        line.clear();
        encode(black_box(&decision), &gateway, &mut line);
        black_box(line.len())
    });
}

#[divan::bench]
fn canonical_json(bencher: Bencher<'_, '_>) {
    let line = line();
    bencher.bench_local(|| leaf::check_canonical(black_box(&line)).is_ok());
}

#[divan::bench]
fn leaf_reading(bencher: Bencher<'_, '_>) {
    let line = line();
    bencher.bench_local(|| leaf::parse(black_box(&line)).is_ok());
}
