//! Old lines that were let go: the log says so, and verifies as before. What went without a word is caught.

use audit::verify::{Check, Outcome, Report};
use audit::{Damage, Keep, KindSpan, Retention, Scrubber, plan};
use leaf::{Fact, Gone};
use secrecy::SecretString;
use storage::admin;
use tlog::{Checkpoint, Hash, Note, Tile, leaf_hash, root_of};

use crate::scene::decision;
use crate::stage::{Stage, caught, key};

/// A log of 3,000 leaves whose first 2,048 are a partition of their own.
async fn with_an_old_partition() -> Stage {
    let stage = Stage::with(3_000).await;
    for sql in [
        "ALTER TABLE domicile.leaves DETACH PARTITION domicile.leaves_000000",
        "CREATE TABLE domicile.leaves_old (LIKE domicile.leaves INCLUDING ALL)",
        "INSERT INTO domicile.leaves_old SELECT * FROM domicile.leaves_000000 WHERE seq < 2048",
        "DELETE FROM domicile.leaves_000000 WHERE seq < 2048",
        "ALTER TABLE domicile.leaves ATTACH PARTITION domicile.leaves_old FOR VALUES FROM (0) TO (2048)",
        "ALTER TABLE domicile.leaves ATTACH PARTITION domicile.leaves_000000 FOR VALUES FROM (2048) TO (16777216)",
    ] {
        stage.sql(sql).await;
    }
    // Whatever is derived from the lines has been by now.
    stage.log().facts(storage::FactFilter { limit: 1, ..Default::default() }).await.unwrap();
    stage.log().decisions(storage::DecisionFilter { limit: 1, ..Default::default() }).await.unwrap();
    stage
}

/// Every leaf's hash, as long as all lines are there.
async fn hashes(stage: &Stage) -> Vec<Hash> {
    stage.lines().await.iter().map(|line| leaf_hash(line.as_bytes())).collect()
}

fn owner(stage: &Stage) -> SecretString {
    stage.scene.cluster.dsn(&stage.scene.database).into()
}

async fn say(stage: &Stage, to: u64) {
    let signed = stage.log().checkpoint(false).await.unwrap().unwrap();
    let (actor, why) = ("op:test".to_owned(), "retention".to_owned());
    let gone = Gone { actor, at: 0..to, size: signed.size, root: signed.root, why };
    stage.store.record(Fact::log_prune(decision(residency::Operation::RecordRead).at_us, &gone)).await.unwrap();
    stage.sign().await;
}

