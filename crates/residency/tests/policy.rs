//! The policy as its callers see it: what evidence comes to, and what a pin allows.

use proptest::prelude::*;
use residency::policy::BUILT_IN_RULES;
use residency::presets::{JURISDICTIONS, LOCATIONS, SHIPPED_POLICY};
use residency::{
    Actor, Decision, DecisionId, DenialReason, Epoch, Evidence, EvidenceList, Finding, Nothing, Operation, Origin,
    Outcome, Pin, PinState, Place, Policy, Read, Region, Source, SubjectId, Tenant, Unresolved, Verdict, Write,
};

fn shipped() -> Policy {
    changed(|text| text.to_owned())
}

/// The shipped policy with a change to its text.
fn changed(change: impl FnOnce(&str) -> String) -> Policy {
    let text = change(SHIPPED_POLICY);
    Policy::parse(&text, JURISDICTIONS, LOCATIONS).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn replaced(from: &str, to: &str) -> Policy {
    changed(|text| {
        assert!(text.contains(from), "the shipped policy has `{from}`");
        text.replace(from, to)
    })
}

fn says(source: Source, finding: Finding) -> Evidence {
    Evidence { source, origin: Origin::Header, finding }
}

fn at(source: Source, place: &str) -> Evidence {
    says(source, Finding::Place(Place::new(place).expect("a place")))
}

fn home(source: Source, region: &str) -> Evidence {
    says(source, Finding::Home(Region::new(region).expect("a region")))
}

fn weigh(policy: &Policy, evidence: &[Evidence]) -> Verdict {
    policy.classify(evidence.iter().cloned().collect())
}

/// `eu-central by eea`, `refused by quebec`, `unresolved (conflict) by conflict`.
fn told(verdict: &Verdict) -> String {
    let outcome = match &verdict.outcome {
        Outcome::Home { region, .. } => region.to_string(),
        Outcome::Refused { .. } => "refused".to_owned(),
        Outcome::Unresolved(why) => format!("unresolved ({})", why.code()),
    };
    format!("{outcome} by {}", verdict.rule)
}

fn declared(policy: &Policy, place: &str) -> String {
    told(&weigh(policy, &[at(Source::DeclaredResidence, place)]))
}

#[test]
fn people_are_placed_where_the_table_reads() {
    let policy = shipped();
    for (place, expected) in [
        ("DE", "eu-central by eea"),
        ("IS", "eu-central by eea"),
        ("RE", "eu-central by eea"),
        ("MF", "eu-central by eea"),
        ("AX", "eu-central by eea"),
        ("PF", "eu-central by eea-by-national-law"),
        ("SJ", "eu-central by eea-by-national-law"),
        ("GB", "uk-south by uk"),
        ("GI", "uk-south by uk"),
        ("JE", "uk-south by uk"),
        ("US", "us-east by us"),
        ("PR", "us-east by us"),
        ("CH", "eu-central by adequate"),
        ("JP", "eu-central by adequate"),
        ("BR", "eu-central by adequate"),
        ("CA", "eu-central by accountable"),
        ("XK", "eu-central by candidates"),
        ("CN", "refused by must-stay-in-country"),
        ("RU", "refused by must-stay-in-country"),
        ("VN", "refused by must-stay-in-country"),
        ("KP", "refused by unknown-law"),
        ("CW", "refused by kingdom-netherlands"),
        ("TL", "refused by too-little-known"),
        ("IN", "refused by not-assessed"),
    ] {
        assert_eq!(declared(&policy, place), expected, "{place}");
    }
}

#[test]
fn a_subdivision_beats_its_country_and_otherwise_goes_with_it() {
    let policy = shipped();
    for (place, expected) in [
        ("CA-QC", "refused by quebec"),
        ("CA-ON", "eu-central by accountable"),
        ("US-CA", "us-east by us-states"),
        ("US-NY", "us-east by us"),
        ("ES-CN", "eu-central by eea"),
        ("PT-20", "eu-central by eea"),
        ("DE-BY", "eu-central by eea"),
        ("UA-43", "refused by unknown-law"),
        ("NL-AW", "refused by kingdom-netherlands"),
        ("CN-BJ", "refused by must-stay-in-country"),
    ] {
        assert_eq!(declared(&policy, place), expected, "{place}");
    }
}

#[test]
fn other_names_of_a_place_mean_the_place() {
    let policy = shipped();
    for (place, expected) in [
        ("UK", "uk-south by uk"),
        ("UK-SCT", "uk-south by uk"),
        ("EL", "eu-central by eea"),
        ("IC", "eu-central by eea"),
        ("EA", "eu-central by eea"),
        ("uk", "uk-south by uk"),
    ] {
        assert_eq!(declared(&policy, place), expected, "{place}");
    }
}

#[test]
fn a_code_that_is_no_country_is_no_evidence_of_a_network_and_refused_when_it_is_stated() {
    let policy = shipped();
    for code in ["EU", "AP", "XX", "ZZ", "AN", "CP"] {
        let verdict = weigh(&policy, &[at(Source::GeoIp, code)]);
        assert_eq!(told(&verdict), "unresolved (no_evidence) by no-evidence", "{code}");
        assert_eq!(verdict.evidence[0].finding, Finding::Nothing(Nothing::UnknownNetwork), "{code}");
        assert_eq!(declared(&policy, code), "unresolved (unknown_place) by unknown-place", "{code} stated alone");
        for source in [Source::VerifiedClaim, Source::DeclaredResidence] {
            // Somebody declared as `EU` must not follow their network address to another continent.
            let abroad = weigh(&policy, &[at(source, code), at(Source::GeoIp, "US")]);
            assert_eq!(told(&abroad), "unresolved (unknown_place) by unknown-place", "{code} beside a network");
        }
    }
}

#[test]
fn a_code_nobody_knows_is_refused_and_not_passed_over() {
    let policy = shipped();
    let verdict = weigh(&policy, &[at(Source::DeclaredResidence, "QQ"), at(Source::GeoIp, "DE")]);
    assert_eq!(told(&verdict), "unresolved (unknown_place) by unknown-place");
    assert_eq!(verdict.winner, Some(0));
}

#[test]
fn an_existing_pin_decides_whatever_else_speaks() {
    let policy = shipped();
    let verdict = weigh(
        &policy,
        &[
            at(Source::GeoIp, "US"),
            home(Source::TenantPin, "us-east"),
            at(Source::DeclaredResidence, "CN"),
            home(Source::ExistingPin, "eu-central"),
            at(Source::VerifiedClaim, "GB"),
        ],
    );
    assert_eq!(told(&verdict), "eu-central by existing-pin");
    assert_eq!(verdict.winner, Some(0));
    assert_eq!(verdict.evidence.len(), 5, "the others are kept for explanation");
    assert!(verdict.evidence.is_sorted_by_key(|signal| signal.source), "heaviest first");
}

#[test]
fn geoip_is_only_asked_when_nothing_weightier_speaks() {
    let policy = shipped();
    let travelling = weigh(&policy, &[at(Source::GeoIp, "US"), at(Source::DeclaredResidence, "DE")]);
    assert_eq!(told(&travelling), "eu-central by eea");
    let visiting_china = weigh(&policy, &[at(Source::GeoIp, "CN"), at(Source::VerifiedClaim, "GB")]);
    assert_eq!(told(&visiting_china), "uk-south by uk");
    let silent = says(Source::VerifiedClaim, Finding::Nothing(Nothing::OtherSubject));
    let alone = weigh(&policy, &[at(Source::GeoIp, "US"), silent.clone()]);
    assert_eq!(told(&alone), "us-east by us");
    assert_eq!(alone.evidence[0], silent, "a silent signal is kept for explanation");
    assert_eq!(alone.winner, Some(1));
}

#[test]
fn among_signals_of_weight_the_strictest_jurisdiction_wins() {
    let policy = shipped();
    let verdict = weigh(&policy, &[home(Source::TenantPin, "us-east"), at(Source::DeclaredResidence, "DE")]);
    assert_eq!(told(&verdict), "eu-central by eea");
    assert_eq!(verdict.winner, Some(1));
    let three = weigh(
        &policy,
        &[home(Source::TenantPin, "us-east"), at(Source::VerifiedClaim, "GB"), at(Source::DeclaredResidence, "FR")],
    );
    assert_eq!(told(&three), "eu-central by eea");
    let agreeing = weigh(&policy, &[at(Source::VerifiedClaim, "FR"), at(Source::DeclaredResidence, "DE")]);
    assert_eq!((told(&agreeing).as_str(), agreeing.winner), ("eu-central by eea", Some(0)));
}

#[test]
fn among_equally_strict_jurisdictions_the_heavier_signal_wins() {
    let policy = replaced("strictness = 200", "strictness = 300");
    let verdict = weigh(&policy, &[at(Source::VerifiedClaim, "GB"), at(Source::DeclaredResidence, "DE")]);
    assert_eq!(told(&verdict), "uk-south by uk");
    let turned = weigh(&policy, &[at(Source::VerifiedClaim, "DE"), at(Source::DeclaredResidence, "GB")]);
    assert_eq!(told(&turned), "eu-central by eea");
}

#[test]
fn the_rule_refuse_lets_nobody_win_a_conflict() {
    let policy = replaced("rule = \"strictest\"", "rule = \"refuse\"");
    let verdict = weigh(&policy, &[at(Source::VerifiedClaim, "GB"), at(Source::DeclaredResidence, "DE")]);
    assert_eq!(told(&verdict), "unresolved (conflict) by conflict");
    assert_eq!((verdict.winner, verdict.evidence.len()), (None, 2));
    let one_region = weigh(&policy, &[at(Source::VerifiedClaim, "FR"), at(Source::DeclaredResidence, "CH")]);
    assert_eq!(told(&one_region), "eu-central by eea", "two countries of one region are no conflict");
    let travelling = weigh(&policy, &[at(Source::DeclaredResidence, "DE"), at(Source::GeoIp, "US")]);
    assert_eq!(told(&travelling), "eu-central by eea", "GeoIP contradicts nobody unless the policy says so");
}

#[test]
fn geoip_can_be_given_weight() {
    let policy = changed(|text| {
        text.replace("rule = \"strictest\"", "rule = \"refuse\"")
            .replace("\"declared_residence\"]", "\"declared_residence\", \"geoip\"]")
    });
    let verdict = weigh(&policy, &[at(Source::DeclaredResidence, "DE"), at(Source::GeoIp, "US")]);
    assert_eq!(told(&verdict), "unresolved (conflict) by conflict");
}

#[test]
fn a_refused_place_cannot_be_outvoted() {
    let policy = shipped();
    for evidence in [
        [at(Source::VerifiedClaim, "DE"), at(Source::DeclaredResidence, "RU")],
        [at(Source::VerifiedClaim, "RU"), at(Source::DeclaredResidence, "DE")],
        [home(Source::TenantPin, "eu-central"), at(Source::DeclaredResidence, "RU")],
        [at(Source::DeclaredResidence, "RU"), at(Source::GeoIp, "DE")],
    ] {
        let verdict = weigh(&policy, &evidence);
        assert_eq!(told(&verdict), "refused by must-stay-in-country");
        let Outcome::Refused { place, reason } = &verdict.outcome else { panic!("{verdict:?}") };
        assert_eq!(place.to_string(), "RU");
        assert!(reason.ends_with('.'), "a sentence for the caller");
        let winner = &verdict.evidence[usize::from(verdict.winner.expect("a signal decided"))];
        assert_eq!(winner.finding, Finding::Place(*place));
    }
}

#[test]
fn without_evidence_there_is_no_home() {
    let policy = shipped();
    for evidence in [
        vec![],
        vec![says(Source::GeoIp, Finding::Nothing(Nothing::SpecialAddress))],
        vec![
            says(Source::TenantPin, Finding::Nothing(Nothing::UnknownTenant)),
            says(Source::GeoIp, Finding::Nothing(Nothing::Anonymised)),
        ],
    ] {
        let verdict = weigh(&policy, &evidence);
        assert_eq!(told(&verdict), "unresolved (no_evidence) by no-evidence");
        assert_eq!((verdict.winner, verdict.evidence.len()), (None, evidence.len()));
    }
}

#[test]
fn a_default_exists_only_where_the_operator_wrote_one() {
    let policy = changed(|text| format!("{text}\n[default]\nregion = \"eu-central\"\n"));
    let nothing = says(Source::GeoIp, Finding::Nothing(Nothing::UnknownNetwork));
    let verdict = weigh(&policy, std::slice::from_ref(&nothing));
    assert_eq!(told(&verdict), "eu-central by operator-default");
    assert_eq!((verdict.winner, verdict.evidence[1].source), (Some(1), Source::OperatorDefault));
    assert_eq!(told(&weigh(&policy, &[at(Source::GeoIp, "US")])), "us-east by us", "any evidence speaks louder");
    assert_eq!(told(&weigh(&policy, &[at(Source::GeoIp, "RU")])), "refused by must-stay-in-country");

    let smuggled = weigh(&shipped(), &[nothing, home(Source::OperatorDefault, "us-east")]);
    assert_eq!(told(&smuggled), "unresolved (no_evidence) by no-evidence", "nobody else can bring a default along");
}

#[test]
fn a_tenant_is_at_home_where_the_policy_says() {
    let policy = changed(|text| format!("{text}\n[[tenant]]\nname = \"acme\"\nregion = \"uk-south\"\n"));
    let acme = policy.tenant_home(&Tenant::new("acme").expect("a tenant"));
    assert_eq!(told(&weigh(&policy, &[says(Source::TenantPin, acme)])), "uk-south by tenant-pin");
    let other = policy.tenant_home(&Tenant::new("other").expect("a tenant"));
    assert_eq!(other, Finding::Nothing(Nothing::UnknownTenant));
}

#[test]
fn a_pin_to_a_region_that_is_gone_is_unresolved() {
    let verdict = weigh(&shipped(), &[home(Source::ExistingPin, "mars-north"), at(Source::GeoIp, "DE")]);
    assert_eq!(told(&verdict), "unresolved (unknown_region) by unknown-region");
}

#[test]
fn a_policy_names_itself() {
    let policy = shipped();
    assert_eq!(policy.text(), SHIPPED_POLICY);
    assert_eq!(policy.hash_hex().len(), 64);
    assert_ne!(policy.hash(), replaced("strictness = 200", "strictness = 201").hash());
    assert!(!policy.version().is_empty());
    let names: Vec<String> = policy.regions().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names, ["eu-central", "uk-south", "us-east"]);
    assert!(policy.default_region().is_none(), "the file that ships has no default region");
}

