//! Bodies: what is refused, with which words, and what becomes of a batch.

use super::*;

#[tokio::test]
async fn a_body_that_is_not_strict_json_is_a_clear_4xx() {
    let scene = Scene::new();
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    for (body, code) in [
        (b"".as_slice(), "malformed_json"),
        (b"{\"subject\":\"a\"", "malformed_json"),
        (b"{\"subject\":\"\xff\"}", "malformed_json"),
        (b"{\"subject\":\"a\\u0000\"}", "malformed_json"),
        (b"{\"subject\":\"\\ud800\"}", "malformed_json"),
        (b"{\"subject\":\"a\",\"subject\":\"b\"}", "malformed_json"),
        (deep.as_bytes(), "malformed_json"),
        (b"[]", "invalid_body"),
        (b"{}", "invalid_body"),
        (b"{\"subject\":1}", "invalid_body"),
        (b"{\"subject\":\"\"}", "invalid_body"),
        (b"{\"subject\":\"a\",\"region\":\"us-east\"}", "invalid_body"),
        (b"{\"subject\":\"a\",\"residence\":\"Germany\"}", "invalid_body"),
    ] {
        let answer = scene.post("/v1/classify", ALL, "application/json", body.to_vec()).await;
        assert_eq!(answer.code(), code, "{}", String::from_utf8_lossy(body));
        assert_eq!(answer.status, 400);
    }
}

#[tokio::test]
async fn a_problem_does_not_repeat_what_was_sent() {
    let scene = Scene::new();
    for body in
        [r#"{"subject":"a","anna@example.org":1}"#, r#"{"subject":["anna@example.org"]}"#, r#"{"anna@example.org":"#]
    {
        let answer = scene.post("/v1/classify", ALL, "application/json", body).await;
        assert!(!String::from_utf8_lossy(&answer.body).contains("anna@"), "{}", String::from_utf8_lossy(&answer.body));
    }
}

#[tokio::test]
async fn a_body_has_a_type_a_bound_and_a_time() {
    let scene = Scene::new();
    for media in ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1", ""] {
        let answer = scene.post("/v1/classify", ALL, media, "{}").await;
        assert_eq!(answer.code(), "unsupported_media_type", "{media}");
    }
    let ten_megabytes = vec![b' '; 10 * 1024 * 1024];
    let answer = scene.post("/v1/classify", ALL, "application/json", ten_megabytes.clone()).await;
    assert_eq!(answer.code(), "body_too_large");
    let announced = request("POST", "/v1/classify", ALL)
        .header("content-type", "application/json")
        .header("content-length", ten_megabytes.len());
    let (body, touched) = never_sent();
    assert_eq!(scene.send(announced.body(body).unwrap()).await.code(), "body_too_large");
    assert!(!touched.load(std::sync::atomic::Ordering::SeqCst));
    let (body, _) = never_sent();
    assert_eq!(scene.post("/v1/classify", ALL, "application/json; charset=UTF-8", body).await.code(), "body_too_slow");
}

#[tokio::test]
async fn a_query_that_filters_is_read_strictly() {
    let scene = Scene::new();
    for query in
        ["limit=0", "outcome=maybe", "operation=relocate", "from=yesterday", "actr=x", "cursor=abc", "region=us-east"]
    {
        let code = scene.get(&format!("/v1/audit/decisions?{query}"), ALL).await.code();
        assert!(matches!(code.as_str(), "malformed_query" | "malformed_cursor"), "{query}: {code}");
    }
    assert_eq!(scene.get("/v1/audit/decisions/not-a-uuid", ALL).await.code(), "malformed_path");
    assert_eq!(scene.get("/v1/audit/decisions", READER).await.code(), "scope_missing");
}

#[tokio::test]
async fn a_store_that_is_down_is_a_clear_503() {
    let scene = Scene::new();
    assert_eq!(scene.get("/v1/subjects/anna", ALL).await.code(), "directory_unavailable");
    assert_eq!(
        scene.post("/v1/classify", ALL, "application/json", r#"{"subject":"a"}"#).await.code(),
        "directory_unavailable"
    );
    assert_eq!(scene.get("/v1/audit/decisions", ALL).await.code(), "region_unavailable");
    let id = "01935b5e-8a7e-7a0c-9d53-0c2a4e7f9b11";
    assert_eq!(scene.get(&format!("/v1/audit/decisions/{id}"), ALL).await.code(), "region_unavailable");
}

fn results(answer: &Answer) -> BTreeMap<u64, Value> {
    let text = String::from_utf8(answer.body.clone()).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|result| (result["line"].as_u64().unwrap(), result)).collect()
}

