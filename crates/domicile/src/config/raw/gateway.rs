//! `[gateway]` and `[auth]` as they are written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The HTTP face of this process.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Gateway {
    /// The name of this process in audit leaves and metrics: 1 to 40 characters of a-z, 0-9 and
    /// hyphens. Default: `gateway`.
    pub instance: Option<String>,
    /// The region in whose log a denial is written when no home is known. Must be served here.
    pub region: Option<String>,
    /// Address and port of the API. Default: `127.0.0.1:8080`.
    pub listen: Option<String>,
    /// Address and port of health, readiness and metrics. Never expose it. Default: `127.0.0.1:9090`.
    pub admin_listen: Option<String>,
    /// Whether the console's cookie is for TLS only. Default: true; switch it off only for a
    /// rehearsal over plain http.
    pub cookie_secure: Option<bool>,
    /// How often this process says in each log that it is still there, in seconds: longer silence shows in an audit.
    /// Default: 60.
    #[schemars(range(min = 1, max = 3600))]
    pub heartbeat_s: Option<u32>,
    /// What of a request that identifies somebody is kept, sealed, beside its audit leaf, for callers with the scope
    /// `audit:details`, until the subject is erased. Default: nothing.
    pub audit_details: Vec<AuditDetail>,
    /// Bounds on what callers may ask of this process.
    pub limits: Limits,
    /// Whose forwarding headers are believed.
    pub forwarding: Forwarding,
}

/// One thing that identifies somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AuditDetail {
    /// The subject's own name.
    Subject,
    /// The network of the client's address: /24 of IPv4, /48 of IPv6.
    ClientNetwork,
    /// The tenant that the caller named.
    Tenant,
}

/// Bounds on what callers may ask of this process.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// Longest accepted request body, in bytes.
    #[schemars(range(min = 1024, max = 16_777_216))]
    pub body_bytes_max: u64,
    /// Longest accepted body of `POST /v1/batch`, in bytes.
    #[schemars(range(min = 1024, max = 1_073_741_824))]
    pub batch_body_bytes_max: u64,
    /// Longest accepted request head (request line and headers), in bytes.
    #[schemars(range(min = 8192, max = 1_048_576))]
    pub head_bytes_max: u64,
    /// A request that takes longer is answered 504, in milliseconds.
    #[schemars(range(min = 100, max = 300_000))]
    pub request_ms_max: u64,
    /// Requests executed at once; more are answered 503 at once.
    #[schemars(range(min = 1, max = 65_536))]
    pub requests_at_once_max: u32,
    /// Connections at once; more wait in the kernel's backlog.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections_max: u32,
    /// Sustained requests per second of one caller; 0 means no limit per caller.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub caller_requests_per_s_max: u32,
    /// Requests that a caller may send at once after a pause.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub caller_burst_max: u32,
    /// How long a process that is to end says that it is not ready before it stops accepting, so that
    /// balancers notice, in seconds.
    #[schemars(range(min = 0, max = 300))]
    pub drain_notice_s: u64,
    /// How long a shutdown waits for requests in flight, in seconds.
    #[schemars(range(min = 1, max = 300))]
    pub drain_s_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 900 << 10,
            batch_body_bytes_max: 64 << 20,
            head_bytes_max: 64 << 10,
            request_ms_max: 30_000,
            requests_at_once_max: 1024,
            connections_max: 8192,
            caller_requests_per_s_max: 20_000,
            caller_burst_max: 40_000,
            drain_notice_s: 0,
            drain_s_max: 20,
        }
    }
}

/// Whose forwarding headers are believed.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Forwarding {
    /// The one header that is read, and only when the peer is trusted. Default: `none`.
    pub source: ForwardingSource,
    /// The name of the header when `source = "header"`, e.g. `cf-connecting-ip`.
    pub header: Option<String>,
    /// Networks of the proxies in front, e.g. `["10.0.0.0/8"]`.
    pub trusted: Vec<String>,
    /// Whether the connection's own address is evidence of where a person is, when nobody forwarded or
    /// stated a better one. Default: true; switch it off where all callers are application servers.
    pub peer_is_client: Option<bool>,
}

/// Which header names the client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ForwardingSource {
    /// The connection itself is the client.
    #[default]
    None,
    /// `X-Forwarded-For`, read from right to left through the trusted proxies.
    XForwardedFor,
    /// `Forwarded` (RFC 7239), read from right to left through the trusted proxies.
    Forwarded,
    /// One header that holds one address, named by `header`.
    Header,
}

/// Who may call, besides the API keys of the directory.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Auth {
    /// Tokens of an identity provider. Without this table only API keys are accepted.
    pub jwt: Option<Jwt>,
}

/// Tokens of an identity provider.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Jwt {
    /// The only accepted `iss`.
    pub issuer: Option<String>,
    /// The `aud` that must be among the token's.
    pub audience: Option<String>,
    /// Where the keys are: `https://…` (fetched, cached and refreshed) or `file:…`.
    pub jwks: Option<String>,
    /// Accepted signature algorithms; only asymmetric ones.
    pub algorithms: Vec<Algorithm>,
    /// Accepted difference between clocks, in seconds.
    #[schemars(range(min = 0, max = 300))]
    pub leeway_s: u64,
    /// How the claims are called in these tokens.
    pub claims: Claims,
}

impl Default for Jwt {
    fn default() -> Self {
        Self {
            issuer: None,
            audience: None,
            jwks: None,
            algorithms: vec![Algorithm::ES256, Algorithm::RS256],
            leeway_s: 30,
            claims: Claims::default(),
        }
    }
}

/// An asymmetric signature algorithm (RFC 7518).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) enum Algorithm {
    ES256,
    ES384,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    EdDSA,
}

/// How the claims are called in these tokens.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Claims {
    /// The person or service the token speaks for.
    pub subject: String,
    /// The scopes: a text with spaces between, or a list.
    pub scopes: String,
    /// The verified residence, `DE` or `US-CA`.
    pub residence: String,
    /// The tenant.
    pub tenant: String,
}

impl Default for Claims {
    fn default() -> Self {
        Self { subject: "sub".into(), scopes: "scope".into(), residence: "residence".into(), tenant: "tenant".into() }
    }
}
