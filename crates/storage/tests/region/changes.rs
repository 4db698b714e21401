//! What a change does: to the record, to its version, to the outbox and to the log.

use std::collections::HashSet;

use futures::future::join_all;
use residency::{Operation, PinState, Purpose, RecordKey, Write};
use serde_json::json;
use storage::{Change, Channel, Consent, Effect, Error, Found, Idempotency, Lookup, Precondition, SubjectStatus};

use crate::scene::{
    Scene, attribute, commit, delete, done, event, eventually, json, look_up, patch, permit, put, record, subject,
};

#[tokio::test]
async fn a_record_is_created_replaced_merged_into_and_deleted() {
    let scene = Scene::new().await;
    let (store, anna) = (scene.open(), subject("anna"));
    let created = done(&store, &anna, put("address", r#"{"city": "Köln"}"#, Precondition::None)).await;
    assert_eq!(created.value, Effect::Created { version: 1 });
    let replaced = done(&store, &anna, put("address", r#"{"city": "Bonn", "zip": "1"}"#, Precondition::None)).await;
    assert_eq!(replaced.value, Effect::Replaced { version: 2 });
    let merged =
        done(&store, &anna, patch("address", json!({"zip": null, "street": "Am Ufer"}), Precondition::Exists)).await;
    assert_eq!(merged.value, Effect::Replaced { version: 3 });
    let found = record(&store, &anna, "address").await.unwrap();
    let body: serde_json::Value = serde_json::from_str(found.body.get()).unwrap();
    assert_eq!((found.version, body), (3, json!({"city": "Bonn", "street": "Am Ufer"})));
    assert_eq!(done(&store, &anna, delete("address", Precondition::VersionIn(vec![3]))).await.value, Effect::Deleted);
    assert!(record(&store, &anna, "address").await.is_none());
    let again = done(&store, &anna, put("address", "{}", Precondition::Absent)).await;
    assert_eq!(again.value, Effect::Created { version: 4 }, "no version ever means two contents");
}

#[tokio::test]
async fn a_change_whose_precondition_does_not_hold_changes_nothing_and_leaves_a_leaf() {
    let scene = Scene::new().await;
    let (store, anna) = (scene.open(), subject("anna"));
    done(&store, &anna, put("a", r#"{"n":1}"#, Precondition::None)).await;
    for (change, error) in [
        (put("a", "{}", Precondition::Absent), Error::PreconditionFailed { current: Some(1) }),
        (put("a", "{}", Precondition::VersionIn(vec![2, 3])), Error::PreconditionFailed { current: Some(1) }),
        (put("b", "{}", Precondition::Exists), Error::PreconditionFailed { current: None }),
        (patch("b", json!({}), Precondition::None), Error::NotFound),
        (delete("b", Precondition::None), Error::NotFound),
        (delete("a", Precondition::VersionIn(vec![])), Error::PreconditionFailed { current: Some(1) }),
    ] {
        assert_eq!(commit(&store, &anna, change).await.unwrap_err(), error);
    }
    assert_eq!(record(&store, &anna, "a").await.unwrap().version, 1);
    assert_eq!(scene.number("SELECT count(*) FROM domicile.records").await, 1);
    let denied = "SELECT count(*) FROM domicile.leaves WHERE line LIKE '%\"out\":\"error\"%'";
    assert_eq!(scene.number(denied).await, 6);
    let events = store.log().outbox(Channel::Events, 0, 100).await.unwrap();
    assert_eq!(events.len(), 2, "the pin and the one change");
}

#[tokio::test]
async fn what_was_planned_while_a_table_was_small_does_not_read_all_of_it_once_it_is_large() {
    let scene = Scene::new().await;
    let (store, anna) = (scene.open(), subject("anna"));
    // Every committer plans both its ways of writing a record, on a table that holds next to nothing.
    for round in 0..4 {
        let several = (0..150).map(|n| commit(&store, &anna, put(&format!("k{}", n % 5), "{}", Precondition::None)));
        assert!(join_all(several).await.iter().all(Result::is_ok), "round {round}");
        done(&store, &anna, put("alone", "{}", Precondition::None)).await;
    }
    let filled = "INSERT INTO domicile.records (region, subject, collection, key, version, body, updated_at) \
         SELECT 'eu-central', 'full-' || n, 'profile', 'k', 1, '{}', now() FROM generate_series(1, 20000) AS n";
    sqlx::query(filled).execute(&mut scene.outside().await).await.unwrap();
    let updated = "SELECT sum(n_tup_upd)::bigint FROM pg_stat_user_tables WHERE relname LIKE 'records_eu%'";
    let read = "SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE relname LIKE 'records_eu%'";
    let (updated_before, read_before) = (scene.number(updated).await, scene.number(read).await);
    for _ in 0..40 {
        done(&store, &anna, put("alone", "{}", Precondition::Exists)).await;
    }
    // Both counts of a connection are told at the same time, a while after.
    eventually("the counts are told", async || scene.number(updated).await >= updated_before + 40).await;
    let read = scene.number(read).await - read_before;
    assert!(read < 20_000, "40 records were replaced, and {read} entries of the index read");
}

#[tokio::test]
async fn of_many_callers_with_one_if_match_exactly_one_wins() {
    let scene = Scene::new().await;
    let stores = [scene.open(), storage::RegionStore::open(scene.settings(2))];
    let anna = subject("anna");
    done(&stores[0], &anna, put("a", "{}", Precondition::None)).await;
    for version in 1..6 {
        let racing = (0..40).map(|n| {
            let store = &stores[n % 2];
            commit(store, &anna, put("a", &format!("{{\"by\":{n}}}"), Precondition::VersionIn(vec![version])))
        });
        let outcomes = join_all(racing).await;
        let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(won, 1, "{outcomes:?}");
        let lost = Error::PreconditionFailed { current: Some(version + 1) };
        assert!(outcomes.iter().all(|outcome| outcome.as_ref().err().is_none_or(|error| *error == lost)));
    }
}

#[tokio::test]
async fn of_many_callers_who_create_one_record_exactly_one_does() {
    let scene = Scene::new().await;
    let stores = [scene.open(), storage::RegionStore::open(scene.settings(2))];
    for key in ["a", "b", "c"] {
        let anna = subject(key);
        let racing = (0..20).map(|n| commit(&stores[n % 2], &anna, put(key, "{}", Precondition::Absent)));
        let created = join_all(racing).await.into_iter().filter(Result::is_ok).count();
        assert_eq!(created, 1);
        let registered = "SELECT count(*) FROM domicile.leaves WHERE line LIKE '%subject.register%'";
        eventually("one registration each", async || {
            scene.number(registered).await == scene.number("SELECT count(*) FROM domicile.subjects").await
        })
        .await;
    }
}

#[tokio::test]
async fn two_deeds_on_one_key_in_one_batch_keep_their_order() {
    let scene = Scene::new().await;
    let (store, anna) = (scene.open(), subject("anna"));
    // SQLSTATE 21000 would be the end of a batch that names one key twice.
    let deeds = (0..200).map(|n| commit(&store, &anna, put("a", &format!("{{\"n\":{n}}}"), Precondition::None)));
    let outcomes = join_all(deeds).await;
    for (n, outcome) in outcomes.into_iter().enumerate() {
        let expected = n as u64 + 1;
        match outcome.unwrap().value {
            Effect::Created { version } | Effect::Replaced { version } => assert_eq!(version, expected),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(record(&store, &anna, "a").await.unwrap().body.get(), r#"{"n": 199}"#);
    let events = store.log().outbox(Channel::Events, 0, 1_000).await.unwrap();
    let numbers: Vec<u64> = events[1..]
        .iter()
        .map(|event| serde_json::from_slice::<serde_json::Value>(&event.data).unwrap()["body"]["n"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (0..200).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_body_that_the_database_refuses_fails_alone_among_a_hundred() {
    let scene = Scene::new().await;
    let store = scene.open();
    let bodies = |n: usize| match n {
        41 => r#"{"nul":"\u0000"}"#.to_owned(),
        77 => format!("{{\"n\":1{}}}", "0".repeat(200_000)),
        n => format!("{{\"n\":{n}}}"),
    };
    let subjects: Vec<_> = (0..100).map(|n| subject(n % 10)).collect();
    let deeds = (0..100).map(|n| commit(&store, &subjects[n], put(&format!("k{n}"), &bodies(n), Precondition::None)));
    let outcomes = join_all(deeds).await;
    for (n, outcome) in outcomes.iter().enumerate() {
        match n {
            41 | 77 => assert!(matches!(outcome, Err(Error::RefusedByDatabase { .. })), "{n}: {outcome:?}"),
            _ => assert_eq!(outcome.as_ref().unwrap().value, Effect::Created { version: 1 }, "{n}"),
        }
    }
    assert_eq!(scene.number("SELECT count(*) FROM domicile.records").await, 98);
    let refused = "SELECT count(*) FROM domicile.leaves WHERE line LIKE '%content_refused%'";
    assert_eq!(scene.number(refused).await, 2);
}

#[tokio::test]
async fn a_repeated_idempotency_key_is_answered_and_not_done_again() {
    let scene = Scene::new().await;
    let (store, anna) = (scene.open(), subject("anna"));
    let publish = |id: &str, hash: u8| Change::PublishEvent {
        event: event(id),
        idempotency: Some(Idempotency { key: "order-1".to_owned(), request_hash: [hash; 32] }),
    };
    let published = |id: &str, replayed| Effect::Published {
        event_id: id.to_owned(),
        topic: "eu-central.shop.order-placed.v1".to_owned(),
        replayed,
    };
    // In one batch, and in the next one.
    let outcomes = join_all([commit(&store, &anna, publish("e1", 1)), commit(&store, &anna, publish("e2", 1))]).await;
    let effects: Vec<_> = outcomes.into_iter().map(|outcome| outcome.unwrap().value).collect();
    assert_eq!(effects, [published("e1", false), published("e1", true)]);
    assert_eq!(done(&store, &anna, publish("e3", 1)).await.value, published("e1", true));
    assert_eq!(commit(&store, &anna, publish("e4", 2)).await.unwrap_err(), Error::IdempotencyReused);
    let other = done(&store, &subject("bob"), publish("e5", 2)).await;
    assert_eq!(other.value, published("e5", false), "a key is the subject's own");
    let events = store.log().outbox(Channel::Events, 0, 100).await.unwrap();
    let published = events.iter().filter(|event| event.event_type == "shop.order-placed").count();
    assert_eq!(published, 2);
}

#[tokio::test]
async fn an_event_reaches_the_outbox_as_it_was_given() {
    let scene = Scene::new().await;
    let (store, anna) = (scene.open(), subject("anna"));
    let mut given = event("e1");
    given.event_type = "shop.order-placed.v3".to_owned();
    given.time = Some("2026-11-23T01:02:03.000004Z".to_owned());
    given.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    given.extensions.insert("partitionkey".to_owned(), "x".to_owned());
    given.data = vec![0, 159, 146, 150];
    let answer = done(&store, &anna, Change::PublishEvent { event: given, idempotency: None }).await;
    let rows = store.log().outbox(Channel::Events, 0, 10).await.unwrap();
    let row = rows.last().unwrap();
    assert_eq!(row.seq, answer.position.unwrap().seq);
    assert_eq!(row.topic, "eu-central.shop.order-placed.v3");
    assert_eq!((row.event_id.as_str(), row.source.as_str()), ("e1", "/shop"));
    assert_eq!(row.time_us, 1_795_395_723_000_004);
    assert_eq!(row.extensions["partitionkey"], "x");
    assert_eq!(row.data, [0, 159, 146, 150]);
    assert!(row.traceparent.is_some());
    let Found::Subject(Some(state)) = look_up(&store, &anna, Lookup::Subject).await.unwrap().value else {
        panic!("the subject is registered");
    };
    assert_eq!(row.key, state.digest);
}

#[tokio::test]
async fn an_event_of_no_time_that_the_database_knows_is_refused_and_stops_nobody() {
    let scene = Scene::new().await;
    let (store, anna) = (scene.open(), subject("anna"));
    // The last two are in the years -1 and 10000 of UTC. More often than there are committers.
    for time in ["soon", "0000-01-01T00:00:00+00:01", "9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59-00:01"] {
        let event = storage::OutgoingEvent { time: Some(time.to_owned()), ..event("e") };
        let outcome = commit(&store, &anna, Change::PublishEvent { event, idempotency: None }).await;
        assert!(matches!(outcome, Err(Error::RefusedByDatabase { .. })), "{time}: {outcome:?}");
    }
    done(&store, &anna, Change::PublishEvent { event: event("e"), idempotency: None }).await;
}

#[tokio::test]
async fn every_event_of_a_change_carries_its_trace_unless_it_has_its_own() {
    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const OWN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let scene = Scene::new().await;
    let (store, anna) = (scene.open(), subject("anna"));
    let own = storage::OutgoingEvent { traceparent: Some(OWN.to_owned()), ..event("e2") };
    for (operation, change) in [
        (Operation::RecordPut, put("a", "{}", Precondition::None)),
        (Operation::EventPublish, Change::PublishEvent { event: event("e1"), idempotency: None }),
        (Operation::EventPublish, Change::PublishEvent { event: own, idempotency: None }),
    ] {
        let permitted = permit::<Write>(&anna, operation, 1).carry(change);
        store.commit(permitted, Some(GIVEN.to_owned())).await.unwrap();
    }
    done(&store, &anna, put("b", "{}", Precondition::None)).await;
    let rows = store.log().outbox(Channel::Events, 0, 10).await.unwrap();
    let traces: Vec<_> = rows.iter().map(|row| row.traceparent.as_deref()).collect();
    // The registration, the record, the two events, and the record that came without a trace.
    assert_eq!(traces, [Some(GIVEN), Some(GIVEN), Some(GIVEN), Some(OWN), None]);
}

#[tokio::test]
async fn zero_party_data_carries_its_consents_and_its_withdrawal() {
    let scene = Scene::new().await;
    let (store, anna) = (scene.open(), subject("anna"));
    let consents = vec![Consent {
        purpose: Purpose::new("recommendations").unwrap(),
        granted: true,
        notice_version: Some("2026-11".to_owned()),
        given_at_us: 1_795_395_723_000_000,
    }];
    let put = |value: &str, when| Change::PutAttribute {
        attribute: attribute("colour"),
        value: json(value),
        consents: consents.clone(),
        source: "preference-centre".to_owned(),
        when,
    };
    assert_eq!(done(&store, &anna, put("\"blue\"", Precondition::Absent)).await.value, Effect::Created { version: 1 });
    assert_eq!(done(&store, &anna, put("\"red\"", Precondition::Exists)).await.value, Effect::Replaced { version: 2 });
    let lookup = Lookup::Attribute(attribute("colour"));
    let Found::Attribute(Some(state)) = look_up(&store, &anna, lookup).await.unwrap().value else { panic!() };
    assert_eq!((state.version, state.value.get(), &state.consents), (2, "\"red\"", &consents));
    let Found::Attributes(all) = look_up(&store, &anna, Lookup::Attributes).await.unwrap().value else { panic!() };
    assert_eq!(all.len(), 1);
    let withdraw = Change::DeleteAttribute { attribute: attribute("colour"), when: Precondition::None };
    assert_eq!(done(&store, &anna, withdraw).await.value, Effect::Deleted);
    let rows = store.log().outbox(Channel::ZeroParty, 0, 10).await.unwrap();
    let said: Vec<serde_json::Value> = rows.iter().map(|row| serde_json::from_slice(&row.data).unwrap()).collect();
    assert_eq!(said.len(), 3);
    assert_eq!(said[1]["consents"][0]["given_at"], "2026-11-23T01:02:03Z");
    assert_eq!(
        (&said[1]["value"], &said[1]["version"], &said[1]["deleted"]),
        (&json!("red"), &json!(2), &json!(false))
    );
    assert_eq!(said[2], json!({"attribute": "colour", "value": null, "version": 2, "consents": [], "deleted": true}));
    assert_eq!(done(&store, &anna, put("1", Precondition::None)).await.value, Effect::Created { version: 3 });
}

#[tokio::test]
async fn every_declaration_is_kept_with_its_consents_and_a_deleted_one_without_its_value() {
    let scene = Scene::new().await;
    let (store, anna, bob) = (scene.open(), subject("anna"), subject("bob"));
    let declare = |value: &str, granted: bool| Change::PutAttribute {
        attribute: attribute("colour"),
        value: json(value),
        consents: vec![Consent {
            purpose: Purpose::new("recommendations").unwrap(),
            granted,
            notice_version: Some("2026-11".to_owned()),
            given_at_us: 1_795_395_723_000_000,
        }],
        source: "preference-centre".to_owned(),
        when: Precondition::None,
    };
    // At once, so that one batch holds several changes of one attribute.
    let changes = (0..10).map(|n| commit(&store, &anna, declare(&n.to_string(), n % 2 == 0)));
    assert!(join_all(changes).await.iter().all(Result::is_ok));
    done(&store, &bob, declare("\"red\"", true)).await;
    let history = "SELECT concat_ws(' ', version, value, consents -> 0 ->> 'granted', consents -> 0 ->> 'notice_version', source, deleted) \
                   FROM domicile.zero_party_history ORDER BY seq";
    let kept = scene.strings(history).await;
    assert_eq!(kept.len(), 11, "{kept:?}");
    for n in 0..10 {
        let value = format!(" {n} {} 2026-11 preference-centre f", n % 2 == 0);
        assert_eq!(kept.iter().filter(|row| row.contains(&value)).count(), 1, "{kept:?}");
    }
    done(&store, &anna, Change::DeleteAttribute { attribute: attribute("colour"), when: Precondition::None }).await;
    let kept = scene.strings(history).await;
    assert_eq!(kept.len(), 12);
    assert_eq!(kept.last().unwrap(), "10 t");
    assert_eq!(kept.iter().filter(|row| row.contains("red")).count(), 1, "another person's stays");
    let values = "SELECT count(*) FROM domicile.zero_party_history WHERE value IS NOT NULL";
    assert_eq!(scene.number(values).await, 1, "what was taken back is not kept: {kept:?}");
    assert_eq!(kept.iter().filter(|row| row.contains("2026-11")).count(), 11, "that there was a consent is");
}

#[tokio::test]
async fn a_subject_is_registered_once_with_its_first_change() {
    let scene = Scene::new().await;
    let store = scene.open();
    let (anna, bob) = (subject("anna"), subject("bob"));
    let Effect::Pinned { fresh: true, subject: state } = done(&store, &anna, Change::PinSubject).await.value else {
        panic!("the first pin is fresh");
    };
    assert_eq!(state.status, SubjectStatus::Active);
    let again = done(&store, &anna, Change::PinSubject).await.value;
    assert_eq!(again, Effect::Pinned { fresh: false, subject: state });
    done(&store, &bob, put("a", "{}", Precondition::None)).await;
    let kinds = scene.strings("SELECT line::jsonb->>'k' FROM domicile.leaves ORDER BY seq").await;
    assert_eq!(kinds, ["log.genesis", "subject.register", "decision.write", "subject.register", "decision.write"]);
    let events = store.log().outbox(Channel::Events, 0, 10).await.unwrap();
    let types: Vec<_> = events.iter().map(|event| event.event_type.as_str()).collect();
    assert_eq!(types, ["domicile.subject-pinned", "domicile.subject-pinned", "domicile.record-changed"]);
    let ids: HashSet<_> = events.iter().map(|event| event.event_id.as_str()).collect();
    assert_eq!(ids.len(), 3, "no two events share an id");
}

#[tokio::test]
async fn who_is_no_longer_at_home_is_not_written_even_if_the_gateway_remembers_otherwise() {
    let scene = Scene::new().await;
    let (store, anna, bob) = (scene.open(), subject("anna"), subject("bob"));
    for subject in [&anna, &bob] {
        done(&store, subject, put("a", "{}", Precondition::None)).await;
    }
    let mut outside = scene.outside().await;
    let depart = "WITH s AS (UPDATE domicile.subjects SET state = $1 WHERE subject = 'subject-anna') \
                  UPDATE domicile.head SET fence = fence + 1";
    for (state, error) in [
        ("departing", Error::NotAtHome { state: PinState::Moving }),
        ("departed", Error::Moved),
        ("erased", Error::NotAtHome { state: PinState::Erased }),
    ] {
        sqlx::query(depart).bind(state).execute(&mut outside).await.unwrap();
        let outcomes = join_all([
            commit(&store, &anna, put("a", "{\"late\":true}", Precondition::None)),
            commit(&store, &bob, put("a", "{}", Precondition::None)),
        ])
        .await;
        assert_eq!(outcomes[0].as_ref().unwrap_err(), &error);
        assert!(outcomes[1].is_ok(), "a neighbour is not affected");
    }
    assert_eq!(scene.number("SELECT version FROM domicile.records WHERE subject = 'subject-anna'").await, 1);
}

#[tokio::test]
async fn a_permit_for_another_home_of_the_subject_is_refused() {
    let scene = Scene::new().await;
    let (store, anna) = (scene.open(), subject("anna"));
    done(&store, &anna, put("a", "{}", Precondition::None)).await;
    let later = permit::<Write>(&anna, Operation::RecordPut, 3).carry(put("a", "{}", Precondition::None));
    assert_eq!(store.commit(later, None).await.unwrap_err(), Error::Moved);
    // Nobody by this name is registered, and it should have been here for long: the directory is wrong.
    let nobody = permit::<Write>(&subject("nobody"), Operation::RecordPut, 2).carry(put("a", "{}", Precondition::None));
    assert_eq!(store.commit(nobody, None).await.unwrap_err(), Error::Moved);
    assert_eq!(scene.number("SELECT count(*) FROM domicile.subjects").await, 1);
    let lookup = Lookup::Record { collection: crate::scene::profile(), key: RecordKey::new("a").unwrap() };
    let read = permit::<residency::Read>(&anna, Operation::RecordRead, 3).carry(lookup);
    assert_eq!(store.read(read).await.unwrap_err(), Error::Moved);
}
