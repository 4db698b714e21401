//! Turning a pin and a decision into the one thing that opens a region: a permit.

use super::{Outcome, Policy, Unresolved};
use crate::decision::{Decision, Denial, DenialReason};
use crate::evidence::{Evidence, Finding, Origin, Source};
use crate::permit::{Access, Permit};
use crate::words::{Pin, PinState, SubjectId};

impl Policy {
    /// Issues the permit for one operation on one subject at its home, or says why not.
    ///
    /// The pin decides, whatever else was considered. The decision is completed to say so: unless its
    /// winner already is what led to this very pin (a subject's first request), the pin is put into its
    /// evidence and named the winner.
    ///
    /// # Errors
    /// The denial: the subject is moving or erased, at home elsewhere than this gateway serves, or
    /// pinned to a region that the policy does not have.
    pub fn permit<A: Access>(
        &self,
        subject: SubjectId,
        pin: &Pin,
        mut decision: Decision,
        served_here: bool,
    ) -> Result<Permit<A>, Denial> {
        // A mismatch is our own mistake, and harmless outside debug builds: nothing below is laxer for reading
        // than for writing, and a region's doors go by the permit's type.
        debug_assert_eq!(A::WRITES, decision.operation.writes(), "a permit's access matches its operation");
        self.let_the_pin_decide(pin, &mut decision);
        let reason = match pin.state {
            PinState::Erased => Some(DenialReason::Erased(pin.region.clone())),
            PinState::Moving => Some(DenialReason::Moving(pin.region.clone())),
            PinState::Active if !served_here => Some(DenialReason::ElsewhereAtHome(pin.region.clone())),
            PinState::Active if !self.regions.contains_key(&pin.region) => {
                Some(DenialReason::Unresolved(Unresolved::UnknownRegion))
            }
            PinState::Active => None,
        };
        match reason {
            None => {
                decision.transfer = self.crossing(&decision.via, &pin.region, A::WRITES);
                Ok(Permit::issue(subject, pin.region.clone(), pin.epoch, decision))
            }
            Some(reason) => Err(Denial { decision: Box::new(decision), reason }),
        }
    }

    fn let_the_pin_decide(&self, pin: &Pin, decision: &mut Decision) {
        let home = Finding::Home(pin.region.clone());
        if let Some(at) = decision.evidence.iter().position(|e| e.source == Source::ExistingPin) {
            decision.evidence[at].finding = home;
            decision.winner = u8::try_from(at).ok();
            decision.rule = self.built_in.existing_pin.clone();
            return;
        }
        let led_here = decision.winner.and_then(|at| decision.evidence.get(usize::from(at))).is_some_and(|winner| {
            matches!(self.resolve(winner).outcome(), Some(Outcome::Home { region, .. }) if region == pin.region)
        });
        if led_here {
            return;
        }
        // One signal of each source fits by construction; a list that is full all the same gives up its lightest.
        if decision.evidence.is_full() {
            decision.evidence.pop();
        }
        decision.evidence.insert(0, Evidence { source: Source::ExistingPin, origin: Origin::Directory, finding: home });
        decision.winner = Some(0);
        decision.rule = self.built_in.existing_pin.clone();
    }
}
