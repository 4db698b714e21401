//! Everything that can keep a request from a 2xx, and how each is told: one exhaustive match from
//! [`Error`] to [`Problem`]. No `_`: a new kind of failure must be given its words here.

use api::{AuditReceipt, Code, FieldError, Problem, Scope};
use residency::{DecisionId, Denial, DenialReason, Malformed, PinState, Region};
use storage::{Change, Lookup};

use crate::from_wire::json::NotStrict;
use crate::to_wire;

/// After a failure that somebody is already working on, seconds.
const RETRY_SOON_S: u64 = 1;
/// After a failure that takes a while to pass, seconds.
const RETRY_LATER_S: u64 = 5;

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    // Reading the request.
    #[error("the header {0} was sent more than once")]
    HeaderRepeated(&'static str),
    #[error("the header {name} cannot be read")]
    Header { name: &'static str, rule: &'static str },
    #[error("the header {0} belongs into each line of a batch")]
    HeaderMisplaced(&'static str),
    #[error("a path segment cannot be read")]
    Path(#[source] Malformed),
    #[error("a path segment is not percent-encoded UTF-8")]
    PathEncoding,
    #[error("the query parameter {at} cannot be read")]
    Query { at: String, rule: String },
    #[error("the cursor was not made by this API")]
    Cursor,
    #[error("{0}")]
    Json(NotStrict),
    #[error("the body does not have the expected form")]
    Invalid(Vec<FieldError>),
    #[error("the body could not be read to its end")]
    BodyUnreadable,
    #[error("the body is larger than {bytes_max} bytes")]
    BodyTooLarge { bytes_max: usize },
    #[error("the body did not arrive within {seconds} s")]
    BodyTooSlow { seconds: u64 },
    #[error("the content type must be {accepted}")]
    ContentType { accepted: &'static str },
    #[error("the request cannot be understood")]
    BadRequest,
    // Who asks.
    #[error("there is no `Authorization: Bearer` header")]
    Unauthenticated,
    #[error("the credentials do not hold: {0}")]
    Credentials(&'static str),
    #[error("the identity provider's keys are not known")]
    IdentityUnavailable,
    #[error("the caller lacks the scope {0}")]
    ScopeMissing(Scope),
    #[error("the token is about another subject")]
    SubjectMismatch,
    #[error("the credentials belong to another tenant")]
    TenantMismatch,
    #[error("the form was sent from another site")]
    CrossSite,
    #[error("API keys cannot be looked up")]
    Keys(#[source] storage::Error),
    // Limits.
    #[error("the caller sends more requests than it may")]
    RateLimited { retry_after_s: u64 },
    #[error("the gateway has as many requests in flight as it takes")]
    Overloaded,
    #[error("the request was not answered within {seconds} s")]
    DeadlineExceeded { seconds: u64 },
    #[error("what an erasure would take away could not be counted within {seconds} s")]
    PreviewTooLong { seconds: u64 },
    #[error("a handler panicked")]
    Panicked,
    // What was asked for.
    #[error("there is no such route")]
    RouteNotFound,
    #[error("the route does not have this method")]
    MethodNotAllowed,
    #[error("there is no such record")]
    RecordNotFound { told: Box<Told> },
    #[error("the attribute has not been declared")]
    AttributeNotFound { told: Box<Told> },
    #[error("the region does not know the subject")]
    SubjectNotFound { told: Box<Told> },
    #[error("no region served here has such a decision")]
    DecisionNotFound,
    #[error("no region served here has such a violation")]
    ViolationNotFound,
    #[error("the region's log does not reach so far, or is not signed so far")]
    NotInLog,
    // Deeds.
    #[error("the request was denied: {}", denial.reason.code())]
    Denied { denial: Box<Denial>, audit: Option<AuditReceipt>, home: Option<String> },
    #[error("the body could not be used")]
    Unused {
        /// The decision that allowed what the body did not say, and its leaf.
        told: Box<Told>,
        #[source]
        source: Box<Error>,
    },
    #[error("region {region} did not carry out the operation")]
    Region {
        region: Region,
        /// The decision, when the region's log has it or may have it.
        decision: Option<DecisionId>,
        /// What is not there, when the region says that something is not.
        missing: Missing,
        #[source]
        source: storage::Error,
    },
    #[error("the decision could not be logged in region {region}")]
    Unaudited {
        region: Region,
        #[source]
        source: storage::Error,
    },
    #[error("the acknowledgement is in the log of {region}, and its register may not say so")]
    Unregistered {
        region: Region,
        #[source]
        source: storage::Error,
    },
    #[error("the directory of pins did not answer")]
    Directory(#[source] storage::Error),
    #[error("region {region} is not served by this gateway")]
    NotServed { region: Region, home: Option<String> },
    #[error("{0} answered something that was not asked for")]
    Nonsense(&'static str),
    #[error("none of the regions could be searched")]
    Unsearched(#[source] storage::Error),
    #[error("an answer could not be written")]
    Unwritable(#[source] serde_json::Error),
}

/// What accompanies the news that something is not there: that news is disclosed and audited too.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) region: String,
    pub(crate) decision: String,
    pub(crate) audit: Option<AuditReceipt>,
}

/// What a change was about, should the region not have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// A record.
    Record,
    /// A zero-party attribute.
    Attribute,
    /// The subject.
    Subject,
}

impl From<&Lookup> for Missing {
    fn from(lookup: &Lookup) -> Self {
        match lookup {
            Lookup::Record { .. } | Lookup::Records { .. } => Self::Record,
            Lookup::Attribute(_) | Lookup::Attributes | Lookup::History { .. } => Self::Attribute,
            Lookup::Subject | Lookup::Extent => Self::Subject,
        }
    }
}

impl From<&Change> for Missing {
    fn from(change: &Change) -> Self {
        match change {
            Change::PutRecord { .. } | Change::PatchRecord { .. } | Change::DeleteRecord { .. } => Self::Record,
            Change::PutAttribute { .. } | Change::DeleteAttribute { .. } => Self::Attribute,
            Change::PinSubject | Change::EraseSubject | Change::PublishEvent { .. } => Self::Subject,
        }
    }
}

impl Error {
    /// One thing wrong with a body.
    pub(crate) fn invalid(at: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldError { at: at.into(), message: message.into() }])
    }

    /// A query parameter that does not follow its rule.
    pub(crate) fn query(at: &str, rule: &str) -> Self {
        Self::Query { at: at.to_owned(), rule: rule.to_owned() }
    }

    /// Tells it, without instance: whoever knows the request id adds that.
    pub(crate) fn problem(&self) -> Problem {
        let says = self.to_string();
        match self {
            Self::HeaderRepeated(name) => Problem::new(Code::HeaderRepeated, says).error(*name, "it may stand once"),
            Self::Header { name, rule } => Problem::new(Code::HeaderMalformed, says).error(*name, *rule),
            Self::HeaderMisplaced(name) => {
                Problem::new(Code::HeaderMisplaced, says).error(*name, "a batch takes it per line")
            }
            Self::Path(malformed) => {
                Problem::new(Code::MalformedPath, says).error(malformed.what, malformed.to_string())
            }
            Self::PathEncoding => Problem::new(Code::MalformedPath, says),
            Self::Query { at, rule } => Problem::new(Code::MalformedQuery, says).error(at, rule),
            Self::Cursor => Problem::new(Code::MalformedCursor, says),
            Self::Json(_) => Problem::new(Code::MalformedJson, &says).error("body", says),
            Self::Invalid(errors) => Problem { errors: errors.clone(), ..Problem::new(Code::InvalidBody, says) },
            Self::BodyUnreadable => Problem::new(Code::BodyUnreadable, says),
            Self::BodyTooLarge { .. } => Problem::new(Code::BodyTooLarge, says),
            Self::BodyTooSlow { .. } => Problem::new(Code::BodyTooSlow, says),
            Self::ContentType { .. } => Problem::new(Code::UnsupportedMediaType, says),
            Self::BadRequest => Problem::new(Code::BadRequest, says),
            Self::Unauthenticated => Problem::new(Code::Unauthenticated, says),
            Self::Credentials(_) => Problem::new(Code::CredentialsRefused, says),
            Self::IdentityUnavailable => later(Problem::new(Code::IdentityUnavailable, says)),
            Self::ScopeMissing(scope) => {
                Problem { scope: Some(scope.name().to_owned()), ..Problem::new(Code::ScopeMissing, says) }
            }
            Self::SubjectMismatch => Problem::new(Code::SubjectMismatch, says),
            Self::TenantMismatch => Problem::new(Code::TenantMismatch, says),
            Self::CrossSite => Problem::new(Code::CrossSite, says),
            Self::Keys(source) | Self::Directory(source) => directory(source, says),
            Self::RateLimited { retry_after_s } => {
                Problem { retry_after_s: Some(*retry_after_s), ..Problem::new(Code::RateLimited, says) }
            }
            Self::Overloaded => soon(Problem::new(Code::Overloaded, says)),
            Self::DeadlineExceeded { .. } => Problem::new(Code::DeadlineExceeded, says),
            // Again it would take as long.
            Self::PreviewTooLong { .. } => Problem {
                next_step: "Erase without counting first, or have `request_ms_max` of the gateway raised.".to_owned(),
                ..Problem::new(Code::DeadlineExceeded, says)
            },
            Self::Panicked | Self::Nonsense(_) | Self::Unwritable(_) => Problem::new(Code::Internal, says),
            Self::RouteNotFound => Problem::new(Code::RouteNotFound, says),
            Self::MethodNotAllowed => Problem::new(Code::MethodNotAllowed, says),
            Self::RecordNotFound { told } => not_there(Code::RecordNotFound, says, told),
            Self::AttributeNotFound { told } => not_there(Code::AttributeNotFound, says, told),
            Self::SubjectNotFound { told } => not_there(Code::SubjectNotFound, says, told),
            Self::DecisionNotFound => Problem::new(Code::DecisionNotFound, says),
            Self::ViolationNotFound => Problem::new(Code::ViolationNotFound, says),
            Self::NotInLog => Problem::new(Code::NotInLog, says),
            Self::Denied { denial, audit, home } => Problem {
                decision: Some(denial.decision.id.to_string()),
                audit: audit.clone(),
                ..denied(denial, home.clone())
            },
            Self::Unused { told, source } => Problem {
                region: Some(told.region.clone()),
                decision: Some(told.decision.clone()),
                audit: told.audit.clone(),
                ..source.problem()
            },
            Self::Region { region, decision, missing, source } => {
                Problem { decision: decision.map(|id| id.to_string()), ..region_said(region, *missing, source) }
            }
            Self::Unsearched(_) => later(Problem::new(Code::RegionUnavailable, says)),
            // What kept the leaf from the log is for the operator; for the caller nothing happened.
            Self::Unaudited { region, source: _ } => {
                later(Problem { region: Some(region.to_string()), ..Problem::new(Code::AuditUnavailable, says) })
            }
            Self::Unregistered { region, source: _ } => {
                soon(Problem { region: Some(region.to_string()), ..Problem::new(Code::OutcomeUnknown, says) })
            }
            Self::NotServed { region, home } => Problem {
                region: Some(region.to_string()),
                home: home.clone(),
                ..Problem::new(Code::MisdirectedRegion, says)
            },
        }
    }
}

fn denied(denial: &Denial, home: Option<String>) -> Problem {
    match &denial.reason {
        DenialReason::Unresolved(why) => Problem {
            reason: Some(why.code().to_owned()),
            signals: Some(to_wire::signals(&denial.decision.evidence)),
            ..Problem::new(
                Code::ResidencyUnresolved,
                "no signal, or none clear enough, says where the subject is at home",
            )
        },
        DenialReason::Refused { place, reason } => Problem {
            reason: Some(reason.to_string()),
            signals: Some(to_wire::signals(&denial.decision.evidence)),
            ..Problem::new(Code::ResidencyRefused, format!("the policy refuses residents of {place} on purpose"))
        },
        DenialReason::ElsewhereAtHome(region) => Problem {
            region: Some(region.to_string()),
            home,
            ..Problem::new(Code::MisdirectedRegion, format!("region {region} is served by another gateway"))
        },
        DenialReason::NotPinned => Problem::new(Code::SubjectNotFound, "the subject has no home yet"),
        DenialReason::Moving(region) => later(Problem {
            region: Some(region.to_string()),
            ..Problem::new(Code::SubjectMoving, format!("the subject is on its way from or to region {region}"))
        }),
        DenialReason::Erased(region) => Problem {
            region: Some(region.to_string()),
            ..Problem::new(Code::SubjectErased, format!("the subject was erased in region {region}"))
        },
    }
}

/// What a region, asked for one deed, says instead of doing it.
fn region_said(region: &Region, missing: Missing, source: &storage::Error) -> Problem {
    use storage::Error as Said;
    let problem = |code, detail: String| Problem { region: Some(region.to_string()), ..Problem::new(code, detail) };
    let says = source.to_string();
    match source {
        Said::Unavailable { .. } => later(problem(Code::RegionUnavailable, says)),
        Said::OutcomeUnknown { .. } => soon(problem(Code::OutcomeUnknown, says)),
        Said::Overloaded { .. } => soon(problem(Code::Overloaded, says)),
        // What differs is for the operator's log, not for callers.
        Said::Misplaced { .. } => {
            problem(Code::RegionMisplaced, format!("the database configured for {region} is not its own"))
        }
        Said::PreconditionFailed { current } => Problem {
            current_etag: current.map(crate::from_wire::conditions::etag),
            ..problem(Code::PreconditionFailed, says)
        },
        Said::NotFound => match missing {
            Missing::Record => problem(Code::RecordNotFound, "there is no such record".to_owned()),
            Missing::Attribute => problem(Code::AttributeNotFound, "the attribute has not been declared".to_owned()),
            Missing::Subject => problem(Code::SubjectNotFound, "the region does not know the subject".to_owned()),
        },
        Said::Moved | Said::NotAtHome { state: PinState::Active | PinState::Moving } => {
            soon(problem(Code::SubjectMoving, says))
        }
        Said::NotAtHome { state: PinState::Erased } => problem(Code::SubjectErased, says),
        Said::IdempotencyReused => problem(Code::IdempotencyKeyReused, says),
        Said::RefusedByDatabase { message, .. } => Problem {
            reason: Some(message.clone()),
            ..problem(Code::ValueRefused, "the region's database refused the content".to_owned())
        },
        Said::TooLarge { .. } | Said::GrownTooLarge { .. } => problem(Code::BodyTooLarge, says),
        Said::LeaseLost | Said::Internal(_) => {
            problem(Code::Internal, "the region could not make sense of it".to_owned())
        }
    }
}

/// What the directory says instead of an answer. It holds neither records nor deeds, so most of what
/// storage can say would be a bug here; each is told as what it means for the caller.
fn directory(source: &storage::Error, says: String) -> Problem {
    use storage::Error as Said;
    match source {
        Said::Unavailable { .. } => later(Problem::new(Code::DirectoryUnavailable, says)),
        Said::OutcomeUnknown { .. } => soon(Problem::new(Code::OutcomeUnknown, says)),
        Said::Overloaded { .. } => soon(Problem::new(Code::Overloaded, says)),
        Said::Misplaced { .. }
        | Said::PreconditionFailed { .. }
        | Said::NotFound
        | Said::Moved
        | Said::NotAtHome { .. }
        | Said::IdempotencyReused
        | Said::RefusedByDatabase { .. }
        | Said::TooLarge { .. }
        | Said::GrownTooLarge { .. }
        | Said::LeaseLost
        | Said::Internal(_) => Problem::new(Code::Internal, says),
    }
}

fn not_there(code: Code, says: String, told: &Told) -> Problem {
    Problem {
        region: Some(told.region.clone()),
        decision: Some(told.decision.clone()),
        audit: told.audit.clone(),
        ..Problem::new(code, says)
    }
}

fn soon(problem: Problem) -> Problem {
    Problem { retry_after_s: Some(RETRY_SOON_S), ..problem }
}

fn later(problem: Problem) -> Problem {
    Problem { retry_after_s: Some(RETRY_LATER_S), ..problem }
}