fn decision(operation: Operation, verdict: Verdict) -> Decision {
    Decision {
        id: DecisionId(uuid::Uuid::nil()),
        at_us: 0,
        actor: Actor::new("key:test"),
        operation,
        resource: None,
        via: Region::new("eu-central").expect("a region"),
        evidence: EvidenceList::new(),
        winner: None,
        rule: residency::RuleId::new("none"),
        policy_hash: [0; 32],
        geoip_built_s: None,
        transfer: None,
        stated: None,
    }
    .with_verdict(verdict)
}

fn pin(region: &str, state: PinState) -> Pin {
    Pin { region: Region::new(region).expect("a region"), epoch: Epoch(3), state }
}

fn subject() -> SubjectId {
    SubjectId::new("somebody").expect("a subject")
}

#[test]
fn a_permit_opens_the_region_of_the_pin_and_no_other() {
    let policy = shipped();
    let elsewhere = weigh(&policy, &[at(Source::GeoIp, "US")]);
    let decision = decision(Operation::RecordPut, elsewhere);
    let permit = policy
        .permit::<Write>(subject(), &pin("eu-central", PinState::Active), decision, true)
        .expect("it is at home here");
    assert_eq!((permit.region().as_str(), permit.epoch()), ("eu-central", Epoch(3)));
    let decision = permit.decision();
    assert_eq!((decision.winner, decision.rule.as_str()), (Some(0), "existing-pin"));
    assert_eq!(
        decision.evidence[0],
        Evidence {
            source: Source::ExistingPin,
            origin: Origin::Directory,
            finding: Finding::Home(permit.region().clone())
        }
    );
    assert_eq!(decision.evidence[1], at(Source::GeoIp, "US"), "what was seen is kept");
}

