//! The meaning of `[telemetry]`: what is exported may not leave a region's jurisdiction any more than its data may. Metrics
//! and traces name nobody, but they tell who does how much where, and what went wrong.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use residency::{Country, Policy, Region, presets};

use super::Check;
use crate::config::mistake::nearest;
use crate::config::{Otlp, Served, Telemetry, raw};

/// The site of those who send nothing on.
const LOCAL: &str = "local";

impl Check<'_> {
    pub(super) fn telemetry(
        &mut self,
        raw: &raw::Telemetry,
        policy: Option<&Policy>,
        served: Option<&BTreeMap<Region, Served>>,
    ) -> Option<Telemetry> {
        let filter = raw.filter.clone().unwrap_or_else(|| "info".into());
        if let Err(error) = tracing_subscriber::EnvFilter::builder().parse(&filter) {
            self.error("telemetry.filter", format!("Not a filter: {error}."), "Write e.g. \"info,storage=debug\".");
        }
        let otlp = match &raw.otlp {
            None => None,
            Some(otlp) => {
                let lawful = self.site(otlp, policy, served);
                let otlp = self.otlp(otlp)?;
                lawful?;
                Some(otlp)
            }
        };
        Some(Telemetry { format: raw.format, filter, otlp })
    }

    fn otlp(&mut self, raw: &raw::Otlp) -> Option<Otlp> {
        let key = "telemetry.otlp.endpoint";
        let fix = "Name the collector, e.g. \"http://127.0.0.1:4318\".";
        let endpoint = self.text(key, raw.endpoint.as_ref(), fix)?;
        if !endpoint.starts_with("http://") {
            self.error(
                key,
                "The exporter speaks plain http only.",
                "Run a collector beside this process, write http://127.0.0.1:4318, and let the collector do TLS.",
            );
            return None;
        }
        if !self.without_login(key, &endpoint) {
            return None;
        }
        if !raw.traces && !raw.metrics {
            self.warn("telemetry.otlp", "Neither traces nor metrics are exported.", "Remove the table.");
        }
        Some(Otlp {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            traces: raw.traces,
            metrics: raw.metrics,
            trace_ratio: raw.trace_ratio,
            metrics_every: Duration::from_secs(raw.metrics_every_s),
        })
    }

    /// The vendor's site that the collector sends to, which must lie inside the jurisdiction of every region served here.
    fn site(
        &mut self,
        raw: &raw::Otlp,
        policy: Option<&Policy>,
        served: Option<&BTreeMap<Region, Served>>,
    ) -> Option<()> {
        let key = "telemetry.otlp.site";
        let sites = self.sites(raw.sites.as_deref())?;
        let site = raw.site.as_deref().unwrap_or(LOCAL);
        let Some(country) = sites.get(site) else {
            let fix = match nearest(site, sites.keys().map(String::as_str)) {
                Some(near) => format!("Did you mean {near}?"),
                None => format!("Write one of {}.", sites.keys().cloned().collect::<Vec<_>>().join(", ")),
            };
            self.error(key, format!("The table of telemetry sites has no {site}."), fix);
            return None;
        };
        let Some(country) = country else { return Some(()) };
        // What is wrong with policy or regions has been said already.
        let mut lawful = true;
        for (region, settings) in served? {
            if policy?.holds(*country, &settings.jurisdiction) {
                continue;
            }
            lawful = false;
            let message = format!(
                "{site} keeps telemetry in {country}, which is outside the jurisdiction {} of {region}.",
                settings.jurisdiction
            );
            let fix =
                "Use a site inside it, or \"local\": metrics and traces then stay with the collector of this cell.";
            self.error(key, message, fix);
        }
        lawful.then_some(())
    }

    /// Site -> country; `None` is for sites from which nothing leaves.
    fn sites(&mut self, file: Option<&Path>) -> Option<BTreeMap<String, Option<Country>>> {
        let key = "telemetry.otlp.sites";
        let text = match file {
            None => presets::TELEMETRY.to_owned(),
            Some(path) => match std::fs::read_to_string(self.path(path)) {
                Ok(text) => text,
                Err(error) => {
                    let fix = "Correct the path; it is relative to this file.";
                    self.error(key, format!("{} cannot be read: {error}.", path.display()), fix);
                    return None;
                }
            },
        };
        let mut sites = BTreeMap::new();
        for row in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()).skip(1) {
            let mut cells = row.split(',').map(str::trim);
            let (site, country) = (cells.next().unwrap_or_default(), cells.next().unwrap_or_default());
            let country = match (country, Country::new(country)) {
                ("own", _) => None,
                (_, Ok(country)) => Some(country),
                (_, Err(_)) => {
                    let fix = "Write site,country,host,source with two letters of ISO 3166-1.";
                    self.error(key, format!("`{country}` is no country, in the row of {site}."), fix);
                    return None;
                }
            };
            sites.insert(site.to_owned(), country);
        }
        Some(sites)
    }
}
