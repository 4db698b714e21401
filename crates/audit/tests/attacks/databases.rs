//! Attacks by whoever holds the database: its superuser, and its backups.

use std::process::Command;

use audit::verify::{Check, Outcome};
use audit::{Memory, Signer, Step};
use storage::Precondition;
use tlog::{KeyKind, SigningKey};

use crate::scene::{ORIGIN, denial, done, put, subject};
use crate::stage::{Stage, caught, clean};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_nobody_touched_holds() {
    let stage = Stage::with(600).await;
    let kept = stage.checkpoint().await;
    stage.grow(300).await;
    assert_eq!(stage.sign().await, Step::Signed(900));
    assert_eq!(stage.sign().await, Step::UpToDate);
    let report = stage.audit_since(&kept).await;
    clean(&report);
    assert_eq!((report.size, report.leaves), (900, 900));
    for check in [Check::AppendOnly, Check::Gapless] {
        assert_eq!(report.outcome(check), Outcome::Holds, "{check}");
    }
    for check in [Check::Witnessed, Check::Balanced, Check::Replayed] {
        assert_eq!(report.outcome(check), Outcome::Unchecked, "{check} is never shown as if it had been checked");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_one_byte_of_a_stored_leaf_edited() {
    let stage = Stage::with(300).await;
    stage.sql("UPDATE domicile.leaves SET line = replace(line, '\"deny\"', '\"demy\"') WHERE seq = 123").await;
    caught(&stage.audit().await, Check::WellFormed, "leaf_differs_from_tile", Some(123));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_stored_leaf_and_its_hash_edited() {
    let stage = Stage::with(300).await;
    stage
        .sql(
            "UPDATE domicile.leaves SET line = replace(line, '\"deny\"', '\"allow\"'), \
             hash = sha256('\\x00'::bytea || convert_to(replace(line, '\"deny\"', '\"allow\"'), 'UTF8')) WHERE seq = 123",
        )
        .await;
    // The full tile still has the old hash.
    caught(&stage.audit().await, Check::WellFormed, "leaf_differs_from_tile", Some(123));
    // In the unfinished tile the hash is the leaf's own: then the tree does not come to the signed root any more.
    stage
        .sql(
            "UPDATE domicile.leaves SET line = replace(line, '\"deny\"', '\"allow\"'), \
             hash = sha256('\\x00'::bytea || convert_to(replace(line, '\"deny\"', '\"allow\"'), 'UTF8')) WHERE seq = 290",
        )
        .await;
    caught(&stage.audit().await, Check::WellFormed, "tree_differs_from_checkpoint", None);
    stage.grow(1).await;
    assert_eq!(stage.refusal().await, "rewritten", "and the signer goes no further");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_leaf_edited_and_tree_recomputed_and_resigned() {
    let stage = Stage::with(300).await;
    let kept = stage.checkpoint().await;
    let mut lines = stage.lines().await;
    lines[123] = lines[123].replace("\"rows\":0", "\"rows\":1");
    stage.rewrite(&lines).await;
    assert_eq!(stage.refusal().await, "rewritten", "the signer remembers, whatever the database says");
    stage.sign_with_a_stolen_key().await;
    // Whoever has only the key and no memory sees a sound log. That is what an older checkpoint is for.
    clean(&stage.audit().await);
    caught(&stage.audit_since(&kept).await, Check::AppendOnly, "split_view", None);
    stage.grow(50).await;
    stage.sign_with_a_stolen_key().await;
    caught(&stage.audit_since(&kept).await, Check::AppendOnly, "rewritten", None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_history_rewritten_under_a_running_gateway() {
    let stage = Stage::with(300).await;
    let mut lines = stage.lines().await;
    lines[123] = lines[123].replace("\"rows\":0", "\"rows\":1");
    stage.rewrite(&lines).await;
    stage.sql("UPDATE domicile.head SET epoch = epoch - 1").await;
    // The gateway knows the tree that it wrote, and goes on with that one: head and tiles part ways.
    stage.grow(50).await;
    assert_eq!(stage.refusal().await, "rewritten");
    assert_eq!(stage.refusal_of_a_stolen_key().await, "torn", "not even the key signs what does not fit itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_tail_truncated() {
    let stage = Stage::with(300).await;
    let kept = stage.checkpoint().await;
    let lines = stage.lines().await;
    stage.rewrite(&lines[..290]).await;
    assert_eq!(stage.refusal().await, "went_backwards");
    caught(&stage.audit().await, Check::WellFormed, "missing", None);
    stage.sign_with_a_stolen_key().await;
    caught(&stage.audit_since(&kept).await, Check::AppendOnly, "truncated", None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_whole_log_replaced() {
    let stage = Stage::with(300).await;
    let kept = stage.checkpoint().await;
    let genesis = stage.lines().await.remove(0);
    stage.rewrite(&[genesis]).await;
    stage.grow(500).await;
    assert_eq!(stage.refusal().await, "rewritten");
    stage.sign_with_a_stolen_key().await;
    caught(&stage.audit_since(&kept).await, Check::AppendOnly, "rewritten", None);
    // Without the key it is not even signed.
    stage.sql("DELETE FROM domicile.checkpoints").await;
    let other = SigningKey::new(ORIGIN, KeyKind::Log, &[1; 32]).unwrap();
    let mut forger = Signer::new(stage.log(), other, Memory::at(stage.file("other")), "signer-1");
    assert!(matches!(forger.step().await.unwrap(), Step::Signed(_)));
    caught(&stage.audit().await, Check::Signed, "not_signed_by_this_key", None);
    assert_eq!(stage.refusal().await, "other_key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_split_view() {
    let stage = Stage::with(300).await;
    let shown_to_one = stage.checkpoint().await;
    let mut lines = stage.lines().await;
    lines[7] = lines[7].replace("\"rows\":0", "\"rows\":1");
    stage.rewrite(&lines).await;
    stage.sign_with_a_stolen_key().await;
    let shown_to_another = stage.checkpoint().await;
    // Both are signed; who holds the two holds the proof.
    caught(&stage.audit_since(&shown_to_one).await, Check::AppendOnly, "split_view", None);
    assert_ne!(shown_to_one, shown_to_another);
    assert_eq!(stage.refusal().await, "split_view", "nor does the true signer put its name to it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_entry_never_written() {
    let stage = Stage::with(300).await;
    stage.grow(10).await;
    stage.note_at(120).await;
    // Before anything of it was signed, one leaf is left out, and the log closed over it.
    let mut lines = stage.lines().await;
    lines.remove(305);
    stage.rewrite(&lines).await;
    assert_eq!(stage.sign().await, Step::Signed(310), "the signer cannot know");
    caught(&stage.audit().await, Check::Gapless, "leaf_never_written", None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_last_entry_of_a_gateway_never_written_shows_once_the_gateway_goes_on() {
    let stage = Stage::with(300).await;
    let lines = stage.lines().await;
    stage.rewrite(&lines[..299]).await;
    stage.sign_with_a_stolen_key().await;
    clean(&stage.audit().await);
    stage.grow(1).await;
    stage.sign_with_a_stolen_key().await;
    let report = stage.audit().await;
    assert_eq!(report.failed(), None, "a hole this young may be a leaf on its way");
    let gapless = report.verdicts.iter().find(|verdict| verdict.check == Check::Gapless).unwrap();
    assert!(gapless.sentence.contains("1 counts at the very end may still come"), "{}", gapless.sentence);
    stage.note_at(120).await;
    stage.sign_with_a_stolen_key().await;
    caught(&stage.audit().await, Check::Gapless, "leaf_never_written", None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_database_restored_to_an_older_snapshot() {
    let stage = Stage::apart(300).await;
    let (data, copy) = (stage.scene.cluster.folder().join("data"), stage.scene.cluster.folder().join("copy"));
    let cp = |from: &std::path::Path, to: &std::path::Path| {
        assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
    };
    stage.scene.cluster.stop();
    cp(&data, &copy);
    stage.scene.cluster.start();
    crate::scene::up(&stage.store).await;
    crate::scene::eventually("the log grows again", async || stage.store.note(denial()).await.is_ok()).await;
    stage.grow(100).await;
    crate::scene::eventually("it is signed", async || matches!(stage.signer().step().await, Ok(Step::Signed(_)))).await;
    let kept = stage.checkpoint().await;
    stage.scene.cluster.stop();
    std::fs::remove_dir_all(&data).unwrap();
    cp(&copy, &data);
    stage.scene.cluster.start();
    crate::scene::eventually("the log can be read again", async || stage.log().head().await.is_ok()).await;
    assert_eq!(stage.refusal().await, "went_backwards");
    // The old checkpoint that came back with it is still right, and too old for whoever kept a newer one.
    caught(&stage.audit_since(&kept).await, Check::AppendOnly, "truncated", None);
    // And it does not help to grow past what was lost.
    stage.grow(200).await;
    assert_eq!(stage.refusal().await, "rewritten");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_leaf_replayed() {
    let stage = Stage::with(300).await;
    let mut lines = stage.lines().await;
    lines.push(lines[123].clone());
    stage.rewrite(&lines).await;
    assert_eq!(stage.sign().await, Step::Signed(301), "it is a continuation");
    caught(&stage.audit().await, Check::Gapless, "leaf_repeated", Some(300));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_non_canonical_json() {
    let stage = Stage::with(10).await;
    let mut lines = stage.lines().await;
    // Two meanings in one line: readers disagree on which `out` counts.
    lines.push(lines[5].replace("\"out\":\"deny\"", "\"out\":\"allow\",\"out\":\"deny\""));
    lines.push(lines[6].replace("\"rows\":0", "\"rows\":0.0"));
    stage.rewrite(&lines).await;
    stage.sign().await;
    let report = stage.audit().await;
    caught(&report, Check::WellFormed, "not_canonical", Some(10));
    assert!(report.findings.iter().any(|finding| finding.rule == "not_canonical" && finding.seq == Some(11)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_clock_turned_back() {
    let stage = Stage::with(10).await;
    stage.note_at(-200).await;
    stage.sign().await;
    clean(&stage.audit().await);
    stage.note_at(-3_600).await;
    stage.sign().await;
    caught(&stage.audit().await, Check::WellFormed, "clock_turned_back", Some(11));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_signers_memory_swapped_for_another_logs() {
    let stage = Stage::with(10).await;
    let other = SigningKey::new("other.log", KeyKind::Log, &[9; 32]).unwrap();
    let mut note = tlog::Note::new(tlog::Checkpoint::new("other.log", 5, [0; 32]).to_string()).unwrap();
    note.add(other.sign(note.text(), 0));
    std::fs::write(stage.memory(), note.to_string()).unwrap();
    assert_eq!(stage.refusal().await, "forgotten");
    std::fs::write(stage.memory(), "").unwrap();
    assert_eq!(stage.refusal().await, "forgotten", "an emptied memory is no permission to begin anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaves_of_every_kind_that_a_gateway_writes_are_understood() {
    let stage = Stage::with(5).await;
    let anna = subject("anna");
    done(&stage.store, &anna, put("a", "{}", Precondition::None)).await;
    crate::scene::record(&stage.store, &anna, "a").await.unwrap();
    stage.sign().await;
    clean(&stage.audit().await);
}
