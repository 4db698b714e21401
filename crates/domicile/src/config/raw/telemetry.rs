//! `[telemetry]` as it is written.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Logs, traces and metrics.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Telemetry {
    /// The form of log lines. Default: `human` on a terminal, `json` elsewhere.
    pub format: Option<LogFormat>,
    /// Which log lines are written, e.g. `info,storage=debug` (tracing's EnvFilter). Default: `info`.
    pub filter: Option<String>,
    /// Export by OTLP. Without this table nothing is exported.
    pub otlp: Option<Otlp>,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Human,
}

/// Export by OTLP over HTTP, to a collector inside the same jurisdiction.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Otlp {
    /// The collector, plain http: e.g. `http://127.0.0.1:4318`. Put TLS in the collector beside it.
    pub endpoint: Option<String>,
    /// Where the collector sends it on: a site of `presets/telemetry.csv`. Default: `local`, nowhere. A site outside
    /// the jurisdiction of a region served here is refused.
    pub site: Option<String>,
    /// The table of sites. Default: the built-in preset.
    pub sites: Option<PathBuf>,
    /// Whether traces are exported.
    pub traces: bool,
    /// Whether metrics are exported (they are always at `/metrics`).
    pub metrics: bool,
    /// Which part of the traces is kept, from 0 to 1. A request with a `traceparent` brings its own decision.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub trace_ratio: f64,
    /// How often metrics are sent, in seconds.
    #[schemars(range(min = 1, max = 3600))]
    pub metrics_every_s: u64,
}

impl Default for Otlp {
    fn default() -> Self {
        Self {
            endpoint: None,
            site: None,
            sites: None,
            traces: true,
            metrics: true,
            trace_ratio: 0.05,
            metrics_every_s: 15,
        }
    }
}
