//! Latency from a gateway's own histograms, as Prometheus text tells them.

use std::collections::BTreeMap;

/// The histogram of a gateway's answers.
const BUCKET: &str = "domicile_http_request_seconds_bucket{";

/// Answers by bucket: all routes together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Latency {
    /// The upper bound in microseconds -> answers up to it (cumulative, as Prometheus has it).
    up_to_us: BTreeMap<u64, u64>,
}

impl Latency {
    /// Adds one gateway's text.
    pub(super) fn add(&mut self, text: &str) {
        for line in text.lines().filter_map(|line| line.strip_prefix(BUCKET)) {
            let Some((labels, count)) = line.rsplit_once(' ') else { continue };
            let bound = labels.split("le=\"").nth(1).and_then(|rest| rest.split('"').next());
            let bound_us = match bound {
                Some("+Inf") => Some(u64::MAX),
                Some(bound) => bound.parse::<f64>().ok().map(in_us),
                None => None,
            };
            if let (Some(bound_us), Ok(count)) = (bound_us, count.trim().parse::<u64>()) {
                *self.up_to_us.entry(bound_us).or_default() += count;
            }
        }
    }

    /// What came after an earlier look.
    pub(super) fn since(&self, before: &Self) -> Self {
        let earlier = |bound: &u64| before.up_to_us.get(bound).copied().unwrap_or(0);
        let up_to_us = self.up_to_us.iter().map(|(bound, count)| (*bound, count.saturating_sub(earlier(bound))));
        Self { up_to_us: up_to_us.collect() }
    }

    /// How many answers.
    pub(super) fn count(&self) -> u64 {
        self.up_to_us.last_key_value().map_or(0, |(_, count)| *count)
    }

    /// The upper bound of the bucket in which the 99th percentile lies, in seconds; `None` without answers.
    pub(super) fn p99_s(&self) -> Option<f64> {
        let count = self.count();
        let wanted = count - count / 100;
        let bound = self.up_to_us.iter().find(|(_, up_to)| count > 0 && **up_to >= wanted)?.0;
        Some(if *bound == u64::MAX { f64::INFINITY } else { in_s(*bound) })
    }
}

fn in_us(seconds: f64) -> u64 {
    (seconds * 1e6).round() as u64
}

fn in_s(us: u64) -> f64 {
    us as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# TYPE domicile_http_request_seconds histogram\n\
        domicile_http_request_seconds_bucket{route=\"/a\",le=\"0.001\"} 90\n\
        domicile_http_request_seconds_bucket{route=\"/a\",le=\"0.5\"} 100\n\
        domicile_http_request_seconds_bucket{route=\"/a\",le=\"+Inf\"} 100\n\
        domicile_http_request_seconds_bucket{route=\"/b\",le=\"0.001\"} 900\n\
        domicile_http_request_seconds_bucket{route=\"/b\",le=\"0.5\"} 900\n\
        domicile_http_request_seconds_bucket{route=\"/b\",le=\"+Inf\"} 900\n\
        domicile_http_request_seconds_sum{route=\"/a\"} 1\n";

    #[test]
    fn a_percentile_is_read_over_all_routes_and_since_the_last_look() {
        let mut latency = Latency::default();
        assert_eq!(latency.p99_s(), None);
        latency.add(TEXT);
        assert_eq!((latency.count(), latency.p99_s()), (1000, Some(0.001)), "ten of a thousand are slower");
        let earlier = latency.clone();
        latency.add(
            "domicile_http_request_seconds_bucket{route=\"/a\",le=\"0.5\"} 50\n\
                     domicile_http_request_seconds_bucket{route=\"/a\",le=\"+Inf\"} 50",
        );
        let since = latency.since(&earlier);
        assert_eq!((since.count(), since.p99_s()), (50, Some(0.5)));
    }
}
