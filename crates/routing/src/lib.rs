//! Carries one operation to the one region allowed to hold it.
//!
//! Every request makes the same way: signals become [`evidence`](residency::Evidence), the directory
//! and the policy turn evidence into a [`Permit`], the permit carries a lookup or a change to its
//! region, and the region answers once the audit leaf is durable. A denial is logged before it is
//! returned, so that nobody learns anything that the log does not know.

mod admit;
mod clock;
mod details;
mod error;
mod explain;
mod signals;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use geoip::GeoIp;
use residency::{DecisionId, Permit, Policy, Read, Region, SubjectId, Write};
use storage::{Answer, Change, Directory, Effect, Erasure, Found, LogPosition, Lookup, RegionStore};
use tracing::warn;

pub use clock::{Clock, SystemClock};
pub use details::DetailKind;
pub use error::Error;
pub use explain::Explanation;
pub use signals::{Claim, ClientSignal, Request, Signals, TenantSignal};

/// What routing is wired from.
pub struct Parts {
    /// The policy in force; swapped whole when it is reloaded.
    pub policy: Arc<ArcSwap<Policy>>,
    /// Client address -> country evidence.
    pub geoip: GeoIp,
    /// The index of pins.
    pub directory: Directory,
    /// The regions served here.
    pub regions: Vec<RegionStore>,
    /// The URL of the gateway that serves each other region, without a trailing slash.
    pub homes: BTreeMap<Region, String>,
    /// This gateway's own region: its log keeps the denials that have no home. It is one of `regions`.
    pub own_region: Region,
    /// What of a request is kept, sealed, beside its leaf.
    pub details: Vec<DetailKind>,
    /// Time and decision names.
    pub clock: Arc<dyn Clock>,
}

/// Carries operations to regions. Cheap to clone.
#[derive(Clone)]
pub struct Routing(Arc<Inner>);

pub(crate) struct Inner {
    policy: Arc<ArcSwap<Policy>>,
    geoip: GeoIp,
    directory: Directory,
    regions: BTreeMap<Region, RegionStore>,
    homes: BTreeMap<Region, String>,
    own: RegionStore,
    details: Vec<DetailKind>,
    clock: Arc<dyn Clock>,
}

/// The own region of a gateway must be one that it serves.
#[derive(Debug, thiserror::Error)]
#[error("the gateway's own region {0} is not among the regions it serves")]
pub struct OwnRegionNotServed(Region);

/// What a region answered, and under which decision.
#[derive(Debug)]
pub struct Answered<T> {
    /// The region that answered.
    pub region: Region,
    /// The decision that allowed it.
    pub decision: DecisionId,
    /// Where its leaf is; absent only for reads whose leaf is buffered.
    pub position: Option<LogPosition>,
    /// The answer itself.
    pub value: T,
}

impl Routing {
    /// Wires the parts together.
    ///
    /// # Errors
    /// When the own region is not served here: its log could not keep denials.
    pub fn new(parts: Parts) -> Result<Self, OwnRegionNotServed> {
        let regions: BTreeMap<_, _> = parts.regions.into_iter().map(|store| (store.region().clone(), store)).collect();
        let Some(own) = regions.get(&parts.own_region).cloned() else {
            return Err(OwnRegionNotServed(parts.own_region));
        };
        Ok(Self(Arc::new(Inner {
            policy: parts.policy,
            geoip: parts.geoip,
            directory: parts.directory,
            regions,
            homes: parts.homes,
            own,
            details: parts.details,
            clock: parts.clock,
        })))
    }

    /// Reads what the permit allows.
    ///
    /// # Errors
    /// What the region says; after [`storage::Error::Moved`] the cached pin is forgotten, so that a new
    /// attempt finds the new home.
    pub async fn read(&self, permit: Permit<Read>, lookup: Lookup) -> Result<Answered<Found>, Error> {
        let store = self.store(permit.region())?;
        let (subject, decision) = (permit.subject().clone(), permit.decision_id());
        match store.read(permit.carry(lookup)).await {
            Ok(answer) => Ok(answered(store, decision, answer)),
            Err(source) => Err(self.gone_wrong(store, &subject, decision, source)),
        }
    }

    /// Makes the change that the permit allows. An `Ok` is durable, with its event and its leaf. The event
    /// carries `traceparent` (W3C Trace Context) to its topic, unless it has one of its own.
    ///
    /// # Errors
    /// As for [`Routing::read`]; only [`storage::Error::OutcomeUnknown`] may have changed something.
    pub async fn write(
        &self,
        permit: Permit<Write>,
        change: Change,
        traceparent: Option<String>,
    ) -> Result<Answered<Effect>, Error> {
        let store = self.store(permit.region())?;
        let (subject, decision) = (permit.subject().clone(), permit.decision_id());
        match store.commit(permit.carry(change), traceparent).await {
            Ok(answer) => Ok(answered(store, decision, answer)),
            Err(source) => Err(self.gone_wrong(store, &subject, decision, source)),
        }
    }

