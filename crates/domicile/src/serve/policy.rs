//! Replacing the policy while requests go on, and keeping, in each region, every policy that decisions are taken by.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use arc_swap::ArcSwap;
use leaf::Fact;
use residency::{Jurisdiction, Policy, Region};
use routing::{Clock as _, SystemClock};
use storage::{KeptPolicy, RegionStore};
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::{self, Config};

/// So many policies may wait to be kept in a region that does not answer. While there are so many, none is replaced: the log
/// would name one that nobody could show.
const UNKEPT_MAX: usize = 64;
/// How long until a region that did not answer is asked again.
const KEEP_EVERY: Duration = Duration::from_secs(5);

/// The policy in force, and those that are still to be kept.
pub(super) struct Policies {
    current: Arc<ArcSwap<Policy>>,
    regions: BTreeMap<Region, Arc<Unkept>>,
}

impl Policies {
    /// The policy of the configuration is in force, in these regions.
    pub(super) fn new<'a>(config: &Config, regions: impl Iterator<Item = &'a Region>) -> Self {
        let first = Arc::new(Due::of(config));
        let unkept = |region: &Region| (region.clone(), Arc::new(Unkept::new(Arc::clone(&first))));
        Self { current: Arc::new(ArcSwap::new(Arc::clone(&config.policy))), regions: regions.map(unkept).collect() }
    }

    pub(super) fn current(&self) -> &Arc<ArcSwap<Policy>> {
        &self.current
    }

    /// What is still to be kept in a region.
    pub(super) fn unkept(&self, region: &Region) -> Option<&Arc<Unkept>> {
        self.regions.get(region)
    }

    /// Reads configuration and policy again and puts the policy in force if everything is sound. Blocks.
    pub(super) fn reload(&self, file: &Path) {
        let replaced = config::load(file).map_err(anyhow::Error::from).and_then(|config| {
            self.put_in_force(&config)?;
            Ok(config.policy)
        });
        match replaced {
            Ok(policy) => {
                info!(policy = policy.version(), policy_sha256 = policy.hash_hex(), "The policy was read again");
            }
            Err(error) => error!("The policy was not replaced, the old one stays in force: {error:#}"),
        }
    }

    /// Puts the policy of a configuration in force. Its regions and their jurisdictions must be those that this process was
    /// wired with.
    fn put_in_force(&self, config: &Config) -> anyhow::Result<()> {
        let current = self.current.load();
        let homes = |policy: &Policy| -> BTreeMap<Region, Jurisdiction> {
            policy.regions().map(|(region, rule)| (region.clone(), rule.jurisdiction.clone())).collect()
        };
        if homes(&config.policy) != homes(&current) {
            bail!(
                "it has other regions, or other jurisdictions of them; both are wired at the start, so restart the process"
            );
        }
        if config.policy.hash() != current.hash() {
            // Whoever puts a policy in force is one at a time, so what there is room for now there is room for below.
            let full = self.regions.iter().find(|(_, unkept)| unkept.due().len() >= UNKEPT_MAX);
            if let Some((region, _)) = full {
                bail!("{UNKEPT_MAX} policies before it are not kept yet in region {region}");
            }
            let due = Arc::new(Due::of(config));
            self.regions.values().for_each(|unkept| unkept.add(Arc::clone(&due)));
        }
        self.current.store(Arc::clone(&config.policy));
        Ok(())
    }
}

/// A policy that is to be kept, with the texts that it was read from: its files may be others by then.
#[derive(Debug)]
struct Due {
    policy: Arc<Policy>,
    kept: KeptPolicy,
}

impl Due {
    fn of(config: &Config) -> Self {
        let policy = Arc::clone(&config.policy);
        let [text, jurisdictions, locations] = config.policy_texts.clone();
        Self { kept: KeptPolicy { sha256: policy.hash(), text, jurisdictions, locations }, policy }
    }

    /// Keeps it in a region, and says in the region's log that it is in force.
    async fn keep(&self, store: &RegionStore) -> anyhow::Result<()> {
        store.log().keep_policy(&self.kept).await?;
        let said = Fact::policy_activate(SystemClock.now_us(), self.policy.hashes(), self.policy.version());
        store.record(said).await.context("its leaf cannot be written")?;
        Ok(())
    }
}

