//! Metrics: what the rooms count through the `metrics` facade is kept for Prometheus, and, where the
//! operator wants it, handed to OpenTelemetry as well.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;

use super::otlp;
use crate::config::Otlp;

/// Bounds of the buckets of every `…_seconds` histogram.
const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0];
/// Bounds of the buckets of every other histogram: counts and bytes.
const COUNTS: &[f64] = &[1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0];
/// Series that are handed to OpenTelemetry; further ones stay with Prometheus. Labels are few and
/// fixed (regions, routes, outcomes), so this bound is a fence, not a limit that is met.
const EXPORTED_SERIES_MAX: usize = 10_000;

/// The metrics of this process.
#[derive(Clone)]
pub(crate) struct Metrics {
    prometheus: PrometheusHandle,
    meter: Option<SdkMeterProvider>,
}

impl Metrics {
    pub(super) fn start(export: Option<&Otlp>, resource: Resource) -> anyhow::Result<Self> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)
            .and_then(|builder| builder.set_buckets(COUNTS))
            .context("the buckets of histograms are wrong")?
            .build_recorder();
        let prometheus = recorder.handle();
        let meter = export.map(|export| otlp::meter(export, resource)).transpose()?;
        let installed = match &meter {
            None => metrics::set_global_recorder(recorder).is_ok(),
            Some(provider) => metrics::set_global_recorder(Both::new(recorder, provider)).is_ok(),
        };
        anyhow::ensure!(installed, "metrics were started before");
        Ok(Self { prometheus, meter })
    }

    /// The exposition text of Prometheus.
    pub(crate) fn render(&self) -> String {
        self.prometheus.render()
    }

    /// Frees what histograms have gathered; to be called every few seconds.
    pub(crate) fn upkeep(&self) {
        self.prometheus.run_upkeep();
    }

    pub(super) fn flush(&self) {
        if let Some(meter) = &self.meter {
            drop(meter.shutdown()); // a collector that has gone away is no reason to fail a shutdown
        }
    }
}

/// Hands everything to Prometheus and to OpenTelemetry.
struct Both {
    prometheus: PrometheusRecorder,
    meter: Meter,
    counters: Series<CounterPair>,
    gauges: Series<GaugePair>,
    histograms: Series<HistogramPair>,
}

type Series<T> = Mutex<HashMap<Key, Arc<T>>>;

impl Both {
    fn new(prometheus: PrometheusRecorder, provider: &SdkMeterProvider) -> Self {
        let meter = provider.meter("domicile");
        Self {
            prometheus,
            meter,
            counters: Series::default(),
            gauges: Series::default(),
            histograms: Series::default(),
        }
    }
}

/// The pair of a series, made at its first use; `None` past the bound.
fn pair<T>(series: &Series<T>, key: &Key, make: impl FnOnce() -> T) -> Option<Arc<T>> {
    let mut series = series.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = series.get(key) {
        return Some(Arc::clone(known));
    }
    if series.len() >= EXPORTED_SERIES_MAX {
        return None;
    }
    let made = Arc::new(make());
    series.insert(key.clone(), Arc::clone(&made));
    Some(made)
}

fn labels(key: &Key) -> Vec<KeyValue> {
    key.labels().map(|label| KeyValue::new(label.key().to_owned(), label.value().to_owned())).collect()
}

impl Recorder for Both {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.prometheus.describe_counter(key, unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.prometheus.describe_gauge(key, unit, description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.prometheus.describe_histogram(key, unit, description);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        let prometheus = self.prometheus.register_counter(key, metadata);
        let both = pair(&self.counters, key, || CounterPair {
            prometheus: prometheus.clone(),
            exported: self.meter.u64_counter(key.name().to_owned()).build(),
            labels: labels(key),
            seen: AtomicU64::new(0),
        });
        both.map_or(prometheus, Counter::from_arc)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        let prometheus = self.prometheus.register_gauge(key, metadata);
        let both = pair(&self.gauges, key, || GaugePair {
            prometheus: prometheus.clone(),
            exported: self.meter.f64_gauge(key.name().to_owned()).build(),
            labels: labels(key),
            value: AtomicU64::new(0f64.to_bits()),
        });
        both.map_or(prometheus, Gauge::from_arc)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        let prometheus = self.prometheus.register_histogram(key, metadata);
        let both = pair(&self.histograms, key, || HistogramPair {
            prometheus: prometheus.clone(),
            exported: {
                let bounds = if key.name().ends_with("_seconds") { SECONDS } else { COUNTS };
                self.meter.f64_histogram(key.name().to_owned()).with_boundaries(bounds.to_vec()).build()
            },
            labels: labels(key),
        });
        both.map_or(prometheus, Histogram::from_arc)
    }
}

struct CounterPair {
    prometheus: Counter,
    exported: opentelemetry::metrics::Counter<u64>,
    labels: Vec<KeyValue>,
    /// The highest absolute value that was seen: OpenTelemetry's counters only add.
    seen: AtomicU64,
}

impl CounterFn for CounterPair {
    fn increment(&self, value: u64) {
        self.prometheus.increment(value);
        self.seen.fetch_add(value, Ordering::Relaxed);
        self.exported.add(value, &self.labels);
    }

