//! Facts: what is written can be read, means the same, and is the only way to write it.

use leaf::{
    Attestation, Counterpart, Crossing, Export, Fact, FactKind, GatewayId, Gone, LEAF_BYTES_MAX, NotALeaf, Reading,
    SubjectTag, check_canonical, parse, parse_fact,
};
use residency::{PolicyHashes, Region, Transfer};
use uuid::Uuid;

const AT_US: i64 = 1_795_380_156_000_042;

fn region(name: &str) -> Region {
    Region::new(name).expect("a region")
}

fn encode(fact: &Fact) -> String {
    let mut line = Vec::new();
    fact.encode_into(&GatewayId::new("eu-gw-1", 0x7f3a).expect("a gateway"), 43, &mut line);
    String::from_utf8(line).expect("UTF-8")
}

/// One of each kind, with every field that it can have.
fn each() -> Vec<Fact> {
    let (a, b) = ([0xaa; 32], [0xbb; 32]);
    let hashes = PolicyHashes::of("text", "jurisdictions", "locations");
    let attested = Attestation {
        system_identifier: 7_321_456_789_012_345_678,
        database: "domicile_eu".into(),
        server_version: "15.14".into(),
        location: Some("azure/germanywestcentral".into()),
    };
    let reading = Reading {
        actor: "key:auditor".into(),
        what: "search",
        filter: vec!["outcome=deny".into(), "from=2026-11-01".into()],
        subject: Some(SubjectTag([7; 32])),
        at: Some(1..9),
        rows: Some(8),
    };
    let export = Export {
        actor: "op:audit".into(),
        format: "parquet",
        at: 0..512,
        rows: 500,
        bytes: 40_000,
        sha256: a,
        filter: vec!["kind=decision.deny".into()],
        subject: Some(SubjectTag([7; 32])),
        recipients: Some(2),
    };
    let gone = Gone { actor: "op:audit".into(), at: 0..256, size: 1_000, root: b, why: "retention".into() };
    let transfer = Transfer {
        from: region("us-east"),
        to: region("eu-central"),
        basis: "adequacy:(EU)2023/1795".into(),
        instrument: Some("register-7".into()),
    };
    let other = Counterpart {
        crossing: Crossing { id: Uuid::from_u128(7), transfer },
        actor: "key:checkout".into(),
        rows: 1,
        bytes: 96,
        seq: 12,
        leaf_hash: a,
    };
    vec![
        Fact::gateway_start(AT_US, 60, a, b, "0.1.0", &region("eu-central")),
        Fact::gateway_heartbeat(AT_US, 60),
        Fact::gateway_stop(AT_US),
        Fact::policy_activate(AT_US, &hashes, "2026-11"),
        Fact::config_change(AT_US, a, Some(b), &(0..30).map(|n| format!("regions.eu.key-{n}")).collect::<Vec<_>>()),
        Fact::key_succeed(AT_US, "log.example.com/2+1f2e3d4c+AAAA", "log.example.com+11111111+BBBB", 1_000, b),
        Fact::key_retire(AT_US, "log.example.com+1f2e3d4c+AAAA", Some("log.example.com/2+22222222+CCCC")),
        Fact::placement_attest(AT_US, &attested),
        Fact::audit_read(AT_US, &reading),
        Fact::export_make(AT_US, &export),
        Fact::violation_acknowledge(AT_US, "key:auditor", 17, "denied", Some(42), a),
        Fact::log_prune(AT_US, &gone),
        Fact::log_recover(AT_US, &gone),
        Fact::transfer(AT_US, &region("us-east"), &other),
        Fact::transfer(AT_US, &region("eu-central"), &other),
    ]
}

