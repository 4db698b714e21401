//! What is written can be read, means the same, and is the only way to write it.

use leaf::{GatewayId, Kind, LEAF_BYTES_MAX, Leaf, NotALeaf, Out, SubjectTag, check_canonical, parse};
use proptest::prelude::*;
use residency::{
    Actor, Decision, DecisionId, Evidence, EvidenceList, Finding, Nothing, Operation, Origin, Place, Region, RuleId,
    Source,
};
use uuid::Uuid;

const NOTHINGS: [Nothing; 8] = [
    Nothing::SpecialAddress,
    Nothing::Anonymised,
    Nothing::UnknownNetwork,
    Nothing::MalformedForwarding,
    Nothing::NotBelieved,
    Nothing::OtherSubject,
    Nothing::UnknownTenant,
    Nothing::NoDatabase,
];
const ORIGINS: [Origin; 6] =
    [Origin::Directory, Origin::Policy, Origin::Token, Origin::Header, Origin::Connection, Origin::TrustedProxy];

fn region(name: &str) -> Region {
    Region::new(name).expect("a region")
}

fn decision() -> Decision {
    let mut evidence = EvidenceList::new();
    let place = Finding::Place(Place::new("DE").expect("a place"));
    evidence.push(Evidence { source: Source::DeclaredResidence, origin: Origin::Header, finding: place });
    let nothing = Finding::Nothing(Nothing::SpecialAddress);
    evidence.push(Evidence { source: Source::GeoIp, origin: Origin::Connection, finding: nothing });
    Decision {
        id: DecisionId(Uuid::from_u128(0x0193_6f3e_8f4c_7bbd_a1b0_9d5c_1f0a_2b3c)),
        at_us: 1_795_380_156_000_042,
        actor: Actor::new("key:checkout"),
        operation: Operation::RecordPut,
        resource: Some("profile".into()),
        via: region("ap-south"),
        evidence,
        winner: Some(0),
        rule: RuleId::new("eea"),
        policy_hash: [0xab; 32],
        geoip_built_s: Some(1_780_272_000),
        transfer: None,
        stated: None,
    }
}

fn encode(leaf: &Leaf<'_>) -> Vec<u8> {
    let mut line = Vec::new();
    leaf.encode_into(&mut line);
    line
}

fn ordinary() -> Vec<u8> {
    encode(&Leaf {
        decision: &decision(),
        kind: Kind::DecisionWrite,
        gateway: &GatewayId::new("eu-gw-1", 0x7f3a).expect("a gateway"),
        gseq: 43,
        subject: Some(SubjectTag([7; 32])),
        home: Some(&region("eu-central")),
        out: Out::Allow,
        why: None,
        rows: 1,
        bytes: 96,
        details: None,
    })
}

#[test]
fn an_ordinary_leaf_is_this_line() {
    let line = String::from_utf8(ordinary()).expect("UTF-8");
    assert_eq!(
        line,
        concat!(
            r#"{"act":"key:checkout","bytes":96,"dst":"eu-central","#,
            r#""ev":[["declared_residence","DE",40,"header"],["geoip","-special_address",20,"connection"]],"#,
            r#""geo":"2026-06-01","gseq":43,"gw":"eu-gw-1/00007f3a","home":"eu-central","#,
            r#""id":"01936f3e-8f4c-7bbd-a1b0-9d5c1f0a2b3c","k":"decision.write","op":"record.put","out":"allow","#,
            r#""pol":["abababababababababababababababababababababababababababababababab","eea"],"res":"profile","#,
            r#""rows":1,"sub":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc","ts":"2026-11-22T20:42:36.000042Z","#,
            r#""v":1,"via":"ap-south","win":0}"#,
        )
    );
}

