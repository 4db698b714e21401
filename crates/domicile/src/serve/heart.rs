//! What a gateway says of itself in every log it writes: that it has begun, under which policy and configuration,
//! which database it found, that it is still there, and that it has ended. A gateway that dies says nothing any more,
//! and the silence after its last heartbeat is what an auditor sees.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use leaf::{Attestation, Fact, FactKind};
use residency::Policy;
use routing::{Clock as _, SystemClock};
use storage::{FactFilter, RegionStore};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::config::{Config, fingerprint};

/// How often a database says anew who it is.
const ATTEST_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// The pause before something is said again that could not be said.
const PAUSE: Duration = Duration::from_secs(1);
/// How long the last words may take.
const STOP_MAX: Duration = Duration::from_secs(5);

/// The heart of a gateway in one region.
pub(super) struct Heart {
    config: Arc<Config>,
    policy: Arc<ArcSwap<Policy>>,
    store: RegionStore,
}

impl Heart {
    pub(super) fn new(config: &Arc<Config>, policy: &Arc<ArcSwap<Policy>>, store: &RegionStore) -> Self {
        Self { config: Arc::clone(config), policy: Arc::clone(policy), store: store.clone() }
    }

    /// Says that the gateway has begun, and then that it is still there, until it is told to stop.
    pub(super) async fn run(self, stop: CancellationToken) {
        let beats = async {
            self.until_said(|| self.start()).await;
            self.until_said(|| self.settings()).await;
            self.until_said(|| self.key()).await;
            let mut attest_at = Instant::now();
            loop {
                if Instant::now() >= attest_at {
                    self.until_said(|| self.attest()).await;
                    attest_at = Instant::now() + ATTEST_EVERY;
                }
                sleep(self.config.gateway.heartbeat).await;
                self.until_said(|| self.record(Fact::gateway_heartbeat(SystemClock.now_us(), self.beat_s()))).await;
            }
        };
        tokio::select! {
            () = beats => {}
            () = stop.cancelled() => {}
        }
    }

    fn beat_s(&self) -> u64 {
        self.config.gateway.heartbeat.as_secs()
    }

    async fn until_said<F: Future<Output = Result<(), storage::Error>>>(&self, say: impl Fn() -> F) {
        let mut told = false;
        while let Err(error) = say().await {
            if !std::mem::replace(&mut told, true) {
                warn!(region = %self.store.region(), %error, "The log does not take what the gateway says of itself yet");
            }
            sleep(PAUSE).await;
        }
    }

    async fn record(&self, fact: Fact) -> Result<(), storage::Error> {
        self.store.record(fact).await.map(drop)
    }

    async fn start(&self) -> Result<(), storage::Error> {
        let policy = self.policy.load();
        let config = fingerprint::digest(&self.config.settings);
        let (version, via) = (env!("CARGO_PKG_VERSION"), &self.config.gateway.region);
        let now_us = SystemClock.now_us();
        self.record(Fact::gateway_start(now_us, self.beat_s(), config, policy.hash(), version, via)).await
    }

    /// Names the keys that are not what they were when this instance last started here.
    async fn settings(&self) -> Result<(), storage::Error> {
        let (log, instance, now) = (self.store.log(), &self.config.gateway.instance, &self.config.settings);
        let before = log.settings_seen(instance).await?;
        if before == *now {
            return Ok(());
        }
        let (was, keys) = if before.is_empty() {
            (None, Vec::new()) // never seen before: there is nothing to compare with
        } else {
            (Some(fingerprint::digest(&before)), fingerprint::changed(&before, now))
        };
        self.record(Fact::config_change(SystemClock.now_us(), fingerprint::digest(now), was, &keys)).await?;
        log.keep_settings(instance, now).await
    }

    /// Names the key that signs this log, when it is another one than the log names last.
    async fn key(&self) -> Result<(), storage::Error> {
        let served = self.config.served.get(self.store.region());
        let Some(signer) = served.and_then(|served| served.signer.as_ref()) else { return Ok(()) };
        let key = signer.key.public().to_string();
        let kinds = vec![FactKind::KeyRotate.name().to_owned()];
        let found = self.store.log().facts(FactFilter { kinds, limit: 1, ..FactFilter::default() }).await?;
        let last = found.first().and_then(|row| leaf::parse_fact(row.line.as_bytes()).ok());
        let was = last.as_ref().and_then(|parsed| parsed.fact.text("key"));
        if was == Some(key.as_str()) {
            return Ok(());
        }
        self.record(Fact::key_rotate(SystemClock.now_us(), &key, was)).await
    }

    async fn attest(&self) -> Result<(), storage::Error> {
        let found = self.store.verify().await?;
        let region = self.store.region();
        let said = self.config.served.get(region).and_then(|served| served.placement.clone());
        let first = || {
            let placement = self.config.policy.region(region)?.placements.first()?;
            Some(format!("{}/{}", placement.cloud, placement.location))
        };
        let attested = Attestation {
            system_identifier: found.found_on,
            database: found.database,
            server_version: found.server_version,
            location: said.or_else(first),
        };
        self.record(Fact::placement_attest(SystemClock.now_us(), &attested)).await
    }
}

/// Says that the gateway has ended as it should.
pub(super) async fn stop(stores: &[RegionStore]) {
    let say = |store: RegionStore| async move {
        let said = timeout(STOP_MAX, store.record(Fact::gateway_stop(SystemClock.now_us()))).await;
        if !matches!(said, Ok(Ok(_))) {
            warn!(region = %store.region(), "The log did not take that the gateway has ended");
        }
    };
    futures::future::join_all(stores.iter().cloned().map(say)).await;
}
