//! What is committed reaches the region's topic, in order, and its Snowflake, once; and only what was agreed to.

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{PATIENCE, canary, person, shared, until};
use world::World;

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

#[tokio::test(flavor = "multi_thread")]
async fn every_event_made_here_keeps_to_its_schema() {
    let world = shared().await;
    let client = world.client().residing_in("GB");
    let (anna, mark) = (person("schemas"), canary());
    client.put_record(&anna, "profile", "address", &json!({"mark": mark})).await.unwrap().expect_success().unwrap();
    client.delete_record(&anna, "profile", "address").await.unwrap().expect_success().unwrap();
    client.declare(&anna, "wish", &json!(mark), "recommendations").await.unwrap().expect_success().unwrap();
    let wish = ["v1", "subjects", &anna, "zero-party", "wish"];
    client.send(client.request(Method::DELETE, wish)).await.unwrap().expect_success().unwrap();
    let region = world.region("uk-south");
    for (name, schema) in [
        ("record-changed", include_str!("../../../crates/api/schemas/domicile.record-changed.v1.json")),
        ("subject-pinned", include_str!("../../../crates/api/schemas/domicile.subject-pinned.v1.json")),
        ("zero-party-changed", include_str!("../../../crates/api/schemas/domicile.zero-party-changed.v1.json")),
    ] {
        let schema: Value = serde_json::from_str(schema).unwrap();
        let topic = format!("uk-south.domicile.{name}.v1");
        let there = || async { !region.messages(&topic, 1).await.unwrap_or_default().is_empty() };
        until("The event in its topic", PATIENCE, there).await.unwrap();
        for message in region.messages(&topic, 10_000).await.unwrap() {
            let data: Value = serde_json::from_slice(&message.payload).unwrap();
            assert_eq!(breaches(&schema, &data, name), Vec::<String>::new());
            assert_eq!(message.header("ce_dataschema"), schema["$id"].as_str());
        }
    }
    let broken = json!({"region": 7});
    let schema: Value =
        serde_json::from_str(include_str!("../../../crates/api/schemas/domicile.subject-pinned.v1.json")).unwrap();
    assert_eq!(breaches(&schema, &broken, "x").len(), 2, "the comparison can fail");
    let page = world.client().get("/events").await.unwrap().expect(200).unwrap();
    assert!(page.text().contains("domicile.zero-party-changed"));
}

