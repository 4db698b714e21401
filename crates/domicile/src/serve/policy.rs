//! Replacing the policy while requests go on.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::bail;
use arc_swap::ArcSwap;
use residency::{Policy, Region};
use storage::{KeptPolicy, Log};
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

/// Keeps the policy with this hash in a region, with the tables it chooses from, as the files are now.
///
/// # Errors
/// When the files have changed since it was read, or the database does not answer.
pub(super) async fn keep(file: &Path, sha256: [u8; 32], log: &Log) -> anyhow::Result<()> {
    let [text, jurisdictions, locations] = config::policy_texts(file)?;
    let read = Policy::parse(&text, &jurisdictions, &locations).map(|policy| policy.hash());
    if read.ok() != Some(sha256) {
        bail!("its file is another one by now");
    }
    Ok(log.keep_policy(&KeptPolicy { sha256, text, jurisdictions, locations }).await?)
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
