//! Every decision is in the log of its region, can be found, and can be explained; none names a person.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use system_tests::{PATIENCE, person, shared, until};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_is_found_and_explained_and_names_nobody() {
    let world = shared().await;
    let anna = person("explained");
    let client = world.client().residing_in("NO");
    let put = client.put_record(&anna, "profile", "x", &json!({"secret": "thing"})).await.unwrap().expect(201).unwrap();
    let id = put.header("domicile-decision").expect("a decision").to_owned();
    let auditor = world.client().with_key(&world.keys().compliance);

    let one = auditor.get(&format!("/v1/audit/decisions/{id}")).await.unwrap().expect(200).unwrap();
    let decision = one.json();
    assert_eq!(decision["region"], "eu-central");
    assert_eq!(Some(decision["seq"].as_u64().expect("a seq")), put.seq());
    assert_eq!(decision["decision"]["id"], id.as_str());
    assert_eq!(decision["decision"]["out"], "allow");
    assert!(!one.text().contains(&anna), "a leaf holds a tag, not a name");

    let explained = auditor.get(&format!("/v1/audit/decisions/{id}/explain")).await.unwrap().expect(200).unwrap();
    let text = explained.text();
    assert!(text.contains("eu-central") && text.contains("NO"), "{text}");

    let listed = auditor.get("/v1/audit/decisions").await.unwrap().expect(200).unwrap().json();
    let items = listed["items"].as_array().expect("items");
    assert!(!items.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_is_logged_in_the_gateways_own_region_without_a_name() {
    let world = shared().await;
    let anna = person("denied");
    let client = world.client().residing_in("CN");
    let denied = client.put_record(&anna, "profile", "x", &json!({})).await.unwrap().expect(451).unwrap();
    let id = denied.header("domicile-decision").expect("a denial is a decision").to_owned();
    let auditor = world.client().with_key(&world.keys().compliance);
    let one = auditor.get(&format!("/v1/audit/decisions/{id}")).await.unwrap().expect(200).unwrap();
    assert_eq!(one.json()["region"], "eu-central");
    assert_eq!(one.json()["decision"]["out"], "deny");
    assert_eq!(one.json()["decision"]["why"], "residency_refused");
    assert!(!one.text().contains(&anna));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_may_not_read_the_audit_log() {
    let world = shared().await;
    let answer = world.client().get("/v1/audit/decisions").await.unwrap().expect(403).unwrap();
    assert_eq!(answer.code().as_deref(), Some("scope_missing"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permit_whose_body_is_no_good_leaves_its_leaf_all_the_same() {
    let world = shared().await;
    let anna = person("no-good");
    let client = world.client().residing_in("DE");
    let auditor = world.client().with_key(&world.keys().compliance);
    let json = "application/json";
    for (media, body) in [(json, "{"), ("text/plain", "{}")] {
        let put = client.record(Method::PUT, &anna, "profile", "x").header("content-type", media).body(body);
        let refused = client.send(put).await.unwrap();
        assert!(matches!(refused.status, 400 | 415), "{}", refused.text());
        // A first write has pinned its subject before its body is read, so somebody must be able to tell.
        assert_eq!(refused.region(), Some("eu-central"));
        let id = refused.header("domicile-decision").expect("a decision").to_owned();
        let one = auditor.get(&format!("/v1/audit/decisions/{id}")).await.unwrap().expect(200).unwrap().json();
        assert_eq!(one["seq"].as_u64(), refused.seq());
        assert_eq!(one["decision"]["op"], "record.put");
    }
    client.home(&anna).await.unwrap().expect(200).unwrap();
    client.get_record(&anna, "profile", "x").await.unwrap().expect(404).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_in_the_middle_of_its_body_leaves_a_leaf() {
    let world = shared().await;
    let anna = person("hung-up");
    let host = world.gateway().url().trim_start_matches("http://").to_owned();
    let mut connection = TcpStream::connect(&host).await.unwrap();
    let head = format!(
        "PUT /v1/subjects/{anna}/records/profile/x HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {}\r\n\
         domicile-residence: GB\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{{",
        world.keys().service
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    let registered = format!("SELECT count(*)::text FROM domicile.subjects WHERE subject = '{anna}'");
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let early = world.region("uk-south").sql(&registered).await.unwrap();
    // Unless the machine took so long that the gateway gave the body up by itself, after 15 s.
    assert!(early == ["0"] || begun.elapsed() > Duration::from_secs(10), "the body is still on its way");
    drop(connection);
    until("the subject is registered", PATIENCE, async || {
        world.region("uk-south").sql(&registered).await.unwrap() == ["1"]
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_something_did_not_hold_names_its_decision() {
    let world = shared().await;
    let client = world.client().residing_in("DE");
    let anna = person("named");
    client.put_record(&anna, "profile", "x", &json!({})).await.unwrap().expect(201).unwrap();
    let put = client.record(Method::PUT, &anna, "profile", "x").header("if-match", "\"9\"").json(&json!({}));
    let refused = client.send(put).await.unwrap().expect(412).unwrap();
    let id = refused.header("domicile-decision").expect("a decision").to_owned();
    let auditor = world.client().with_key(&world.keys().compliance);
    let one = auditor.get(&format!("/v1/audit/decisions/{id}")).await.unwrap().expect(200).unwrap().json();
    assert_eq!((&one["decision"]["out"], &one["decision"]["why"]), (&json!("error"), &json!("precondition_failed")));
}
