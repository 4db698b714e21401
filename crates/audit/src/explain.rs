//! One decision, explained: a sentence, the evidence in order with what became of each signal, what would
//! change the answer, and whether the policy would still decide the same.

mod replay;

use leaf::{NotALeaf, Out, Parsed};
use residency::{Evidence, Finding, Policy, Source};

pub use self::replay::Replay;
pub(crate) use self::replay::replay;
use self::replay::without_winner;
use crate::words;

/// One decision, told so that it can be judged. Names nobody.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// The decision as it was read from the log.
    pub parsed: Parsed,
    /// What happened and why, in one sentence.
    pub sentence: String,
    /// The evidence, heaviest first, and what became of each.
    pub evidence: Vec<Weighed>,
    /// The rule and the policy that decided, and the GeoIP database that was asked, in one sentence.
    pub basis: String,
    /// What would have led to another answer, or that nothing would; a sentence each.
    pub would_change: Vec<String>,
    /// Whether the policy at hand decides the same from the same evidence.
    pub replay: Replay,
}

impl Explanation {
    /// The whole explanation as sentences, in reading order.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        let evidence = self.evidence.iter().map(|weighed| weighed.sentence.clone());
        std::iter::once(self.sentence.clone())
            .chain(evidence)
            .chain([self.basis.clone()])
            .chain(self.would_change.iter().cloned())
            .chain([self.replay.sentence()])
            .collect()
    }
}

/// One signal, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weighed {
    /// The signal.
    pub evidence: Evidence,
    /// What became of it.
    pub role: Role,
    /// Both in one sentence.
    pub sentence: String,
}

/// What became of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// It decided.
    Won,
    /// It spoke, and a heavier or stricter signal decided.
    Lost,
    /// It was looked for and said nothing.
    Silent,
    /// It spoke, and nothing decided.
    Undecided,
}

impl Role {
    /// A word for it: `decided`, `lost`, `silent`, `undecided`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Won => "decided",
            Self::Lost => "lost",
            Self::Silent => "silent",
            Self::Undecided => "undecided",
        }
    }
}

/// Explains the decision that a line of a region log records. `policy` is the one at hand; where it is the one
/// that decided, the explanation says what it would do without the winning signal, and replays the decision.
///
/// # Errors
/// [`NotALeaf`] when the line is not a canonical leaf about a decision.
pub fn explain(line: &[u8], policy: Option<&Policy>) -> Result<Explanation, NotALeaf> {
    let parsed = leaf::parse(line)?;
    let policy = policy.filter(|policy| policy.answers_to(&parsed.decision.policy_hash));
    Ok(Explanation {
        sentence: sentence(&parsed),
        evidence: weigh(&parsed),
        basis: basis(&parsed),
        would_change: would_change(&parsed, policy),
        replay: policy.map_or(Replay::OtherPolicy, |policy| replay(&parsed, policy)),
        parsed,
    })
}

fn winner(parsed: &Parsed) -> Option<&Evidence> {
    parsed.decision.winner.and_then(|at| parsed.decision.evidence.get(usize::from(at)))
}

fn sentence(parsed: &Parsed) -> String {
    let decision = &parsed.decision;
    let (when, who) = (words::at_utc(decision.at_us), decision.actor.as_str());
    let what = words::resource(parsed).map_or_else(String::new, |resource| format!(" ({resource})"));
    let home = parsed.home.as_ref().map_or_else(|| "no region".to_owned(), ToString::to_string);
    match parsed.out {
        Out::Allow => {
            let why = winner(parsed).map_or_else(|| format!("rule {} says so", decision.rule), words::because_of);
            let did = words::did(parsed);
            format!("On {when}, {who} {did}{what} in {home}, because {why}.")
        }
        Out::Deny => {
            let (deed, why) = (words::deed(parsed), words::because_denied(parsed));
            format!("On {when}, {who} asked to {deed}{what} and was turned away, because {why}; nothing was done.")
        }
        Out::Error => {
            let (deed, why) = (words::deed(parsed), parsed.why.as_deref().unwrap_or("no code"));
            format!("On {when}, {who} was allowed to {deed}{what} in {home}, which failed ({why}); nothing was done.")
        }
    }
}

