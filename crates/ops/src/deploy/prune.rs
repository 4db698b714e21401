//! Which releases nobody can want back.

use std::collections::BTreeSet;

use super::release::{Release, ReleaseId};
use super::state::{Deed, State, ancestors};

/// The releases that may go: not among the newest `kept` that ever served, not named in the state, and not what a rollback
/// of what serves leads to. One that never served goes as soon as a later one does.
#[must_use]
pub fn prunable(releases: &[Release], history: &[Deed], state: &State, kept: usize) -> Vec<ReleaseId> {
    let serving = state.serving.as_ref().map(|serving| serving.release);
    let before = serving.and_then(|serving| ancestors(history, serving).next());
    let named: BTreeSet<ReleaseId> = state.warm.iter().map(|one| one.release).chain(serving).chain(before).collect();
    let served: BTreeSet<ReleaseId> =
        history.iter().filter(|deed| deed.outcome == "committed").map(|deed| deed.release).collect();
    let newest: BTreeSet<ReleaseId> = served.iter().rev().take(kept).copied().collect();
    let highest = served.last().copied();
    releases
        .iter()
        .map(|release| release.release)
        .filter(|release| !named.contains(release) && !newest.contains(release))
        .filter(|release| served.contains(release) || highest.is_some_and(|highest| *release < highest))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::release::{Abilities, Serving};
    use super::*;

    fn release(number: u64) -> Release {
        Release {
            release: ReleaseId(number),
            image_id: number.to_string(),
            reference: "myapp:prod".into(),
            tag: format!("myapp:rel-{number}"),
            abilities: Abilities::default(),
            pinned_at: String::new(),
        }
    }

    fn deed(number: u64, outcome: &str) -> Deed {
        Deed {
            at: String::new(),
            op: String::new(),
            kind: "deploy".into(),
            release: ReleaseId(number),
            from: None,
            outcome: outcome.into(),
            by: String::new(),
            why: None,
            previous: String::new(),
        }
    }

    fn serving(number: u64) -> Serving {
        Serving { release: ReleaseId(number), tag: String::new(), instances: Vec::new() }
    }

    proptest! {
        #[test]
        fn prune_never_removes_a_release_that_the_state_names_or_a_rollback_may_want(
            deeds in proptest::collection::vec((1..30_u64, any::<bool>()), 0..60),
            serves in 1..30_u64,
            warm in proptest::option::of(1..30_u64),
            kept in 0..8_usize,
        ) {
            let releases: Vec<Release> = (1..30).map(release).collect();
            let history: Vec<Deed> =
                deeds.iter().map(|(n, ok)| deed(*n, if *ok { "committed" } else { "undone" })).collect();
            let state = State { serving: Some(serving(serves)), warm: warm.map(serving), ..State::default() };
            let gone = prunable(&releases, &history, &state, kept);
            prop_assert!(!gone.contains(&ReleaseId(serves)));
            prop_assert!(warm.is_none_or(|warm| !gone.contains(&ReleaseId(warm))));
            let mut served: Vec<u64> = deeds.iter().filter(|(_, ok)| *ok).map(|(n, _)| *n).collect();
            served.sort_unstable();
            served.dedup();
            for wanted in served.iter().rev().take(kept) {
                prop_assert!(!gone.contains(&ReleaseId(*wanted)), "rel-{wanted} is a rollback's target");
            }
        }
    }

    #[test]
    fn what_served_before_stays_however_many_bad_ones_came_between() {
        let releases: Vec<Release> = (1..=5).map(release).collect();
        let after_1 = |number| Deed { from: Some(ReleaseId(1)), ..deed(number, "committed") };
        let history = [deed(1, "committed"), after_1(2), after_1(3), after_1(4), after_1(5)];
        let state = State { serving: Some(serving(5)), ..State::default() };
        assert_eq!(prunable(&releases, &history, &state, 2), [ReleaseId(2), ReleaseId(3)]);
    }

    #[test]
    fn old_releases_go_and_the_newest_stay() {
        let releases: Vec<Release> = (1..=4).map(release).collect();
        let history = [deed(1, "committed"), deed(2, "undone"), deed(3, "committed"), deed(4, "committed")];
        let state = State { serving: Some(serving(4)), ..State::default() };
        assert_eq!(prunable(&releases, &history, &state, 2), [ReleaseId(1), ReleaseId(2)]);
    }
}
