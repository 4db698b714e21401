//! What runs beside the requests: relays, forwarders, and the small chores. A chore that panics is
//! started again after a pause; none of them can stop the gateway.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use geoip::{GeoIp, Reload};
use leaf::GatewayId;
use ops::drill::proofs::Proofs;
use residency::Policy;
use routing::{Clock as _, Routing, SystemClock};
use storage::RegionStore;
use tokio::signal::unix::Signal;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, warn};

use super::heart;
use super::policy::Policies;
use crate::config::Config;
use crate::rooms;
use crate::telemetry::Metrics;

/// How often histograms are tidied.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);
/// How often it is looked what was proven of backups and drills.
const PROOFS_EVERY: Duration = Duration::from_secs(10);
/// How often it is looked whether the directory knows of every erasure.
const FILE_EVERY: Duration = Duration::from_secs(5);
/// The first pause before a task that failed is started again.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A task that ran for this long before it failed begins again with the shortest pause.
const STEADY: Duration = Duration::from_secs(60);

/// The tasks of this process.
pub(super) struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    /// Ends the heartbeats, before the gateway's last words.
    hush: CancellationToken,
}

impl Tasks {
    /// Tasks that end when `stop` is cancelled.
    pub(super) fn new(stop: CancellationToken) -> Self {
        Self { tracker: TaskTracker::new(), hush: stop.child_token(), stop }
    }

