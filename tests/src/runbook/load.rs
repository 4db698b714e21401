//! Callers that keep their connections and go on whatever happens to the gateways.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

/// Callers at once, each with a connection of its own.
const CALLERS: u64 = 16;
/// How long they may take to reach the least number of requests once the deed is done.
const PATIENCE: Duration = Duration::from_secs(300);
/// A request that takes longer has failed.
const REQUEST_MAX: Duration = Duration::from_secs(30);

/// What the callers saw.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) requests: u64,
    pub(super) failed: u64,
    slowest: Duration,
    first_failure: Option<String>,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slowest = self.slowest.as_secs_f32();
        write!(
            f,
            "{} failed of {} requests by {CALLERS} callers, the slowest {slowest:.2} s",
            self.failed, self.requests
        )?;
        match &self.first_failure {
            Some(failure) => write!(f, "; the first failure: {failure}"),
            None => Ok(()),
        }
    }
}

/// Callers at work.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    tally: Arc<Mutex<Tally>>,
    callers: JoinSet<()>,
}

impl Load {
    /// Starts the callers; each has been answered once when this returns.
    pub(super) async fn start(url: String, key: &str) -> Result<Self> {
        let load = Self { stop: Arc::default(), count: Arc::default(), tally: Arc::default(), callers: JoinSet::new() };
        let mut load = load;
        for number in 0..CALLERS {
            let caller = Caller {
                http: reqwest::Client::builder().pool_max_idle_per_host(1).timeout(REQUEST_MAX).no_proxy().build()?,
                url: format!("{url}/v1/subjects/{}/records/load/{number}", crate::person("load")),
                key: key.to_owned(),
                residence: ["DE", "GB", "US"][(number % 3) as usize],
            };
            let (stop, count, tally) = (Arc::clone(&load.stop), Arc::clone(&load.count), Arc::clone(&load.tally));
            load.callers.spawn(async move { caller.go_on(&stop, &count, &tally).await });
        }
        crate::until("every caller was answered", PATIENCE, || {
            let answered = load.count.load(Ordering::Relaxed) >= 4 * CALLERS;
            async move { answered }
        })
        .await?;
        Ok(load)
    }

    /// Goes on until there were enough requests, then ends.
    pub(super) async fn end(mut self, requests_min: u64) -> Result<Tally> {
        let count = Arc::clone(&self.count);
        let enough = crate::until("enough requests were made", PATIENCE, || {
            let enough = count.load(Ordering::Relaxed) >= requests_min;
            async move { enough }
        });
        let enough = enough.await;
        self.stop.store(true, Ordering::Relaxed);
        while self.callers.join_next().await.is_some() {}
        enough?;
        let tally = std::mem::take(&mut *self.tally.lock().await);
        ensure!(tally.requests >= requests_min, "{tally}");
        Ok(tally)
    }
}

struct Caller {
    http: reqwest::Client,
    url: String,
    key: String,
    residence: &'static str,
}

impl Caller {
    async fn go_on(&self, stop: &AtomicBool, count: &AtomicU64, tally: &Mutex<Tally>) {
        let mut turn = 0_u64;
        while !stop.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let failure = self.once(turn).await.err();
            let took = begun.elapsed();
            let mut tally = tally.lock().await;
            tally.requests += 1;
            tally.slowest = tally.slowest.max(took);
            if let Some(failure) = failure {
                tally.failed += 1;
                tally.first_failure.get_or_insert(failure);
            }
            drop(tally);
            count.fetch_add(1, Ordering::Relaxed);
            turn += 1;
        }
    }

    /// A write, then three reads of what was written.
    async fn once(&self, turn: u64) -> Result<(), String> {
        let request = if turn.is_multiple_of(4) {
            self.http.put(&self.url).header("Domicile-Residence", self.residence).json(&json!({ "turn": turn }))
        } else {
            self.http.get(&self.url)
        };
        let answer = request.bearer_auth(&self.key).send().await.map_err(|error| format!("turn {turn}: {error:?}"))?;
        let status = answer.status();
        let body = answer.text().await.map_err(|error| format!("turn {turn}: {error:?}"))?;
        if status.is_success() { Ok(()) } else { Err(format!("turn {turn}: {status} {body}")) }
    }
}
