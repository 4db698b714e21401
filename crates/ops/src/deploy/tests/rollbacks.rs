//! Where a rollback leads, and what keeps a release from coming back.

use super::super::*;
use super::outcomes::served;
use crate::exit::Exit;
use crate::runtime::Service;

#[test]
fn a_rollback_leads_to_the_release_below_and_then_to_the_one_below_that() {
    let (model, settings) = served(3);
    assert_eq!(model.rollback(None, &settings).expect("it serves"), ReleaseId(2));
    assert_eq!(model.rollback(None, &settings).expect("it serves"), ReleaseId(1));
    assert_eq!(model.rollback(None, &settings).expect_err("there is none").exit, Exit::NotFound);
    assert_eq!(model.rollback(Some(ReleaseId(3)), &settings).expect("forward again"), ReleaseId(3));
    assert_eq!(model.rollback(Some(ReleaseId(9)), &settings).expect_err("there is none").exit, Exit::NotFound);
    model.assert_exactly_one_serves("rolled");
    assert_eq!(model.complaints(), Vec::<String>::new());
}

#[test]
fn a_rollback_does_not_lead_to_a_release_that_was_rolled_back_from() {
    let (model, settings) = served(3);
    assert_eq!(model.rollback(None, &settings).expect("rel-3 was bad"), ReleaseId(2));
    model.build("myapp:prod", "mended", None);
    assert_eq!(model.deploy(&settings).expect("it serves"), ReleaseId(4));
    assert_eq!(model.rollback(None, &settings).expect("it serves"), ReleaseId(2));
    assert_eq!(model.rollback(None, &settings).expect("it serves"), ReleaseId(1));
    // Where the better ones are gone, one that is there is better than none.
    model.rollback(Some(ReleaseId(4)), &settings).expect("forward again");
    model.lose(ReleaseId(2));
    model.lose(ReleaseId(1));
    let plan = model.deployer().plan_rollback(None, &settings).expect("one is there");
    assert_eq!(plan.to, Some(ReleaseId(3)));
    assert_eq!(model.assert_exactly_one_serves("forward"), ReleaseId(4));
}

#[test]
fn a_warm_release_comes_back_without_being_started() {
    let (model, settings) = served(1);
    model.build("myapp:prod", "second", None);
    model.deploy(&Settings { keep_warm: true, ..settings.clone() }).expect("it serves");
    assert_eq!(model.running(Service::Web).len(), 2, "the old one runs on");
    let before = model.deployer().runtime.instances(Service::Web).expect("instances");
    assert!(model.deployer().plan_rollback(None, &settings).expect("a plan").instant);
    assert_eq!(model.rollback(None, &settings).expect("it serves"), ReleaseId(1));
    let after = model.deployer().runtime.instances(Service::Web).expect("instances");
    assert!(after.iter().all(|instance| before.contains(instance)), "nobody was started");
    model.assert_exactly_one_serves("back");
}

#[test]
fn a_release_below_the_floor_is_refused_before_anything_is_changed() {
    let (model, settings) = served(2);
    model.raise_floor(10);
    let failure = model.rollback(None, &settings).expect_err("too old");
    assert_eq!(failure.exit, Exit::Unchanged);
    assert!(failure.what.contains("floor is 10"), "{failure}");
    assert_eq!(model.assert_exactly_one_serves("unchanged"), ReleaseId(2));
}

#[test]
fn a_release_whose_image_is_gone_or_another_one_is_nothing_to_come_back_to() {
    let (model, settings) = served(3);
    model.lose(ReleaseId(2));
    let failure = model.rollback(Some(ReleaseId(2)), &settings).expect_err("its image is gone");
    assert_eq!((failure.exit, failure.data.as_str()), (Exit::NotFound, "unchanged"), "{failure}");
    assert!(failure.what.contains("rel-2 cannot serve again") && failure.what.contains("is gone"), "{failure}");
    let plan = model.deployer().plan_rollback(None, &settings).expect("there is one below it");
    assert_eq!(plan.to, Some(ReleaseId(1)));
    model.retag(ReleaseId(1));
    let failure = model.rollback(None, &settings).expect_err("there is none");
    assert_eq!(failure.exit, Exit::NotFound);
    assert!(failure.what.contains("rel-1") && failure.what.contains("another image"), "{failure}");
    assert_eq!(model.assert_exactly_one_serves("unchanged"), ReleaseId(3));
}
