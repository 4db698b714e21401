//! Those who watch a log all the time: the scrubber, and witnesses.

use std::path::PathBuf;
use std::sync::Arc;

use audit::verify::{Check, Outcome};
use audit::witness::Witness;
use audit::{Damage, Post, Scrubber, Submitted, Submitter};
use futures::future::BoxFuture;
use tlog::{KeyKind, SigningKey};

use crate::stage::{Stage, caught, clean, key};

pub(crate) fn witness_key() -> SigningKey {
    SigningKey::new("witness.example/w1", KeyKind::Witness, &[5; 32]).unwrap()
}

/// A witness that needs no network.
#[derive(Clone)]
pub(crate) struct Nearby(Arc<Witness>);

impl Post for Nearby {
    fn add_checkpoint(&self, body: String) -> BoxFuture<'_, Result<(u16, String), String>> {
        let answer = self.0.add_checkpoint(&body, 1_795_380_156);
        Box::pin(async move { Ok((answer.status, answer.body)) })
    }
}

/// A witness that remembers in this folder.
pub(crate) fn witness(folder: PathBuf) -> Nearby {
    std::fs::create_dir_all(&folder).unwrap();
    Nearby(Arc::new(Witness::new(witness_key(), [key().public().clone()], folder)))
}

/// What shows a log to a witness.
pub(crate) fn submitter_to(stage: &Stage, witness: Nearby) -> Submitter<Nearby> {
    Submitter::new(stage.log(), witness_key().public().clone(), witness, "signer-1")
}

fn submitter(stage: &Stage) -> Submitter<Nearby> {
    submitter_to(stage, witness(stage.file("witness")))
}

fn scrubber(stage: &Stage) -> Scrubber {
    Scrubber::new(stage.log(), "test", 1_000_000)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_stored_leaves_edited_while_nobody_verifies_is_seen_by_the_scrubber() {
    let stage = Stage::with(1_500).await;
    assert_eq!(scrubber(&stage).pass(None).await.unwrap(), None);
    // Above the signed size, nothing is looked at before it is signed.
    stage.grow(10).await;
    assert_eq!(scrubber(&stage).pass(None).await.unwrap(), None);
    stage.sql("UPDATE domicile.leaves SET line = replace(line, 'deny', 'demy') WHERE seq = 1300").await;
    assert_eq!(scrubber(&stage).pass(None).await.unwrap(), Some(Damage::Leaf { seq: 1_300 }));
    let rehash =
        "UPDATE domicile.leaves SET hash = sha256('\\x00'::bytea || convert_to(line, 'UTF8')) WHERE seq >= 1300";
    stage.sql(rehash).await;
    // 1,300 lies in the last tile, which is not full: only the root knows.
    assert_eq!(scrubber(&stage).pass(None).await.unwrap(), Some(Damage::Root { size: 1_500 }));
    stage
        .sql(
            "UPDATE domicile.leaves SET line = replace(line, 'deny', 'demy'), \
             hash = sha256('\\x00'::bytea || convert_to(replace(line, 'deny', 'demy'), 'UTF8')) WHERE seq = 700",
        )
        .await;
    assert_eq!(scrubber(&stage).pass(None).await.unwrap(), Some(Damage::Tile { seq: 700 }));
    stage.sql("DELETE FROM domicile.leaves WHERE seq = 600").await;
    assert_eq!(scrubber(&stage).pass(None).await.unwrap(), Some(Damage::Gone { seq: 600 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_cosigns_what_continues_and_the_verifier_counts_it() {
    let stage = Stage::with(300).await;
    let submitter = submitter(&stage);
    assert_eq!(submitter.submit().await, Ok(Submitted::Cosigned(300)));
    assert_eq!(submitter.submit().await, Ok(Submitted::UpToDate));
    stage.grow(400).await;
    stage.sign().await;
    assert_eq!(submitter.submit().await, Ok(Submitted::Cosigned(700)));
    let named = |expected: &mut audit::verify::Expected| {
        expected.witnesses = vec![witness_key().public().clone()];
        expected.quorum = 1;
    };
    let report = stage.audit_with(named).await;
    clean(&report);
    assert_eq!(report.outcome(Check::Witnessed), Outcome::Holds);
    let other = SigningKey::new("witness.example/w2", KeyKind::Witness, &[6; 32]).unwrap();
    let two = stage.audit_with(|expected| {
        expected.witnesses = vec![witness_key().public().clone(), other.public().clone()];
        expected.quorum = 2;
    });
    caught(&two.await, Check::Witnessed, "too_few_witnesses", None);
    // A database that forgot which size was cosigned is told so, and goes on.
    stage.sql("DELETE FROM domicile.cosignatures").await;
    stage.grow(1).await;
    stage.sign().await;
    assert_eq!(submitter.submit().await, Ok(Submitted::Cosigned(701)));
    assert_eq!(stage.log().checkpoint(true).await.unwrap().unwrap().size, 701);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_history_rewritten_with_a_stolen_key_is_not_cosigned() {
    let stage = Stage::with(300).await;
    assert_eq!(submitter(&stage).submit().await, Ok(Submitted::Cosigned(300)));
    let mut lines = stage.lines().await;
    lines[123] = lines[123].replace("\"rows\":0", "\"rows\":1");
    stage.rewrite(&lines).await;
    stage.grow(50).await;
    stage.sign_with_a_stolen_key().await;
    let refused = submitter(&stage).submit().await;
    assert!(matches!(refused, Ok(Submitted::Refused { status: 422, .. })), "{refused:?}");
    // Nor is a shorter one, nor another of the same size.
    for cut in [300, 200] {
        stage.rewrite(&lines[..cut]).await;
        stage.sign_with_a_stolen_key().await;
        let refused = submitter(&stage).submit().await;
        assert!(matches!(refused, Ok(Submitted::Refused { status: 409, .. })), "{cut}: {refused:?}");
    }
}
