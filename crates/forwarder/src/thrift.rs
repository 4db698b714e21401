//! What a warehouse costs, and batches that grow when it costs too much. Pure: time comes in by the front door.
//!
//! A warehouse is paid for while it is awake: from a statement's start until it has been idle for its suspension
//! time. So small batches every few seconds cost as much as a warehouse that never sleeps, and only rarer ones
//! cost less. Batches with a tombstone are never held back for that: a withdrawal is not to wait for a bill.

use std::time::Duration;

use tokio::time::Instant;

/// What a sink has used since the start.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// Statements that were run.
    pub queries: u64,
    /// Bytes of their texts, which carry the data.
    pub bytes: u64,
    /// Credits, estimated from the time that the warehouse was awake for them. What others do with it is not known.
    pub credits: f64,
}

/// What a warehouse costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Price {
    /// Credits per hour awake; 1 for the smallest.
    pub credits_per_hour: f64,
    /// How long it stays awake without work.
    pub auto_suspend: Duration,
}

impl Default for Price {
    fn default() -> Self {
        Self { credits_per_hour: 1.0, auto_suspend: Duration::from_secs(60) }
    }
}

/// Adds up what is used.
#[derive(Debug)]
pub(crate) struct Meter {
    price: Price,
    usage: Usage,
    /// Until when the warehouse has been paid for.
    awake_until: Option<Instant>,
}

impl Meter {
    pub(crate) fn new(price: Price) -> Self {
        Self { price, usage: Usage::default(), awake_until: None }
    }

    /// Notes a statement of so many bytes.
    pub(crate) fn note(&mut self, began: Instant, ended: Instant, bytes: usize) {
        let until = ended + self.price.auto_suspend;
        let from = self.awake_until.map_or(began, |paid| paid.max(began));
        let awake = until.saturating_duration_since(from);
        self.awake_until = Some(self.awake_until.map_or(until, |paid| paid.max(until)));
        self.usage.queries += 1;
        self.usage.bytes += bytes as u64;
        self.usage.credits += awake.as_secs_f64() / 3_600.0 * self.price.credits_per_hour;
    }

    pub(crate) fn usage(&self) -> Usage {
        self.usage
    }
}

/// How much may be spent, and how far batches may grow for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// Credits per day; without it nothing grows.
    pub credits_per_day_max: Option<f64>,
    /// The longest that the first change of a batch waits then. Below [`Limits::lag_alarm`](crate::Limits::lag_alarm),
    /// or an honest wait raises it.
    pub batch_age_stretched_max: Duration,
}

impl Default for Budget {
    fn default() -> Self {
        Self { credits_per_day_max: None, batch_age_stretched_max: Duration::from_secs(240) }
    }
}

const DAY: Duration = Duration::from_secs(86_400);
/// Times that rows and bytes of a batch may grow; the age may grow further.
const GROWTH_MAX: usize = 8;

/// Decides how long batches gather.
#[derive(Debug)]
pub(crate) struct Thrift {
    budget: Budget,
    age_min: Duration,
    age: Duration,
    since: Instant,
    credits_before: f64,
}

impl Thrift {
    /// `credits` is what had been used when the day began.
    pub(crate) fn new(budget: Budget, age_min: Duration, credits: f64, now: Instant) -> Self {
        Self { budget, age_min, age: age_min, since: now, credits_before: credits }
    }

    /// How long the first change of a batch waits for company.
    pub(crate) fn age(&self) -> Duration {
        self.age
    }

    /// How many times larger than usual a batch may be.
    pub(crate) fn growth(&self) -> usize {
        let times = self.age.as_secs_f64() / self.age_min.as_secs_f64().max(0.001);
        (times as usize).clamp(1, GROWTH_MAX)
    }

    /// Takes the bill after a batch, all that was used since the start: doubles the wait while more was spent than the
    /// day so far allows, and halves it when there is room again. An hour's share may be spent ahead.
    pub(crate) fn spent(&mut self, credits: f64, now: Instant) {
        let Some(per_day) = self.budget.credits_per_day_max else { return };
        let passed = now.saturating_duration_since(self.since);
        if passed >= DAY {
            (self.since, self.credits_before) = (now, credits);
            return;
        }
        let allowed = per_day * (passed.as_secs_f64() / DAY.as_secs_f64() + 1.0 / 24.0);
        let spent = credits - self.credits_before;
        if spent > allowed {
            let longest = self.budget.batch_age_stretched_max.max(self.age_min);
            self.age = (self.age * 2).max(Duration::from_secs(1)).min(longest);
        } else if spent < allowed * 0.8 {
            self.age = (self.age / 2).max(self.age_min);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warehouse_is_paid_for_while_it_is_awake_and_once() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut meter = Meter::new(Price::default());
        meter.note(at(0), at(10), 100);
        assert!((meter.usage().credits - 70.0 / 3_600.0).abs() < 1e-9, "ten seconds of work and a minute of waiting");
        meter.note(at(20), at(25), 100);
        assert!((meter.usage().credits - 85.0 / 3_600.0).abs() < 1e-9, "it was awake until 70 already");
        meter.note(at(1_000), at(1_001), 100);
        assert!((meter.usage().credits - 146.0 / 3_600.0).abs() < 1e-9, "it slept in between");
        assert_eq!((meter.usage().queries, meter.usage().bytes), (3, 300));
    }

    /// A day of a batch whenever one is due.
    fn a_day(budget: Budget) -> (f64, Duration) {
        let start = Instant::now();
        let (mut now, mut meter) = (start, Meter::new(Price::default()));
        let mut thrift = Thrift::new(budget, Duration::from_secs(2), 0.0, start);
        while now < start + DAY - Duration::from_secs(1) {
            now += thrift.age();
            meter.note(now, now + Duration::from_millis(500), 1_000);
            thrift.spent(meter.usage().credits, now);
        }
        (meter.usage().credits, thrift.age())
    }

    #[test]
    fn batches_grow_until_the_bill_fits_and_only_then() {
        let (credits, age) = a_day(Budget::default());
        assert!(credits > 23.0 && age == Duration::from_secs(2), "{credits} {age:?}");
        let frugal = Budget { credits_per_day_max: Some(8.0), ..Budget::default() };
        let (credits, age) = a_day(frugal);
        assert!(credits < 8.5 && age > Duration::from_secs(2), "{credits} {age:?}");
        let generous = Budget { credits_per_day_max: Some(30.0), ..Budget::default() };
        let (credits, age) = a_day(generous);
        assert!(credits > 23.0 && age == Duration::from_secs(2), "{credits} {age:?}");
        let impossible = Budget { credits_per_day_max: Some(0.01), ..Budget::default() };
        assert_eq!(a_day(impossible).1, Duration::from_secs(240), "never beyond its bound");
    }
}
