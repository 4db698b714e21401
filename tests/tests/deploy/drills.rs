//! Drills of a cell, by its own deployer and under writes.

use serde_json::Value;

use crate::cell::{Cell, Ended};

/// What every drill of the cell is told.
const VICTIM: [&str; 5] = ["--region", "eu-central", "--residence", "DE", "--production"];

fn report(ended: &Ended) -> Value {
    let told = ended.out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let found = told.into_iter().find(|line| line["event"] == "drill");
    found.unwrap_or_else(|| panic!("no report in:\n{}", ended.out))["report"].clone()
}

async fn drill(cell: &Cell, kind: &str, more: &[&str]) -> Ended {
    let words = ["drill", kind, "--json", "--rto", "120"];
    cell.ops(&[&words[..], &VICTIM, &["--confirm", "eu-central"], more].concat()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_and_a_crash_are_rehearsed_by_the_pipeline_itself_and_lose_no_acknowledged_write() {
    let cell = Cell::with_backups().await;
    cell.deploys(&cell.release("one"), &[]).await;
    let quick = ["--bake", "1", "--max-p99-ratio", "1000"];
    let nowhere = drill(&cell, "rollback", &quick).await;
    assert_eq!(nowhere.code, 6, "there is nothing to come back to: {}", nowhere.out);
    cell.deploys(&cell.release("two"), &[]).await;
    let unproven = drill(&cell, "rollback", &quick).await;
    assert_eq!(unproven.code, 4, "no backup was ever proven: {}", unproven.out);
    assert!(unproven.out.contains("backup create"), "{}", unproven.out);
    let backup = cell.beside(&["backup", "create"]).await;
    assert_eq!(backup.code, 0, "{}", backup.out);
    let mistyped = cell.ops(&[&["drill", "rollback", "--confirm", "us-east"][..], &VICTIM].concat()).await;
    assert_eq!(mistyped.code, 4, "{}", mistyped.out);
    let looked = drill(&cell, "rollback", &["--dry-run"]).await;
    assert!(looked.code == 0 && looked.out.contains("\"rollback\""), "{}", looked.out);
    assert_eq!(cell.serving().await, "rel-2", "whoever only looks changes nothing");

    let done = drill(&cell, "rollback", &quick).await;
    let told = report(&done);
    assert_eq!((&told["verdict"], &told["findings"]), (&"pass".into(), &Value::Array(Vec::new())), "{told}");
    assert_eq!((&told["measured"]["lost"], &told["measured"]["refused"]), (&0.into(), &0.into()), "{told}");
    assert!(told["measured"]["acknowledged"].as_u64().is_some_and(|count| count >= 150), "{told}");
    assert!(told["measured"]["rto_ms"].as_u64().is_some() && told["measured"]["rpo_ms"] == 0, "{told}");
    let said = told["timeline"].to_string();
    let (back, again) = (said.find("rel-1 serves"), said.find("rel-2 serves again"));
    assert!(back.is_some() && back < again, "{said}");
    assert_eq!(done.code, 0, "{}", done.out);
    assert_eq!(cell.serving().await, "rel-2");
    // It went the way of every rollback: both turns are in the history.
    let history = cell.ops(&["history", "--json"]).await;
    assert_eq!(history.out.matches("\"kind\":\"rollback\"").count(), 2, "{}", history.out);

    let killed = drill(&cell, "crash", &["--service", "web"]).await;
    let told = report(&killed);
    assert_eq!((&told["verdict"], &told["measured"]["lost"]), (&"pass".into(), &0.into()), "{told}");
    assert!(told["measured"]["rto_ms"].as_u64().is_some_and(|ms| ms >= 1_000), "it was away for a second: {told}");
    assert_eq!((killed.code, cell.serving().await.as_str()), (0, "rel-2"), "{}", killed.out);
    let missing = drill(&cell, "crash", &["--service", "db"]).await;
    assert_eq!(report(&missing)["verdict"], "fail", "no database is the deployer's here");

    // Both are where the cell's other drills are: history, metrics, alerts and doctor know of them.
    let history = cell.beside(&["drill", "history", "--json"]).await;
    for kind in ["rollback", "crash"] {
        assert!(history.out.contains(&format!("\"kind\": \"{kind}\"")), "{}", history.out);
    }
    let keys = cell.with_configuration(&["keys", "list"]).await;
    let live = keys.out.lines().filter(|line| line.contains("domicile-drill-") && line.contains("live"));
    assert_eq!(live.count(), 0, "the drills' keys ended with them: {}", keys.out);
}