#[tokio::test]
async fn each_line_of_a_batch_fares_by_itself() {
    let scene = Scene::new();
    let body = concat!(
        "not json\n",
        "\n",
        r#"{"id":"r","operation":"record.read","subject":"anna","collection":"c","key":"k"}"#,
        "\n",
        r#"{"id":"p","operation":"record.put","subject":"anna","collection":"c","key":"k"}"#,
        "\n",
        "{\"operation\":\"subject.read\",\"subject\":\"a\\u0000\"}\n",
        r#"{"id":"last","operation":"subject.read","subject":"anna"}"#,
    );
    let answer = scene.post("/v1/batch", ALL, "application/x-ndjson", body).await;
    assert_eq!(
        (answer.status.as_u16(), answer.headers["content-type"].to_str().unwrap()),
        (200, "application/x-ndjson")
    );
    let results = results(&answer);
    let fared: Vec<_> = results
        .iter()
        .map(|(line, result)| (*line, result["id"].as_str(), result["problem"]["code"].as_str().unwrap()))
        .collect();
    assert_eq!(
        fared,
        [
            (1, None, "malformed_json"),
            (3, Some("r"), "directory_unavailable"),
            (4, Some("p"), "invalid_body"),
            (5, None, "malformed_json"),
            (6, Some("last"), "directory_unavailable"),
        ]
    );
    let reader =
        scene.post("/v1/batch", READER, "application/x-ndjson", r#"{"operation":"subject.pin","subject":"a"}"#).await;
    assert_eq!(self::results(&reader)[&1]["problem"]["code"], "scope_missing");
}

#[tokio::test]
async fn a_batch_that_stops_half_way_is_told_so_and_what_came_is_done() {
    let scene = Scene::new();
    let line = bytes::Bytes::from_static(b"{\"operation\":\"subject.read\",\"subject\":\"anna\"}\n");
    let begun = futures::stream::iter([Ok::<_, std::io::Error>(line)]);
    let body = Body::from_stream(futures::StreamExt::chain(begun, futures::stream::pending()));
    let results = results(&scene.post("/v1/batch", ALL, "application/x-ndjson", body).await);
    assert_eq!(results[&1]["problem"]["code"], "directory_unavailable");
    assert_eq!(results[&2]["problem"]["code"], "body_too_slow");
    assert_eq!(results.len(), 2);
}

#[tokio::test]
async fn batches_have_bounds() {
    let scene = Scene::with(|settings| {
        settings.limits.batch_line_bytes_max = 100;
        settings.limits.batches_max = 0;
    });
    assert_eq!(scene.post("/v1/batch", ALL, "application/x-ndjson", "").await.code(), "overloaded");
    let scene = Scene::with(|settings| {
        settings.limits.batch_line_bytes_max = 100;
        settings.limits.batch_bytes_max = 5_000;
    });
    let long = format!("{}\n{}\n{}", "x".repeat(3_000), "y", "z".repeat(3_000));
    let results = results(&scene.post("/v1/batch", ALL, "application/x-ndjson", long).await);
    assert_eq!(results[&1]["problem"]["code"], "body_too_large");
    assert!(results.len() <= 3);
}

#[tokio::test]
async fn exports_have_bounds_of_their_own() {
    let export = "/v1/audit/eu-central/export?format=jsonl";
    let scene = Scene::with(|settings| settings.limits.exports_max = 0);
    assert_eq!(scene.get(export, ALL).await.code(), "overloaded");
    let scene = Scene::with(|settings| settings.limits.exports_max = 1);
    for _ in 0..2 {
        assert_eq!(scene.get(export, ALL).await.code(), "region_unavailable", "a place is given back");
    }
}

#[tokio::test]
async fn a_batch_of_many_lines_is_answered_line_by_line() {
    let scene = Scene::with(|settings| settings.limits.batch_lines_in_flight_max = 8);
    let body: String =
        (0..2_000).map(|n| format!("{{\"id\":\"{n}\",\"operation\":\"record.list\",\"subject\":\"s\"}}\n")).collect();
    let results = results(&scene.post("/v1/batch", ALL, "application/x-ndjson", body).await);
    assert_eq!(results.len(), 2_000);
    for (line, result) in results {
        assert_eq!(
            (result["id"].as_str().unwrap().parse::<u64>().unwrap() + 1, &result["status"]),
            (line, &400.into())
        );
    }
}

/// A body that sends one piece, then another one after each pause, for ever.
fn dribble(piece: &'static [u8], pause: Duration) -> Body {
    Body::from_stream(futures::stream::unfold((), move |()| async move {
        tokio::time::sleep(pause).await;
        Some((Ok::<_, std::io::Error>(bytes::Bytes::from_static(piece)), ()))
    }))
}

#[tokio::test]
async fn a_batch_that_sends_bytes_but_no_lines_loses_its_place() {
    let scene = Scene::new();
    for piece in [b"x".as_slice(), b"\n"] {
        let sent = scene.post("/v1/batch", ALL, "application/x-ndjson", dribble(piece, Duration::from_millis(50)));
        let answer = tokio::time::timeout(PATIENCE, sent).await.unwrap();
        assert_eq!(results(&answer).last_key_value().unwrap().1["problem"]["code"], "body_too_slow");
    }
}

#[tokio::test]
async fn a_caller_with_many_batches_leaves_room_for_others() {
    let scene = Scene::with(|settings| {
        settings.limits.batches_max = 2;
        settings.limits.caller_batches_max = 1;
        // Or the one that is held would be given up after a while.
        settings.limits.body_read_max = PATIENCE;
    });
    let (body, _) = never_sent();
    let sent = request("POST", "/v1/batch", READER).header("content-type", "application/x-ndjson");
    let held = scene.routes.clone().oneshot(sent.body(body).unwrap()).await.unwrap();
    assert_eq!(held.status(), 200);
    assert_eq!(scene.post("/v1/batch", READER, "application/x-ndjson", "").await.code(), "rate_limited");
    assert_eq!(scene.post("/v1/batch", ALL, "application/x-ndjson", "").await.status, 200);
}

#[tokio::test]
async fn a_key_that_is_revoked_in_the_middle_of_a_batch_is_refused_from_then_on() {
    let scene = Scene::with(|settings| settings.limits.body_read_max = PATIENCE);
    let line = bytes::Bytes::from_static(b"{\"operation\":\"subject.read\",\"subject\":\"anna\"}\n");
    let (mut lines, sent) = futures::channel::mpsc::unbounded();
    lines.start_send(Ok::<_, std::io::Error>(line.clone())).unwrap();
    let sent =
        request("POST", "/v1/batch", ALL).header("content-type", "application/x-ndjson").body(Body::from_stream(sent));
    let mut answers = scene.routes.clone().oneshot(sent.unwrap()).await.unwrap().into_body();
    let mut next = async || {
        let frame = answers.frame().await.unwrap().unwrap();
        serde_json::from_slice::<Value>(frame.data_ref().unwrap()).unwrap()
    };
    assert_eq!(next().await["problem"]["code"], "directory_unavailable");
    scene.keys.revoke(ALL);
    lines.start_send(Ok(line)).unwrap();
    drop(lines);
    assert_eq!(next().await["problem"]["code"], "credentials_refused");
}

#[tokio::test]
async fn an_event_of_a_type_that_the_operator_does_not_let_callers_publish_is_refused() {
    let types = crate::EventTypes::only(vec!["shop.*".to_owned()]);
    let scene = Scene::with(|settings| settings.event_types = types);
    let line = |kind: &str| {
        format!(
            r#"{{"operation":"event.publish","subject":"a","residence":"DE","body":{{"specversion":"1.0","id":"1","source":"/s","type":"{kind}"}}}}"#
        )
    };
    let lines = [line("shop.order-placed"), line("shopping.spree")].join("\n");
    let answer = scene.post("/v1/batch", ALL, "application/x-ndjson", lines).await;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let mut told: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    told.sort_by_key(|line| line["line"].as_u64());
    assert_ne!(told[0]["status"], 400, "{text}");
    assert_eq!((&told[1]["status"], &told[1]["problem"]["code"]), (&400.into(), &"invalid_body".into()), "{text}");
    assert_eq!(told[1]["problem"]["errors"][0]["at"], "type");
}
