//! A log that goes on under another name after a restore: what its older entries say of somebody is found, shown and erased
//! as before.

use residency::{Operation, Stated, SubjectId, Write};
use secrecy::SecretString;
use storage::{Change, DecisionFilter, Effect, Extent, Found, Lookup, Precondition, RegionStore, admin};

use crate::scene::{ORIGIN, Scene, decision, done, look_up, permit_for, put, record, subject, up};

/// A write with details; where its leaf is.
async fn write(store: &RegionStore, subject: &SubjectId, key: &str) -> u64 {
    let mut decision = decision(Operation::RecordPut);
    decision.stated = Stated::new(vec![("client_network", "203.0.113.0/24".to_owned())]);
    let change = put(key, r#"{"canary": 1}"#, Precondition::None);
    let written = store.commit(permit_for::<Write>(subject, decision, 1).carry(change), None).await.unwrap();
    written.position.unwrap().seq
}

/// Has the region's log go on under another name, as if it had been restored, and opens it.
async fn renamed(scene: &Scene, nth: u32) -> RegionStore {
    let dsn = SecretString::from(scene.cluster.dsn(&scene.database));
    let origin = format!("{ORIGIN}-{nth}");
    admin::close_restored(&dsn, "a backup").await.unwrap();
    let (actor, at_us) = ("test".to_owned(), 1_795_521_600_000_000);
    let recovery =
        admin::LogRecovery { origin: origin.clone(), signed: None, behind: 100 * u64::from(nth), actor, at_us };
    admin::open_restored(&dsn, Some(&recovery), None).await.unwrap();
    let mut settings = scene.settings(nth);
    settings.log_origin = origin;
    let store = RegionStore::open(settings);
    up(&store).await;
    store
}

#[tokio::test]
async fn what_was_written_before_a_log_had_its_name_is_found_shown_and_erased() {
    let scene = Scene::new().await;
    let anna = subject("anna");
    let (first, mut seqs) = (scene.open(), Vec::new());
    seqs.extend([write(&first, &anna, "a").await, write(&first, &anna, "b").await]);
    done(&first, &subject("bert"), put("a", r#"{"canary": 2}"#, Precondition::None)).await;
    first.shutdown().await;
    let second = renamed(&scene, 2).await;
    seqs.push(write(&second, &anna, "c").await);
    second.shutdown().await;
    let third = renamed(&scene, 3).await;
    seqs.push(write(&third, &anna, "d").await);
    assert!(record(&third, &anna, "a").await.is_some());

    let log = third.log();
    for seq in &seqs {
        let details = log.details(*seq).await.unwrap().unwrap().details;
        assert_eq!(details.fields()[0].value, "203.0.113.0/24");
    }
    let page = async |before_seq, limit| {
        let filter = DecisionFilter {
            subject: Some(anna.clone()),
            kind: Some("decision.write".into()),
            before_seq,
            limit,
            ..DecisionFilter::default()
        };
        log.decisions(filter).await.unwrap().iter().map(|row| row.seq).collect::<Vec<_>>()
    };
    seqs.reverse();
    assert_eq!(page(None, 10).await, seqs, "newest first, whatever the log was called");
    assert_eq!(page(None, 2).await, seqs[..2]);
    assert_eq!(page(Some(seqs[1]), 1).await, seqs[2..3]);

    // Records and the registration.
    let expected = Extent { records: 4, attributes: 0, history: 0, idempotency_keys: 0, events: 5 };
    let Found::Extent(counted) = look_up(&third, &anna, Lookup::Extent).await.unwrap().value else { panic!() };
    assert_eq!(counted, expected);
    let erased = done(&third, &anna, Change::EraseSubject).await.value;
    assert!(matches!(erased, Effect::Erased { extent, .. } if extent == expected), "{erased:?}");
    let left = "SELECT count(*) FROM domicile.outbox WHERE convert_from(data, 'UTF8') LIKE '%canary%'";
    assert_eq!(scene.number(left).await, 1, "the neighbour's");
    assert_eq!(scene.number("SELECT count(*) FROM domicile.details").await, 0);
}

#[tokio::test]
async fn an_erasure_as_older_releases_call_it_takes_the_details_too() {
    let scene = Scene::new().await;
    let (store, anna) = (scene.open(), subject("anna"));
    write(&store, &anna, "a").await;
    let tag = store.log().tag_of(&anna).await.unwrap().unwrap().to_string();
    let counted: (i64, i64) = sqlx::query_as(
        "SELECT e.records_gone, e.events_blanked FROM domicile.subjects AS s CROSS JOIN LATERAL domicile.erase_subject( \
             s.subject, $1, ARRAY[s.digest], ARRAY[s.key_id], s.digest, s.epoch, now(), 0) AS e",
    )
    .bind(Some(tag))
    .fetch_one(&mut scene.outside().await)
    .await
    .unwrap();
    assert_eq!(counted, (1, 2));
    assert_eq!(scene.number("SELECT count(*) FROM domicile.details").await, 0);
    assert_eq!(scene.number("SELECT count(*) FROM domicile.subjects").await, 0);
}
