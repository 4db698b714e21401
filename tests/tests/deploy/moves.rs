//! Good releases, forward and back.

use serde_json::json;
use system_tests::person;

use crate::cell::Cell;
use crate::load::Load;

/// The least number of requests that a promise of "none fails" is worth.
const REQUESTS_MIN: u64 = 5000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_and_a_rollback_fail_none_of_five_thousand_requests() {
    let cell = Cell::new().await;
    cell.deploys(&cell.release("one"), &["--instances", "2"]).await;
    assert_eq!(cell.serving().await, "rel-1");

    let load = Load::on(&cell);
    load.until(500).await;
    cell.deploys(&cell.release("two"), &[]).await;
    assert_eq!(cell.serving().await, "rel-2");
    assert_eq!(cell.gateways(), 2, "as many as before, and the old ones are gone");
    load.until(load.asked() + 500).await;
    let back = cell.rollback(&[]).await;
    assert_eq!(back.code, 0, "{}", back.out);
    assert_eq!(cell.serving().await, "rel-1");
    load.until(REQUESTS_MIN).await;
    let tally = load.stop().await;
    assert!(tally.asked >= REQUESTS_MIN, "{tally:?}");
    assert_eq!(tally.failed, 0, "{tally:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_warm_release_comes_back_at_once_and_the_edge_survives_a_restart() {
    let cell = Cell::new().await;
    cell.deploys(&cell.release("one"), &[]).await;
    cell.deploys(&cell.release("two"), &["--keep-warm"]).await;
    assert_eq!((cell.serving().await.as_str(), cell.gateways()), ("rel-2", 2));

    // The edge alone is killed; whoever looks after it starts it again, and it knows its targets.
    let edge = std::fs::read(cell.state().join("processes/edge.json")).expect("it runs");
    let edge: serde_json::Value = serde_json::from_slice(&edge).expect("JSON");
    let killed = tokio::process::Command::new("kill").args(["-9", "--", &format!("-{}", edge["pid"])]).status().await;
    assert!(killed.expect("kill is there").success());
    let plan = cell.rollback(&["--dry-run"]).await;
    assert!(plan.out.contains("\"instant\":true"), "{}", plan.out);
    cell.deploys(&cell.release("three"), &["--keep-warm"]).await;
    assert_eq!(cell.serving().await, "rel-3", "the new release started it, and drained its old targets");

    let back = cell.rollback(&[]).await;
    assert_eq!(back.code, 0, "{}", back.out);
    assert_eq!(cell.serving().await, "rel-2");
    cell.client().residing_in("DE").home("nobody").await.expect("an answer").expect(404).expect("and a sensible one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_across_two_releases_with_migrations_between_them_restores_nothing() {
    let cell = Cell::new().await;
    cell.deploys(&cell.release("one"), &[]).await;
    cell.deploys(&cell.later(9001), &[]).await;
    cell.deploys(&cell.later(9002), &[]).await;
    assert_eq!(cell.serving().await, "rel-3");
    let (client, subject) = (cell.client().residing_in("DE"), person("later"));
    client
        .put_record(&subject, "letters", "one", &json!({ "written": "by rel-3" }))
        .await
        .expect("an answer")
        .expect_success()
        .expect("written");

    let back = cell.rollback(&["--to", "rel-1"]).await;
    assert_eq!(back.code, 0, "{}", back.out);
    assert_eq!(cell.serving().await, "rel-1");
    let read =
        client.get_record(&subject, "letters", "one").await.expect("an answer").expect(200).expect("it is there");
    assert!(read.text().contains("by rel-3"), "{}", read.text());
    for region in cell.world.regions() {
        let kept = region.sql("SELECT to_regclass('domicile.added_9002')::text").await.expect("an answer");
        assert_eq!(kept, ["domicile.added_9002"], "no down migration");
    }
    // And the old program migrates on the newer schema without complaint.
    let dry = cell.deploy(&cell.release("four"), &["--dry-run", "--detailed-exitcode"]).await;
    assert_eq!(dry.code, 20, "{}", dry.out);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_looks_is_told_what_serves_what_was_done_and_what_is_missing() {
    let cell = Cell::with_roles("gateway,relay,forwarder").await;
    let nothing = cell.rollback(&[]).await;
    assert_eq!(nothing.code, 6, "{}", nothing.out);
    let missing = cell.deploy(std::path::Path::new("/nowhere/at/all"), &[]).await;
    assert_eq!(missing.code, 6, "{}", missing.out);
    assert!(missing.out.contains("\"data\":\"unchanged\""), "{}", missing.out);
    cell.deploys(&cell.release("one"), &[]).await;
    let again = cell.deploy(&cell.release("one"), &["--detailed-exitcode"]).await;
    assert_eq!(again.code, 0, "the same image: nothing to do. {}", again.out);
    cell.deploys(&cell.release("two"), &[]).await;
    for role in ["relay", "forwarder"] {
        let tags = cell.tags_of(role);
        assert!(tags.len() == 1 && tags[0].contains(":rel-2-"), "the {role} is the new release's alone: {tags:?}");
    }
    let history = cell.ops(&["history"]).await;
    assert!(history.code == 0 && history.out.contains("committed"), "{}", history.out);
    let logs = cell.ops(&["logs", "web"]).await;
    assert!(logs.code == 0 && logs.out.contains("serves"), "{}", logs.out);
    let lock = cell.ops(&["lock", "status"]).await;
    assert!(lock.code == 0 && lock.out.contains("nobody"), "{}", lock.out);
    let doctor = cell.ops(&["doctor"]).await;
    assert_eq!(doctor.code, 10, "no backup was ever restored: {}", doctor.out);
    assert!(doctor.out.contains("can I restore?"), "{}", doctor.out);
    let fails_over = doctor.out.lines().find(|line| line.contains("can I fail over?")).unwrap_or_default();
    assert!(fails_over.contains("cannot tell") && !fails_over.contains("yes"), "{}", doctor.out);
}