fn looked_at(report: &Report) -> &str {
    &report.verdicts.iter().find(|verdict| verdict.check == Check::WellFormed).unwrap().sentence
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_goes_whole_and_the_log_verifies_as_before() {
    let stage = with_an_old_partition().await;
    let kept = stage.checkpoint().await;
    let partitions = admin::full_partitions(&owner(&stage)).await.unwrap();
    let spans = |found: &admin::LogPartition| {
        let span = |(kind, leaves, from, to): &(String, u64, i64, i64)| KindSpan {
            kind: kind.clone(),
            leaves: *leaves,
            span_us: (*from, *to),
        };
        (found.range.clone(), found.kinds.iter().map(span).collect::<Vec<_>>())
    };
    let partitions: Vec<_> = partitions.iter().map(spans).collect();
    assert_eq!(partitions.len(), 1);
    let kinds: Vec<(&str, u64)> = partitions[0].1.iter().map(|span| (span.kind.as_str(), span.leaves)).collect();
    assert_eq!(kinds, [("decision.deny", 2_047), ("log.genesis", 1)]);
    let keep = Keep { min_days: Some(30), max_days: None };
    let retention = Retention([("*".to_owned(), keep)].into());
    let now_us = decision(residency::Operation::RecordRead).at_us;
    assert!(plan(&partitions, 3_000, &retention, now_us).gone.is_empty(), "it is of today");
    let planned = plan(&partitions, 3_000, &retention, now_us + 31 * 86_400_000_000);
    assert_eq!(planned.gone, 0..2_048);

    assert_eq!(admin::hindrances(&owner(&stage), 2_048).await.unwrap(), [""; 0]);
    say(&stage, 2_048).await;
    assert!(admin::prune(&owner(&stage), 2_047).await.is_err(), "only whole partitions go");
    assert_eq!(admin::prune(&owner(&stage), 2_048).await.unwrap(), 2_048);
    assert_eq!(stage.scene.number("SELECT count(*) FROM domicile.leaves").await, 953);

    let report = stage.audit_since(&kept).await;
    assert_eq!(report.failed(), None, "{report:#?}");
    assert_eq!(report.outcome(Check::AppendOnly), Outcome::Holds, "the old checkpoint is continued");
    assert_eq!(report.leaves, 953);
    assert!(looked_at(&report).contains("pruned: 2048"), "{}", looked_at(&report));
    let scrubber = Scrubber::new(stage.log(), "test", 1_000_000);
    assert_eq!(scrubber.pass(None).await.unwrap(), None);
    // The hashes that are left are still held against the signed root.
    stage
        .sql("UPDATE domicile.tiles SET hashes = set_byte(hashes, 40, get_byte(hashes, 40) # 1) WHERE level = 0 AND n = 3")
        .await;
    assert_eq!(scrubber.pass(None).await.unwrap(), Some(Damage::Root { size: 3_001 }));
    // And the log goes on.
    stage.grow(10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tree_of_lines_that_were_let_go_still_comes_to_every_root_and_continues_every_checkpoint() {
    let stage = with_an_old_partition().await;
    let hashes = hashes(&stage).await;
    let root_at = |size: u64| root_of(&hashes[..usize::try_from(size).unwrap()]);
    say(&stage, 2_048).await;
    assert_eq!(admin::prune(&owner(&stage), 2_048).await.unwrap(), 2_048);
    // In the midst of a tile whose lines are gone, at its edges, and in what is left.
    for size in [1, 255, 256, 257, 625, 2_047, 2_048, 2_049, 2_900, 3_000] {
        let root = admin::log_root_at(&owner(&stage), size).await.unwrap();
        assert_eq!(root, Some(root_at(size)), "the root at {size}");
        // An auditor who kept a checkpoint from when the lines were there.
        let mut note = Note::new(Checkpoint::new(key().public().name(), size, root_at(size)).to_string()).unwrap();
        note.add(key().sign(note.text(), 0));
        let report = stage.audit_since(&note.to_string()).await;
        assert_eq!(report.failed(), None, "since {size}: {report:#?}");
        assert_eq!(report.outcome(Check::AppendOnly), Outcome::Holds);
    }
    assert_eq!(admin::log_root_at(&owner(&stage), 3_002).await.unwrap(), None, "the log is not that long");
    let partial = Tile::new(0, 2, 113).unwrap();
    assert_eq!(stage.log().tile(partial).await.unwrap().as_deref(), Some(&hashes[512..625]), "{partial}");
    // What the tiles hold is what counts: a tile that was altered does not come to the root any more.
    stage
        .sql("UPDATE domicile.tiles SET hashes = set_byte(hashes, 40, get_byte(hashes, 40) # 1) WHERE level = 0 AND n = 2")
        .await;
    assert_ne!(admin::log_root_at(&owner(&stage), 625).await.unwrap(), Some(root_at(625)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_old_lines_dropped_without_a_word() {
    let stage = with_an_old_partition().await;
    stage.sql("DROP TABLE domicile.leaves_old").await;
    caught(&stage.audit().await, Check::WellFormed, "missing", Some(0));
    let scrubber = Scrubber::new(stage.log(), "test", 1_000_000);
    assert_eq!(scrubber.pass(None).await.unwrap(), Some(Damage::Gone { seq: 0 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_more_dropped_than_the_log_says() {
    let stage = with_an_old_partition().await;
    say(&stage, 1_024).await;
    stage.sql("DROP TABLE domicile.leaves_old").await;
    caught(&stage.audit().await, Check::WellFormed, "missing", Some(1_024));
}
