//! A scene that is killed leaves nothing running, although releases outlive their deployer.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use system_tests::until;

use crate::cell::Cell;

/// Before the folder of the cell, on standard output of the scene.
const MARK: &str = "the cell is in ";

/// Not a test of its own: the scene that the next one kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it waits to be killed"]
async fn a_scene_to_be_killed() {
    let cell = Cell::new().await;
    cell.deploys(&cell.release("one"), &["--bake", "0"]).await;
    let mut out = std::io::stdout();
    writeln!(out, "{MARK}{}", cell.state().display()).and_then(|()| out.flush()).expect("somebody reads");
    std::future::pending::<()>().await;
}

/// The numbers of the processes that a cell notes, those that live.
fn alive(state: &Path) -> Vec<i64> {
    let entries = std::fs::read_dir(state.join("processes")).into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| {
        let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(entry.path()).ok()?).ok()?;
        kept["pid"].as_i64()
    });
    pids.filter(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scene_that_is_killed_leaves_no_gateway_and_no_edge_behind() {
    // What the killed scene leaves of files goes with this folder.
    let rest = tempfile::Builder::new().prefix("left").permissions(open_to_all()).tempdir().expect("a folder");
    let mut scene = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "left::a_scene_to_be_killed", "--ignored", "--nocapture"])
        .env("TMPDIR", rest.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let lines = BufReader::new(scene.stdout.take().expect("a pipe")).lines();
    let state = tokio::task::spawn_blocking(move || {
        let mut told = lines.map_while(Result::ok);
        told.find_map(|line| line.split_once(MARK).map(|(_, path)| PathBuf::from(path)))
    });
    let state = state.await.expect("no panic").expect("the scene is set");
    assert!(alive(&state).len() >= 2, "a gateway and the edge run");
    scene.kill().expect("kill -9");
    scene.wait().expect("it has ended");
    until("nothing of the scene runs", Duration::from_secs(60), || async { alive(&state).is_empty() })
        .await
        .expect("ended");
}

/// PostgreSQL runs as another user where we are root, and must pass.
fn open_to_all() -> std::fs::Permissions {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::Permissions::from_mode(0o711)
}
