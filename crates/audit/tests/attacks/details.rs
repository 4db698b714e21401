//! Identifying details: shown to whoever may see them, bound to their leaf, and gone with their subject.

use leaf::{Detail, NotItsDetails, Shown, check_details};
use residency::presets::{JURISDICTIONS, LOCATIONS, SHIPPED_POLICY};
use residency::{Epoch, Operation, Permit, Pin, PinState, Policy, Read, Stated, SubjectId, Write};
use storage::{Change, Lookup, Precondition};

use crate::scene::{commit, decision, profile, put, region, subject};
use crate::stage::{Stage, clean};

const NETWORK: &str = "203.0.113.0/24";

fn permit<A: residency::Access>(subject: &SubjectId, operation: Operation) -> Permit<A> {
    let policy = Policy::parse(SHIPPED_POLICY, JURISDICTIONS, LOCATIONS).unwrap();
    let pin = Pin { region: region(), epoch: Epoch(1), state: PinState::Active };
    let mut decision = decision(operation);
    let name = subject.expose().to_owned();
    decision.stated = Stated::new(vec![("subject", name), ("client_network", NETWORK.to_owned())]);
    policy.permit(subject.clone(), &pin, decision, true).unwrap()
}

/// A write and a read by somebody, with details; where their leaves are.
async fn deeds(stage: &Stage, name: &str) -> [u64; 2] {
    let subject = subject(name);
    let change = put("address", "{}", Precondition::None);
    let written =
        stage.store.commit(permit::<Write>(&subject, Operation::RecordPut).carry(change), None).await.unwrap();
    let lookup = Lookup::Record { collection: profile(), key: residency::RecordKey::new("address").unwrap() };
    let read = stage.store.read(permit::<Read>(&subject, Operation::RecordRead).carry(lookup)).await.unwrap();
    [written.position.unwrap().seq, read.position.unwrap().seq]
}

fn opened(details: &leaf::Details) -> Vec<Shown> {
    details.fields().iter().cloned().map(Shown::Opened).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_false_detail_revealed_later() {
    let stage = Stage::with(2).await;
    let [written, read] = deeds(&stage, "anna").await;
    deeds(&stage, "berta").await;
    stage.sign().await;
    clean(&stage.audit().await);
    for seq in [written, read] {
        let found = stage.log().details(seq).await.unwrap().unwrap();
        let committed = leaf::parse(found.leaf.line.as_bytes()).unwrap().details;
        let fields = found.details.fields();
        let named: Vec<(&str, &str)> = fields.iter().map(|field| (field.name.as_str(), field.value.as_str())).collect();
        assert_eq!(named, [("client_network", NETWORK), ("subject", "subject-anna")]);
        assert_eq!(check_details(committed.as_ref(), &opened(&found.details)), Ok(()));
        let mut lie = opened(&found.details);
        lie[0] = Shown::Opened(Detail { value: "198.51.100.0/24".into(), ..fields[0].clone() });
        assert_eq!(check_details(committed.as_ref(), &lie), Err(NotItsDetails::Others));
    }
    // The details of another leaf, moved here by whoever holds the database, do not open here.
    stage.sql("UPDATE domicile.details AS d SET sealed = o.sealed, nonce = o.nonce FROM domicile.details AS o \
               WHERE d.seq = (SELECT min(seq) FROM domicile.details) AND o.seq = (SELECT max(seq) FROM domicile.details)").await;
    assert!(stage.log().details(written).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_names_nobody_and_neither_does_the_sealed_row() {
    let stage = Stage::with(2).await;
    deeds(&stage, "anna").await;
    for line in stage.lines().await {
        assert!(!line.contains("anna") && !line.contains("203.0.113"), "{line}");
    }
    let sealed = stage.scene.strings("SELECT encode(sealed, 'escape') FROM domicile.details").await;
    assert_eq!(sealed.len(), 2);
    assert!(sealed.iter().all(|sealed| !sealed.contains("anna") && !sealed.contains("203.0.113")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn details_go_with_their_subject_and_every_earlier_checkpoint_stays_valid() {
    let stage = Stage::with(2).await;
    let seqs = deeds(&stage, "anna").await;
    stage.sign().await;
    let kept = stage.checkpoint().await;
    let tags = |lines: &[String]| -> Vec<Option<leaf::SubjectTag>> {
        seqs.iter().map(|seq| leaf::parse(lines[usize::try_from(*seq).unwrap()].as_bytes()).unwrap().subject).collect()
    };
    let before = stage.lines().await;
    let tag = stage.log().tag_of(&subject("anna")).await.unwrap();
    assert!(tags(&before).iter().all(|found| *found == tag && tag.is_some()), "with the secret, the leaves are linked");
    commit(&stage.store, &subject("anna"), Change::EraseSubject).await.unwrap();
    for seq in seqs {
        assert!(stage.log().details(seq).await.unwrap().is_none());
    }
    assert_eq!(stage.scene.number("SELECT count(*) FROM domicile.details").await, 0);
    // The tag was an HMAC under the subject's secret, and that is nowhere any more: nobody can tell whose leaves they are.
    assert_eq!(stage.log().tag_of(&subject("anna")).await.unwrap(), None);
    assert_eq!(stage.scene.number("SELECT count(*) FROM domicile.subjects").await, 0);
    stage.grow(5).await;
    stage.sign().await;
    clean(&stage.audit_since(&kept).await);
    assert_eq!(stage.lines().await[..before.len()], before);
}