/// The policies that are still to be kept in one region, the oldest first.
pub(super) struct Unkept {
    due: Mutex<VecDeque<Arc<Due>>>,
    more: Notify,
}

impl Unkept {
    fn new(first: Arc<Due>) -> Self {
        Self { due: Mutex::new(VecDeque::from([first])), more: Notify::new() }
    }

    fn due(&self) -> MutexGuard<'_, VecDeque<Arc<Due>>> {
        // Nothing panics while the lock is held.
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, due: Arc<Due>) {
        self.due().push_back(due);
        self.more.notify_one();
    }

    /// Keeps one after the other, until it is told to stop; what there is then is tried once more.
    pub(super) async fn keep(&self, store: &RegionStore, stop: &CancellationToken) {
        loop {
            let stopping = stop.is_cancelled();
            loop {
                let Some(first) = self.due().front().cloned() else { break };
                if let Err(error) = first.keep(store).await {
                    warn!(region = %store.region(), "The policy {} is not kept yet: {error:#}", first.policy.version());
                    break;
                }
                self.due().pop_front();
            }
            if stopping {
                return;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.more.notified() => {}
                () = sleep(KEEP_EVERY) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use residency::presets::SHIPPED_POLICY;

    const SETTINGS: &str = r#"
[gateway]
region = "eu-central"

[policy]
file = "policy.toml"

[directory]
postgres = "postgres://domicile@localhost/directory"
peppers = [{ key_id = 1, secret = "file:pepper" }]

[regions.eu-central]
postgres = "postgres://domicile@localhost/eu"
log_origin = "eu.log.example.com"

[regions.uk-south]
home_url = "https://uk.example.com"

[regions.us-east]
home_url = "https://us.example.com"
"#;

    fn config(policy: &str) -> Config {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("domicile.toml");
        std::fs::write(folder.path().join("pepper"), "07".repeat(32)).expect("a pepper");
        std::fs::write(folder.path().join("policy.toml"), policy).expect("a policy");
        config::parse(&file, SETTINGS, &BTreeMap::new()).unwrap_or_else(|mistakes| panic!("{mistakes}"))
    }

    /// The shipped policy as somebody edited it.
    fn edition(n: usize) -> String {
        format!("{SHIPPED_POLICY}\n# edition {n}\n")
    }

    fn region() -> Region {
        Region::new("eu-central").expect("a region")
    }

    #[test]
    fn every_policy_that_was_in_force_is_kept_as_it_was_however_soon_the_next_one_came() {
        let policies = Policies::new(&config(&edition(0)), [region()].iter());
        for n in [1, 2, 2] {
            policies.put_in_force(&config(&edition(n))).expect("it is sound");
        }
        let due = policies.unkept(&region()).expect("it is served").due();
        let texts: Vec<&str> = due.iter().map(|due| due.kept.text.as_str()).collect();
        assert_eq!(texts, [edition(0), edition(1), edition(2)]);
        assert!(due.iter().all(|due| due.kept.sha256 == due.policy.hash()));
    }

    #[test]
    fn a_policy_is_not_replaced_while_too_many_before_it_are_not_kept() {
        let policies = Policies::new(&config(&edition(0)), [region()].iter());
        for n in 1..UNKEPT_MAX {
            policies.put_in_force(&config(&edition(n))).expect("there is room");
        }
        let before = policies.current().load().hash();
        policies.put_in_force(&config(&edition(UNKEPT_MAX))).expect_err("there is none");
        assert_eq!(policies.current().load().hash(), before);
        policies.unkept(&region()).expect("it is served").due().pop_front();
        policies.put_in_force(&config(&edition(UNKEPT_MAX))).expect("there is again");
    }

    #[test]
    fn a_policy_with_another_jurisdiction_of_a_region_needs_a_restart() {
        let policies = Policies::new(&config(SHIPPED_POLICY), [region()].iter());
        let other = SHIPPED_POLICY
            .replace("[jurisdictions.us]", "[jurisdictions.america]")
            .replace("jurisdiction = \"us\"", "jurisdiction = \"america\"");
        let refused = policies.put_in_force(&config(&other)).expect_err("it is wired with another");
        assert!(refused.to_string().contains("restart"), "{refused}");
    }
}
