//! Weighing evidence: which signal decides, and what it comes to. Pure and quick: a lookup and a few comparisons.

use std::sync::Arc;

use arrayvec::ArrayVec;

use super::compile::Entry;
use super::{Conflict, Evidence, EvidenceList, Finding, Nothing, Outcome, Policy, RuleId, Source, Unresolved, Verdict};
use crate::evidence::Origin;
use crate::words::{Jurisdiction, Place, Region};

/// The names of the rules that are no rows, made once so that a verdict only counts references.
#[derive(Debug)]
pub(super) struct BuiltIn {
    pub(super) existing_pin: RuleId,
    tenant_pin: RuleId,
    stated_region: RuleId,
    operator_default: RuleId,
    no_evidence: RuleId,
    conflict: RuleId,
    unknown_place: RuleId,
    unknown_region: RuleId,
}

impl BuiltIn {
    pub(super) fn new() -> Self {
        Self {
            existing_pin: RuleId::new("existing-pin"),
            tenant_pin: RuleId::new("tenant-pin"),
            stated_region: RuleId::new("stated-region"),
            operator_default: RuleId::new("operator-default"),
            no_evidence: RuleId::new("no-evidence"),
            conflict: RuleId::new("conflict"),
            unknown_place: RuleId::new("unknown-place"),
            unknown_region: RuleId::new("unknown-region"),
        }
    }
}

