//! From a request to a permit: directory, evidence, policy, and for a first write the claim of a pin.

use residency::{
    Access, Decision, Denial, DenialReason, Operation, Outcome, Permit, Pin, Policy, Read, Verdict, Write,
};

use storage::{Cause, Health, RegionStore};

use crate::details;
use crate::signals::evidence;
use crate::{Error, Request, Routing};

impl Routing {
    /// Decides whether a read is allowed, and where. A subject without a pin has nothing to read.
    ///
    /// # Errors
    /// [`Error::Denied`] once the denial is logged; [`Error::Unlogged`] when it cannot be;
    /// [`Error::Directory`] when it cannot be decided.
    pub async fn admit_read(&self, request: Request) -> Result<Permit<Read>, Error> {
        let pin = self.pin_of(&request).await?;
        let policy = self.policy();
        let verdict = self.weigh(&policy, pin.as_ref(), &request);
        let Some(pin) = pin else {
            let reason = match reason_against(&verdict) {
                Some(refused @ DenialReason::Refused { .. }) => refused,
                _ => DenialReason::NotPinned,
            };
            return Err(self.deny(self.decision(&policy, &request, verdict), reason).await);
        };
        let decision = self.decision(&policy, &request, verdict);
        self.permit(&policy, request, &pin, decision).await
    }

    /// Decides whether a change is allowed, and where; a new subject is pinned to its home first.
    ///
    /// # Errors
    /// As for [`Routing::admit_read`]; [`Error::Region`] when the home of a new subject is known to be away.
    pub async fn admit_write(&self, request: Request) -> Result<Permit<Write>, Error> {
        let policy = self.policy();
        if let Some(pin) = self.pin_of(&request).await? {
            let verdict = self.weigh(&policy, Some(&pin), &request);
            let decision = self.decision(&policy, &request, verdict);
            return self.permit(&policy, request, &pin, decision).await;
        }
        let verdict = self.weigh(&policy, None, &request);
        // Nobody is pinned to be erased.
        if request.operation == Operation::SubjectErase {
            let reason = DenialReason::NotPinned;
            return Err(self.deny(self.decision(&policy, &request, verdict), reason).await);
        }
        let Outcome::Home { region, .. } = &verdict.outcome else {
            let reason = reason_against(&verdict).unwrap_or(DenialReason::NotPinned);
            return Err(self.deny(self.decision(&policy, &request, verdict), reason).await);
        };
        let Some(home) = self.0.regions.get(region) else {
            // Its home gateway will claim the pin; a misdirected request leaves nothing behind.
            let reason = DenialReason::ElsewhereAtHome(region.clone());
            return Err(self.deny(self.decision(&policy, &request, verdict), reason).await);
        };
        open(home)?;
        let claim = self.0.directory.claim(&request.subject, region).await.map_err(Error::Directory)?;
        // Somebody else may have claimed first: then theirs is the home, and our evidence is only history.
        let verdict =
            if claim.pin.region == *region { verdict } else { self.weigh(&policy, Some(&claim.pin), &request) };
        let decision = self.decision(&policy, &request, verdict);
        self.permit(&policy, request, &claim.pin, decision).await
    }

    async fn pin_of(&self, request: &Request) -> Result<Option<Pin>, Error> {
        self.0.directory.home_of(&request.subject).await.map_err(Error::Directory)
    }

    fn weigh(&self, policy: &Policy, pin: Option<&Pin>, request: &Request) -> Verdict {
        policy.classify(evidence(policy, &self.0.geoip, pin, &request.signals))
    }

    fn decision(&self, policy: &Policy, request: &Request, verdict: Verdict) -> Decision {
        let at_us = self.0.clock.now_us();
        Decision {
            id: self.0.clock.decision_id(at_us),
            at_us,
            actor: request.actor.clone(),
            operation: request.operation,
            resource: request.resource.clone(),
            via: self.0.own.region().clone(),
            evidence: verdict.evidence,
            winner: verdict.winner,
            rule: verdict.rule,
            policy_hash: policy.hash(),
            geoip_built_s: self.0.geoip.built_s(),
            transfer: None,
            stated: details::stated(&self.0.details, request),
        }
    }

    async fn permit<A: Access>(
        &self,
        policy: &Policy,
        request: Request,
        pin: &Pin,
        decision: Decision,
    ) -> Result<Permit<A>, Error> {
        let served_here = self.0.regions.contains_key(&pin.region);
        match policy.permit(request.subject, pin, decision, served_here) {
            Ok(permit) => Ok(permit),
            Err(denial) => Err(self.deny(*denial.decision, denial.reason).await),
        }
    }

    /// Logs a denial where it belongs, then makes it an error. A denial that cannot be logged is not told.
    async fn deny(&self, decision: Decision, reason: DenialReason) -> Error {
        let home = match &reason {
            DenialReason::Moving(region) | DenialReason::Erased(region) => self.0.regions.get(region),
            DenialReason::ElsewhereAtHome(_)
            | DenialReason::NotPinned
            | DenialReason::Unresolved(_)
            | DenialReason::Refused { .. } => None,
        };
        let log = home.unwrap_or(&self.0.own);
        metrics::counter!("domicile_denials_total", "reason" => reason.code()).increment(1);
        let denial = Denial { decision: Box::new(decision), reason };
        match log.note(denial.clone()).await {
            Ok(position) => Error::Denied { denial: Box::new(denial), position },
            Err(source) => Error::Unlogged { region: log.region().clone(), source },
        }
    }
}

/// Demands that a region can log what is about to be claimed for it: a pin is a change, and none is made
/// that no leaf would tell of.
fn open(home: &RegionStore) -> Result<(), Error> {
    let region = home.region().clone();
    let source = match home.health() {
        Health::Up => return Ok(()),
        Health::Down { reason, .. } => {
            storage::Error::Unavailable { region: Some(region.clone()), source: Cause::new(reason) }
        }
        Health::Misplaced { reason } => storage::Error::Misplaced { region: region.clone(), reason },
    };
    Err(Error::Region { region, decision: None, source })
}

fn reason_against(verdict: &Verdict) -> Option<DenialReason> {
    match &verdict.outcome {
        Outcome::Home { .. } => None,
        Outcome::Unresolved(why) => Some(DenialReason::Unresolved(*why)),
        Outcome::Refused { place, reason } => Some(DenialReason::Refused { place: *place, reason: reason.clone() }),
    }
}
