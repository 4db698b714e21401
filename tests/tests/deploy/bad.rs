//! Bad releases, under load: undone by themselves, with exit code 11, and the old one serves.

use crate::cell::{Cell, Ended};
use crate::load::{Load, Tally};

/// One release serves and is asked; a bad one is deployed.
async fn undone(flaw: &str) -> (Cell, Ended, Tally, u64) {
    let cell = Cell::new().await;
    cell.deploys(&cell.release("one"), &[]).await;
    let (bad, count) = cell.flawed(flaw);
    let load = Load::on(&cell);
    load.until(500).await;
    // Long enough to be noticed in, however slow the machine is.
    let patience = if flaw == "unready" { "10" } else { "120" };
    let ended = cell.deploy(&bad, &["--bake", "60", "--gate-timeout", patience]).await;
    load.until(load.asked() + 500).await;
    let tally = load.stop().await;
    assert_eq!(ended.code, 11, "{}", ended.out);
    assert_eq!(cell.serving().await, "rel-1");
    assert_eq!(cell.gateways(), 1, "nothing of it is left");
    assert!(ended.out.contains("\"serving\":\"rel-1\""), "{}", ended.out);
    let reached = std::fs::read_to_string(count).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    (cell, ended, tally, reached)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_never_becomes_ready_is_undone_and_gets_not_one_request() {
    let (_cell, ended, tally, reached) = undone("unready").await;
    assert!(ended.out.contains("gate"), "{}", ended.out);
    assert_eq!(reached, 0, "it has not passed its gate");
    assert_eq!(tally.failed, 0, "{tally:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_answers_one_of_twenty_with_an_error_is_undone() {
    let (_cell, ended, tally, reached) = undone("errors").await;
    assert!(ended.out.contains("5xx"), "{}", ended.out);
    assert!(reached > 0, "it passed its gate: {}", ended.out);
    assert!(tally.failed > 0 && tally.failed * 10 <= tally.asked, "only its own errors were seen: {tally:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_crashes_after_it_was_switched_to_is_undone() {
    let (cell, ended, tally, reached) = undone("crash").await;
    assert!(reached > 0, "it passed its gate: {}", ended.out);
    assert!(tally.failed < tally.asked / 2, "the old one took over: {tally:?}");
    let history = cell.ops(&["history"]).await;
    assert!(history.out.contains("undone"), "{}", history.out);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_switched_while_a_subject_is_found_in_another_region_too() {
    let cell = Cell::new().await;
    cell.deploys(&cell.release("one"), &[]).await;
    let stray = "INSERT INTO domicile.subjects (subject, digest, key_id, state, epoch, secret, registered_at) \
                 VALUES ('domicile-smoke-eu-central', decode(repeat('00', 32), 'hex'), 1, 'active', 1, \
                 decode(repeat('00', 32), 'hex'), now())";
    cell.world.region("us-east").sql(stray).await.expect("a stray row");
    let ended = cell.deploy(&cell.release("two"), &[]).await;
    assert_eq!(ended.code, 11, "{}", ended.out);
    assert!(ended.out.contains("is in the database of us-east"), "{}", ended.out);
    assert_eq!((cell.serving().await.as_str(), cell.gateways()), ("rel-1", 1));
}
