//! Replacing the policy while requests go on.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::bail;
use arc_swap::ArcSwap;
use leaf::Fact;
use residency::{Policy, PolicyHashes, Region};
use routing::{Clock as _, SystemClock};
use storage::{KeptPolicy, RegionStore};
use tracing::{error, info};

use crate::config;

/// Reads configuration and policy again and puts the policy in force if everything is sound. Blocks.
pub(super) fn reload(file: &Path, current: &ArcSwap<Policy>) {
    match replacement(file, &current.load_full()) {
        Ok(policy) => {
            info!(policy = policy.version(), policy_sha256 = policy.hash_hex(), "The policy was read again");
            current.store(policy);
        }
        Err(error) => error!("The policy was not replaced, the old one stays in force: {error:#}"),
    }
}

/// Keeps the policy in a region, with the tables it chooses from, as the files are now, and says in the region's log
/// that it is in force.
///
/// # Errors
/// When the files have changed since it was read, or the database does not answer.
pub(super) async fn keep(file: &Path, policy: &Policy, store: &RegionStore) -> anyhow::Result<()> {
    let [text, jurisdictions, locations] = config::policy_texts(file)?;
    let hashes = PolicyHashes::of(&text, &jurisdictions, &locations);
    if hashes != *policy.hashes() {
        bail!("its files are others by now");
    }
    store.log().keep_policy(&KeptPolicy { sha256: hashes.policy, text, jurisdictions, locations }).await?;
    store.record(Fact::policy_activate(SystemClock.now_us(), &hashes, policy.version())).await?;
    Ok(())
}

/// The policy of the file as it is now. Its regions must be those that this process was wired with.
fn replacement(file: &Path, current: &Policy) -> anyhow::Result<Arc<Policy>> {
    let config = config::load(file)?;
    let regions = |policy: &Policy| policy.regions().map(|(region, _)| region.clone()).collect::<BTreeSet<Region>>();
    if regions(&config.policy) != regions(current) {
        bail!("it has other regions; regions are wired at the start, so restart the process");
    }
    Ok(config.policy)
}
