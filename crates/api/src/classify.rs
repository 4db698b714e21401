//! `POST /v1/classify`: where a request would go, and why.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The question.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"subject": "customer-4711", "residence": "DE"}))]
pub struct Classify {
    /// The subject, 1 to 256 bytes.
    pub subject: String,
    /// The residence the person declared, `DE` or `US-CA`.
    #[serde(default)]
    pub residence: Option<String>,
    /// The tenant; believed from callers with the scope `evidence:tenant`, or of that tenant.
    #[serde(default)]
    pub tenant: Option<String>,
    /// The person's network address; believed from callers with the scope `evidence:client-address`.
    #[serde(default)]
    pub client_address: Option<String>,
}

/// The answer. Nothing was pinned and nothing was logged.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "outcome": "home", "region": "eu-central", "jurisdiction": "eu", "served_here": true, "pinned": false,
    "rule": "eea", "policy": "2026-11", "policy_hash": "9f2c…",
    "winner": 0,
    "signals": [{"source": "declared_residence", "weight": 40, "origin": "header", "finding": "place", "value": "DE"}]
}))]
pub struct Classification {
    /// Where, or why nowhere.
    pub outcome: Outcome,
    /// The home region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The home region's jurisdiction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jurisdiction: Option<String>,
    /// Whether this gateway serves the home region.
    pub served_here: bool,
    /// The gateway that serves the home region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<String>,
    /// Whether the subject is pinned already.
    pub pinned: bool,
    /// The rule that decided.
    pub rule: String,
    /// The policy's version.
    pub policy: String,
    /// SHA-256 of the policy's text, hex.
    pub policy_hash: String,
    /// Index into `signals` of the one that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub winner: Option<u8>,
    /// What was considered, heaviest first.
    pub signals: Vec<Signal>,
    /// Why there is no home: `no_evidence`, `conflict`, `unknown_place`, or the policy's sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Build time of the GeoIP database consulted, seconds since 1970-01-01 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub geoip_built_s: Option<u64>,
}

/// What a classification came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The subject is, or would be, at home in `region`.
    Home,
    /// It cannot be said; a write would get 422 `residency_unresolved`.
    Unresolved,
    /// The policy refuses; a write would get 451 `residency_refused`.
    Refused,
}

/// One signal about where a person is at home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Signal {
    /// `existing_pin`, `tenant_pin`, `verified_claim`, `declared_residence`, `geoip` or `operator_default`.
    pub source: String,
    /// Its weight; only the order matters.
    pub weight: u8,
    /// `directory`, `policy`, `token`, `header`, `connection` or `trusted_proxy`.
    pub origin: String,
    /// What it says: `home` (a region), `place` (a country or subdivision) or `nothing` (and why).
    pub finding: String,
    /// The region, the place, or the reason, e.g. `special_address`. Never an address.
    pub value: String,
}