#[test]
fn a_first_request_keeps_the_signal_that_led_home() {
    let policy = shipped();
    let decision = decision(Operation::RecordPut, weigh(&policy, &[at(Source::GeoIp, "DE")]));
    let permit = policy
        .permit::<Write>(subject(), &pin("eu-central", PinState::Active), decision, true)
        .expect("it is at home here");
    assert_eq!((permit.decision().winner, permit.decision().rule.as_str()), (Some(0), "eea"));
    assert_eq!(permit.decision().evidence.len(), 1);
}

#[test]
fn a_pin_in_the_evidence_is_named_the_winner_once() {
    let policy = shipped();
    let verdict = weigh(&policy, &[at(Source::GeoIp, "DE"), home(Source::ExistingPin, "eu-central")]);
    let permit = policy
        .permit::<Read>(subject(), &pin("eu-central", PinState::Active), decision(Operation::RecordRead, verdict), true)
        .expect("it is at home here");
    assert_eq!((permit.decision().winner, permit.decision().evidence.len()), (Some(0), 2));
}

#[test]
fn what_is_not_served_here_is_denied_and_says_why() {
    let policy = shipped();
    let denied = |pin: &Pin, served_here: bool| {
        let decision = decision(Operation::RecordRead, weigh(&policy, &[]));
        policy.permit::<Read>(subject(), pin, decision, served_here).expect_err("it is denied").reason
    };
    let region = |name: &str| Region::new(name).expect("a region");
    assert_eq!(denied(&pin("us-east", PinState::Active), false), DenialReason::ElsewhereAtHome(region("us-east")));
    for served_here in [true, false] {
        assert_eq!(denied(&pin("us-east", PinState::Moving), served_here), DenialReason::Moving(region("us-east")));
        assert_eq!(denied(&pin("us-east", PinState::Erased), served_here), DenialReason::Erased(region("us-east")));
    }
    let gone = pin("mars-north", PinState::Active);
    assert_eq!(denied(&gone, true), DenialReason::Unresolved(Unresolved::UnknownRegion));
    assert_eq!(denied(&gone, false), DenialReason::ElsewhereAtHome(region("mars-north")));
}

