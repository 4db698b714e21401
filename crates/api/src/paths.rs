//! Paths, in OpenAPI's notation. A path segment is percent-decoded UTF-8; `%2F` inside a key is a slash.

/// Explains where a request would go.
pub const CLASSIFY: &str = "/v1/classify";
/// A subject's home.
pub const SUBJECT: &str = "/v1/subjects/{subject}";
/// The records of one collection.
pub const RECORDS: &str = "/v1/subjects/{subject}/records/{collection}";
/// One record.
pub const RECORD: &str = "/v1/subjects/{subject}/records/{collection}/{key}";
/// A subject's events.
pub const EVENTS: &str = "/v1/subjects/{subject}/events";
/// A subject's zero-party attributes.
pub const ATTRIBUTES: &str = "/v1/subjects/{subject}/zero-party";
/// One zero-party attribute.
pub const ATTRIBUTE: &str = "/v1/subjects/{subject}/zero-party/{attribute}";
/// What one zero-party attribute was.
pub const ATTRIBUTE_HISTORY: &str = "/v1/subjects/{subject}/zero-party/{attribute}/history";
/// Many operations, each routed by itself.
pub const BATCH: &str = "/v1/batch";
/// Decisions, newest first.
pub const DECISIONS: &str = "/v1/audit/decisions";
/// One decision.
pub const DECISION: &str = "/v1/audit/decisions/{id}";
/// One decision, told in sentences.
pub const DECISION_EXPLAIN: &str = "/v1/audit/decisions/{id}/explain";
/// What was not as it should be, newest first.
pub const VIOLATIONS: &str = "/v1/audit/violations";
/// Somebody answers for one of them.
pub const VIOLATION_ACKNOWLEDGE: &str = "/v1/audit/violations/{id}/acknowledge";
/// What crossed a border, newest first.
pub const TRANSFERS: &str = "/v1/audit/transfers";
/// A part of a region's log as a file.
pub const LOG_EXPORT: &str = "/v1/audit/{region}/export";
/// The newest signed checkpoint of a region's log.
pub const LOG_CHECKPOINT: &str = "/v1/audit/{region}/checkpoint";
/// A tile of a region's log, or the entries beneath one.
pub const LOG_TILE: &str = "/v1/audit/{region}/tile/{*tile}";
/// The proof that an entry is in a region's log.
pub const LOG_PROOF: &str = "/v1/audit/{region}/proof/{seq}";
/// The policies under which a region's decisions were taken.
pub const LOG_POLICIES: &str = "/v1/audit/{region}/policies";
/// Identifying details of one entry.
pub const LOG_DETAILS: &str = "/v1/audit/{region}/details/{seq}";
/// The API's description, OpenAPI 3.1.
pub const OPENAPI: &str = "/openapi.json";
/// The same, to be read by people.
pub const DOCS: &str = "/docs";
/// The events of the topics and their schemas, to be read by people.
pub const EVENT_DOCS: &str = "/events";
/// Whether the process answers at all.
pub const HEALTHZ: &str = "/healthz";
/// Whether it should be sent requests.
pub const READYZ: &str = "/readyz";
/// Prometheus text.
pub const METRICS: &str = "/metrics";
/// The compliance pages.
pub const CONSOLE: &str = "/console";
/// Where a browser becomes a caller.
pub const CONSOLE_LOGIN: &str = "/console/login";
/// And stops being one.
pub const CONSOLE_LOGOUT: &str = "/console/logout";