fn weigh(parsed: &Parsed) -> Vec<Weighed> {
    let decided = winner(parsed);
    let at = parsed.decision.winner.map(usize::from);
    let weigh_one = |(index, evidence): (usize, &Evidence)| {
        let role = match (&evidence.finding, decided) {
            (Finding::Nothing(_), _) => Role::Silent,
            _ if at == Some(index) => Role::Won,
            (_, Some(_)) => Role::Lost,
            (_, None) => Role::Undecided,
        };
        let sentence = evidence_sentence(evidence, role, decided);
        Weighed { evidence: evidence.clone(), role, sentence }
    };
    parsed.decision.evidence.iter().enumerate().map(weigh_one).collect()
}

fn evidence_sentence(evidence: &Evidence, role: Role, winner: Option<&Evidence>) -> String {
    let signal = capitalised(words::signal(evidence.source));
    let (says, from) = (words::places(&evidence.finding), words::from(evidence.origin));
    let became = match (role, winner) {
        (Role::Silent, _) => return format!("{signal}, {from}, says {says}."),
        (Role::Won, _) => "and decided".to_owned(),
        (Role::Lost, Some(winner)) if winner.finding == evidence.finding => "and agrees with what decided".to_owned(),
        (Role::Lost, Some(winner)) if winner.source < evidence.source => {
            format!("and lost, because {} weighs more", words::signal(winner.source))
        }
        (Role::Lost, Some(winner)) => {
            format!("and lost, although it weighs more: the conflict rule decided for {}", words::signal(winner.source))
        }
        (Role::Lost | Role::Undecided, _) => "and nothing decided".to_owned(),
    };
    format!("{signal}, {from}, names {says} {became}.")
}

fn basis(parsed: &Parsed) -> String {
    let decision = &parsed.decision;
    let hash: String = decision.policy_hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let geoip = decision.geoip_built_s.map_or_else(
        || "no GeoIP database was at hand".to_owned(),
        |built_s| format!("the GeoIP database was built on {}", words::on_day(built_s)),
    );
    format!("Rule {} of the policy with SHA-256 {hash} decided; {geoip}.", decision.rule)
}

fn would_change(parsed: &Parsed, policy: Option<&Policy>) -> Vec<String> {
    if let Some(sentence) = state_would_change(parsed) {
        return vec![sentence];
    }
    let Some(winner) = winner(parsed) else {
        return vec![
            "A signal that names a place the policy knows would change the answer: a tenant, a verified claim or a \
             declared residence."
                .to_owned(),
        ];
    };
    if winner.source == Source::ExistingPin {
        return vec!["Only a relocation changes where a pinned subject is at home; no signal does.".to_owned()];
    }
    let heavier: Vec<_> = Source::ALL.into_iter().filter(|source| *source < winner.source).map(words::signal).collect();
    let mut sentences = vec![format!("A heavier signal could change the answer: {}.", one_of(&heavier))];
    if let Some(policy) = policy {
        sentences.push(without_winner(parsed, winner, policy));
    }
    sentences
}

