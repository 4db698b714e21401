//! How a decision is said in plain English. Every phrase about a deed, a signal or a reason is here, so that
//! the console, the API and the command line say the same.

use leaf::{Kind, Parsed};
use residency::{Evidence, Finding, Nothing, Operation, Origin, Source};
use time::OffsetDateTime;

/// A time as people write it, to the second: `22 November 2026 at 20:42:36 UTC`.
#[must_use]
pub fn at_utc(at_us: i64) -> String {
    match OffsetDateTime::from_unix_timestamp(at_us.div_euclid(1_000_000)) {
        Ok(at) => {
            let (hour, minute, second) = at.to_hms();
            format!("{} {} {} at {hour:02}:{minute:02}:{second:02} UTC", at.day(), at.month(), at.year())
        }
        Err(_) => "an unknown time".to_owned(),
    }
}

/// The day of a time in seconds: `1 June 2026`.
pub(crate) fn on_day(at_s: u64) -> String {
    match i64::try_from(at_s).ok().and_then(|at_s| OffsetDateTime::from_unix_timestamp(at_s).ok()) {
        Some(at) => format!("{} {} {}", at.day(), at.month(), at.year()),
        None => "an unknown day".to_owned(),
    }
}

/// The operation that a leaf tells of. A first write leaves a leaf of its own for the home it gives the subject.
const fn told(parsed: &Parsed) -> Operation {
    match parsed.kind {
        Kind::SubjectRegister => Operation::SubjectPin,
        Kind::DecisionRead | Kind::DecisionWrite | Kind::DecisionDeny | Kind::SubjectErase => parsed.decision.operation,
    }
}

/// The class of what a leaf says was touched; a home is given to a subject, not to a record.
#[must_use]
pub fn resource(parsed: &Parsed) -> Option<&str> {
    parsed.decision.resource.as_deref().filter(|_| parsed.kind != Kind::SubjectRegister)
}

/// What a leaf says was done: `wrote a record`.
pub(crate) const fn did(parsed: &Parsed) -> &'static str {
    match told(parsed) {
        Operation::SubjectRead => "looked up a subject's home",
        Operation::SubjectPin => "gave a subject its home",
        Operation::SubjectErase => "erased a subject",
        Operation::SubjectErasePreview => "counted what an erasure would take away",
        Operation::RecordRead => "read a record",
        Operation::RecordList => "listed records",
        Operation::RecordPut => "wrote a record",
        Operation::RecordPatch => "changed a record",
        Operation::RecordDelete => "deleted a record",
        Operation::EventPublish => "published an event",
        Operation::ZeroPartyRead => "read what a person declared",
        Operation::ZeroPartyPut => "stored what a person declared",
        Operation::ZeroPartyDelete => "withdrew what a person declared",
    }
}

/// What a leaf says was asked for: `write a record`.
#[must_use]
pub const fn deed(parsed: &Parsed) -> &'static str {
    match told(parsed) {
        Operation::SubjectRead => "look up a subject's home",
        Operation::SubjectPin => "give a subject its home",
        Operation::SubjectErase => "erase a subject",
        Operation::SubjectErasePreview => "count what an erasure would take away",
        Operation::RecordRead => "read a record",
        Operation::RecordList => "list records",
        Operation::RecordPut => "write a record",
        Operation::RecordPatch => "change a record",
        Operation::RecordDelete => "delete a record",
        Operation::EventPublish => "publish an event",
        Operation::ZeroPartyRead => "read what a person declared",
        Operation::ZeroPartyPut => "store what a person declared",
        Operation::ZeroPartyDelete => "withdraw what a person declared",
    }
}

/// A kind of evidence as a thing: `the declared residence`.
#[must_use]
pub const fn signal(source: Source) -> &'static str {
    match source {
        Source::ExistingPin => "the existing pin",
        Source::TenantPin => "the tenant's place",
        Source::VerifiedClaim => "the verified claim",
        Source::DeclaredResidence => "the declared residence",
        Source::GeoIp => "the network address",
        Source::OperatorDefault => "the operator's default",
    }
}

