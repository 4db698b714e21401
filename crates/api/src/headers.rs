//! Header names, in lower case as HTTP/2 sends them.

/// Answer: the region that is the subject's home.
pub const REGION: &str = "domicile-region";
/// Answer: the decision's id (UUID version 7).
pub const DECISION: &str = "domicile-decision";
/// Answer: where the audit leaf is, `log=<origin>; seq=<n>; leaf=<base64url of its SHA-256>`.
pub const AUDIT: &str = "domicile-audit";
/// Request: the residence that the person declared, `DE` or `US-CA`.
pub const RESIDENCE: &str = "domicile-residence";
/// Request: the tenant the subject belongs to.
pub const TENANT: &str = "domicile-tenant";
/// Request: the person's network address, from callers that may state it.
pub const CLIENT_ADDRESS: &str = "domicile-client-address";
/// Request: makes a repeated event harmless, 1 to 128 visible ASCII characters.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Request and answer: names one request in logs and problems.
pub const REQUEST_ID: &str = "x-request-id";

/// Length of an idempotency key, characters.
pub const IDEMPOTENCY_KEY_CHARS_MAX: usize = 128;
