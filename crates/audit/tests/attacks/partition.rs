//! Two sites after a partition: each has the database, a gateway that commits and a signer with the log's key, and neither
//! hears of the other. No database can keep that from happening; two histories under one name are what is caught.

use audit::verify::{Check, Outcome};
use audit::{Memory, Receipt, Signer, Step, Submitted, entry_proof};
use storage::{Precondition, RegionStore};

use crate::scene::{ORIGIN, denial, done, eventually, put, subject, up};
use crate::stage::{Stage, caught, clean, key};
use crate::watchers::{submitter_to, witness, witness_key};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_committers_and_two_signers_on_one_database_make_one_history() {
    let stage = Stage::with(10).await;
    let kept = stage.checkpoint().await;
    let other = RegionStore::open(stage.scene.settings(2));
    // Each believes to know the end of the log, and writes behind the other's back.
    for round in 0..20 {
        other.note(denial()).await.unwrap();
        stage.grow(1).await;
        if round == 10 {
            // A failover gives the log a new epoch: what was prepared under the old one must not be written.
            stage.sql("UPDATE domicile.head SET epoch = epoch + 1").await;
        }
    }
    // Two signers, too, each with a memory of its own: the second takes over and signs nothing that forks.
    let second = Memory::at(stage.file("second"));
    let mut first = stage.signer();
    assert_eq!(first.step().await.unwrap(), Step::Signed(50));
    let mut rival = Signer::new(stage.log(), key(), second.clone(), "signer-2");
    assert_eq!(rival.step().await.unwrap(), Step::NotOurs);
    stage.sql("UPDATE domicile.cursors SET lease_until = now() WHERE name = 'signer'").await;
    stage.grow(5).await;
    assert_eq!(rival.step().await.unwrap(), Step::Signed(55));
    assert!(first.step().await.is_err() || stage.log().checkpoint(false).await.unwrap().unwrap().size >= 55);
    let report = stage.audit_since(&kept).await;
    clean(&report);
    assert_eq!(report.outcome(Check::Gapless), Outcome::Holds);
    assert_eq!(report.outcome(Check::AppendOnly), Outcome::Holds);
    assert_eq!(second.recall(key().public()).unwrap().unwrap().size, 55);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_two_committers_after_a_partition() {
    let here = Stage::apart(300).await;
    let before = here.checkpoint().await;
    let there = here.fork().await;
    // Both go on, and both are signed with the log's own key, each by a signer that signs what continues its own.
    here.grow(40).await;
    assert_eq!(here.sign().await, Step::Signed(340));
    there.grow(70).await;
    assert_eq!(there.sign().await, Step::Signed(370));
    let (kept_here, kept_there) = (here.checkpoint().await, there.checkpoint().await);
    // Each is sound alone, and continues what was before: who has seen nothing since cannot tell.
    for site in [&here, &there] {
        let report = site.audit_since(&before).await;
        clean(&report);
        assert_eq!(report.outcome(Check::AppendOnly), Outcome::Holds);
    }
    // A third party that kept a checkpoint of one site, and is shown the other.
    caught(&there.audit_since(&kept_here).await, Check::AppendOnly, "rewritten", None);
    caught(&here.audit_since(&kept_there).await, Check::AppendOnly, "truncated", None);
    here.grow(30).await;
    assert_eq!(here.sign().await, Step::Signed(370));
    caught(&here.audit_since(&kept_there).await, Check::AppendOnly, "split_view", None);
    here.grow(30).await;
    here.sign().await;
    caught(&here.audit_since(&kept_there).await, Check::AppendOnly, "rewritten", None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_two_committers_after_a_partition_before_a_witness_and_a_caller_with_a_receipt() {
    let here = Stage::apart(300).await;
    let there = here.fork().await;
    // One witness watches the log, wherever it is served from, and one caller was answered here.
    let witness = witness(here.file("witness"));
    here.grow(40).await;
    let answered = here.store.note(denial()).await.unwrap();
    here.sign().await;
    assert_eq!(submitter_to(&here, witness.clone()).submit().await, Ok(Submitted::Cosigned(341)));
    there.grow(70).await;
    there.sign().await;
    let refused = submitter_to(&there, witness).submit().await;
    assert!(matches!(refused, Ok(Submitted::Refused { status: 422, .. })), "{refused:?}");
    let report = there.audit_with(|expected| {
        expected.witnesses = vec![witness_key().public().clone()];
        expected.quorum = 1;
    });
    caught(&report.await, Check::Witnessed, "too_few_witnesses", None);
    let receipt = Receipt::new(ORIGIN, &answered).unwrap();
    let proof = entry_proof(&here.log(), answered.seq).await.unwrap();
    assert_eq!(receipt.check(&proof, key().public(), None), Ok(341));
    let proof = entry_proof(&there.log(), answered.seq).await.unwrap();
    assert_eq!(receipt.check(&proof, key().public(), None).unwrap_err().name(), "leaf_not_in_log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_two_committers_after_a_partition_that_is_healed_by_dropping_one_history() {
    let here = Stage::apart(300).await;
    let anna = subject("anna");
    done(&here.store, &anna, put("address", "{}", Precondition::None)).await;
    here.sign().await;
    let there = here.fork().await;
    up(&here.store).await;
    // As many entries on either side: nothing that counts them can tell one from the other.
    for site in [&here, &there] {
        site.grow(60).await;
        site.sign().await;
    }
    let kept = here.checkpoint().await;
    assert_ne!(kept, there.checkpoint().await);
    here.scene.cluster.rejoin(&there.scene.cluster);
    // The signer here remembers what it signed, and the database shows something else of the same length.
    eventually("the log can be read again", async || here.log().head().await.is_ok()).await;
    assert_eq!(here.refusal().await, "split_view");
    // The gateway here goes on behind the history that it finds, and not behind the one that it wrote.
    up(&here.store).await;
    eventually("it commits again", async || here.store.note(denial()).await.is_ok()).await;
    done(&here.store, &anna, put("address", "{}", Precondition::None)).await;
    here.note_at(120).await;
    assert_eq!(here.refusal().await, "split_view", "the signer stays with what it signed");
    let mut theirs = Signer::new(here.log(), key(), Memory::at(there.memory()), "signer-1");
    assert!(matches!(theirs.step().await, Ok(Step::Signed(_))), "the other site's signer goes on: the tree is whole");
    assert_eq!(here.refusal().await, "rewritten", "and says so of whatever is published by now");
    // What was dropped is missed by whoever kept a checkpoint, and by the count of the gateway that wrote it.
    caught(&here.audit_since(&kept).await, Check::AppendOnly, "rewritten", None);
    caught(&here.audit().await, Check::Gapless, "leaf_never_written", None);
}
