//! What it costs to write, hash-free, one ordinary leaf, and to read it back.

use std::hint::black_box;

use divan::Bencher;
use leaf::{GatewayId, Kind, Leaf, Out, SubjectTag};
use residency::{
    Actor, Country, Decision, DecisionId, Evidence, EvidenceList, Finding, Operation, Origin, Region, RuleId, Source,
};

fn main() {
    divan::main();
}

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
        rule: RuleId::new("pin"),
        policy_hash: [0x5a; 32],
        geoip_built_s: Some(1_780_272_000),
    }
}

fn encode(decision: &Decision, gateway: &GatewayId, buf: &mut Vec<u8>) {
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
    };
    leaf.encode_into(buf);
}

#[divan::bench]
fn write(bencher: Bencher) {
    let (decision, gateway) = (decision(), GatewayId::new("eu-gw-1", 0x7f3a).expect("a gateway"));
    let mut buf = Vec::with_capacity(4096);
    bencher.bench_local(|| {
        buf.clear();
        encode(black_box(&decision), &gateway, &mut buf);
        black_box(buf.len())
    });
}

#[divan::bench]
fn read(bencher: Bencher) {
    let mut buf = Vec::new();
    encode(&decision(), &GatewayId::new("eu-gw-1", 0x7f3a).expect("a gateway"), &mut buf);
    bencher.bench_local(|| leaf::parse(black_box(&buf)).is_ok());
}
