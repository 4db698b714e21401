//! What a gateway says about itself (log lines, metrics, traces) tells an operator much and nobody's secrets.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::Uri;
use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{PATIENCE, canary, person, until};
use world::World;

/// What a collector was sent: path and protobuf.
type Exported = Arc<Mutex<Vec<(String, Bytes)>>>;

/// A collector on this machine, and its address.
async fn collector() -> (String, Exported) {
    let exported = Exported::default();
    let keep = |State(exported): State<Exported>, uri: Uri, body: Bytes| async move {
        exported.lock().unwrap().push((uri.path().to_owned(), body));
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let routes = Router::new().fallback(keep).with_state(Arc::clone(&exported));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (address, exported)
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test(flavor = "multi_thread")]
async fn telemetry_tells_of_requests_and_of_nobody() {
    let (address, exported) = collector().await;
    let world = World::with_regions(["eu-central"])
        .in_process_brokers()
        .setting("telemetry.filter", "trace")
        .setting("telemetry.otlp.endpoint", address)
        .setting("telemetry.otlp.trace_ratio", 0.0)
        .setting("telemetry.otlp.metrics_every_s", 1)
        .start()
        .await
        .unwrap();
    let scopes =
        ["classify", "records:read", "records:write", "events:write", "zero-party:write", "evidence:client-address"];
    let token = world.create_key("telemetry", &scopes, None).await.unwrap();
    let (anna, key, body, other) = (format!("{}@example.org", person("told")), canary(), canary(), canary());
    let client_address = "81.2.69.142";
    let client = world.client().unwrap().with_key(&token).residing_in("DE").seen_from(client_address);

    // The caller's own trace is kept although none of ours is.
    let trace = format!("{:032x}", rand::random::<u128>() | 1);
    let traced = |request: reqwest::RequestBuilder| {
        request
            .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"))
            .header("tracestate", format!("a={other}"))
    };
    let put = || client.record(Method::PUT, &anna, "profile", &key);
    client.send(traced(put()).json(&json!({"name": body}))).await.unwrap().expect(201).unwrap();
    client.get_record(&anna, "profile", &key).await.unwrap().expect(200).unwrap();
    let colour = client.declare(&anna, "colour", &json!(body), "recommendations").await.unwrap();
    colour.expect_success().unwrap();
    client.classify(&anna).await.unwrap().expect(200).unwrap();
    let event =
        json!({"specversion": "1.0", "id": other, "source": "/s", "type": "shop.order-placed", "data": {"to": body}});
    let publish = client.request(Method::POST, ["v1", "subjects", &anna, "events"]);
    let publish = publish.header("content-type", "application/cloudevents+json").body(event.to_string());
    client.send(traced(publish)).await.unwrap().expect_success().unwrap();
    // What goes wrong is told of at more length.
    client.get_record(&anna, "profile", &other).await.unwrap().expect(404).unwrap();
    client.send(put().body(format!("{{\"{body}\": "))).await.unwrap().expect(415).unwrap();
    let broken = put().header("content-type", "application/json").body(format!("{{\"{body}\": {other}"));
    client.send(traced(broken)).await.unwrap().expect(400).unwrap();
    client.residing_in(&body).put_record(&anna, "profile", &key, &json!({})).await.unwrap().expect(400).unwrap();
    client.put_record(&anna, &format!("{body}/"), &key, &json!({})).await.unwrap().expect(400).unwrap();
    let forged = format!("dom_{}_{}", &body[7..19], &other[7..]);
    client.with_key(&forged).get_record(&anna, "profile", &key).await.unwrap().expect(401).unwrap();

    // Through the log, the trace goes on to the region's topics.
    let region = world.region("eu-central");
    let carried = || async {
        let mut topics = BTreeSet::new();
        for topic in ["eu-central.domicile.record-changed.v1", "eu-central.shop.order-placed.v1"] {
            let messages = region.messages(topic, 100).await.unwrap_or_default();
            topics.extend(messages.iter().filter_map(|m| m.header("traceparent")?.contains(&trace).then_some(topic)));
        }
        topics.len() == 2
    };
    until("The trace in both topics", PATIENCE, carried).await.unwrap();
    until("The declared value in Snowflake", PATIENCE, || async {
        region.forwarded().await.unwrap_or_default().iter().any(|row| row.contains(&body))
    })
    .await
    .unwrap();
    let metrics = world.gateway("gateway-1").metrics().await.unwrap();
    assert!(metrics.contains("domicile_http_requests_total"), "{metrics}");
    world.gateway("gateway-1").terminate().await.unwrap();

    let log = std::fs::read_to_string(world.gateway("gateway-1").log()).unwrap();
    assert!(log.contains(r#""level":"DEBUG""#) && log.contains(r#""target":"gateway"#), "it was told everything");
    for line in log.lines() {
        let told: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("this line is no JSON: {line}"));
        assert!(told["level"].is_string() && told["message"].is_string(), "{line}");
    }
    let exported = exported.lock().unwrap().clone();
    let trace_id: Vec<u8> = (0..16).map(|at| u8::from_str_radix(&trace[at * 2..at * 2 + 2], 16).unwrap()).collect();
    let traces: Vec<_> = exported.iter().filter(|(path, _)| path == "/v1/traces").collect();
    assert!(traces.iter().any(|(_, bytes)| holds(bytes, &trace_id)), "the caller's trace was exported");
    assert!(traces.iter().any(|(_, bytes)| holds(bytes, b"PUT /v1/subjects/{subject}/records/{collection}/{key}")));
    assert!(
        exported.iter().any(|(path, bytes)| path == "/v1/metrics" && holds(bytes, b"domicile_http_requests_total"))
    );

    let name = anna.split_once('@').unwrap().0;
    let (token_id, token_secret) = token.strip_prefix("dom_").unwrap().split_once('_').unwrap();
    for secret in [name, &key, &body, &other, client_address, token_secret, &forged] {
        assert!(!log.contains(secret), "{secret} is in a log line: {}", line_with(&log, secret));
        assert!(!metrics.contains(secret), "{secret} is in a metric: {}", line_with(&metrics, secret));
        let told = exported.iter().find(|(_, bytes)| holds(bytes, secret.as_bytes()));
        assert!(
            told.is_none(),
            "{secret} was exported: {:?}",
            told.map(|(path, bytes)| (path, String::from_utf8_lossy(bytes)))
        );
    }
    assert!(!metrics.contains(token_id), "a metric is counted by caller");
    world.shutdown().await;
}

fn line_with<'a>(text: &'a str, part: &str) -> &'a str {
    text.lines().find(|line| line.contains(part)).unwrap_or_default()
}
