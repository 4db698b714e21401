//! What the log says beside decisions: of the gateway itself, of what crossed a border, and of whoever read it.

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{PATIENCE, canary, person, until};
use world::World;

async fn lines(world: &World, region: &str, kind: &str) -> Vec<Value> {
    let sql = format!("SELECT line FROM domicile.leaves WHERE line LIKE '%\"k\":\"{kind}\"%' ORDER BY seq");
    let found = world.region(region).sql(&sql).await.unwrap();
    found.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_who_served_by_what_policy_and_who_read_it() {
    let world = World::with_regions(["eu-central"]).without_brokers().without_snowflakes().start().await.unwrap();
    let gateway = &world.gateways()[0];
    for kind in ["gateway.start", "policy.activate", "config.change", "key.rotate", "placement.attest"] {
        until(kind, PATIENCE, || async { !lines(&world, "eu-central", kind).await.is_empty() }).await.unwrap();
    }
    assert_eq!(lines(&world, "eu-central", "key.rotate").await[0]["key"], json!(world.log_key("eu-central").unwrap()));
    let policy = &lines(&world, "eu-central", "policy.activate").await[0];
    let kept = world.region("eu-central").sql("SELECT encode(sha256, 'hex') FROM domicile.policy_sets").await.unwrap();
    assert_eq!(kept, [policy["pol"].as_str().unwrap()]);
    let here = world.region("eu-central").sql("SELECT system_identifier FROM pg_control_system()").await.unwrap();
    assert_eq!(lines(&world, "eu-central", "placement.attest").await[0]["sysid"], json!(here[0]));

    // A change of the configuration is named by its key, and a stop by the gateway itself.
    let secret = canary();
    let mut config: toml::Table = std::fs::read_to_string(gateway.config()).unwrap().parse().unwrap();
    let mut limits = toml::Table::new();
    limits.insert("caller_burst_max".to_owned(), toml::Value::Integer(39_999));
    config["gateway"].as_table_mut().unwrap().insert("limits".to_owned(), toml::Value::Table(limits));
    std::fs::write(gateway.config(), toml::to_string(&config).unwrap()).unwrap();
    gateway.terminate().await.unwrap();
    assert_eq!(lines(&world, "eu-central", "gateway.stop").await.len(), 1);
    gateway.start_again().await.unwrap();
    until("the change is named", PATIENCE, || async { lines(&world, "eu-central", "config.change").await.len() == 2 })
        .await
        .unwrap();
    let change = &lines(&world, "eu-central", "config.change").await[1];
    let keys: Vec<&str> = change["keys"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(keys.contains(&"gateway.limits.caller_burst_max"), "{change}");
    assert!(!change.to_string().contains("39999"), "a value is never named: {change}");

    // Searching is logged, with the subject's tag in the place of the subject.
    let anna = person(&secret);
    let client = world.client().unwrap().residing_in("DE");
    client.put_record(&anna, "profile", "x", &json!({})).await.unwrap().expect(201).unwrap();
    let auditor = world.client().unwrap().with_key(&world.keys().compliance);
    let search = auditor.request(Method::GET, ["v1", "audit", "decisions"]);
    let search = search.query(&[("outcome", "allow"), ("subject", anna.as_str())]);
    let found = auditor.send(search).await.unwrap();
    assert_eq!(found.expect(200).unwrap().json()["items"].as_array().unwrap().len(), 2);
    auditor.get("/v1/audit/eu-central/tile/entries/000.p/2").await.unwrap().expect(200).unwrap();
    auditor.get("/v1/audit/eu-central/tile/entries/000.p/1").await.unwrap().expect(200).unwrap();
    let read = lines(&world, "eu-central", "audit.read").await;
    let said: Vec<(&str, u64)> =
        read.iter().map(|line| (line["what"].as_str().unwrap(), line["rows"].as_u64().unwrap())).collect();
    assert_eq!(said, [("search", 2), ("entries", 2)], "a sitting is told once: {read:#?}");
    assert_eq!(read[0]["flt"], json!(["outcome=allow"]));
    let decided = lines(&world, "eu-central", "decision.write").await;
    assert_eq!(read[0]["sub"], decided[0]["sub"], "the tag that the subject has in this log");
    // So is a search in the console, whose form names the subject in its body; what is no name of a caller is not repeated.
    let asked = auditor.request(Method::POST, ["console", "decisions"]);
    let asked = asked.header("content-type", "application/x-www-form-urlencoded");
    let asked = asked.body(format!("subject={}&actor=anna%40example.com", anna.as_str().replace('@', "%40")));
    auditor.send(asked).await.unwrap().expect(200).unwrap();
    let read = lines(&world, "eu-central", "audit.read").await;
    let last = read.last().unwrap();
    assert_eq!((&last["what"], &last["rows"], &last["sub"]), (&json!("console"), &json!(0), &decided[0]["sub"]));
    assert_eq!(last["flt"], json!(["page=decisions", "actor=(no caller's name)"]));
    assert!(!read.iter().any(|line| line.to_string().contains(anna.as_str())));
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn details_are_shown_one_entry_at_a_time_to_whoever_may_see_them_and_every_look_is_logged() {
    let world = World::with_regions(["eu-central"]).without_brokers().without_snowflakes().start().await.unwrap();
    let gateway = &world.gateways()[0];
    let mut config: toml::Table = std::fs::read_to_string(gateway.config()).unwrap().parse().unwrap();
    let wanted = ["subject", "client-network"].map(|name| toml::Value::String(name.to_owned())).to_vec();
    config["gateway"].as_table_mut().unwrap().insert("audit_details".to_owned(), toml::Value::Array(wanted));
    std::fs::write(gateway.config(), toml::to_string(&config).unwrap()).unwrap();
    gateway.terminate().await.unwrap();
    gateway.start_again().await.unwrap();

    let anna = person("detailed");
    let client = world.client().unwrap().residing_in("DE").seen_from("2.160.0.1");
    let put = client.put_record(&anna, "profile", "x", &json!({})).await.unwrap().expect(201).unwrap();
    let path = format!("/v1/audit/eu-central/details/{}", put.seq().unwrap());
    let compliance = world.client().unwrap().with_key(&world.keys().compliance);
    let refused = compliance.get(&path).await.unwrap().expect(403).unwrap();
    assert_eq!(refused.code().as_deref(), Some("scope_missing"), "reading the log is not seeing details");
    let key = world.create_key("investigator", &["audit:details"], None).await.unwrap();
    until("the new key is known", PATIENCE, || async {
        world.client().unwrap().with_key(&key).get(&path).await.unwrap().status == 200
    })
    .await
    .unwrap();
    let shown = world.client().unwrap().with_key(&key).get(&path).await.unwrap().expect(200).unwrap().json();
    let details: Vec<(&str, &str)> = shown["details"]
        .as_array()
        .unwrap()
        .iter()
        .map(|detail| (detail["name"].as_str().unwrap(), detail["value"].as_str().unwrap()))
        .collect();
    assert_eq!(details, [("client_network", "2.160.0.0/24"), ("subject", anna.as_str())]);
    assert!(!shown["line"].as_str().unwrap().contains(anna.as_str()), "the entry itself names nobody");
    let looks = lines(&world, "eu-central", "audit.read").await;
    assert!(looks.iter().any(|line| line["what"] == "details" && line["act"] == "key:investigator"), "{looks:#?}");

    // The command line believes no server: it holds the details against the entry.
    let folder = tempfile::tempdir().unwrap();
    let check = async |name: &str, answer: &Value| {
        let file = folder.path().join(name);
        std::fs::write(&file, answer.to_string()).unwrap();
        let domicile = world::tools::domicile().unwrap();
        let done = tokio::process::Command::new(domicile).args(["audit", "details"]).arg(&file).output().await.unwrap();
        done.status.code()
    };
    assert_eq!(check("true.json", &shown).await, Some(0));
    let mut lie = shown.clone();
    lie["details"][0]["value"] = json!("198.51.100.0/24");
    assert_eq!(check("false.json", &lie).await, Some(11));
    world.shutdown().await;
}
