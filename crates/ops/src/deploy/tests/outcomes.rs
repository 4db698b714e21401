//! What a deployment or a rollback comes to, and what it says.

use std::sync::atomic::Ordering;

use super::super::*;
use super::model::{Flaw, Model};
use crate::exit::Exit;
use crate::runtime::{Attendant, Service, TakesUp};

pub(super) fn served(count: u64) -> (Model, Settings) {
    let model = Model::new();
    let settings = Settings::default();
    for number in 1..=count {
        model.build("myapp:prod", &format!("content{number}"), None);
        assert_eq!(model.deploy(&settings).expect("it serves"), ReleaseId(number));
        model.watch();
    }
    (model, settings)
}

#[test]
fn deployments_follow_each_other_without_a_gap_and_without_an_unproven_target() {
    let (model, _) = served(4);
    assert_eq!(model.assert_exactly_one_serves("four releases"), ReleaseId(4));
    assert_eq!(model.complaints(), Vec::<String>::new());
    let outcomes: Vec<String> = model.store.history().expect("read").into_iter().map(|deed| deed.outcome).collect();
    assert_eq!(outcomes, ["committed"; 4]);
}

#[test]
fn a_bad_release_is_undone_by_itself_with_a_code_and_a_last_line_that_tell_so() {
    // While the roles are replaced the old gateways still run, and nobody but the last look sees how the new ones are.
    let late = [Flaw::SickFrom(Step::Roles), Flaw::EndsFrom(Step::Roles)];
    let early =
        [Flaw::NeverReady, Flaw::RolesNeverReady, Flaw::FivePercent, Flaw::Dies, Flaw::Leaks, Flaw::BadMigration];
    for flaw in early.into_iter().chain(late) {
        let (model, settings) = served(1);
        if flaw == Flaw::Dies {
            model.stop_watching(); // who dies while serving leaves requests unanswered until it is noticed
        }
        model.build("myapp:prod", "bad", Some(flaw));
        let failure = model.deploy(&settings).expect_err("it is bad");
        assert_eq!(failure.exit, Exit::Undone, "{flaw:?}: {failure}");
        let told = failure.to_string();
        let last = told.lines().last().unwrap_or_default();
        assert!(last.starts_with("Serving now: rel-1. Data: "), "{flaw:?}: {last}");
        assert!(last.contains("Next: "), "{flaw:?}: {last}");
        assert_eq!(model.assert_exactly_one_serves("undone"), ReleaseId(1));
        assert_eq!(model.complaints(), Vec::<String>::new(), "{flaw:?}");
        let deed = model.store.history().expect("read").pop().expect("a deed");
        assert_eq!((deed.outcome.as_str(), deed.why.is_some()), ("undone", true));
        // The number of a failed release is not given again.
        model.build("myapp:prod", "good", None);
        assert_eq!(model.deploy(&settings).expect("it serves"), ReleaseId(3));
    }
}

#[test]
fn a_release_that_fails_while_the_old_one_is_to_go_waits_for_somebody_who_may_have_the_old_one_back() {
    for flaw in [Flaw::SickFrom(Step::Drain), Flaw::EndsFrom(Step::Drain)] {
        let (model, settings) = served(1);
        if flaw != Flaw::SickFrom(Step::Drain) {
            model.stop_watching(); // who ends while serving leaves requests unanswered until somebody decides
        }
        model.build("myapp:prod", "bad", Some(flaw));
        let failure = model.deploy(&settings).expect_err("it cannot be finished");
        assert_eq!(failure.exit, Exit::NeedsHuman, "{flaw:?}: {failure}");
        assert!(failure.next.contains("deploy.sh resume"), "{failure}");
        assert!(failure.next.contains("deploy.sh abort, to have rel-1 serve again"), "{failure}");
        assert_eq!(model.running(Service::Web)[0], model.default_image().expect("rel-1"), "the old one runs on");
        assert_eq!(model.recover(true).expect_err("it is as bad as before").exit, Exit::NeedsHuman, "{flaw:?}");
        assert_eq!(model.rollback(None, &settings).expect_err("it has not ended").exit, Exit::Unchanged, "{flaw:?}");

        assert_eq!(model.recover(false).expect_err("it is put back").exit, Exit::Aborted, "{flaw:?}");
        assert_eq!(model.assert_exactly_one_serves("put back"), ReleaseId(1), "{flaw:?}");
        assert_eq!(model.complaints(), Vec::<String>::new(), "{flaw:?}");
        model.build("myapp:prod", "good", None);
        assert_eq!(model.deploy(&settings).expect("it serves"), ReleaseId(3));
    }
}