    /// Waits for all of them.
    pub(super) async fn join(self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// A relay for each region that has brokers.
    pub(super) fn relays(&mut self, config: &Arc<Config>, stores: &[RegionStore]) {
        for store in stores {
            if rooms::relay(config, store.region(), store.log()).is_none() {
                warn!(region = %store.region(), "The region has no brokers: its events wait in its log");
                continue;
            }
            let (config, store) = (Arc::clone(config), store.clone());
            self.supervise("relay", store.region().to_string(), move |stop| {
                let relay = rooms::relay(&config, store.region(), store.log());
                async move {
                    if let Some(relay) = relay {
                        relay.run(stop).await;
                    }
                }
            });
        }
    }

    /// A forwarder for each region that has a Snowflake.
    ///
    /// # Errors
    /// When a sink cannot be made from the configuration.
    pub(super) fn forwarders(&mut self, config: &Arc<Config>, stores: &[RegionStore]) -> anyhow::Result<()> {
        for store in stores {
            if rooms::forwarder(config, store.region(), store.log())?.is_none() {
                warn!(region = %store.region(), "The region has no Snowflake: its zero-party data waits in its log");
                continue;
            }
            let (config, store) = (Arc::clone(config), store.clone());
            self.supervise("forwarder", store.region().to_string(), move |stop| {
                let forwarder = rooms::forwarder(&config, store.region(), store.log());
                async move {
                    match forwarder {
                        Ok(Some(forwarder)) => forwarder.run(stop).await,
                        Ok(None) => {}
                        Err(error) => error!("The forwarder cannot be made: {error:#}"),
                    }
                }
            });
        }
        Ok(())
    }

    /// A signer for each region whose log's key is here.
    pub(super) fn signers(&mut self, config: &Arc<Config>, stores: &[RegionStore], process: &GatewayId) {
        for store in stores {
            let Some(settings) = config.served.get(store.region()).and_then(|served| served.signer.clone()) else {
                warn!(region = %store.region(), "The region's log has no key here: it is not signed by this process");
                continue;
            };
            let (log, process) = (store.log(), process.to_string());
            for (witness, url) in &settings.witnesses {
                let post = match rooms::witness(url) {
                    Ok(post) => post,
                    Err(error) => {
                        error!(witness = witness.name(), "Nothing is submitted to a witness: {error:#}");
                        continue;
                    }
                };
                let (log, process, witness) = (log.clone(), process.clone(), witness.clone());
                self.supervise("submitter", store.region().to_string(), move |stop| {
                    let (log, process) = (log.clone(), process.clone());
                    audit::Submitter::new(log, witness.clone(), post.clone(), process).run(stop)
                });
            }
            self.supervise("signer", store.region().to_string(), move |stop| {
                let memory = audit::Memory::at(&settings.memory_file);
                audit::Signer::new(log.clone(), settings.key.clone(), memory, process.clone()).run(stop)
            });
        }
    }

    /// A scrubber for each region, unless its configuration says that it is not to be.
    pub(super) fn scrubbers(&mut self, config: &Config, stores: &[RegionStore], process: &GatewayId) {
        for store in stores {
            let rate = config.served.get(store.region()).map_or(0, |served| served.scrub_leaves_per_s);
            if rate == 0 {
                continue;
            }
            let (log, process) = (store.log(), process.to_string());
            self.supervise("scrubber", store.region().to_string(), move |stop| {
                audit::Scrubber::new(log.clone(), process.clone(), rate).run(stop)
            });
        }
    }

    /// Looks for a newer country database.
    pub(super) fn geoip(&mut self, config: &Config, geoip: GeoIp) {
        let Some(every) = config.geoip.as_ref().and_then(|settings| settings.reload_every) else { return };
        self.every(every, move || {
            let geoip = geoip.clone();
            async move {
                let looked = tokio::task::spawn_blocking(move || geoip.reload_if_changed(rooms::now())).await;
                match looked {
                    Ok(Ok(Reload::Unchanged | Reload::Replaced(_))) => {}
                    Ok(Err(refused)) => warn!("The new GeoIP database was not accepted, the old one stays: {refused}"),
                    Err(_) => error!("Reading the new GeoIP database panicked; the old one stays"),
                }
            }
        });
    }

    /// Reads the policy again at each HUP.
    pub(super) fn policy(&mut self, file: PathBuf, policies: Arc<Policies>, mut hangups: Signal) {
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = hangups.recv() => {}
                }
                let (file, policies) = (file.clone(), Arc::clone(&policies));
                if tokio::task::spawn_blocking(move || policies.reload(&file)).await.is_err() {
                    error!("Reading the policy panicked; the old one stays in force");
                }
            }
        });
    }

    /// A heart for each region.
    pub(super) fn hearts(&mut self, config: &Arc<Config>, policy: &Arc<ArcSwap<Policy>>, stores: &[RegionStore]) {
        for store in stores {
            let (config, policy, store) = (Arc::clone(config), Arc::clone(policy), store.clone());
            let hush = self.hush.clone();
            self.supervise("heart", store.region().to_string(), move |stop| {
                let (heart, hush) = (heart::Heart::new(&config, &policy, &store), hush.clone());
                async move {
                    heart.run(hush).await;
                    stop.cancelled().await; // nothing more is said, and it is not started again
                }
            });
        }
    }

    /// A registrar for each region.
    pub(super) fn registrars(&mut self, stores: &[RegionStore], process: &GatewayId) {
        for store in stores {
            let (log, process) = (store.log(), process.to_string());
            self.supervise("registrar", store.region().to_string(), move |stop| {
                let now_us = || SystemClock.now_us();
                audit::Registrar::new(log.clone(), process.clone(), now_us).run(stop)
            });
        }
    }

    /// A reconciler for each region, which looks into the logs of the others.
    pub(super) fn reconcilers(&mut self, stores: &[RegionStore]) {
        for store in stores {
            let others = stores.iter().filter(|other| other.region() != store.region());
            let (log, others) = (store.log(), others.map(RegionStore::log).collect::<Vec<_>>());
            self.supervise("reconciler", store.region().to_string(), move |stop| {
                audit::Reconciler::new(log.clone(), others.clone(), || SystemClock.now_us()).run(stop)
            });
        }
    }

    /// A teller for each two regions between which data can cross a border here.
    pub(super) fn tellers(&mut self, config: &Config, stores: &[RegionStore], process: &GatewayId) {
        for (home, abroad) in stores.iter().flat_map(|home| stores.iter().map(move |abroad| (home, abroad))) {
            if config.policy.crossing(abroad.region(), home.region(), false).is_none() {
                continue;
            }
            let (home, abroad, process) = (home.clone(), abroad.clone(), process.to_string());
            self.supervise("teller", home.region().to_string(), move |stop| {
                let now_us = || SystemClock.now_us();
                audit::Teller::new(home.clone(), abroad.clone(), process.clone(), now_us).run(stop)
            });
        }
    }

    /// Ends the heartbeats.
    pub(super) fn hush(&self) {
        self.hush.cancel();
    }

    /// Keeps every policy that is or was in force in each region, beside the decisions that are taken by it.
    pub(super) fn keepers(&mut self, policies: &Policies, stores: &[RegionStore]) {
        for store in stores {
            let Some(unkept) = policies.unkept(store.region()) else { continue };
            let (unkept, store) = (Arc::clone(unkept), store.clone());
            self.supervise("policy keeper", store.region().to_string(), move |stop| {
                let (unkept, store) = (Arc::clone(&unkept), store.clone());
                async move { unkept.keep(&store, &stop).await }
            });
        }
    }

    /// Tells the directory of erasures that it may not know of yet: it was away, or a gateway ended between the two.
    pub(super) fn erasures(&mut self, routing: &Routing, stores: &[RegionStore]) {
        for store in stores {
            let (routing, store) = (routing.clone(), store.clone());
            self.every(FILE_EVERY, move || {
                let (routing, store) = (routing.clone(), store.clone());
                async move {
                    if let Err(error) = routing.file_erasures(&store).await {
                        debug!(region = %store.region(), "Tombstones of erasures are still to be filed: {error}");
                    }
                }
            });
        }
    }

    /// Tidies the metrics.
    pub(super) fn upkeep(&mut self, metrics: Metrics) {
        self.every(UPKEEP_EVERY, move || {
            metrics.upkeep();
            std::future::ready(())
        });
    }

    /// Shows what was proven of backups and drills, as `domicile ops` has noted it.
    pub(super) fn proofs(&mut self, config: &Config) {
        let Some(state) = config.backup.state_folder.clone() else { return };
        self.every(PROOFS_EVERY, move || {
            let state = state.clone();
            async move {
                match tokio::task::spawn_blocking(move || Proofs::read(&state)).await {
                    Ok(Ok(proofs)) => proofs.show(),
                    Ok(Err(error)) => warn!("What was proven of backups cannot be read: {error}"),
                    Err(_) => error!("Reading what was proven of backups panicked"),
                }
            }
        });
    }

    fn every<F: Future<Output = ()> + Send>(
        &mut self,
        period: Duration,
        mut chore: impl FnMut() -> F + Send + 'static,
    ) {
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            let mut ticks = interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks.tick().await; // the first one comes at once
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = ticks.tick() => chore().await,
                }
            }
        });
    }

    /// Runs a task until it is told to stop; starts it again after a pause if it panics or ends early.
    fn supervise<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        what: &'static str,
        region: String,
        mut start: impl FnMut(CancellationToken) -> F + Send + 'static,
    ) {
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            let mut pause = PAUSE_MIN;
            loop {
                let begun = Instant::now();
                let ended = tokio::spawn(start(stop.clone())).await;
                if stop.is_cancelled() {
                    return;
                }
                metrics::counter!("domicile_task_restarts_total", "task" => what, "region" => region.clone())
                    .increment(1);
                pause = if begun.elapsed() >= STEADY { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
                let how = if ended.is_err() { "panicked" } else { "ended early" };
                error!(region, "The {what} of {region} {how}; it is started again in {} ms", pause.as_millis());
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = sleep(pause) => {}
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_started_again_until_it_is_told_to_stop() {
        let stop = CancellationToken::new();
        let mut tasks = Tasks::new(stop.clone());
        let starts = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&starts);
        tasks.supervise("relay", "eu-central".into(), move |stop| {
            let start = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                assert!(start >= 2, "the first two starts fail");
                stop.cancelled().await;
            }
        });
        while starts.load(Ordering::SeqCst) < 3 {
            sleep(Duration::from_millis(100)).await;
        }
        stop.cancel();
        tasks.join().await;
        assert_eq!(starts.load(Ordering::SeqCst), 3);
    }
}
