//! Records: versions, preconditions, merge patches, lists and batches, over HTTP.

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{person, shared};

#[tokio::test(flavor = "multi_thread")]
async fn a_record_lives_and_dies_by_its_version() {
    let world = shared().await;
    let client = world.client().residing_in("DE");
    let anna = person("lifecycle");

    let created =
        client.put_record(&anna, "profile", "address", &json!({"city": "Köln", "zip": "50667"})).await.unwrap();
    let created = created.expect(201).unwrap();
    assert_eq!(created.region(), Some("eu-central"));
    assert!(created.header("domicile-decision").is_some() && created.seq().is_some(), "a write carries a receipt");
    let first = created.header("etag").expect("a record has an ETag").to_owned();

    let read = client.get_record(&anna, "profile", "address").await.unwrap().expect(200).unwrap();
    assert_eq!(read.header("etag"), Some(first.as_str()));
    assert!(read.text().contains("Köln"));

    let unchanged = client.record(Method::GET, &anna, "profile", "address").header("if-none-match", &first);
    client.send(unchanged).await.unwrap().expect(304).unwrap();

    let patch = client
        .record(Method::PATCH, &anna, "profile", "address")
        .header("content-type", "application/merge-patch+json")
        .header("if-match", &first)
        .body(json!({"zip": null, "street": "Domkloster 4"}).to_string());
    let patched = client.send(patch).await.unwrap().expect_success().unwrap();
    let second = patched.header("etag").expect("a patch makes a version").to_owned();
    assert_ne!(first, second);
    let read = client.get_record(&anna, "profile", "address").await.unwrap().expect(200).unwrap();
    assert!(read.text().contains("Domkloster 4") && !read.text().contains("50667"), "RFC 7396: null removes");

    client.delete_record(&anna, "profile", "address").await.unwrap().expect_success().unwrap();
    client.get_record(&anna, "profile", "address").await.unwrap().expect(404).unwrap();
    client.delete_record(&anna, "profile", "address").await.unwrap().expect(404).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_if_match_is_412_and_changes_nothing() {
    let world = shared().await;
    let client = world.client().residing_in("FR");
    let anna = person("if-match");
    client.put_record(&anna, "profile", "name", &json!({"v": "first"})).await.unwrap().expect(201).unwrap();

    for (name, value) in [("if-match", "\"999\""), ("if-none-match", "*")] {
        let put =
            client.record(Method::PUT, &anna, "profile", "name").header(name, value).json(&json!({"v": "second"}));
        let refused = client.send(put).await.unwrap().expect(412).unwrap();
        assert_eq!(refused.code().as_deref(), Some("precondition_failed"));
        let delete = client.record(Method::DELETE, &anna, "profile", "name").header("if-match", "\"999\"");
        client.send(delete).await.unwrap().expect(412).unwrap();
    }
    let read = client.get_record(&anna, "profile", "name").await.unwrap().expect(200).unwrap();
    assert!(read.text().contains("first"));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_writers_with_one_if_match_exactly_one_wins() {
    let world = shared().await;
    let client = world.client().residing_in("DE");
    let anna = person("if-match-race");
    let created = client.put_record(&anna, "cart", "total", &json!({"n": 0})).await.unwrap().expect(201).unwrap();
    let etag = created.header("etag").expect("an ETag").to_owned();
    let writers = (1..=32).map(|n| {
        let put = client.record(Method::PUT, &anna, "cart", "total").header("if-match", &etag).json(&json!({ "n": n }));
        let client = client.clone();
        async move { client.send(put).await.unwrap().status }
    });
    let statuses = futures::future::join_all(writers).await;
    assert_eq!(statuses.iter().filter(|status| **status < 300).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 412).count(), 31, "{statuses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_is_listed_in_pages_without_gap_or_repeat() {
    let world = shared().await;
    let client = world.client().residing_in("US-CA");
    let anna = person("list");
    for n in 0..23 {
        let key = format!("item/{n:02}"); // a slash in a key is a key all the same
        client.put_record(&anna, "basket", &key, &json!({ "n": n })).await.unwrap().expect(201).unwrap();
    }
    let (mut seen, mut cursor) = (Vec::new(), None::<String>);
    for _page in 0..20 {
        let mut request = client.request(Method::GET, ["v1", "subjects", &anna, "records", "basket"]);
        request = request.query(&[("limit", "5")]);
        if let Some(cursor) = &cursor {
            request = request.query(&[("cursor", cursor)]);
        }
        let page = client.send(request).await.unwrap().expect(200).unwrap().json();
        let items = page["items"].as_array().expect("items");
        seen.extend(items.iter().map(|item| item["key"].as_str().expect("a key").to_owned()));
        cursor = page["next"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    let expected: Vec<String> = (0..23).map(|n| format!("item/{n:02}")).collect();
    assert_eq!(seen, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_large_records_is_bounded_in_bytes_and_loses_none() {
    let world = shared().await;
    let client = world.client().residing_in("DE");
    let anna = person("large-list");
    for n in 0..9 {
        let body = json!({ "n": n, "blob": "x".repeat(800 * 1024) });
        client.put_record(&anna, "large", &format!("{n}"), &body).await.unwrap().expect(201).unwrap();
    }
    let (mut seen, mut cursor, mut pages) = (Vec::new(), None::<String>, 0);
    loop {
        let mut request = client.request(Method::GET, ["v1", "subjects", &anna, "records", "large"]);
        if let Some(cursor) = &cursor {
            request = request.query(&[("cursor", cursor)]);
        }
        let page = client.send(request).await.unwrap().expect(200).unwrap();
        assert!(page.body.len() < 6 * 1024 * 1024, "a page of {} bytes", page.body.len());
        let page = page.json();
        let items = page["items"].as_array().expect("items");
        seen.extend(items.iter().map(|item| item["key"].as_str().expect("a key").to_owned()));
        (cursor, pages) = (page["next"].as_str().map(str::to_owned), pages + 1);
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, (0..9).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(pages >= 2, "nine records of 800 KiB do not fit one page");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_routes_each_line_to_its_own_region() {
    let world = shared().await;
    let people = [("DE", "eu-central"), ("GB", "uk-south"), ("US", "us-east"), ("RE", "eu-central")];
    let mut body = String::new();
    for (n, (place, _)) in people.iter().enumerate() {
        let line = json!({"id": n.to_string(), "operation": "record.put", "subject": person(&format!("batch-{place}")),
            "residence": place, "collection": "profile", "key": "k", "body": {"n": n}});
        body.push_str(&format!("{line}\n"));
    }
    body.push_str("{this is no JSON}\n");
    let refused = json!({"id": "cn", "operation": "record.put", "subject": person("batch-cn"), "residence": "CN",
        "collection": "profile", "key": "k", "body": {}});
    body.push_str(&format!("{refused}\n"));
    let client = world.client();
    let request =
        client.request(Method::POST, ["v1", "batch"]).header("content-type", "application/x-ndjson").body(body);
    let answer = client.send(request).await.unwrap().expect(200).unwrap();
    let text = answer.text();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("NDJSON")).collect();
    assert_eq!(lines.len(), 6, "a line in, a line out: {text}");
    for (n, (_, region)) in people.iter().enumerate() {
        let id = n.to_string();
        let line = lines.iter().find(|line| line["id"] == id.as_str()).expect("its answer");
        assert_eq!(line["status"], 201, "{line}");
        assert_eq!(line["region"], *region);
    }
    let malformed = lines.iter().find(|line| line["line"] == 5).expect("the malformed line's answer");
    assert_eq!(malformed["status"], 400);
    let refused = lines.iter().find(|line| line["id"] == "cn").expect("the refused line's answer");
    assert_eq!(refused["status"], 451);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_of_an_attribute_is_paged_and_a_withdrawal_takes_its_values_and_leaves_its_consents() {
    let world = shared().await;
    let client = world.client().residing_in("DE");
    let anna = person("history");
    for n in 1..=5 {
        client.declare(&anna, "wish", &json!({ "n": n }), "recommendations").await.unwrap().expect_success().unwrap();
    }
    let page = async |query: &[(&str, &str)]| {
        let request = client.request(Method::GET, ["v1", "subjects", &anna, "zero-party", "wish", "history"]);
        client.send(request.query(query)).await.unwrap()
    };
    let (mut versions, mut cursor) = (Vec::new(), None::<String>);
    for _page in 0..5 {
        let mut query = vec![("limit", "2")];
        query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
        let found = page(&query).await.expect(200).unwrap().json();
        for item in found["items"].as_array().unwrap() {
            assert_eq!(item["value"]["n"], item["version"], "{item}");
            assert_eq!(item["consents"][0]["notice_version"], "2026-10");
            versions.push(item["version"].as_u64().unwrap());
        }
        cursor = found["next"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(versions, [5, 4, 3, 2, 1], "the newest first, without gap or repeat");
    page(&[("cursor", "AAAA")]).await.expect(400).unwrap();
    page(&[("limit", "101")]).await.expect(400).unwrap();

    let withdraw = client.request(Method::DELETE, ["v1", "subjects", &anna, "zero-party", "wish"]);
    client.send(withdraw).await.unwrap().expect(204).unwrap();
    let found = page(&[]).await.expect(200).unwrap().json();
    let items = found["items"].as_array().unwrap();
    assert_eq!(items.len(), 6);
    assert_eq!(items[0]["deleted"], true);
    assert!(items.iter().all(|item| item["value"].is_null()), "no value is left");
    assert_eq!(items[1]["consents"][0]["purpose"], "recommendations", "that there was a consent is");
    let never = client.request(Method::GET, ["v1", "subjects", &anna, "zero-party", "never", "history"]);
    client.send(never).await.unwrap().expect(404).unwrap();
}
