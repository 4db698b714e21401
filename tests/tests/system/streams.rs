//! What is committed reaches the region's topic, in order, and its Snowflake, once; and only what was agreed to.

use reqwest::Method;
use serde_json::json;
use system_tests::{PATIENCE, canary, person, shared, until};

#[tokio::test(flavor = "multi_thread")]
async fn events_reach_the_regions_topic_in_order_under_one_key() {
    let world = shared().await;
    let client = world.client().residing_in("GB");
    let anna = person("events");
    for n in 0..20 {
        let answer =
            client.publish(&anna, "shop.order-placed", &format!("{anna}-{n}"), &json!({ "n": n })).await.unwrap();
        let answer = answer.expect_success().unwrap();
        assert_eq!(answer.json()["topic"], "uk-south.shop.order-placed.v1");
    }
    let region = world.region("uk-south");
    let mine = || async {
        let messages = region.messages("uk-south.shop.order-placed.v1", 10_000).await.unwrap_or_default();
        let mine = |message: &world::Message| message.header("ce_id").is_some_and(|id| id.starts_with(&anna));
        messages.into_iter().filter(mine).collect::<Vec<_>>()
    };
    until("All events in the topic", PATIENCE, || async { mine().await.len() == 20 }).await.unwrap();
    let messages = mine().await;
    let ids: Vec<_> = messages.iter().filter_map(|message| message.header("ce_id")).collect();
    let expected: Vec<String> = (0..20).map(|n| format!("{anna}-{n}")).collect();
    assert_eq!(ids, expected, "in the order of their acknowledgement");
    assert!(messages.iter().all(|message| message.key == messages[0].key), "one subject, one key");
    assert_ne!(messages[0].key.as_deref(), Some(anna.as_bytes()), "the key is a digest");
    assert_eq!(messages[0].header("ce_specversion"), Some("1.0"));
    assert_eq!(messages[0].header("ce_type"), Some("shop.order-placed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_makes_one_event_of_many_attempts() {
    let world = shared().await;
    let client = world.client().residing_in("DE");
    let anna = person("idempotent");
    let event = |n: u32| {
        let body = json!({"specversion": "1.0", "id": format!("{anna}-{n}"), "source": "/s", "type": "shop.order-placed", "data": {"n": n}});
        client
            .request(Method::POST, ["v1", "subjects", &anna, "events"])
            .header("content-type", "application/cloudevents+json")
            .header("idempotency-key", "order-1")
            .body(body.to_string())
    };
    let first = client.send(event(1)).await.unwrap().expect_success().unwrap();
    let again = client.send(event(1)).await.unwrap().expect_success().unwrap();
    assert_eq!((first.json()["replayed"].as_bool(), again.json()["replayed"].as_bool()), (Some(false), Some(true)));
    let other = client.send(event(2)).await.unwrap().expect(422).unwrap();
    assert_eq!(other.code().as_deref(), Some("idempotency_key_reused"));
    let rows = world.region("eu-central");
    let count =
        rows.sql(&format!("SELECT count(*)::text FROM domicile.outbox WHERE event_id LIKE '{anna}%'")).await.unwrap();
    assert_eq!(count, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn declared_data_reaches_snowflake_and_a_withdrawal_takes_it_back() {
    let world = shared().await;
    let client = world.client().residing_in("US");
    let (anna, colour) = (person("zero-party"), canary());
    client
        .declare(&anna, "favourite-colour", &json!(colour), "recommendations")
        .await
        .unwrap()
        .expect_success()
        .unwrap();
    let region = world.region("us-east");
    let forwarded = || async { region.forwarded().await.unwrap_or_default().iter().any(|row| row.contains(&colour)) };
    until("The declared value in Snowflake", PATIENCE, forwarded).await.unwrap();

    let segments = ["v1", "subjects", &anna, "zero-party", "favourite-colour"];
    let read = client.send(client.request(Method::GET, segments)).await.unwrap().expect(200).unwrap();
    assert_eq!(read.json()["value"], colour.as_str());
    let withdrawn = json!({"value": colour, "source": "preference-centre",
        "consents": [{"purpose": "recommendations", "granted": false, "notice_version": "2026-10"}]});
    client.send(client.request(Method::PUT, segments).json(&withdrawn)).await.unwrap().expect_success().unwrap();
    until("The value's absence in Snowflake", PATIENCE, || async { !forwarded().await }).await.unwrap();
    client.send(client.request(Method::DELETE, segments)).await.unwrap().expect_success().unwrap();
    client.send(client.request(Method::GET, segments)).await.unwrap().expect(404).unwrap();
}