/// What a value lacks of a schema, for the keywords that our schemas use.
fn breaches(schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let mut found = Vec::new();
    let is = |kind: &Value| match kind.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("null") => value.is_null(),
        _ => false,
    };
    match &schema["type"] {
        Value::Null => {}
        Value::Array(kinds) if kinds.iter().any(is) => {}
        kind if is(kind) => {}
        kind => found.push(format!("{at}: not {kind}")),
    }
    if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
        found.push(format!("{at}: not one of {}", schema["enum"]));
    }
    if let (Some(least), Some(number)) = (schema["minimum"].as_i64(), value.as_i64())
        && number < least
    {
        found.push(format!("{at}: below {least}"));
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(name).is_none() {
            found.push(format!("{at}: without {name}"));
        }
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(inner) = value.get(name) {
            found.extend(breaches(property, inner, &format!("{at}/{name}")));
        }
    }
    if schema["items"].is_object() {
        for inner in value.as_array().into_iter().flatten() {
            found.extend(breaches(&schema["items"], inner, &format!("{at}[]")));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_the_lag_and_carries_a_part_of_a_log_again_after_having_been_told_what() {
    let world = shared().await;
    let client = world.client().residing_in("GB");
    let (anna, mark) = (person("replay"), canary());
    let told = client.publish(&anna, "shop.replayed", &mark, &json!({"n": 1})).await.unwrap().expect_success().unwrap();
    let (seq, region, topic) = (told.seq().unwrap(), world.region("uk-south"), "uk-south.shop.replayed.v1");
    let copies = || async {
        let messages = region.messages(topic, 10_000).await.unwrap_or_default();
        messages.into_iter().filter(|message| message.header("ce_id") == Some(mark.as_str())).collect::<Vec<_>>()
    };
    until("The event in its topic", PATIENCE, || async { copies().await.len() == 1 }).await.unwrap();

    let config = world.gateway().config().to_str().unwrap().to_owned();
    let command = async |args: &[&str]| -> (bool, Value) {
        let program = world::tools::domicile().unwrap();
        let mut command = tokio::process::Command::new(program);
        let output = command.args(args).args(["--json", "--config", &config]).output().await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
    };
    let mine = async || {
        let (held, status) = command(&["relay", "status"]).await;
        assert!(held, "{status}");
        status.as_array().unwrap().iter().find(|row| row["region"] == "uk-south").unwrap().clone()
    };
    // A message is in its topic before the cursor behind it is stored.
    until("The cursor behind the event", PATIENCE, || async { mine().await["cursor"].as_u64() >= Some(seq) })
        .await
        .unwrap();
    let mine = mine().await;
    assert!(mine["lag_s"].is_number(), "{mine}");
    assert!(mine["process"]["dead letters"].is_u64(), "the process was asked, too: {mine}");

    let (from, to) = (seq.to_string(), seq.to_string());
    let part = ["relay", "replay", "--region", "uk-south", "--from", &from, "--to", &to];
    let (held, dry) = command(&[&part[..], &["--dry-run"]].concat()).await;
    assert!(held && dry["applied"] == false && dry["topics"][topic]["entries"] == 1, "{dry}");
    assert_eq!(copies().await.len(), 1, "a dry run sends nothing");
    let (held, done) = command(&[&part[..], &["--apply"]].concat()).await;
    assert!(held && done["complete"] == true, "{done}");
    let both = copies().await;
    assert_eq!(both.len(), 2);
    assert_eq!(both.iter().filter(|message| message.header("domicile_replay").is_some()).count(), 1);
    assert!(both.iter().all(|message| message.seq() == Some(seq)), "the same event by the same name");
    let (held, _) = command(&part).await;
    assert!(!held, "neither --dry-run nor --apply: nothing is done");
    let (held, _) = command(&["relay", "replay", "--region", "eu-nowhere", "--from", "1", "--apply"]).await;
    assert!(!held);

    let (held, steps) = command(&["snowflake", "setup", "--region", "uk-south", "--dry-run"]).await;
    if world.region("uk-south").snowflake.as_ref().is_some_and(|snowflake| snowflake.folder().is_none()) {
        let steps = steps.as_array().unwrap();
        assert!(
            held && steps.iter().any(|step| step["sql"].as_str().unwrap().contains("TRANSIENT TABLE")),
            "{steps:?}"
        );
        let (held, again) = command(&["snowflake", "setup", "--region", "uk-south", "--apply"]).await;
        assert!(held && again.as_array().unwrap().iter().all(|step| step["done"] == true), "{again}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_are_away_keep_nobody_waiting_raise_an_alarm_and_get_everything_later() {
    let world = World::with_regions(["eu-central"])
        .without_snowflakes()
        .setting("events.relay_lag_alarm_s", 1)
        .start()
        .await
        .unwrap();
    let (region, gateway) = (world.region("eu-central"), &world.gateways()[0]);
    let broker = region.broker.as_ref().unwrap();
    if broker.mock().is_some() {
        eprintln!(
            "NOT RUN: the broker inside this process cannot be killed; `cargo xtask tools` installs one that can"
        );
        return;
    }
    let client = world.client().unwrap().residing_in("DE");
    let anna = person("away");
    client.publish(&anna, "shop.first", "first", &json!({})).await.unwrap().expect_success().unwrap();
    let arrived = |topic: &'static str| async move { region.messages(topic, 1_000).await.unwrap_or_default().len() };
    until("The first event", PATIENCE, || async { arrived("eu-central.shop.first.v1").await == 1 }).await.unwrap();

    broker.kill().await.unwrap();
    for n in 0..200 {
        client.publish(&anna, "shop.waiting", &n.to_string(), &json!({})).await.unwrap().expect_success().unwrap();
    }
    let alarm = async |value: &str| {
        let line = format!("domicile_relay_lag_alarm{{region=\"eu-central\"}} {value}");
        gateway.metrics().await.is_ok_and(|metrics| metrics.lines().any(|found| found == line))
    };
    until("The alarm", PATIENCE, || alarm("1")).await.unwrap();
    broker.start_again().await.unwrap();
    until("Every event in its topic", PATIENCE, || async { arrived("eu-central.shop.waiting.v1").await == 200 })
        .await
        .unwrap();
    until("The end of the alarm", PATIENCE, || alarm("0")).await.unwrap();
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_in_python_reads_a_regions_topics_and_finds_nothing_missing() {
    let python = world::tools::fakesnow_python().unwrap_or_else(|| "python3".into());
    let able = std::process::Command::new(&python).args(["-c", "import confluent_kafka"]).output();
    if !able.is_ok_and(|output| output.status.success()) {
        eprintln!(
            "NOT RUN: Python has no Kafka client here; `cargo xtask tools` installs one beside the Snowflake stand-in"
        );
        return;
    }
    let world = World::with_regions(["eu-central"]).without_snowflakes().start().await.unwrap();
    let region = world.region("eu-central");
    let client = world.client().unwrap().residing_in("DE");
    for n in 0..30 {
        let (who, kind) =
            (format!("reader-{}", n % 3), if n % 2 == 0 { "shop.order-placed" } else { "shop.order-paid" });
        client.publish(&who, kind, &format!("e-{n}"), &json!({ "n": n })).await.unwrap().expect(202).unwrap();
    }
    // Each of the three people was pinned by the first event.
    let arrived = || async {
        let topics = [
            "eu-central.shop.order-placed.v1",
            "eu-central.shop.order-paid.v1",
            "eu-central.domicile.subject-pinned.v1",
        ];
        let mut count = 0;
        for topic in topics {
            count += region.messages(topic, 1_000).await.unwrap_or_default().len();
        }
        count == 33
    };
    until("Every event in its topic", PATIENCE, arrived).await.unwrap();
    let brokers = region.broker.as_ref().unwrap().addresses();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/python/consumer.py");
    let args = ["--brokers", &brokers, "--region", "eu-central", "--idle-s", "20"];
    let output = tokio::process::Command::new(python).arg(script).args(args).output().await.unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed} {said}");
    let summary: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    assert_eq!(summary, json!({"new": 33, "seen": 0, "overtaken": 0, "events": 33, "missing": []}));
    assert_eq!(printed.lines().filter(|line| line.contains(".shop.")).count(), 30);
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_told_to_end_stores_its_cursors_and_gives_its_leases_back() {
    let world = World::with_regions(["eu-central"]).start().await.unwrap();
    let (region, gateway) = (world.region("eu-central"), &world.gateways()[0]);
    let client = world.client().unwrap().residing_in("DE");
    for n in 0..50 {
        let who = format!("leaver-{n}");
        client.publish(&who, "shop.order-placed", &format!("e-{n}"), &json!({})).await.unwrap().expect(202).unwrap();
    }
    let topic = "eu-central.shop.order-placed.v1";
    until("Every event in its topic", PATIENCE, || async {
        region.messages(topic, 1_000).await.unwrap_or_default().len() == 50
    })
    .await
    .unwrap();
    gateway.terminate().await.unwrap();
    // What the forwarder had not looked at yet it may leave to its successor; what the relay had sent it must not.
    for (cursor, behind) in [("relay", 0), ("forwarder", 1_000)] {
        let sql = format!(
            "SELECT (seq + {behind} >= (SELECT max(seq) FROM domicile.outbox)) || ' ' || (lease_until <= now()) \
             FROM domicile.cursors WHERE name = '{cursor}'"
        );
        assert_eq!(region.sql(&sql).await.unwrap(), ["true true"], "{cursor}");
    }
    world.shutdown().await;
}