#[test]
fn a_first_release_that_fails_before_there_is_an_edge_ends_and_the_next_attempt_serves() {
    for step in [Step::Pin, Step::Stores] {
        let model = Model::new();
        let settings = Settings::default();
        model.build("myapp:prod", "first", None);
        model.obstruct(Some(step));
        let failure = model.deploy(&settings).expect_err("a port is taken");
        assert_eq!((failure.exit, failure.data.as_str()), (Exit::Unchanged, "unchanged"), "{step}: {failure}");
        assert!(failure.what.contains("port 8080 is taken") && failure.serving.starts_with("nothing"), "{failure}");
        assert_eq!(model.recover(true).expect("it has ended"), Recovered::Nothing, "{step}");
        // A deployer that died there leaves no dead end either.
        assert!(model.dying_at(1, || model.deploy(&settings).is_ok()).is_none_or(|served| !served));
        if let Err(failure) = model.recover(false) {
            assert_eq!(failure.exit, Exit::Aborted, "{step}: {failure}");
        }
        model.obstruct(None);
        model.deploy(&settings).expect("it serves");
        model.assert_exactly_one_serves("the cause is mended");
    }
}

#[test]
fn a_role_that_has_ended_plays_no_part_and_is_started_again() {
    let (model, settings) = served(2);
    let deployer = model.deployer();
    deployer.runtime.crash("relay").expect("killed");
    assert_eq!(model.running(Service::Relay), Vec::<String>::new());
    let lock = Lock::take(&model.store, &deployer.holder).expect("nobody is at work");
    deployer.reconcile(&lock).expect("it works");
    drop(lock);
    model.assert_exactly_one_serves("reconciled");
    deployer.runtime.crash("relay").expect("killed");
    model.rollback(None, &settings).expect("it serves");
    assert_eq!(model.assert_exactly_one_serves("rolled back"), ReleaseId(1));
}

#[test]
fn a_slot_that_was_left_open_gives_a_candidate_no_request_before_its_gate() {
    let (model, settings) = served(1);
    model.leave_a_slot_open();
    model.build("myapp:prod", "second", None);
    assert_eq!(model.deploy(&settings).expect("it serves"), ReleaseId(2));
    assert_eq!(model.assert_exactly_one_serves("nobody was early"), ReleaseId(2));
    assert_eq!(model.complaints(), Vec::<String>::new());
}