#[test]
#[should_panic(expected = "a permit's access matches its operation")]
fn a_write_permit_for_a_reading_operation_is_our_own_mistake() {
    let policy = shipped();
    let decision = decision(Operation::RecordRead, weigh(&policy, &[at(Source::GeoIp, "DE")]));
    let _ = policy.permit::<Write>(subject(), &pin("eu-central", PinState::Active), decision, true);
}

fn any_evidence() -> impl Strategy<Value = Vec<Evidence>> {
    let finding = prop_oneof![
        "[A-Z]{2}".prop_map(|code| Finding::Place(Place::new(&code).expect("two letters"))),
        "(US|CA|ES|UK|DE)-[A-Z0-9]{1,3}".prop_map(|code| Finding::Place(Place::new(&code).expect("a place"))),
        "(eu-central|uk-south|us-east|mars)".prop_map(|name| Finding::Home(Region::new(&name).expect("a region"))),
        Just(Finding::Nothing(Nothing::UnknownNetwork)),
    ];
    proptest::sample::subsequence(Source::ALL.to_vec(), 0..=6).prop_flat_map(move |sources| {
        proptest::collection::vec(finding.clone(), sources.len())
            .prop_map(move |findings| {
                sources.iter().zip(findings).map(|(source, finding)| says(*source, finding)).collect::<Vec<_>>()
            })
            .prop_shuffle()
    })
}