/// What would help where the subject's state, not the evidence, was the reason.
fn state_would_change(parsed: &Parsed) -> Option<String> {
    let home = parsed.home.as_ref().map_or("its home region", |home| home.as_str());
    let sentence = match parsed.why.as_deref()? {
        "misdirected_region" => format!("The gateway that serves {home} would answer; no signal changes the home."),
        "subject_not_found" => "A first write would give the subject its home; a read never does.".to_owned(),
        "subject_moving" => "The answer changes when the move is done.".to_owned(),
        "subject_erased" => "Nothing changes this answer: an erased subject stays erased.".to_owned(),
        _ if parsed.out == Out::Error => {
            "The same request could succeed later; the decision would be the same.".to_owned()
        }
        _ => return None,
    };
    Some(sentence)
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// `a, b or c`.
fn one_of(list: &[&str]) -> String {
    match list {
        [] => "there is none".to_owned(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use leaf::{GatewayId, Kind, Leaf, SubjectTag};
    use residency::{
        Actor, Decision, DecisionId, EvidenceList, Nothing, Operation, Origin, Outcome, Place, Region, presets,
    };
    use uuid::Uuid;

    use super::*;

    /// A leaf of a permitted read.
    pub(crate) const LINE: &str = concat!(
        r#"{"act":"key:checkout","bytes":96,"dst":"eu-central","#,
        r#""ev":[["existing_pin","eu-central",100,"directory"],["geoip","US",20,"connection"]],"#,
        r#""geo":"2026-06-01","gseq":43,"gw":"eu-gw-1/00007f3a","home":"eu-central","#,
        r#""id":"01936f3e-8f4c-7bbd-a1b0-9d5c1f0a2b3c","k":"decision.read","op":"record.read","out":"allow","#,
        r#""pol":["abababababababababababababababababababababababababababababababab","existing-pin"],"res":"profile","#,
        r#""rows":1,"sub":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc","ts":"2026-11-22T20:42:36.000042Z","#,
        r#""v":1,"via":"ap-south","win":0}"#,
    );

    fn policy() -> Policy {
        Policy::parse(presets::SHIPPED_POLICY, presets::JURISDICTIONS, presets::LOCATIONS).expect("the shipped policy")
    }

    fn region(name: &str) -> Region {
        Region::new(name).expect("a region")
    }

    fn place(source: Source, origin: Origin, code: &str) -> Evidence {
        Evidence { source, origin, finding: Finding::Place(Place::new(code).expect("a place")) }
    }

    /// The line of a decision that the shipped policy takes from this evidence.
    fn decided(policy: &Policy, evidence: impl IntoIterator<Item = Evidence>, why: Option<&str>) -> Vec<u8> {
        let verdict = policy.classify(evidence.into_iter().collect::<EvidenceList>());
        let home = match &verdict.outcome {
            Outcome::Home { region, .. } => Some(region.clone()),
            Outcome::Unresolved(_) | Outcome::Refused { .. } => None,
        };
        let decision = Decision {
            id: DecisionId(Uuid::nil()),
            at_us: 1_795_380_156_000_042,
            actor: Actor::new("key:checkout"),
            operation: Operation::RecordPut,
            resource: Some("profile".into()),
            via: region("eu-central"),
            evidence: verdict.evidence,
            winner: verdict.winner,
            rule: verdict.rule,
            policy_hash: policy.hash(),
            geoip_built_s: None,
            transfer: None,
            stated: None,
        };
        let mut line = Vec::new();
        Leaf {
            decision: &decision,
            kind: if why.is_none() { Kind::DecisionWrite } else { Kind::DecisionDeny },
            gateway: &GatewayId::new("gw", 1).expect("a gateway"),
            gseq: 1,
            subject: why.is_none().then_some(SubjectTag([1; 32])),
            home: home.as_ref(),
            out: if why.is_none() { Out::Allow } else { Out::Deny },
            why,
            rows: 1,
            bytes: 1,
            details: None,
        }
        .encode_into(&mut line);
        line
    }

    #[test]
    fn a_pinned_read_is_told_in_one_sentence() {
        let explanation = explain(LINE.as_bytes(), None).expect("a leaf");
        assert_eq!(
            explanation.sentence,
            "On 22 November 2026 at 20:42:36 UTC, key:checkout read a record (profile) in eu-central, because the \
             subject was pinned there already."
        );
        let roles: Vec<_> = explanation.evidence.iter().map(|weighed| weighed.role).collect();
        assert_eq!(roles, [Role::Won, Role::Lost]);
        assert_eq!(
            explanation.evidence[1].sentence,
            "The network address, from the connection itself, names the place US and lost, because the existing pin \
             weighs more."
        );
        assert_eq!(
            explanation.would_change,
            ["Only a relocation changes where a pinned subject is at home; no signal does."]
        );
        assert!(explanation.basis.contains("the GeoIP database was built on 1 June 2026"), "{}", explanation.basis);
        assert_eq!(explanation.replay, Replay::OtherPolicy);
    }

    #[test]
    fn the_leaf_of_a_new_home_tells_of_the_home_and_not_of_the_record() {
        let line = LINE.replace("decision.read", "subject.register").replace("record.read", "record.put");
        let explanation = explain(line.as_bytes(), None).expect("a leaf");
        assert!(
            explanation.sentence.contains("key:checkout gave a subject its home in eu-central"),
            "{}",
            explanation.sentence
        );
    }

    #[test]
    fn without_the_winner_the_same_policy_tells_what_would_have_been() {
        let policy = policy();
        let evidence =
            [place(Source::DeclaredResidence, Origin::Header, "DE"), place(Source::GeoIp, Origin::Connection, "US")];
        let explanation = explain(&decided(&policy, evidence, None), Some(&policy)).expect("a leaf");
        assert_eq!(explanation.replay, Replay::Same);
        assert!(explanation.sentence.ends_with("because the declared residence is DE."), "{}", explanation.sentence);
        let counterfactual = explanation.would_change.last().expect("a sentence");
        assert!(
            counterfactual.starts_with("Without the declared residence it would have been at home in us-east")
                && counterfactual.contains("by the network address"),
            "{counterfactual}"
        );
        assert_eq!(
            explanation.would_change[0],
            "A heavier signal could change the answer: the existing pin, the tenant's place or the verified claim."
        );
    }

    #[test]
    fn a_record_that_does_not_fit_its_own_policy_is_found() {
        let policy = policy();
        let evidence = [place(Source::DeclaredResidence, Origin::Header, "DE")];
        let line = String::from_utf8(decided(&policy, evidence, None)).expect("UTF-8");
        let forged = line.replace("\"DE\"", "\"US\"");
        let explanation = explain(forged.as_bytes(), Some(&policy)).expect("a leaf");
        assert!(
            matches!(&explanation.replay, Replay::Different { now } if now.contains("us-east")),
            "{:?}",
            explanation.replay
        );
    }

    #[test]
    fn a_denial_says_why_and_what_would_help() {
        let policy = policy();
        let silent = Evidence {
            source: Source::GeoIp,
            origin: Origin::Connection,
            finding: Finding::Nothing(Nothing::SpecialAddress),
        };
        let line = decided(&policy, [silent], Some("residency_unresolved"));
        let explanation = explain(&line, Some(&policy)).expect("a leaf");
        assert!(
            explanation.sentence.contains("was turned away, because nothing says where the person is at home"),
            "{}",
            explanation.sentence
        );
        assert_eq!(explanation.evidence[0].role, Role::Silent);
        assert!(explanation.would_change[0].contains("a declared residence"), "{:?}", explanation.would_change);
        assert_eq!(explanation.replay, Replay::Same);

        let refused = [place(Source::DeclaredResidence, Origin::Header, "RU")];
        let line = decided(&policy, refused, Some("residency_refused"));
        let explanation = explain(&line, Some(&policy)).expect("a leaf");
        assert!(explanation.sentence.contains("no lawful region for the place RU"), "{}", explanation.sentence);
        assert_eq!(explanation.replay, Replay::Same);
    }

    #[test]
    fn every_denial_code_has_its_own_words() {
        let mut seen = std::collections::BTreeSet::new();
        let codes = [
            "residency_unresolved",
            "residency_refused",
            "misdirected_region",
            "subject_not_found",
            "subject_moving",
            "subject_erased",
        ];
        let policy = policy();
        for code in codes {
            let explanation = explain(&decided(&policy, [], Some(code)), None).expect("a leaf");
            assert!(!explanation.sentence.contains('`'), "{}", explanation.sentence);
            assert!(seen.insert(explanation.sentence), "{code} sounds like another");
        }
    }

    #[test]
    fn what_is_no_leaf_is_not_explained() {
        assert!(explain(b"{}", None).is_err());
        assert!(explain(LINE.replace("\"v\":1", "\"v\":2").as_bytes(), None).is_err());
    }
}
