//! Every decision is in the log of its region, can be found, and can be explained; none names a person.

use serde_json::json;
use system_tests::{person, shared};

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