#[test]
fn a_backup_that_would_be_refused_is_told_by_the_plan_and_not_by_its_step() {
    let (model, settings) = served(1);
    model.build("myapp:prod", "second", None);
    model.answers("ops backup check", 1, "");
    let failure = model.deploy(&settings).expect_err("no backup could be taken");
    assert_eq!((failure.exit, failure.data.as_str()), (Exit::Unproven, "unchanged"), "{failure}");
    let row =
        r#"{"region":"eu","place":"the folder /b","error":"read-only file system","fix":"mount it to be written"}"#;
    model.answers("ops backup check", 9, format!(r#"{{"places":[{row}],"without":[]}}"#));
    let failure = model.deploy(&settings).expect_err("the place cannot be written to");
    assert_eq!((failure.exit, failure.data.as_str()), (Exit::Unproven, "unchanged"), "{failure}");
    for words in ["eu: the folder /b", "read-only file system", "mount it to be written"] {
        assert!(failure.what.contains(words), "{words} is missing in {failure}");
    }
    assert_eq!(model.store.releases().expect("read").len(), 1, "nothing was pinned");
    let without = Settings { skip_backup: Some("it is meant".into()), ..settings };
    assert_eq!(model.deploy(&without).expect("it serves"), ReleaseId(2));
}

#[test]
fn a_region_without_a_place_for_backups_is_named_by_the_plan() {
    let (model, settings) = served(1);
    model.build("myapp:prod", "second", None);
    let row = r#"{"region":"eu","place":"the folder /b"}"#;
    model.answers("ops backup check", 0, format!(r#"{{"places":[{row}],"without":["us-east"]}}"#));
    let plan = model.deployer().plan_deploy("myapp:prod", &settings).expect("a plan");
    assert!(plan.to_string().contains("NO BACKUP is taken of us-east"), "{plan}");
    // Where there is none at all, nobody can mean to deploy without a word.
    model.answers("ops backup check", 0, r#"{"places":[],"without":["eu","us-east"]}"#);
    let trouble = model.deployer().plan_deploy("myapp:prod", &settings).expect_err("no backup at all");
    assert_eq!(trouble.exit, Exit::Unproven);
    assert!(trouble.what.contains("[regions.eu.backup] and [regions.us-east.backup]"), "{trouble}");
}

#[test]
fn changed_settings_are_told_and_taken_up_when_the_release_is_committed_and_the_edge_is_left_alone() {
    let attendant = |service: &str, files: &str, takes_up: TakesUp| Attendant {
        service: service.into(),
        files: files.into(),
        definition: "d".into(),
        read_last: false,
        made_last: false,
        takes_up,
    };
    let fresh = |one: Attendant| Attendant { read_last: true, made_last: true, ..one };
    let by_hand = || TakesUp::ByHand { reload: "docker kill -s USR2 e".into(), remake: "make it anew".into() };
    let model = Model::new();
    let settings = Settings::default();
    model.attended_by(fresh(attendant("otel", "1", TakesUp::Restarted)));
    model.attended_by(fresh(attendant("edge", "1", by_hand())));
    model.build("myapp:prod", "one", None);
    model.deploy(&settings).expect("it serves");
    assert_eq!(model.restarted(), Vec::<String>::new(), "they began with what they have");
    // Both have other files since, and were not started again.
    model.attended_by(attendant("otel", "2", TakesUp::Restarted));
    model.attended_by(attendant("edge", "2", by_hand()));
    model.build("myapp:prod", "two", None);
    let plan = model.deployer().plan_deploy("myapp:prod", &settings).expect("a plan").to_string();
    assert!(plan.contains("settings of otel changed: it will be restarted"), "{plan}");
    assert!(plan.contains("settings of edge changed and are NOT taken up") && plan.contains("docker kill -s USR2 e"));
    model.deploy(&settings).expect("it serves");
    assert_eq!(model.restarted(), ["otel"]);
    let plan = model.deployer().plan_deploy("myapp:prod", &settings).expect("a plan");
    let stale: Vec<&str> = plan.stale.iter().map(|one| one.service.as_str()).collect();
    assert_eq!((plan.unchanged, stale), (true, vec!["edge"]), "what was told once is told until it is done");
    // Settings alone are taken up without a release.
    model.attended_by(attendant("otel", "3", TakesUp::Restarted));
    let deployer = model.deployer();
    let lock = Lock::take(&model.store, &deployer.holder).expect("nobody is at work");
    deployer.settings_only(&lock).expect("done");
    assert_eq!(model.restarted(), ["otel", "otel"]);
    assert_eq!(model.assert_exactly_one_serves("settings alone"), ReleaseId(2));
}

#[test]
fn the_same_image_again_changes_nothing() {
    let (model, settings) = served(1);
    assert!(model.deployer().plan_deploy("myapp:prod", &settings).expect("a plan").unchanged);
}

#[test]
fn whoever_asks_to_stop_gets_the_old_release_back() {
    let (model, settings) = served(1);
    model.build("myapp:prod", "second", None);
    model.interrupted.store(true, Ordering::Relaxed);
    assert_eq!(model.deploy(&settings).expect_err("stopped").exit, Exit::Aborted);
    assert_eq!(model.assert_exactly_one_serves("stopped"), ReleaseId(1));
}

#[test]
fn somebody_elses_lease_keeps_us_out_and_a_lost_one_turns_us_back() {
    let (model, settings) = served(1);
    model.build("myapp:prod", "second", None);
    model.lose_the_lease();
    let failure = model.deploy(&settings).expect_err("lost");
    assert!(failure.what.contains("lease"), "{failure}");
    assert_eq!(model.assert_exactly_one_serves("turned back"), ReleaseId(1));
    model.somebody_is_at_work();
    let failure = model.deploy(&settings).expect_err("held");
    assert_eq!((failure.exit, failure.data.as_str()), (Exit::Locked, "unchanged"));
}

#[test]
fn an_operation_that_has_not_ended_keeps_the_next_one_out() {
    let (model, settings) = served(1);
    model.build("myapp:prod", "second", None);
    assert!(model.dying_at(30, || model.deploy(&settings).is_ok()).is_none());
    let failure = model.deploy(&settings).expect_err("not ended");
    assert_eq!(failure.exit, Exit::Unchanged);
    assert!(failure.what.contains("resume"), "{failure}");
}

#[test]
fn old_releases_are_removed_and_rollback_targets_stay() {
    let model = Model::new();
    let settings = Settings { releases_kept: 2, ..Settings::default() };
    for number in 1..=5 {
        model.build("myapp:prod", &format!("content{number}"), None);
        model.deploy(&settings).expect("it serves");
    }
    let kept: Vec<u64> = model.store.releases().expect("read").iter().map(|release| release.release.0).collect();
    assert_eq!(kept, [4, 5]);
    assert_eq!(model.rollback(None, &settings).expect("it serves"), ReleaseId(4));
}

#[test]
fn an_old_release_that_cannot_be_removed_keeps_no_other_one_from_going() {
    let model = Model::new();
    let settings = Settings { releases_kept: 2, ..Settings::default() };
    for number in 1..=5 {
        model.build("myapp:prod", &format!("content{number}"), None);
        model.deploy(&settings).expect("it serves");
        if number == 1 {
            model.use_elsewhere(ReleaseId(1));
        }
    }
    let kept: Vec<u64> = model.store.releases().expect("read").iter().map(|release| release.release.0).collect();
    assert_eq!(kept, [1, 4, 5]);
    assert_eq!(model.assert_exactly_one_serves("pruned as far as possible"), ReleaseId(5));
}

#[test]
fn what_takes_something_away_waits_until_the_release_has_proven_itself_and_nobody_could_want_an_older_one_back() {
    let (model, settings) = served(1);
    model.build("myapp:prod", "older", None);
    model.knows("older", 7);
    model.deploy(&settings).expect("it serves");
    model.build("myapp:prod", "newer", None);
    model.deploy(&settings).expect("it serves");
    let deployer = model.deployer();
    assert_eq!(deployer.plan_contract(7, &[]).expect("a look"), None, "nothing waits");

    model.hold_a_migration_back();
    let young = deployer.plan_contract(7, &[]).expect_err("it has not served long enough");
    assert!(young.exit == Exit::Unchanged && young.what.contains("0 days"), "{young}");
    model.days_go_by(8);
    let refused = deployer.plan_contract(7, &[]).expect_err("rel-2 could come back");
    assert!(refused.what.contains("--abandon-rollback-to rel-2"), "{refused}");
    assert!(!model.is_contracted());

    let lock = Lock::take(&model.store, &deployer.holder).expect("nobody is at work");
    let contract = deployer.plan_contract(7, &[ReleaseId(2)]).expect("it is meant").expect("one waits");
    deployer.contract(&lock, &contract).expect("done");
    assert!(model.is_contracted());
    let deed = model.store.history().expect("read").pop().expect("a deed");
    assert_eq!((deed.kind.as_str(), deed.outcome.as_str(), deed.release), ("contract", "applied", ReleaseId(3)));
    assert_eq!(model.store.broken_history().expect("a history"), None);
    // Nobody takes it for the beginning of the release's service.
    model.hold_a_migration_back();
    assert!(deployer.plan_contract(7, &[ReleaseId(2)]).expect("it has served for 8 days").is_some());
}

#[test]
fn a_migration_that_takes_something_away_and_fails_is_not_called_unchanged() {
    let (model, _) = served(2);
    model.hold_a_migration_back();
    model.days_go_by(8);
    let deployer = model.deployer();
    let lock = Lock::take(&model.store, &deployer.holder).expect("nobody is at work");
    let contract = deployer.plan_contract(7, &[]).expect("nobody is lost").expect("one waits");
    model.answers("ops backup create", 1, "");
    let failure = deployer.contract(&lock, &contract).expect_err("no backup");
    assert_eq!((failure.exit, failure.data.as_str()), (Exit::Unproven, "unchanged"), "{failure}");

    model.days_go_by(1);
    model.answers("ops backup create", 0, "{}");
    model.answers("migrate --json --contract", 1, "");
    let failure = deployer.contract(&lock, &contract).expect_err("a migration fails");
    assert_eq!(failure.exit, Exit::NeedsHuman, "{failure}");
    assert!(failure.data.contains("below the new floor cannot serve"), "{failure}");
    assert!(failure.next.contains("deploy.sh migrate contract"), "{failure}");
    let deed = model.store.history().expect("read").pop().expect("a deed");
    assert_eq!((deed.kind.as_str(), deed.outcome.as_str(), deed.why.is_some()), ("contract", "failed", true));
}

#[test]
fn after_a_restart_of_the_machine_the_edge_is_led_to_the_new_addresses() {
    let (model, _) = served(2);
    model.stop_watching();
    model.restart_the_machine();
    let deployer = model.deployer();
    assert_eq!(deployer.serving_now().expect("the edge answers"), [], "it leads to where nobody is");
    let lock = Lock::take(&model.store, &deployer.holder).expect("nobody is at work");
    assert_eq!(deployer.reconcile(&lock).expect("it works"), Some(ReleaseId(2)));
    drop(lock);
    model.assert_exactly_one_serves("reconciled");
    let written = model.store.state().expect("a state").serving.expect("one serves");
    assert!(written.instances.iter().all(|instance| instance.address.starts_with("10.1.")), "{written:?}");
}
