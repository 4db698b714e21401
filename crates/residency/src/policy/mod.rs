//! The policy: a declarative table that can be read aloud, diffed and proven.
//! SKELETON: signatures only, being filled in.

use std::fmt;
use std::sync::Arc;

use crate::decision::{Decision, Denial};
use crate::evidence::{EvidenceList, Finding};
use crate::permit::{Access, Permit};
use crate::words::{Jurisdiction, Pin, Place, Region, SubjectId, Tenant};

/// Names a rule of the policy, e.g. `eea`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RuleId(Arc<str>);

impl RuleId {
    /// Wraps a rule's name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What weighing the evidence came to.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// Where, or why nowhere.
    pub outcome: Outcome,
    /// What was considered, heaviest first.
    pub evidence: EvidenceList,
    /// Index into `evidence` of the signal that decided.
    pub winner: Option<u8>,
    /// The rule that decided.
    pub rule: RuleId,
}

/// Where a person is at home, or why that cannot be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// At home in this region.
    Home {
        /// The region.
        region: Region,
        /// Its jurisdiction.
        jurisdiction: Jurisdiction,
    },
    /// It cannot be said.
    Unresolved(Unresolved),
    /// A law, or the policy on purpose, demands a place that we do not have.
    Refused {
        /// The place that was recognised.
        place: Place,
        /// The policy's sentence.
        reason: Arc<str>,
    },
}

/// Why a home could not be resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unresolved {
    /// No signal said anything.
    NoEvidence,
    /// Signals of weight contradict each other and the policy refuses such conflicts.
    Conflict,
    /// The place is none that the policy knows.
    UnknownPlace(Place),
}

/// The policy in force.
#[derive(Debug)]
pub struct Policy {}

impl Policy {
    /// SHA-256 of the policy text.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        unimplemented!()
    }
    /// The home of a tenant.
    #[must_use]
    pub fn tenant_home(&self, _tenant: &Tenant) -> Finding {
        unimplemented!()
    }
    /// Weighs evidence.
    #[must_use]
    pub fn classify(&self, _evidence: EvidenceList) -> Verdict {
        unimplemented!()
    }
    /// Issues a permit.
    ///
    /// # Errors
    /// The denial.
    pub fn permit<A: Access>(
        &self,
        _subject: SubjectId,
        _pin: &Pin,
        _decision: Decision,
        _served_here: bool,
    ) -> Result<Permit<A>, Denial> {
        unimplemented!()
    }
}