    fn absolute(&self, value: u64) {
        self.prometheus.absolute(value);
        let before = self.seen.fetch_max(value, Ordering::Relaxed);
        if value > before {
            self.exported.add(value - before, &self.labels);
        }
    }
}

struct GaugePair {
    prometheus: Gauge,
    exported: opentelemetry::metrics::Gauge<f64>,
    labels: Vec<KeyValue>,
    /// The bits of the current value: OpenTelemetry's gauges are only set.
    value: AtomicU64,
}

impl GaugePair {
    fn change(&self, change: impl Fn(f64) -> f64) {
        let changed = |bits| Some(change(f64::from_bits(bits)).to_bits());
        let before = self.value.fetch_update(Ordering::Relaxed, Ordering::Relaxed, changed).unwrap_or_else(|bits| bits);
        self.exported.record(change(f64::from_bits(before)), &self.labels);
    }
}

impl GaugeFn for GaugePair {
    fn increment(&self, value: f64) {
        self.prometheus.increment(value);
        self.change(|now| now + value);
    }

    fn decrement(&self, value: f64) {
        self.prometheus.decrement(value);
        self.change(|now| now - value);
    }

    fn set(&self, value: f64) {
        self.prometheus.set(value);
        self.change(|_| value);
    }
}

struct HistogramPair {
    prometheus: Histogram,
    exported: opentelemetry::metrics::Histogram<f64>,
    labels: Vec<KeyValue>,
}

impl HistogramFn for HistogramPair {
    fn record(&self, value: f64) {
        self.prometheus.record(value);
        self.exported.record(value, &self.labels);
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::metrics::InMemoryMetricExporter;
    use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData};

    use super::*;

    #[test]
    fn what_prometheus_shows_is_what_opentelemetry_gets() {
        let memory = InMemoryMetricExporter::default();
        let provider = SdkMeterProvider::builder().with_periodic_exporter(memory.clone()).build();
        let recorder = PrometheusBuilder::new().build_recorder();
        let prometheus = recorder.handle();
        metrics::with_local_recorder(&Both::new(recorder, &provider), || {
            for _ in 0..3 {
                metrics::counter!("deeds_total", "region" => "eu-central").increment(2);
            }
            metrics::gauge!("queue_deeds").set(5.0);
            metrics::gauge!("queue_deeds").increment(2.0);
            metrics::histogram!("commit_seconds").record(0.25);
        });
        let text = prometheus.render();
        assert!(text.contains("deeds_total{region=\"eu-central\"} 6"), "{text}");
        assert!(text.contains("queue_deeds 7"), "{text}");
        provider.force_flush().expect("in memory");
        let exported = memory.get_finished_metrics().expect("exported");
        let mut seen = Vec::new();
        for metric in exported.iter().flat_map(|r| r.scope_metrics()).flat_map(|s| s.metrics()) {
            let value = match metric.data() {
                AggregatedMetrics::U64(MetricData::Sum(sum)) => sum.data_points().map(|p| p.value() as f64).sum(),
                AggregatedMetrics::F64(MetricData::Gauge(gauge)) => gauge.data_points().map(|p| p.value()).sum(),
                AggregatedMetrics::F64(MetricData::Histogram(times)) => times.data_points().map(|p| p.sum()).sum(),
                _ => f64::NAN,
            };
            seen.push((metric.name().to_owned(), value));
        }
        seen.sort_by(|a, b| a.0.cmp(&b.0));
        let expected = [("commit_seconds", 0.25), ("deeds_total", 6.0), ("queue_deeds", 7.0)];
        assert_eq!(seen, expected.map(|(name, value)| (name.to_owned(), value)));
    }
}
