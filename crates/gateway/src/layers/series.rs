//! The counts and durations of answers, by kind. A series is looked up in the recorder once and then kept: making a
//! metric's key anew for every request costs more than counting it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use arc_swap::ArcSwap;
use metrics::{Counter, Histogram, counter, histogram};

/// Kinds that are kept. Routes, methods and regions are few, so this is a fence rather than a limit that is met;
/// beyond it a series is looked up each time.
const KINDS_MAX: usize = 4_096;

/// A kind of answer. Its words are templates and names of our own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Kind<'a> {
    pub(super) route: Cow<'a, str>,
    pub(super) method: &'static str,
    pub(super) status: u16,
    pub(super) region: Cow<'a, str>,
}

/// Every kind that was met. Read without a lock; grows by copying, and seldom.
#[derive(Default)]
pub(super) struct Series(ArcSwap<HashMap<Kind<'static>, One>>);

/// One kind's.
#[derive(Clone)]
struct One {
    requests: Counter,
    seconds: Histogram,
}

impl Series {
    /// Counts an answer of this kind, which took so long.
    pub(super) fn count(&self, kind: &Kind<'_>, took: Duration) {
        let met = self.0.load();
        let met: &HashMap<Kind<'_>, One> = &met;
        match met.get(kind) {
            Some(one) => one.count(took),
            None => self.meet(kind).count(took),
        }
    }

    fn meet(&self, kind: &Kind<'_>) -> One {
        let one = One::of(kind);
        self.0.rcu(|met| {
            let mut met = HashMap::clone(met);
            if met.len() < KINDS_MAX {
                met.insert(kind.to_owned(), one.clone());
            }
            met
        });
        one
    }
}

impl Kind<'_> {
    fn to_owned(&self) -> Kind<'static> {
        Kind {
            route: Cow::Owned(self.route.clone().into_owned()),
            method: self.method,
            status: self.status,
            region: Cow::Owned(self.region.clone().into_owned()),
        }
    }
}

impl One {
    fn of(kind: &Kind<'_>) -> Self {
        let Kind { route, method, status, region } = kind.to_owned();
        Self {
            requests: counter!(
                "domicile_http_requests_total",
                "route" => route.clone(), "method" => method, "status" => status.to_string(), "region" => region.clone()
            ),
            seconds: histogram!(
                "domicile_http_request_seconds",
                "route" => route, "method" => method, "status" => class(status), "region" => region
            ),
        }
    }

    fn count(&self, took: Duration) {
        self.requests.increment(1);
        self.seconds.record(took.as_secs_f64());
    }
}

const fn class(status: u16) -> &'static str {
    match status / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_looked_up_once_and_the_memory_is_bounded() {
        let series = Series::default();
        for n in 0..2 * KINDS_MAX {
            for _ in 0..2 {
                let kind = Kind { route: format!("/{n}").into(), method: "GET", status: 200, region: "none".into() };
                series.count(&kind, Duration::from_millis(1));
            }
        }
        assert_eq!(series.0.load().len(), KINDS_MAX);
    }
}