#[test]
fn every_kind_has_a_constructor_that_fills_every_field_and_reads_back() {
    let facts = each();
    let kinds: Vec<FactKind> = facts.iter().map(Fact::kind).collect();
    assert_eq!(kinds, FactKind::ALL);
    for fact in &facts {
        let line = encode(fact);
        check_canonical(line.as_bytes()).expect("canonical");
        let parsed = parse_fact(line.as_bytes()).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!((&parsed.fact, parsed.gseq, parsed.gateway.as_str()), (fact, 43, "eu-gw-1/00007f3a"));
        for field in fact.kind().fields() {
            assert!(line.contains(&format!("\"{}\":", field.key)), "{} lacks {}", fact.kind(), field.key);
        }
        assert!(parse(line.as_bytes()).is_err(), "a fact is no decision: {line}");
    }
}

#[test]
fn a_heartbeat_is_this_line() {
    assert_eq!(
        encode(&Fact::gateway_heartbeat(AT_US, 60)),
        r#"{"beat_s":60,"gseq":43,"gw":"eu-gw-1/00007f3a","k":"gateway.heartbeat","ts":"2026-11-22T20:42:36.000042Z","v":1}"#
    );
}

#[test]
fn a_key_that_succeeds_no_other_log_is_named_alone() {
    let line = encode(&Fact::key_rotate(AT_US, "log.example.com+1f2e3d4c+AAAA", None));
    assert!(parse_fact(line.as_bytes()).is_ok(), "{line}");
    assert!(!line.contains("root") && !line.contains("was"), "{line}");
}

#[test]
fn a_transfer_is_out_where_it_left_and_in_where_it_arrived() {
    let facts = each();
    let (out, into) = (&facts[13], &facts[14]);
    assert_eq!((out.kind(), into.kind()), (FactKind::TransferOut, FactKind::TransferIn));
    assert_eq!(out.crossing(), into.crossing());
    assert!(encode(into).contains(
        r#""xf":{"basis":"adequacy:(EU)2023/1795","from":"us-east","id":"00000000-0000-0000-0000-000000000007","inst":"register-7","to":"eu-central"}}"#
    ));
}

#[test]
fn no_kind_can_be_taken_for_a_decision() {
    for kind in FactKind::ALL {
        let has = |key: &str| kind.fields().iter().any(|field| field.key == key);
        assert!(!(has("id") && has("op")), "{kind}");
        assert!(kind.fields().is_sorted_by_key(|field| field.key), "{kind}");
    }
}

#[test]
fn a_line_that_says_more_or_less_or_otherwise_than_its_kind_is_refused() {
    let line = encode(&Fact::gateway_heartbeat(AT_US, 60));
    for (changed, expected) in [
        (line.replace("\"beat_s\":60,", ""), NotALeaf::Field("beat_s")),
        (line.replace("\"beat_s\":60", "\"beat_s\":\"60\""), NotALeaf::Field("beat_s")),
        (line.replace("{\"beat_s\"", "{\"anna\":1,\"beat_s\""), NotALeaf::OtherFields),
        (line.replace("gateway.heartbeat", "gateway.other"), NotALeaf::Field("k")),
        (line.replace("\"v\":1", "\"v\":2"), NotALeaf::Field("v")),
        (line.replace("036.000042Z", "36.000042Z").replace(".000042Z", ".000042000Z"), NotALeaf::Rewritten),
    ] {
        assert_ne!(changed, line);
        assert_eq!(parse_fact(changed.as_bytes()), Err(expected), "{changed}");
    }
}

#[test]
fn the_longest_facts_fit_into_a_leaf() {
    let keys: Vec<String> = (0..100).map(|n| format!("{n:03}").repeat(200)).collect();
    let long = "ü\"".repeat(500);
    let reading = Reading { actor: long, what: "search", filter: keys.clone(), ..Reading::default() };
    for fact in [Fact::config_change(AT_US, [1; 32], Some([2; 32]), &keys), Fact::audit_read(AT_US, &reading)] {
        let line = encode(&fact);
        assert!(line.len() <= LEAF_BYTES_MAX, "{} bytes", line.len());
        parse_fact(line.as_bytes()).expect("a fact, with its texts cut");
    }
}
