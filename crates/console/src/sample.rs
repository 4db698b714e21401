//! Decisions to try the pages with: one that was allowed, one that was not.

use audit::Entry;
use leaf::{GatewayId, Kind, Leaf, Out, SubjectTag};
use residency::{
    Actor, Decision, DecisionId, Evidence, EvidenceList, Finding, Nothing, Operation, Origin, Outcome, Place, Policy,
    Region, Source, presets,
};
use uuid::Uuid;

/// The policy that ships.
pub(crate) fn policy() -> Policy {
    Policy::parse(presets::SHIPPED_POLICY, presets::JURISDICTIONS, presets::LOCATIONS).expect("the shipped policy")
}

/// A write that a declared residence led home, against a network address elsewhere.
pub(crate) fn entry() -> Entry {
    let place = |code: &str| Finding::Place(Place::new(code).expect("a place"));
    decided(
        4_711,
        [(Source::DeclaredResidence, Origin::Header, place("DE")), (Source::GeoIp, Origin::TrustedProxy, place("US"))],
        None,
    )
}

/// A write that nothing spoke for.
pub(crate) fn denied() -> Entry {
    let nothing = Finding::Nothing(Nothing::SpecialAddress);
    decided(4_710, [(Source::GeoIp, Origin::Connection, nothing)], Some("residency_unresolved"))
}

fn decided(seq: u64, signals: impl IntoIterator<Item = (Source, Origin, Finding)>, why: Option<&str>) -> Entry {
    let policy = policy();
    let evidence: EvidenceList =
        signals.into_iter().map(|(source, origin, finding)| Evidence { source, origin, finding }).collect();
    let verdict = policy.classify(evidence);
    let home = match verdict.outcome {
        Outcome::Home { region, .. } => Some(region),
        Outcome::Unresolved(_) | Outcome::Refused { .. } => None,
    };
    let region = Region::new("eu-central").expect("a region");
    let decision = Decision {
        id: DecisionId(Uuid::from_u128(0x0193_6f3e_8f4c_7bbd_a1b0_9d5c_1f0a_0000 + u128::from(seq))),
        at_us: 1_795_380_156_000_042,
        actor: Actor::new("key:checkout"),
        operation: Operation::RecordPut,
        resource: Some("profile".into()),
        via: region.clone(),
        evidence: verdict.evidence,
        winner: verdict.winner,
        rule: verdict.rule,
        policy_hash: policy.hash(),
        geoip_built_s: Some(1_780_272_000),
        transfer: None,
        stated: None,
    };
    let mut line = Vec::new();
    Leaf {
        decision: &decision,
        kind: if why.is_none() { Kind::DecisionWrite } else { Kind::DecisionDeny },
        gateway: &GatewayId::new("eu-gw-1", 0x7f3a_09c2).expect("a gateway"),
        gseq: seq,
        subject: home.as_ref().map(|_| SubjectTag([0xdc; 32])),
        home: home.as_ref(),
        out: if why.is_none() { Out::Allow } else { Out::Deny },
        why,
        rows: u64::from(why.is_none()),
        bytes: 317,
        details: None,
    }
    .encode_into(&mut line);
    let parsed = leaf::parse(&line);
    let leaf_hash = tlog::leaf_hash(&line);
    Entry { region, seq, leaf_hash, line: String::from_utf8(line).expect("UTF-8"), parsed }
}