/// Where a signal came from, as the end of `… it came `.
pub(crate) const fn from(origin: Origin) -> &'static str {
    match origin {
        Origin::Directory => "from the directory of pins",
        Origin::Policy => "from the policy",
        Origin::Token => "from the caller's verified token",
        Origin::Header => "from the caller, beside the request",
        Origin::Connection => "from the connection itself",
        Origin::TrustedProxy => "from a trusted proxy",
    }
}

/// What a signal says, as a sentence's object: `the place DE`, `the region eu-central`, `nothing: …`.
#[must_use]
pub fn places(finding: &Finding) -> String {
    match finding {
        Finding::Home(region) => format!("the region {region}"),
        Finding::Place(place) => format!("the place {place}"),
        Finding::Nothing(nothing) => format!("nothing: {}", because(*nothing)),
    }
}

pub(crate) const fn because(nothing: Nothing) -> &'static str {
    match nothing {
        Nothing::SpecialAddress => "the address is private, reserved or a tunnel",
        Nothing::Anonymised => "the network hides its users",
        Nothing::UnknownNetwork => "the database has no country for this network",
        Nothing::MalformedForwarding => "the forwarding header could not be read",
        Nothing::NotBelieved => "the caller may not state this",
        Nothing::OtherSubject => "the claim is about somebody else",
        Nothing::UnknownTenant => "the policy does not know this tenant",
        Nothing::NoDatabase => "no GeoIP database was loaded",
    }
}

/// Why the winning signal leads where it does, as a clause.
pub(crate) fn because_of(winner: &Evidence) -> String {
    let said = match &winner.finding {
        Finding::Home(region) => region.to_string(),
        Finding::Place(place) => place.to_string(),
        Finding::Nothing(_) => return format!("{} decided", signal(winner.source)),
    };
    match winner.source {
        Source::ExistingPin => "the subject was pinned there already".to_owned(),
        Source::TenantPin => "the policy places the subject's tenant there".to_owned(),
        Source::VerifiedClaim => format!("a verified token says {said}"),
        Source::DeclaredResidence => format!("the declared residence is {said}"),
        Source::GeoIp => format!("the network address is in {said} and nothing heavier spoke"),
        Source::OperatorDefault => "nothing else spoke and the operator wrote this default".to_owned(),
    }
}

/// Why a request was turned away, as a clause. The codes are those of `residency::DenialReason`.
pub(crate) fn because_denied(parsed: &Parsed) -> String {
    let decision = &parsed.decision;
    let winner = decision.winner.and_then(|at| decision.evidence.get(usize::from(at)));
    let named = |finding: Option<&Finding>| finding.map_or_else(|| "the place".to_owned(), places);
    let place = || named(winner.map(|winner| &winner.finding));
    let home = || parsed.home.as_ref().map_or_else(|| "another region".to_owned(), ToString::to_string);
    match parsed.why.as_deref().unwrap_or_default() {
        "residency_unresolved" => match decision.rule.as_str() {
            "conflict" => "weighty signals name different regions and the policy refuses to choose".to_owned(),
            "unknown-place" => {
                let stated = || decision.evidence.iter().map(|e| &e.finding).find(|f| matches!(f, Finding::Place(_)));
                format!("{} is none that the policy knows", named(winner.map(|w| &w.finding).or_else(stated)))
            }
            _ if winner.is_some() => format!("{} is none that the policy has", place()),
            _ => "nothing says where the person is at home".to_owned(),
        },
        "residency_refused" => format!("the policy has no lawful region for {}", place()),
        "misdirected_region" => format!("the subject is at home in {}, which this gateway does not serve", home()),
        "subject_not_found" => "nobody has given this subject a home yet".to_owned(),
        "subject_moving" => format!("the subject of {} is moving to another region", home()),
        "subject_erased" => "the subject has been erased".to_owned(),
        "" => "of a reason that was not recorded".to_owned(),
        code => format!("of `{code}`"),
    }
}
