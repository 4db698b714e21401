//! `ops mark`: tells the collector that a release serves, as an OTLP log record. Collectors that know deployments make
//! their marker of it (config of the cell's collector).

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow};
use serde_json::{Value, json};

use super::super::{Failure, load};
use crate::rooms;
use crate::{cli, print};

const PATIENCE: Duration = Duration::from_secs(10);

/// Sends it, if there is a collector.
pub(super) async fn run(args: &cli::OpsMark) -> Result<ExitCode, Failure> {
    let config = load(&args.config)?;
    let Some(otlp) = &config.telemetry.otlp else {
        print::note("no collector is configured ([telemetry.otlp]), so no marker was sent");
        return Ok(ExitCode::SUCCESS);
    };
    let url = format!("{}/v1/logs", otlp.endpoint.trim_end_matches('/'));
    let regions: Vec<&str> = config.served.keys().map(residency::Region::as_str).collect();
    let body = record(args, &regions.join(","), rooms::now());
    let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build().context("no HTTP client")?;
    let answer = client.post(&url).json(&body).send().await.with_context(|| format!("{url} did not answer"))?;
    if !answer.status().is_success() {
        return Err(anyhow!("{url} answered {}", answer.status()).into());
    }
    Ok(ExitCode::SUCCESS)
}

/// One log record in OTLP's JSON form.
fn record(args: &cli::OpsMark, regions: &str, now: SystemTime) -> Value {
    let nanos = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos()).to_string();
    let attribute = |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
    let text = format!("{} serves ({}, before it {})", args.release, args.kind, args.from);
    json!({
        "resourceLogs": [{
            "resource": { "attributes": [
                attribute("service.name", "domicile"),
                attribute("service.version", env!("CARGO_PKG_VERSION")),
            ] },
            "scopeLogs": [{
                "scope": { "name": "domicile.ops" },
                "logRecords": [{
                    "timeUnixNano": nanos,
                    "severityNumber": 9,
                    "severityText": "INFO",
                    "eventName": "domicile.deployment",
                    "body": { "stringValue": text },
                    "attributes": [
                        attribute("event.name", "domicile.deployment"),
                        attribute("deployment.release", &args.release),
                        attribute("deployment.from", &args.from),
                        attribute("deployment.kind", &args.kind),
                        attribute("domicile.regions", regions),
                    ],
                }],
            }],
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_names_the_release_and_nobody() {
        let config = cli::ConfigFile { path: "x".into() };
        let args = cli::OpsMark { config, release: "rel-7".into(), from: "rel-6".into(), kind: "deploy".into() };
        let told = record(&args, "eu-central,us-east", SystemTime::UNIX_EPOCH);
        let one = &told["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
        assert_eq!(one["timeUnixNano"], "0");
        assert_eq!(one["body"]["stringValue"], "rel-7 serves (deploy, before it rel-6)");
        assert_eq!(one["attributes"][0]["value"]["stringValue"], "domicile.deployment");
    }
}