#[test]
fn a_denial_without_a_home_says_so_and_names_nobody() {
    let mut decision = decision();
    decision.winner = None;
    decision.resource = None;
    decision.geoip_built_s = None;
    let line = encode(&Leaf {
        decision: &decision,
        kind: Kind::DecisionDeny,
        gateway: &GatewayId::new("eu-gw-1", 0x7f3a).expect("a gateway"),
        gseq: 44,
        subject: None,
        home: None,
        out: Out::Deny,
        why: Some("residency_unresolved"),
        rows: 0,
        bytes: 0,
        details: None,
    });
    let text = std::str::from_utf8(&line).expect("UTF-8");
    for absent in ["\"dst\"", "\"home\"", "\"sub\"", "\"res\"", "\"geo\"", "\"win\"", "null"] {
        assert!(!text.contains(absent), "{absent} in {text}");
    }
    assert!(text.contains(r#""subx":"unresolved""#) && text.contains(r#""why":"residency_unresolved""#), "{text}");
    let parsed = parse(&line).expect("a leaf");
    assert_eq!((parsed.home, parsed.subject, parsed.decision.winner), (None, None, None));
}

#[test]
fn a_leaf_reads_back_as_what_was_decided() {
    let parsed = parse(&ordinary()).expect("a leaf");
    let decision = decision();
    assert_eq!(parsed.decision.evidence, decision.evidence);
    assert_eq!(parsed.decision.id, decision.id);
    assert_eq!(parsed.decision.at_us, decision.at_us);
    assert_eq!(parsed.decision.actor, decision.actor);
    assert_eq!(parsed.decision.operation, decision.operation);
    assert_eq!(parsed.decision.rule, decision.rule);
    assert_eq!(parsed.decision.policy_hash, decision.policy_hash);
    assert_eq!(parsed.decision.geoip_built_s, decision.geoip_built_s);
    assert_eq!(parsed.gateway.as_str(), "eu-gw-1/00007f3a");
    assert_eq!((parsed.rows, parsed.bytes, parsed.gseq), (1, 96, 43));
    assert_eq!((parsed.kind, parsed.out), (Kind::DecisionWrite, Out::Allow));
}

#[test]
fn a_second_way_to_write_a_leaf_is_refused() {
    let line = String::from_utf8(ordinary()).expect("UTF-8");
    let edits: [(&str, &str); 22] = [
        (r#""bytes":96"#, r#""bytes": 96"#),
        (r#""bytes":96"#, r#""bytes":96.0"#),
        (r#""bytes":96"#, r#""bytes":9.6e1"#),
        (r#""bytes":96"#, r#""bytes":096"#),
        (r#""bytes":96"#, r#""bytes":-0"#),
        (r#""bytes":96"#, r#""bytes":9007199254740992"#),
        (r#""bytes":96"#, r#""bytes":96,"bytes":96"#),
        (r#""bytes":96"#, r#""bytes":96,"c":1"#),
        (r#""bytes":96,"#, ""),
        (r#""act":"key:checkout","bytes":96"#, r#""bytes":96,"act":"key:checkout""#),
        ("key:checkout", r"key:\u0063heckout"),
        ("key:checkout", r"key:checkout\/"),
        ("key:checkout", "key:checkout\n"),
        (r#""sub":"Bw"#, r#""sub":"B"#),
        ("Bwc\"", "Bwd\""),
        (",40,", ",41,"),
        ("\"DE\"", "\"De\""),
        ("2026-06-01", "2026-6-01"),
        ("20:42:36.000042Z", "20:42:36.00004200Z"),
        ("20:42:36.000042Z", "22:42:36.000042+02:00"),
        ("\"win\":0", "\"win\":2"),
        ("abab", "ABAB"),
    ];
    for (from, to) in edits {
        assert!(line.contains(from), "{from}");
        let edited = line.replacen(from, to, 1);
        assert!(parse(edited.as_bytes()).is_err(), "{edited}");
    }
    assert!(parse(format!("{line}\n").as_bytes()).is_err());
    assert!(parse(format!(" {line}").as_bytes()).is_err());
    assert!(parse(format!("\u{feff}{line}").as_bytes()).is_err());
    assert!(
        parse(line.replace("\"eu-central\",\"id\"", "\"eu-west\",\"id\"").as_bytes()).is_err(),
        "home and dst differ"
    );
}

#[test]
fn canonical_means_one_form() {
    for line in [r#"{}"#, r#"{"a":[],"b":{"c":[[1],-2,true,false,"é\n\u001f"]}}"#, r#"{"a":9007199254740991}"#] {
        assert_eq!(check_canonical(line.as_bytes()), Ok(()), "{line}");
    }
    for line in [
        "",
        "[]",
        "1",
        "{",
        "}",
        "{}}",
        "{} ",
        r#"{"a":null}"#,
        r#"{"a":1.0}"#,
        r#"{"a":1e3}"#,
        r#"{"a":01}"#,
        r#"{"a":-}"#,
        r#"{"a":9007199254740992}"#,
        r#"{"a":1,}"#,
        r#"{"a":[1,]}"#,
        r#"{"b":1,"a":2}"#,
        r#"{"a":1,"a":2}"#,
        r#"{"é":1}"#,
        r#"{"a":"\u0041"}"#,
        r#"{"a":"\u000a"}"#,
        r#"{"a":"\u001F"}"#,
        r#"{"a":"\/"}"#,
        "{\"a\":\"\t\"}",
        r#"{"a":"x}"#,
        r#"{"a":tru}"#,
        r#"{"a":[[[[[[[[[[1]]]]]]]]]]}"#,
        r#"{"a""#,
        r#"{"a":"\"#,
        r#"{"a":"\u00"#,
    ] {
        assert!(check_canonical(line.as_bytes()).is_err(), "{line}");
    }
    assert!(check_canonical(b"{\"a\":\"\xff\"}").is_err(), "not UTF-8");
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(LEAF_BYTES_MAX));
    assert!(check_canonical(long.as_bytes()).is_err(), "too long");
}

#[test]
fn the_error_says_which_rule_and_where() {
    let error = parse(br#"{"b":1,"a":2}"#).expect_err("unsorted");
    assert_eq!(error.to_string(), "the line is not canonical JSON: keys are sorted and appear once (at byte 7)");
    assert_eq!(parse(br#"{"a":2}"#).expect_err("no leaf"), NotALeaf::OtherFields);
}

fn any_finding() -> impl Strategy<Value = Finding> {
    prop_oneof![
        proptest::sample::select(&NOTHINGS[..]).prop_map(Finding::Nothing),
        "[a-z][a-z0-9-]{0,37}[a-z0-9]".prop_filter_map("a region", |name| Region::new(&name).ok().map(Finding::Home)),
        "[A-Z]{2}(-[A-Z0-9]{1,3})?".prop_map(|place| Finding::Place(Place::new(&place).expect("a place"))),
    ]
}

fn any_evidence() -> impl Strategy<Value = EvidenceList> {
    proptest::collection::vec((0..6_usize, 0..6_usize, any_finding()), 0..=6).prop_map(|list| {
        let one = |(source, origin, finding): (usize, usize, Finding)| Evidence {
            source: Source::ALL[source],
            origin: ORIGINS[origin],
            finding,
        };
        list.into_iter().map(one).collect()
    })
}

fn any_decision() -> impl Strategy<Value = Decision> {
    let who = (any::<String>(), 0..Operation::ALL.len(), proptest::option::of(any::<String>()));
    let what = (any_evidence(), any::<prop::sample::Index>(), any::<bool>(), any::<String>(), any::<[u8; 32]>());
    let when = (any::<u128>(), any::<i64>(), 0_u32..60, proptest::option::of(any::<u64>()));
    (who, what, when).prop_map(
        |((actor, operation, resource), (evidence, winner, won, rule, policy_hash), (id, at_us, shift, geo))| {
            Decision {
                id: DecisionId(Uuid::from_u128(id)),
                at_us: at_us >> shift,
                actor: Actor::new(&actor),
                operation: Operation::ALL[operation],
                resource: resource.map(Into::into),
                via: region("eu-central"),
                winner: (won && !evidence.is_empty())
                    .then(|| u8::try_from(winner.index(evidence.len())).expect("at most six")),
                evidence,
                rule: RuleId::new(&rule),
                policy_hash,
                geoip_built_s: geo.map(|seconds| seconds >> shift),
                transfer: None,
                stated: None,
            }
        },
    )
}

proptest! {
    #[test]
    fn every_leaf_reads_back_and_writes_the_same_bytes_again(
        decision in any_decision(), gseq in any::<u64>(), rows in any::<u64>(), tag in proptest::option::of(any::<[u8; 32]>()),
        home in proptest::option::of(Just(region("us-east"))), kind in 0..4_usize, out in 0..3_usize, why in proptest::option::of(any::<String>()),
    ) {
        let gateway = GatewayId::new("gw", 1).expect("a gateway");
        let leaf = Leaf {
            decision: &decision, kind: Kind::ALL[kind], gateway: &gateway, gseq, subject: tag.map(SubjectTag),
            home: home.as_ref(), out: Out::ALL[out], why: why.as_deref(), rows, bytes: gseq / 2,
            details: None,
        };
        let line = encode(&leaf);
        prop_assert!(line.len() <= LEAF_BYTES_MAX);
        prop_assert_eq!(check_canonical(&line), Ok(()));
        let parsed = parse(&line).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(encode(&parsed.as_leaf()), line);
        prop_assert_eq!(&parsed.decision.evidence, &decision.evidence);
    }

    #[test]
    fn a_leaf_agrees_with_what_serde_json_would_write(decision in any_decision()) {
        let gateway = GatewayId::new("gw", 1).expect("a gateway");
        let line = encode(&Leaf {
            decision: &decision, kind: Kind::DecisionRead, gateway: &gateway, gseq: 1, subject: None,
            home: None, out: Out::Allow, why: None, rows: 0, bytes: 0,
            details: None,
        });
        // A sorted map of plain values, rendered by serde_json: the reference for keys, spacing and escapes.
        let value: std::collections::BTreeMap<String, serde_json::Value> = serde_json::from_slice(&line).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(serde_json::to_vec(&value).expect("JSON"), line);
    }

    #[test]
    fn the_longest_texts_stay_below_the_limit(text in "[\u{0}-\u{1f}\"\\\\é😀a]{0,400}") {
        let mut decision = decision();
        decision.actor = Actor::new(&text);
        decision.resource = Some(text.as_str().into());
        decision.rule = RuleId::new(&text);
        let widest = Evidence {
            source: Source::DeclaredResidence,
            origin: Origin::TrustedProxy,
            finding: Finding::Home(region(&"a".repeat(40))),
        };
        decision.evidence = std::iter::repeat_n(widest, 6).collect();
        let gateway = GatewayId::new(&"g".repeat(64), u32::MAX).expect("a gateway");
        let home = region(&"b".repeat(40));
        let line = encode(&Leaf {
            decision: &decision, kind: Kind::SubjectRegister, gateway: &gateway, gseq: u64::MAX, subject: Some(SubjectTag([0; 32])),
            home: Some(&home), out: Out::Error, why: Some(&text), rows: u64::MAX, bytes: u64::MAX,
            details: None,
        });
        prop_assert!(line.len() < LEAF_BYTES_MAX / 2, "{} bytes", line.len());
        prop_assert!(parse(&line).is_ok());
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(parse(&bytes).is_err());
    }

    #[test]
    fn no_damaged_leaf_makes_the_reader_panic_or_reads_as_the_same(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut damaged = ordinary();
        let at = at.index(damaged.len());
        if cut { damaged.truncate(at) } else { damaged[at] = byte };
        if let Ok(parsed) = parse(&damaged) {
            prop_assert_eq!(encode(&parsed.as_leaf()), damaged);
        }
    }
}

#[test]
fn the_calendar_agrees_with_the_time_crate() {
    let gateway = GatewayId::new("gw", 1).expect("a gateway");
    for days in (0..2_932_897_i64).step_by(997).chain([59, 60, 789, 11_016, 11_017, 47_541, 2_932_896]) {
        let mut decision = decision();
        decision.at_us = days * 86_400_000_000 + 86_399_999_999;
        decision.geoip_built_s = Some(days.unsigned_abs() * 86_400 + 3);
        let line = encode(&Leaf {
            decision: &decision,
            kind: Kind::DecisionRead,
            gateway: &gateway,
            gseq: 1,
            subject: None,
            home: None,
            out: Out::Allow,
            why: None,
            rows: 0,
            bytes: 0,
            details: None,
        });
        let parsed = parse(&line).expect("a leaf");
        assert_eq!(parsed.decision.at_us, decision.at_us);
        assert_eq!(parsed.decision.geoip_built_s, Some(days.unsigned_abs() * 86_400));
    }
}