/// What one signal comes to by itself.
#[derive(Debug, Clone, Copy)]
pub(super) enum Resolved<'a> {
    /// It says nothing.
    Silent,
    /// It leads home.
    Home { region: &'a Region, jurisdiction: &'a Jurisdiction, strictness: u16, rule: &'a RuleId },
    /// The place it names is refused.
    Refused { place: Place, reason: &'a Arc<str>, rule: &'a RuleId },
    /// It names a place that no rule knows.
    UnknownPlace(Place, &'a RuleId),
    /// It names a region that the policy does not have.
    UnknownRegion(&'a RuleId),
}

impl Resolved<'_> {
    /// The outcome if this signal decides; none if it is silent.
    pub(super) fn outcome(self) -> Option<Outcome> {
        match self {
            Self::Silent => None,
            Self::Home { region, jurisdiction, .. } => {
                Some(Outcome::Home { region: region.clone(), jurisdiction: jurisdiction.clone() })
            }
            Self::Refused { place, reason, .. } => Some(Outcome::Refused { place, reason: Arc::clone(reason) }),
            Self::UnknownPlace(place, _) => Some(Outcome::Unresolved(Unresolved::UnknownPlace(place))),
            Self::UnknownRegion(_) => Some(Outcome::Unresolved(Unresolved::UnknownRegion)),
        }
    }

    fn region(&self) -> Option<&Region> {
        match self {
            Self::Home { region, .. } => Some(region),
            _ => None,
        }
    }

    fn strictness(&self) -> u16 {
        match self {
            Self::Home { strictness, .. } => *strictness,
            _ => 0,
        }
    }

    fn rule(self) -> Option<RuleId> {
        match self {
            Self::Silent => None,
            Self::Home { rule, .. }
            | Self::Refused { rule, .. }
            | Self::UnknownPlace(_, rule)
            | Self::UnknownRegion(rule) => Some(rule.clone()),
        }
    }
}

impl Policy {
    /// Weighs evidence into a verdict.
    ///
    /// 1. An existing pin decides, whatever else speaks.
    /// 2. Otherwise the heaviest signal that speaks decides; lighter ones are only kept for explanation,
    /// 3. unless several are of weight (`[conflict] weighty`): then a refused or unknown place among them
    ///    decides against the request, and different regions are a conflict, settled by `[conflict] rule`.
    /// 4. The operator's default, if one is written, speaks only when nothing else does.
    ///
    /// A signal that says nothing never speaks; nor does a network database's code that is no country (`EU`,
    /// `XX`), which is how such databases say nothing. The same code stated by somebody is a place that
    /// nobody knows: were it passed over, a person declared as `EU` would follow their network address to
    /// another continent. At most one signal of each source is expected; an `OperatorDefault` handed in is
    /// dropped, since only the policy may add it. The given order does not matter.
    #[must_use]
    pub fn classify(&self, mut evidence: EvidenceList) -> Verdict {
        evidence.retain(|signal| signal.source != Source::OperatorDefault);
        evidence.sort_by_key(|signal| signal.source);
        for signal in &mut evidence {
            self.hush_codes_that_are_no_country(signal);
        }
        let signals: Signals<'_> = evidence.iter().map(|signal| (signal.source, self.resolve(signal))).collect();
        match self.settle(&signals) {
            Settled::By(at) => decided_by(at, signals[at].1, evidence, &self.built_in),
            Settled::Silence => self.nothing_speaks(evidence),
            Settled::Conflict => Verdict {
                outcome: Outcome::Unresolved(Unresolved::Conflict),
                evidence,
                winner: None,
                rule: self.built_in.conflict.clone(),
            },
        }
    }

    /// What one signal comes to by itself.
    pub(super) fn resolve<'a>(&'a self, signal: &Evidence) -> Resolved<'a> {
        match &signal.finding {
            Finding::Nothing(_) => Resolved::Silent,
            Finding::Home(region) => self.resolve_region(region, self.rule_of_home(signal.source)),
            Finding::Place(place) => self.resolve_place(*place),
        }
    }

    pub(super) fn resolve_place(&self, place: Place) -> Resolved<'_> {
        match self.lookup.find(place) {
            Entry::Unknown | Entry::NoCountry | Entry::Alias(_) => {
                Resolved::UnknownPlace(place, &self.built_in.unknown_place)
            }
            Entry::Rule(at) => {
                let rule = &self.rules[usize::from(at)];
                match &rule.verdict {
                    Ok(region) => self.resolve_region(region, &rule.name),
                    Err(reason) => Resolved::Refused { place, reason, rule: &rule.name },
                }
            }
        }
    }

    fn resolve_region<'a>(&'a self, region: &Region, rule: &'a RuleId) -> Resolved<'a> {
        let Some((region, found)) = self.regions.get_key_value(region) else {
            return Resolved::UnknownRegion(&self.built_in.unknown_region);
        };
        let Some((jurisdiction, law)) = self.jurisdictions.get_key_value(&found.jurisdiction) else {
            return Resolved::UnknownRegion(&self.built_in.unknown_region);
        };
        Resolved::Home { region, jurisdiction, strictness: law.strictness, rule }
    }

    fn rule_of_home(&self, source: Source) -> &RuleId {
        match source {
            Source::ExistingPin => &self.built_in.existing_pin,
            Source::TenantPin => &self.built_in.tenant_pin,
            Source::OperatorDefault => &self.built_in.operator_default,
            Source::VerifiedClaim | Source::DeclaredResidence | Source::GeoIp => &self.built_in.stated_region,
        }
    }

    /// A network database's `EU` or `XX` becomes the "nothing" it means, so that the log says so too.
    fn hush_codes_that_are_no_country(&self, signal: &mut Evidence) {
        if let (Source::GeoIp, Finding::Place(place)) = (signal.source, &signal.finding)
            && matches!(self.lookup.find(*place), Entry::NoCountry)
        {
            signal.finding = Finding::Nothing(Nothing::UnknownNetwork);
        }
    }

    /// Which signal decides, heaviest first.
    fn settle(&self, signals: &Signals<'_>) -> Settled {
        let speaks = |at: &usize| !matches!(signals[*at].1, Resolved::Silent);
        let Some(heaviest) = (0..signals.len()).find(speaks) else { return Settled::Silence };
        let weighs = |at: &usize| self.weighty.contains(&signals[*at].0);
        if signals[heaviest].0 == Source::ExistingPin || !weighs(&heaviest) {
            return Settled::By(heaviest);
        }
        let contenders = || (heaviest..signals.len()).filter(speaks).filter(weighs);

        // A place without a home cannot be outvoted: the law that demands it is not weaker for a second signal.
        if let Some(homeless) = contenders().find(|at| signals[*at].1.region().is_none()) {
            return Settled::By(homeless);
        }
        let home = signals[heaviest].1.region();
        if contenders().all(|at| signals[at].1.region() == home) {
            return Settled::By(heaviest);
        }
        match self.conflict {
            Conflict::Refuse => Settled::Conflict,
            // Equal strictness stays with the heavier signal.
            Conflict::Strictest => contenders()
                .reduce(|heavier, lighter| {
                    if signals[lighter].1.strictness() > signals[heavier].1.strictness() { lighter } else { heavier }
                })
                .map_or(Settled::Silence, Settled::By),
        }
    }

    fn nothing_speaks(&self, mut evidence: EvidenceList) -> Verdict {
        if let Some(region) = &self.default_region {
            let default = Evidence {
                source: Source::OperatorDefault,
                origin: Origin::Policy,
                finding: Finding::Home(region.clone()),
            };
            if evidence.is_full() {
                evidence.pop();
            }
            evidence.push(default);
            let at = evidence.len() - 1;
            let resolved = self.resolve(&evidence[at]);
            return decided_by(at, resolved, evidence, &self.built_in);
        }
        let rule = self.built_in.no_evidence.clone();
        Verdict { outcome: Outcome::Unresolved(Unresolved::NoEvidence), evidence, winner: None, rule }
    }
}

/// Each signal's source and what it comes to by itself, heaviest first.
type Signals<'a> = ArrayVec<(Source, Resolved<'a>), 6>;

/// What weighing came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    /// The signal at this index decides.
    By(usize),
    /// No signal speaks.
    Silence,
    /// Signals of weight contradict each other, and nobody may win.
    Conflict,
}

fn decided_by(at: usize, resolved: Resolved<'_>, evidence: EvidenceList, built_in: &BuiltIn) -> Verdict {
    let outcome = resolved.outcome().unwrap_or(Outcome::Unresolved(Unresolved::NoEvidence));
    let rule = resolved.rule().unwrap_or_else(|| built_in.no_evidence.clone());
    Verdict { outcome, winner: u8::try_from(at).ok(), rule, evidence }
}