    /// Erases the subject of the permit, for ever. An `Ok` is durable in its region, which from then on refuses the
    /// subject by itself; the directory's tombstone follows at once, or by [`Routing::file_erasures`].
    ///
    /// # Errors
    /// As for [`Routing::write`].
    pub async fn erase(&self, permit: Permit<Write>, traceparent: Option<String>) -> Result<Answered<Effect>, Error> {
        let (subject, region) = (permit.subject().clone(), permit.region().clone());
        let epoch = permit.epoch();
        let answered = self.write(permit, Change::EraseSubject, traceparent).await?;
        if let Effect::Erased { erased_at_us, .. } = answered.value {
            let digests = self.0.directory.digests(&subject);
            let erasures: Vec<_> = digests.into_iter().map(|digest| Erasure { digest, epoch, erased_at_us }).collect();
            if let Err(error) = self.0.directory.bury(&region, &erasures).await {
                warn!(%region, %error, "The directory does not have the tombstone of an erasure yet; it is told again");
            }
            self.0.directory.forget(&subject);
        }
        Ok(answered)
    }

    /// Tells the directory of erasures that it may not know of yet. How many that were.
    ///
    /// # Errors
    /// What the region or the directory says; what was told stays told.
    pub async fn file_erasures(&self, store: &RegionStore) -> Result<usize, storage::Error> {
        let log = store.log();
        let mut told = 0;
        loop {
            let erasures = log.unfiled_erasures().await?;
            if erasures.is_empty() {
                return Ok(told);
            }
            self.0.directory.bury(store.region(), &erasures).await?;
            log.erasures_filed(&erasures).await?;
            told += erasures.len();
        }
    }

    /// The store of a region served here.
    #[must_use]
    pub fn region(&self, name: &str) -> Option<&RegionStore> {
        self.0.regions.values().find(|store| store.region().as_str() == name)
    }

    /// The stores of all regions served here, by name.
    pub fn regions(&self) -> impl Iterator<Item = &RegionStore> {
        self.0.regions.values()
    }

    /// The URL of the gateway that serves another region.
    #[must_use]
    pub fn home_url(&self, region: &Region) -> Option<&str> {
        self.0.homes.get(region).map(String::as_str)
    }

    /// The index of pins.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.0.directory
    }

    /// The GeoIP database in use.
    #[must_use]
    pub fn geoip(&self) -> &GeoIp {
        &self.0.geoip
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        self.0.policy.load_full()
    }

    /// This gateway's own region.
    #[must_use]
    pub fn own_region(&self) -> &Region {
        self.0.own.region()
    }

    fn store(&self, region: &Region) -> Result<&RegionStore, Error> {
        self.0.regions.get(region).ok_or_else(|| Error::NotServed { region: region.clone() })
    }

    fn gone_wrong(
        &self,
        store: &RegionStore,
        subject: &SubjectId,
        decision: DecisionId,
        source: storage::Error,
    ) -> Error {
        if matches!(source, storage::Error::Moved | storage::Error::NotAtHome { .. }) {
            self.0.directory.forget(subject);
        }
        let decision = logged(&source).then_some(decision);
        Error::Region { region: store.region().clone(), decision, source }
    }
}

/// Whether the log has, or may have, the leaf of a deed that ended like this.
const fn logged(source: &storage::Error) -> bool {
    use storage::Error as Said;
    match source {
        Said::PreconditionFailed { .. }
        | Said::NotFound
        | Said::Moved
        | Said::NotAtHome { .. }
        | Said::IdempotencyReused
        | Said::RefusedByDatabase { .. }
        | Said::GrownTooLarge { .. }
        | Said::OutcomeUnknown { .. } => true,
        Said::Unavailable { .. }
        | Said::Overloaded { .. }
        | Said::Misplaced { .. }
        | Said::TooLarge { .. }
        | Said::LeaseLost
        | Said::Internal(_) => false,
    }
}

fn answered<T>(store: &RegionStore, decision: DecisionId, answer: Answer<T>) -> Answered<T> {
    Answered { region: store.region().clone(), decision, position: answer.position, value: answer.value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_would_grow_too_large_has_a_leaf_and_a_deed_that_is_too_large_has_none() {
        assert!(logged(&storage::Error::GrownTooLarge { max_bytes: 1 }));
        assert!(!logged(&storage::Error::TooLarge { max_bytes: 1 }));
    }
}
