//! A crash before and after every effect of every kind of operation; then `resume`, or `abort`.

use super::super::*;
use super::model::{Flaw, Model};
use crate::exit::Exit;

/// More effects than any operation has.
const EFFECTS_MAX: u32 = 400;

/// A cell in which rel-1 serves and a second image is built.
fn cell(flaw: Option<Flaw>, instances: u32, keep_warm: bool) -> (Model, Settings) {
    let model = Model::new();
    let settings = Settings { instances, keep_warm, ..Settings::default() };
    model.build("myapp:prod", "aaaa", None);
    model.deploy(&settings).expect("the first release serves");
    model.build("myapp:prod", "bbbb", flaw);
    model.watch();
    (model, settings)
}

/// Plays an operation again and again, dying one effect later each time, until it does not die any more.
fn dying_everywhere(
    what: &str,
    scene: impl Fn() -> (Model, Settings),
    deed: impl Fn(&Model, &Settings) -> bool,
    mended: impl Fn(&Model, bool, &str),
) {
    for forward in [true, false] {
        let mut died = 0;
        for effect in 1..EFFECTS_MAX {
            let (model, settings) = scene();
            let context = format!("{what}, dead at effect {effect}, then {}", if forward { "resume" } else { "abort" });
            if model.dying_at(effect, || deed(&model, &settings)).is_some() {
                assert!(died > 5, "{what}: there are more effects than {died}");
                break;
            }
            died += 1;
            mended(&model, forward, &context);
            assert_eq!(model.complaints(), Vec::<String>::new(), "{context}");
        }
        assert!(died + 2 < EFFECTS_MAX, "{what} came to its end");
    }
}

fn recovered(model: &Model, forward: bool, context: &str) {
    match model.recover(forward) {
        Ok(_) => {}
        Err(failure) => {
            let fine = [Exit::Undone, Exit::Aborted, Exit::Unchanged, Exit::Unproven];
            assert!(fine.contains(&failure.exit), "{context}: {failure}");
        }
    }
    model.assert_exactly_one_serves(context);
}

#[test]
fn a_deployment_that_dies_anywhere_is_finished_or_put_back_to_exactly_one_serving_release() {
    for (instances, keep_warm) in [(1, false), (2, true)] {
        dying_everywhere(
            "a good release",
            || cell(None, instances, keep_warm),
            |model, settings| model.deploy(settings).is_ok(),
            |model, forward, context| {
                let before = unfinished(&model.store).expect("journals");
                recovered(model, forward, context);
                let serves = model.assert_exactly_one_serves(context);
                let Some(told) = before else { return };
                let expected = if forward || told.is_written_down() { 2 } else { 1 };
                assert_eq!(serves, ReleaseId(expected), "{context}");
            },
        );
    }
}

#[test]
fn a_bad_release_whose_undoing_dies_anywhere_is_undone_in_the_end() {
    for flaw in [Flaw::NeverReady, Flaw::RolesNeverReady, Flaw::FivePercent, Flaw::Leaks, Flaw::BadMigration] {
        dying_everywhere(
            &format!("{flaw:?}"),
            || cell(Some(flaw), 1, false),
            |model, settings| model.deploy(settings).is_ok(),
            |model, forward, context| {
                recovered(model, forward, context);
                assert_eq!(model.assert_exactly_one_serves(context), ReleaseId(1), "{context}");
            },
        );
    }
}

#[test]
fn a_rollback_that_dies_anywhere_is_finished_or_put_back() {
    for keep_warm in [false, true] {
        let scene = || {
            let (model, settings) = cell(None, 1, keep_warm);
            model.deploy(&settings).expect("the second release serves");
            (model, settings)
        };
        dying_everywhere("a rollback", scene, |model, settings| model.rollback(None, settings).is_ok(), recovered);
    }
}

#[test]
fn a_first_release_that_dies_anywhere_leads_to_it_or_to_nothing() {
    for forward in [true, false] {
        for effect in 1..EFFECTS_MAX {
            let model = Model::new();
            let settings = Settings::default();
            model.build("myapp:prod", "aaaa", None);
            if model.dying_at(effect, || model.deploy(&settings).is_ok()).is_some() {
                break;
            }
            if let Err(failure) = model.recover(forward) {
                assert_ne!(failure.exit, Exit::NeedsHuman, "dead at effect {effect}: {failure}");
            }
            assert!(unfinished(&model.store).expect("journals").is_none(), "dead at effect {effect}: it has ended");
            // Before its stores there is no edge that could lead anywhere.
            let serving = model.deployer().serving_now().unwrap_or_default();
            let written = model.store.state().expect("a state").serving.map(|serving| serving.release);
            assert_eq!(serving, written.into_iter().collect::<Vec<_>>(), "dead at effect {effect}");
            assert_eq!(model.complaints(), Vec::<String>::new(), "dead at effect {effect}");
            // Whatever it was, the next deployment works.
            if written.is_none() {
                model.deploy(&settings).expect("a deployment");
                model.assert_exactly_one_serves("after it");
            }
        }
    }
}

#[test]
fn a_recovery_that_dies_itself_is_recovered_from() {
    for effect in (1..EFFECTS_MAX).step_by(3) {
        let (model, settings) = cell(None, 2, false);
        if model.dying_at(effect, || model.deploy(&settings).is_ok()).is_some() {
            break;
        }
        for (again, forward) in [(2, true), (5, false), (9, true)] {
            model.dying_at(again, || model.recover(forward).is_ok());
        }
        let context = format!("dead at effect {effect} and three times more");
        recovered(&model, true, &context);
        assert_eq!(model.complaints(), Vec::<String>::new(), "{context}");
    }
}
