//! Erasing a subject: what goes, what stays, and who is refused afterwards.

use residency::{Operation, PinState, Read};
use storage::{Change, Channel, Effect, Error, Extent, Found, Idempotency, Lookup, Precondition};

use crate::scene::{Scene, commit, declare, done, event, eventually, look_up, permit, put, subject, up};

fn publish(id: &str, data: &str) -> Change {
    let mut event = event(id);
    event.data = data.as_bytes().to_vec();
    let idempotency = Some(Idempotency { key: id.to_owned(), request_hash: [1; 32] });
    Change::PublishEvent { event, idempotency }
}

const ERASED: Error = Error::NotAtHome { state: PinState::Erased };

#[tokio::test]
async fn an_erased_subject_leaves_a_tombstone_and_nothing_else_and_the_log_stays_whole() {
    let scene = Scene::new().await;
    let store = scene.open();
    up(&store).await;
    let (anna, bert) = (subject("anna-canary"), subject("bert"));
    for who in [&anna, &bert] {
        done(&store, who, put("a", r#"{"canary": "k4"}"#, Precondition::None)).await;
        done(&store, who, put("b", "2", Precondition::None)).await;
        done(&store, who, declare("colour", r#""canary-blue""#)).await;
        done(&store, who, declare("colour", r#""canary-red""#)).await;
        done(&store, who, publish(if *who == anna { "order-canary" } else { "order" }, r#"{"canary": 1}"#)).await;
    }
    let log = store.log();
    let before = log.head().await.unwrap();
    let preview = store.read(permit::<Read>(&anna, Operation::SubjectErasePreview, 1).carry(Lookup::Extent)).await;
    let expected = Extent { records: 2, attributes: 1, history: 2, idempotency_keys: 1, events: 6 };
    let Found::Extent(counted) = preview.unwrap().value else { panic!("an extent was asked for") };
    assert_eq!(counted, expected);

    let erased = done(&store, &anna, Change::EraseSubject).await;
    let Effect::Erased { extent, .. } = erased.value else { panic!("{:?}", erased.value) };
    assert_eq!(extent, expected, "what goes is what was counted");

    assert_eq!(look_up(&store, &anna, Lookup::Subject).await.unwrap_err(), ERASED);
    assert_eq!(commit(&store, &anna, put("a", "1", Precondition::None)).await.unwrap_err(), ERASED);
    assert_eq!(commit(&store, &anna, Change::PinSubject).await.unwrap_err(), ERASED, "nobody comes back by a new pin");
    assert_eq!(commit(&store, &anna, Change::EraseSubject).await.unwrap_err(), ERASED, "nor is anybody erased twice");

    for table in
        ["subjects", "records", "zero_party", "zero_party_history", "idempotency", "outbox", "erasures", "leaves"]
    {
        let rows = scene.strings_of(&format!("SELECT t::text FROM domicile.{table} AS t")).await;
        let traces: Vec<_> = rows.iter().filter(|row| row.contains("anna") || row.contains("order-canary")).collect();
        assert!(traces.is_empty(), "{table}: {traces:?}");
    }
    let blank = "SELECT count(*) FROM domicile.outbox WHERE erased AND data = '' AND extensions IS NULL";
    assert_eq!(scene.number(blank).await, 6);
    assert_eq!(scene.number("SELECT count(*) FROM domicile.records").await, 2, "the neighbour keeps everything");
    assert_eq!(scene.number("SELECT count(*) FROM domicile.zero_party_history").await, 2);
    let kinds = scene.strings("SELECT line::jsonb ->> 'k' FROM domicile.leaves ORDER BY seq").await;
    assert_eq!(kinds.iter().filter(|kind| *kind == "subject.erase").count(), 1, "{kinds:?}");
    let events = log.outbox(Channel::ZeroParty, 0, 100).await.unwrap();
    let last = events.last().unwrap();
    assert_eq!((last.event_type.as_str(), last.erased), ("domicile.subject-erased", false));
    assert_eq!(last.seq, erased.position.unwrap().seq);

    let leaves = log.leaves(0, 10_000).await.unwrap();
    let mut frontier = tlog::Frontier::new();
    for (n, leaf) in leaves.iter().enumerate() {
        if n as u64 == before.size {
            assert_eq!(frontier.root(), before.root, "what was signed before the erasure is as it was");
        }
        assert_eq!(tlog::leaf_hash(leaf.line.as_bytes()), leaf.leaf_hash);
        frontier.push(leaf.leaf_hash);
    }
    let head = log.head().await.unwrap();
    assert_eq!((frontier.size(), frontier.root()), (head.size, head.root));
    assert_eq!(head.fence, before.fence + 1, "an erasure moves the fence");

    let unfiled = log.unfiled_erasures().await.unwrap();
    assert_eq!(unfiled.len(), 1);
    log.erasures_filed(&unfiled).await.unwrap();
    assert!(log.unfiled_erasures().await.unwrap().is_empty());
    assert_eq!(log.erasures(0, None).await.unwrap(), unfiled);
    assert!(log.erasures(0, unfiled.last()).await.unwrap().is_empty());
}

#[tokio::test]
async fn whoever_was_only_pinned_can_be_erased_and_is_not_registered_for_it() {
    let scene = Scene::new().await;
    let store = scene.open();
    up(&store).await;
    let anna = subject("anna");
    let erased = done(&store, &anna, Change::EraseSubject).await.value;
    assert!(matches!(erased, Effect::Erased { extent, .. } if extent == Extent::default()));
    assert_eq!(scene.number("SELECT count(*) FROM domicile.subjects").await, 0);
    assert_eq!(commit(&store, &anna, put("a", "1", Precondition::None)).await.unwrap_err(), ERASED);
}

#[tokio::test]
async fn what_other_gateways_write_during_an_erasure_is_erased_or_refused() {
    let scene = Scene::new().await;
    let eraser = scene.open();
    let mut settings = scene.settings(2);
    settings.committer_connections = 3;
    let other = storage::RegionStore::open(settings);
    up(&eraser).await;
    up(&other).await;
    for round in 0..20 {
        let anna = subject(format!("race-{round}"));
        done(&other, &anna, put("first", "1", Precondition::None)).await;
        let writes = futures::future::join_all((0..8).map(|n| {
            let (other, anna) = (other.clone(), anna.clone());
            async move { commit(&other, &anna, put(&format!("k{n}"), r#""race-canary""#, Precondition::None)).await }
        }));
        let (erased, written) = tokio::join!(commit(&eraser, &anna, Change::EraseSubject), writes);
        assert!(matches!(erased.unwrap().value, Effect::Erased { .. }));
        for outcome in written {
            assert!(outcome.is_ok() || outcome.as_ref().is_err_and(|error| *error == ERASED), "{outcome:?}");
        }
        assert_eq!(commit(&other, &anna, put("later", "1", Precondition::None)).await.unwrap_err(), ERASED);
    }
    assert_eq!(scene.number("SELECT count(*) FROM domicile.records").await, 0);
    assert_eq!(scene.number("SELECT count(*) FROM domicile.subjects").await, 0);
    let left = "SELECT count(*) FROM domicile.outbox WHERE convert_from(data, 'UTF8') LIKE '%canary%'";
    assert_eq!(scene.number(left).await, 0);
}

#[tokio::test]
async fn of_two_gateways_that_erase_somebody_at_once_one_does_and_the_other_comes_too_late() {
    let scene = Scene::new().await;
    let gateways = [scene.open(), storage::RegionStore::open(scene.settings(2))];
    for gateway in &gateways {
        up(gateway).await;
    }
    for round in 0..20 {
        let anna = subject(format!("race-{round}"));
        // The last of them are erased before they were written about.
        if round < 15 {
            for gateway in &gateways {
                done(gateway, &anna, put("first", "1", Precondition::None)).await;
            }
        }
        let erase = |gateway: usize| commit(&gateways[gateway % 2], &anna, Change::EraseSubject);
        let outcomes = futures::future::join_all((0..4).map(erase)).await;
        let (erased, late): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
        assert_eq!(erased.len(), 1, "{erased:?} {late:?}");
        assert!(late.iter().all(|outcome| outcome.as_ref().is_err_and(|error| *error == ERASED)), "{late:?}");
    }
    let told = "SELECT count(*) FROM domicile.outbox WHERE event_type = 'domicile.subject-erased'";
    assert_eq!(scene.number(told).await, 20, "consumers are told once");
    let leaves = "SELECT count(*) FROM domicile.leaves WHERE line::jsonb ->> 'k' = 'subject.erase'";
    assert_eq!(scene.number(leaves).await, 20);
}

#[tokio::test]
async fn events_are_blanked_whether_the_index_knows_them_yet_or_not() {
    let scene = Scene::new().await;
    let store = scene.open();
    up(&store).await;
    let anna = subject("anna");
    done(&store, &anna, publish("e1", "canary")).await;
    eventually("the index has come to the end", async || {
        let indexed = "SELECT (coalesce(max(c.seq), 0) >= (SELECT max(seq) FROM domicile.leaves))::int::bigint \
                       FROM domicile.cursors c WHERE c.name = 'index'";
        scene.number(indexed).await == 1
    })
    .await;
    done(&store, &anna, publish("e2", "canary")).await;
    let erased = done(&store, &anna, Change::EraseSubject).await.value;
    assert!(matches!(erased, Effect::Erased { extent: Extent { events: 3, .. }, .. }), "{erased:?}");
    let left = "SELECT count(*) FROM domicile.outbox WHERE convert_from(data, 'UTF8') LIKE '%canary%'";
    assert_eq!(scene.number(left).await, 0);
}

#[tokio::test]
async fn the_gateways_role_can_blank_an_event_only_by_an_erasure() {
    let scene = Scene::new().await;
    let store = scene.open();
    up(&store).await;
    done(&store, &subject("anna"), publish("e1", "data")).await;
    for statement in [
        "UPDATE domicile.outbox SET data = ''",
        "DELETE FROM domicile.outbox",
        "DELETE FROM domicile.subjects",
        "DELETE FROM domicile.erasures",
        "INSERT INTO domicile.erasures (digest, key_id, events_digest, epoch, erased_at) \
         VALUES (sha256('a'), 1, sha256('a'), 1, now())",
    ] {
        let mut connection = scene.outside().await;
        sqlx::query("SET ROLE domicile_gateway").execute(&mut connection).await.unwrap();
        let refused = sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await;
        assert_eq!(
            refused.unwrap_err().as_database_error().and_then(|error| error.code()).as_deref(),
            Some("42501"),
            "{statement}"
        );
    }
}

#[tokio::test]
async fn what_the_warehouse_forgot_is_a_leaf_once() {
    let scene = Scene::new().await;
    let store = scene.open();
    up(&store).await;
    let anna = subject("anna");
    done(&store, &anna, declare("colour", "1")).await;
    let log = store.log();
    assert_eq!(log.oldest_open_erasure().await.unwrap(), None);
    let erased = done(&store, &anna, Change::EraseSubject).await.position.unwrap().seq;
    assert!(log.oldest_open_erasure().await.unwrap().is_some());
    let digest = log.erasures(0, None).await.unwrap()[0].digest.bytes;
    assert_eq!(log.erased_downstream("snowflake", "01b2", &[(digest, erased), ([9; 32], 1)]).await.unwrap(), 1);
    assert_eq!(log.erased_downstream("snowflake", "01b3", &[(digest, erased)]).await.unwrap(), 0, "once");
    assert_eq!(log.oldest_open_erasure().await.unwrap(), None);
    let leaves = log.leaves(0, 100).await.unwrap();
    let last = leaves.last().unwrap();
    let line: serde_json::Value = serde_json::from_str(&last.line).unwrap();
    assert_eq!(
        (&line["k"], &line["by"], &line["of"]),
        (&"subject.erased-downstream".into(), &"01b2".into(), &erased.into())
    );
    assert_eq!(leaf::check_canonical(last.line.as_bytes()), Ok(()));
    // The committer's own pen goes on behind it.
    done(&store, &subject("bert"), put("a", "1", Precondition::None)).await;
    let head = log.head().await.unwrap();
    assert_eq!(log.leaves(0, 100).await.unwrap().len() as u64, head.size);
}
