//! The deployer is killed after every line of its journal; `resume` or `abort` ends with exactly one serving release.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use system_tests::PATIENCE;

use crate::cell::{Cell, quickly};

/// The journals of a cell.
fn journals(cell: &Cell) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(cell.state().join("journal")).expect("a folder");
    let paths = entries.flatten().map(|entry| entry.path());
    paths.filter(|path| path.extension().is_some_and(|ending| ending == "jsonl")).collect()
}

fn lines(path: &PathBuf) -> usize {
    std::fs::read_to_string(path).unwrap_or_default().lines().count()
}

/// Deploys and kills the deployer as soon as its journal has so many lines. Tells whether it was killed in time.
async fn deploy_killed_after(cell: &Cell, release: &std::path::Path, wanted: usize) -> bool {
    let before = journals(cell);
    let hurried = ["--bake", "0", "--steps", "100"];
    let mut deployer = cell.start(&quickly("deploy", Some(&release.to_string_lossy()), &hurried));
    let begun = Instant::now();
    loop {
        let journal = journals(cell).into_iter().find(|path| !before.contains(path));
        if journal.as_ref().is_some_and(|path| lines(path) >= wanted) {
            deployer.kill().await.expect("kill -9");
            return true;
        }
        if let Some(status) = deployer.try_wait().expect("its end") {
            assert!(status.success(), "it ended by itself before {wanted} lines: {status}");
            return false;
        }
        assert!(begun.elapsed() < PATIENCE * 2, "{wanted} lines never came");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn killed_everywhere(ending: &str) {
    let cell = Cell::new().await;
    cell.deploys(&cell.release("first"), &[]).await;
    let (mut killed, mut finished, mut put_back) = (0, 0, 0);
    for wanted in 1.. {
        let before = cell.serving().await;
        let release = cell.release(&format!("release-{wanted}"));
        if !deploy_killed_after(&cell, &release, wanted).await {
            break;
        }
        killed += 1;
        let ended = cell.ops(&[ending, "--json"]).await;
        let serving = cell.serving().await;
        match ended.code {
            // What was past its proof is finished by both; resume finishes everything.
            0 => finished += 1,
            5 if ending == "abort" => {
                assert_eq!(serving, before, "line {wanted}: {}", ended.out);
                put_back += 1;
            }
            code => panic!("line {wanted}: {ending} ended with {code}: {}", ended.out),
        }
        assert_eq!(cell.gateways(), 1, "line {wanted}: nothing is left over");
        cell.client().residing_in("DE").home("nobody").await.expect("an answer").expect(404).expect("it serves");
    }
    // Twelve steps have two lines each, and the thirteenth may be over before it is seen.
    assert!(killed >= 22, "{ending}: killed {killed} times");
    match ending {
        "abort" => assert!(put_back >= 10 && finished >= 1, "{put_back} put back, {finished} finished"),
        _ => assert!(finished >= 22, "{finished} finished"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_every_line_of_its_journal_a_deployment_is_resumed_to_one_serving_release() {
    killed_everywhere("resume").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_every_line_of_its_journal_a_deployment_is_aborted_to_one_serving_release() {
    killed_everywhere("abort").await;
}
