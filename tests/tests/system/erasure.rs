//! Promise 7: erased means erased, everywhere that a person's data was, and whoever comes late is told so.

use reqwest::Method;
use serde_json::json;
use system_tests::{PATIENCE, canary, person, shared, until};

const REGION: &str = "eu-central";

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_person_is_in_no_store_and_every_gateway_says_410() {
    let world = shared().await;
    let client = world.client().residing_in("DE");
    let elsewhere = world.client_of(world.european()).unwrap().residing_in("DE");
    let region = world.region(REGION);
    let (anna, mark) = (person("erased"), canary());
    client.put_record(&anna, "profile", "home", &json!({"street": mark})).await.unwrap().expect(201).unwrap();
    client.declare(&anna, "wish", &json!(mark), "recommendations").await.unwrap().expect(201).unwrap();
    client.publish(&anna, "shop.erased", &mark, &json!({"note": mark})).await.unwrap().expect(202).unwrap();
    // The other gateway knows the pin by heart now.
    elsewhere.get_record(&anna, "profile", "home").await.unwrap().expect(200).unwrap();
    let digest = format!("SELECT encode(digest, 'hex') FROM domicile.subjects WHERE subject = '{anna}'");
    let digest = region.sql(&digest).await.unwrap().pop().unwrap();
    let snowflake = region.snowflake.as_ref().unwrap();
    let forwarded = async || {
        let rows = snowflake.rows().await.unwrap_or_default();
        rows.into_iter().filter(|row| row.subject_digest == digest).count()
    };
    until("The declared value in Snowflake", PATIENCE, || async { forwarded().await == 1 }).await.unwrap();

    let reader = world.create_key("eraser-not", &["subjects:read", "subjects:write"], None).await.unwrap();
    let refused = client.with_key(&reader).erase(&anna, false).await.unwrap().expect(403).unwrap();
    assert_eq!(refused.json()["scope"], "subjects:erase");
    let request = client.request(Method::DELETE, ["v1", "subjects", &anna]).query(&[("dry_run", "yes")]);
    client.send(request).await.unwrap().expect(400).unwrap();
    let dry = client.erase(&anna, true).await.unwrap().expect(200).unwrap().json();
    let counts = |body: &serde_json::Value| {
        ["records", "attributes", "history", "events"].map(|name| body[name].as_u64().unwrap())
    };
    assert_eq!((dry["dry_run"].as_bool(), counts(&dry)), (Some(true), [1, 1, 1, 4]));
    client.get_record(&anna, "profile", "home").await.unwrap().expect(200).unwrap();

    let erased = client.erase(&anna, false).await.unwrap().expect(200).unwrap();
    assert!(erased.seq().is_some(), "an erasure carries a receipt");
    let body = erased.json();
    assert_eq!((body["dry_run"].as_bool(), counts(&body)), (Some(false), counts(&dry)), "{body}");
    // The broker inside this process cannot be asked how long a topic keeps what it holds.
    let promises = region.broker.as_ref().is_some_and(|broker| broker.mock().is_none());
    let forget_by = body["topics_forget_by"].as_str();
    assert_eq!(forget_by.is_some(), promises, "{body}");
    assert!(forget_by.is_none_or(|by| by > body["erased_at"].as_str().unwrap()), "{body}");
    assert!(dry["topics_forget_by"].is_null(), "{dry}");
    for gateway in [&client, &elsewhere] {
        for answer in [
            gateway.get_record(&anna, "profile", "home").await,
            gateway.home(&anna).await,
            gateway.put_record(&anna, "profile", "home", &json!({})).await,
            gateway.pin(&anna).await,
            gateway.erase(&anna, true).await,
            gateway.erase(&anna, false).await,
        ] {
            let refused = answer.unwrap().expect(410).unwrap();
            assert_eq!(refused.code().as_deref(), Some("subject_erased"));
        }
    }

    until("The forgetting in Snowflake", PATIENCE, || async { forwarded().await == 0 }).await.unwrap();
    let told = async || {
        let messages = region.messages("eu-central.domicile.subject-erased.v1", 10_000).await.unwrap_or_default();
        messages.iter().filter(|message| message.key.as_deref() == Some(digest.as_bytes())).count()
    };
    until("The word to consumers", PATIENCE, || async { told().await == 1 }).await.unwrap();
    let dump = region.cluster.dump("domicile").await.unwrap();
    let dump = String::from_utf8_lossy(&dump);
    assert!(dump.contains(&digest), "the tombstone is there");
    let hexadecimal: String = mark.bytes().map(|byte| format!("{byte:02x}")).collect();
    for trace in [&anna, &mark, &hexadecimal] {
        assert!(!dump.contains(trace.as_str()), "{trace} is still in the region's database");
    }
    let tombstone = format!(
        "SELECT state || ' ' || (erased_at IS NOT NULL) FROM domicile.pins WHERE encode(subject_digest, 'hex') = '{digest}'"
    );
    assert_eq!(world.directory().sql("directory", &tombstone).await.unwrap(), ["erased true"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_pinned_in_order_to_be_erased() {
    let world = shared().await;
    let client = world.client().residing_in("DE");
    let nobody = person("never-seen");
    let refused = client.erase(&nobody, false).await.unwrap().expect(404).unwrap();
    assert_eq!(refused.code().as_deref(), Some("subject_not_found"));
    client.home(&nobody).await.unwrap().expect(404).unwrap();
    client.put_record(&nobody, "profile", "x", &json!({})).await.unwrap().expect(201).unwrap();
}