proptest! {
    #[test]
    fn the_order_of_arrival_changes_nothing(evidence in any_evidence()) {
        let policy = shipped_once();
        let mut turned = evidence.clone();
        turned.reverse();
        let (one, other) = (weigh(policy, &evidence), weigh(policy, &turned));
        prop_assert_eq!(told(&one), told(&other));
        prop_assert_eq!(one.winner, other.winner);
    }

    #[test]
    fn a_verdict_is_consistent_with_itself(evidence in any_evidence()) {
        let policy = shipped_once();
        let verdict = weigh(policy, &evidence);
        prop_assert!(verdict.evidence.is_sorted_by_key(|signal| signal.source));
        if let Some(winner) = verdict.winner {
            prop_assert!(usize::from(winner) < verdict.evidence.len());
        }
        if let Outcome::Home { region, jurisdiction } = &verdict.outcome {
            let rule = policy.region(region).expect("only regions of the policy are homes");
            prop_assert_eq!(&rule.jurisdiction, jurisdiction);
            prop_assert!(verdict.winner.is_some(), "something decided");
        }
    }

    #[test]
    fn the_network_address_never_changes_what_weightier_evidence_says(evidence in any_evidence(), code in "[A-Z]{2}") {
        let policy = shipped_once();
        let without: Vec<Evidence> = evidence.into_iter().filter(|signal| signal.source != Source::GeoIp).collect();
        let verdict = weigh(policy, &without);
        prop_assume!(verdict.winner.is_some());
        let mut with = without;
        with.push(at(Source::GeoIp, &code));
        prop_assert_eq!(told(&verdict), told(&weigh(policy, &with)));
    }
}

fn shipped_once() -> &'static Policy {
    static POLICY: std::sync::OnceLock<Policy> = std::sync::OnceLock::new();
    POLICY.get_or_init(shipped)
}

#[test]
fn built_in_rules_cannot_be_written() {
    for name in BUILT_IN_RULES {
        let text = SHIPPED_POLICY.replace("name = \"quebec\"", &format!("name = \"{name}\""));
        let problems = Policy::parse(&text, JURISDICTIONS, LOCATIONS).expect_err("the name is taken");
        assert!(problems.iter().any(|problem| problem.message.contains("built-in")), "{problems:?}");
    }
}
