//! The catalogue of problems. A code is stable: callers may branch on it. Status, title and the next
//! step belong to the code; the detail belongs to the occasion.

/// Writes the catalogue as one table.
macro_rules! catalogue {
    ($( $(#[$doc:meta])* $name:ident, $code:literal, $status:literal, $title:literal, $next:literal; )+) => {
        /// The stable code of a problem.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $( $(#[$doc])* $name, )+ }

        impl Code {
            /// Every code.
            pub const ALL: &[Self] = &[ $( Self::$name, )+ ];

            /// The code as it stands in `code` and, behind `urn:domicile:problem:`, in `type`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$name => $code, )+ }
            }

            /// The HTTP status it comes with.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $( Self::$name => $status, )+ }
            }

            /// What happened, the same words each time.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $( Self::$name => $title, )+ }
            }

            /// What to do next.
            #[must_use]
            pub const fn next_step(self) -> &'static str {
                match self { $( Self::$name => $next, )+ }
            }
        }
    };
}

catalogue! {
    /// A header that may stand once stands twice.
    HeaderRepeated, "header_repeated", 400, "A header was sent more than once",
        "Send the header once; nothing was done.";
    /// A header's value cannot be read.
    HeaderMalformed, "header_malformed", 400, "A header cannot be read",
        "Correct the header that `errors` names; nothing was done.";
    /// An evidence header where lines carry their own evidence.
    HeaderMisplaced, "header_misplaced", 400, "A header does not belong on this request",
        "Write the evidence into each line of the batch.";
    /// A path segment is not UTF-8, or not one of our words.
    MalformedPath, "malformed_path", 400, "The path cannot be read",
        "Percent-encode each path segment as UTF-8 and keep to the rule that `errors` names.";
    /// A query parameter is unknown or cannot be read.
    MalformedQuery, "malformed_query", 400, "The query cannot be read",
        "Correct the parameter that `errors` names; parameters that are not documented are refused.";
    /// A list's cursor was not made by us.
    MalformedCursor, "malformed_cursor", 400, "The cursor cannot be read",
        "Use the `next` of the previous page as it is, or begin without a cursor.";
    /// The body is not strict JSON.
    MalformedJson, "malformed_json", 400, "The body is not acceptable JSON",
        "Send UTF-8 JSON (RFC 8259) without duplicate keys, NUL characters or lone surrogates; nothing of it was stored.";
    /// The body is JSON but not what is expected here.
    InvalidBody, "invalid_body", 400, "The body does not have the expected form",
        "Compare the body with the schema in /openapi.json; nothing of it was stored.";
    /// The body ended early or could not be read.
    BodyUnreadable, "body_unreadable", 400, "The body could not be read to its end",
        "Send the request again; nothing of it was stored.";
    /// The request cannot be understood as HTTP says.
    BadRequest, "bad_request", 400, "The request cannot be understood",
        "Compare the request with /openapi.json; nothing was done.";
    /// No credentials.
    Unauthenticated, "unauthenticated", 401, "Credentials are missing",
        "Send `Authorization: Bearer <API key or token>`.";
    /// Credentials that do not hold.
    CredentialsRefused, "credentials_refused", 401, "The credentials were refused",
        "Use a key that is not revoked, or a fresh token for this audience.";
    /// The caller lacks a scope.
    ScopeMissing, "scope_missing", 403, "The caller may not do this",
        "Use credentials with the scope that `scope` names.";
    /// A token acts for somebody else.
    SubjectMismatch, "subject_mismatch", 403, "The token is about another subject",
        "Use a token whose `sub` is this subject, or one with the scope `subjects:any`.";
    /// A key bound to one tenant names another.
    TenantMismatch, "tenant_mismatch", 403, "The credentials belong to another tenant",
        "Leave out `Domicile-Tenant`, or use credentials with the scope `evidence:tenant`.";
    /// A form was sent from another site.
    CrossSite, "cross_site", 403, "The form was sent from another site",
        "Open the login page itself.";
    /// No such route.
    RouteNotFound, "route_not_found", 404, "There is no such route",
        "Compare the path with /openapi.json.";
    /// Nobody knows the subject.
    SubjectNotFound, "subject_not_found", 404, "The subject has no home yet",
        "A first write pins the subject; so does `PUT /v1/subjects/{subject}`.";
    /// No such record.
    RecordNotFound, "record_not_found", 404, "There is no such record",
        "Nothing is stored under this key.";
    /// No such attribute.
    AttributeNotFound, "attribute_not_found", 404, "The attribute has not been declared",
        "Nothing is stored under this name.";
    /// No such decision.
    DecisionNotFound, "decision_not_found", 404, "There is no such decision here",
        "Ask the gateway of the region in `Domicile-Region` of the answer that named the decision.";
    /// No region served here has this violation in its register.
    ViolationNotFound, "violation_not_found", 404, "There is no such violation here",
        "Take the `id` of a violation as `GET /v1/audit/violations` gives it.";
    /// The log does not reach there, or is not signed so far.
    NotInLog, "not_in_log", 404, "The log does not reach so far",
        "Ask for what lies within the size of the newest checkpoint; a new entry is signed within a second, where the log is signed at all.";
    /// The route exists, the method does not.
    MethodNotAllowed, "method_not_allowed", 405, "The route does not have this method",
        "Use a method that `Allow` names.";
    /// The body came too slowly.
    BodyTooSlow, "body_too_slow", 408, "The body did not arrive in time",
        "Send the request again; nothing of it was stored.";
    /// The subject is on its way between regions.
    SubjectMoving, "subject_moving", 409, "The subject is moving to another region",
        "Try again after `Retry-After`; nothing was done.";
    /// The subject's data was erased.
    SubjectErased, "subject_erased", 410, "The subject has been erased",
        "Nothing is stored and nothing is accepted for this subject.";
    /// If-Match or If-None-Match did not hold.
    PreconditionFailed, "precondition_failed", 412, "The precondition does not hold",
        "Read the current version (`current_etag`), decide again, and send that ETag; nothing was done.";
    /// The body is larger than the limit.
    BodyTooLarge, "body_too_large", 413, "The body is too large",
        "Keep to the limit that the detail names; nothing of it was stored.";
    /// The content type is not accepted here.
    UnsupportedMediaType, "unsupported_media_type", 415, "The content type is not accepted here",
        "Send one of the content types that the detail names.";
    /// The subject is at home in a region that another gateway serves.
    MisdirectedRegion, "misdirected_region", 421, "The subject is at home in another region",
        "Send the request to `home`; nothing of it was read or kept here.";
    /// Nothing says where the person is at home.
    ResidencyUnresolved, "residency_unresolved", 422, "It cannot be said where the subject is at home",
        "Send `Domicile-Residence`, or a tenant or token that says it; `signals` lists what was seen.";
    /// The same idempotency key came with another event.
    IdempotencyKeyReused, "idempotency_key_reused", 422, "The idempotency key belongs to another event",
        "Use a fresh key for a new event; nothing was done.";
    /// The database refuses the value itself.
    ValueRefused, "value_refused", 422, "The value cannot be stored",
        "The home region's database refuses this value; nothing was done.";
    /// The caller is too fast.
    RateLimited, "rate_limited", 429, "Too many requests from this caller",
        "Wait for `Retry-After`; nothing was done.";
    /// A law demands a place that we do not have.
    ResidencyRefused, "residency_refused", 451, "The law of the subject's residence demands a place that is not offered",
        "This subject's data cannot be kept here; `reason` is the policy's sentence.";
    /// A bug, or something nobody foresaw.
    Internal, "internal", 500, "Something went wrong inside",
        "Report `instance`; it names this request in the logs. A write may have happened: read before repeating.";
    /// A region's database does not answer.
    RegionUnavailable, "region_unavailable", 503, "The home region is not available",
        "Try again after `Retry-After`; no other region will be tried, and nothing was done.";
    /// A region's database is not the one it should be.
    RegionMisplaced, "region_misplaced", 503, "The home region's database is not the one it should be",
        "An operator must correct the region's connection; nothing was done.";
    /// The directory of pins does not answer.
    DirectoryUnavailable, "directory_unavailable", 503, "The directory of pins is not available",
        "Try again after `Retry-After`; nothing was done.";
    /// The audit leaf could not be written.
    AuditUnavailable, "audit_unavailable", 503, "The audit log cannot be written",
        "Try again after `Retry-After`; nothing was disclosed or changed.";
    /// The identity provider's keys are not known.
    IdentityUnavailable, "identity_unavailable", 503, "Tokens cannot be checked at the moment",
        "Try again after `Retry-After`, or use an API key.";
    /// Queues are full.
    Overloaded, "overloaded", 503, "The gateway or the region is at its limit",
        "Try again after `Retry-After`; nothing was done.";
    /// A commit's outcome is not known.
    OutcomeUnknown, "outcome_unknown", 503, "It is not known whether the change was made",
        "Read before repeating, or repeat with the same `If-Match` or `Idempotency-Key`.";
    /// The request's deadline passed.
    DeadlineExceeded, "deadline_exceeded", 504, "The request took longer than its deadline",
        "A read may be repeated; after a write, read before repeating.";
}

impl Code {
    /// Finds a code by its name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_unique_snake_case_and_have_a_status_of_failure() {
        let names: BTreeSet<_> = Code::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            assert!(code.name().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", code.name());
            assert!((400..600).contains(&code.status()), "{}", code.name());
            assert!(code.next_step().ends_with('.'), "{}", code.name());
            assert!(!code.title().ends_with('.'), "{}", code.name());
            assert_eq!(Code::named(code.name()), Some(*code));
        }
    }
}
