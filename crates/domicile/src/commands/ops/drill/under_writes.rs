//! `drill restore --probe`: the probe's key, its subject, and what it leaves behind.

use anyhow::Context as _;
use ops::DatabaseName;
use ops::backup::{Error, Identities, Progress, Source};
use ops::drill::{Report, Targets, restore_under_writes};
use residency::{Place, Region};

use super::writer::ApiWriter;
use crate::commands::{keys, smoke};
use crate::config::Config;
use crate::print;

/// What the probe's key may do.
const SCOPES: [&str; 2] = ["records:read", "records:write"];

/// The region that a source is, and a residence that leads there. `None` for the directory, and for a region that the
/// policy leads nobody to by residence: nothing can be written there through the API, so its newest backup is restored.
pub(super) fn region(config: &Config, source: &Source) -> Option<(Region, Place)> {
    let DatabaseName::Region(region) = &source.database else { return None };
    let residence = smoke::residence_of(config, region);
    if residence.is_none() {
        print::note(format!("{region}: no residence leads there, so nothing is written"));
    }
    Some((region.clone(), residence?))
}

/// A restore under writes.
pub(super) struct Probed<'a> {
    pub(super) config: &'a Config,
    pub(super) source: &'a Source,
    pub(super) url: &'a str,
    pub(super) region: (Region, Place),
}

impl Probed<'_> {
    /// Does it, with a key that ends with it. What was written is removed from the region, as well as can be.
    pub(super) async fn restore(
        &self,
        identities: &Identities,
        targets: Targets,
        actor: &str,
        progress: Progress<'_>,
    ) -> anyhow::Result<Result<Report, Error>> {
        let (region, residence) = &self.region;
        let keys = keys::owned(self.config)?;
        let name = format!("domicile-drill-{:08x}", rand::random::<u32>());
        let key = keys.create(&name, &SCOPES, None).await.context("no key for the probe was made")?;
        let subject = format!("domicile-drill-{region}");
        let done = match ApiWriter::new(self.url, key.token.clone(), &residence.to_string(), &subject) {
            Ok(writer) => {
                let probe = (writer.clone(), &writer.sought());
                let done = restore_under_writes(self.source, identities, targets, actor, progress, probe).await;
                if let Ok((_, trace)) = &done {
                    writer.tidy(trace.acknowledged.iter().map(|(seq, _)| *seq)).await;
                }
                Ok(done.map(|(report, _)| report))
            }
            Err(error) => Err(error),
        };
        // Whatever came of it, the key ends here.
        if let Err(error) = keys.revoke(&key.id).await {
            print::note(format!("the key {} of this drill was not revoked: {error}", key.id));
        }
        done
    }
}
