//! Where a request would go, and why: a classification without side effect.

use std::sync::Arc;

use residency::{Outcome, Pin, Policy, Region, Verdict};

use crate::signals::evidence;
use crate::{Error, Request, Routing};

/// Where a request would go, and why.
#[derive(Debug)]
pub struct Explanation {
    /// The pin, when the subject has one.
    pub pin: Option<Pin>,
    /// The weighed evidence and what it came to.
    pub verdict: Verdict,
    /// The policy it was weighed by.
    pub policy: Arc<Policy>,
    /// Build time of the GeoIP database consulted, seconds since 1970-01-01 UTC.
    pub geoip_built_s: Option<u64>,
    /// Whether the home region is served by this gateway.
    pub served_here: bool,
    /// The URL of the gateway that serves the home region, when it is another one.
    pub home_url: Option<String>,
}

impl Explanation {
    /// The home region, when there is one.
    #[must_use]
    pub fn region(&self) -> Option<&Region> {
        match &self.verdict.outcome {
            Outcome::Home { region, .. } => Some(region),
            Outcome::Unresolved(_) | Outcome::Refused { .. } => None,
        }
    }
}

impl Routing {
    /// Weighs a request's evidence and explains; pins nothing, logs nothing.
    ///
    /// # Errors
    /// [`Error::Directory`] when it cannot be asked whether the subject has a pin.
    pub async fn explain(&self, request: &Request) -> Result<Explanation, Error> {
        let pin = self.0.directory.home_of(&request.subject).await.map_err(Error::Directory)?;
        let policy = self.policy();
        let verdict = policy.classify(evidence(&policy, &self.0.geoip, pin.as_ref(), &request.signals));
        let region = match &verdict.outcome {
            Outcome::Home { region, .. } => Some(region),
            Outcome::Unresolved(_) | Outcome::Refused { .. } => None,
        };
        let served_here = region.is_some_and(|region| self.0.regions.contains_key(region));
        let home_url = region.and_then(|region| self.home_url(region)).map(str::to_owned);
        Ok(Explanation { pin, geoip_built_s: self.0.geoip.built_s(), served_here, home_url, verdict, policy })
    }
}
