//! What compliance teams work with: exports that other tools read, packs for certain eyes, the registers of violations and of
//! transfers. And none of it names anybody.

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};
use system_tests::{PATIENCE, canary, person, until};
use tokio::process::Command;
use world::{Answer, Client, World};

/// A world of two jurisdictions behind one gateway, and an auditor's folder.
struct Office {
    world: World,
    folder: tempfile::TempDir,
    auditor: Client,
}

impl Office {
    async fn open() -> Self {
        let world = World::with_regions(["eu-central", "us-east"]).without_brokers().without_snowflakes();
        let world = world.start().await.unwrap();
        let key = world.create_key("auditor", &["audit:read", "audit:acknowledge"], None).await.unwrap();
        let auditor = world.client().unwrap().with_key(&key);
        Self { world, folder: tempfile::tempdir().unwrap(), auditor }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs `domicile audit …` with the gateway's own configuration.
    async fn audit(&self, args: &[&str]) -> Output {
        let config = self.world.gateways()[0].config().to_owned();
        let domicile = world::tools::domicile().unwrap();
        let output = Command::new(domicile).arg("audit").args(args).arg("--config").arg(config).output();
        let output = output.await.unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(path).await.expect(200).unwrap()
    }

    /// `GET` of a path with parameters.
    async fn ask(&self, path: &str) -> Answer {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let query: Vec<_> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let request = self.auditor.request(reqwest::Method::GET, path.trim_start_matches('/').split('/'));
        self.auditor.send(request.query(&query)).await.unwrap()
    }

    /// Waits until the registers have caught up, but for the leaves of these very readings.
    async fn registered(&self) {
        until("the registers are complete", PATIENCE, || async {
            let page = self.get("/v1/audit/violations").await.json();
            let regions = page["regions"].as_array().unwrap();
            regions.len() == 2
                && regions.iter().all(|region| region["behind"].as_u64().is_some_and(|behind| behind <= 4))
        })
        .await
        .unwrap();
    }
}

fn file(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
}

/// Every file of a zip, one after the other.
async fn unzipped(path: &Path) -> String {
    let script = "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); \
                  [sys.stdout.buffer.write(n.encode() + b'\\n' + z.read(n)) for n in z.namelist()]";
    let output = Command::new("python3").args(["-c", script]).arg(path).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_leaves_for_an_auditor_names_anybody() {
    let office = Office::open().await;
    let (anna, secret, address) = (person("unnamed"), canary(), "2.160.0.1");
    let service = office.world.client().unwrap().residing_in("US").seen_from(address);
    let put = service.put_record(&anna, "profile", &secret, &json!({ "secret": secret })).await.unwrap();
    let receipt = put.expect(201).unwrap().header("domicile-audit").unwrap().to_owned();
    service.get_record(&anna, "profile", &secret).await.unwrap().expect(200).unwrap();
    service.declare(&anna, "diet", &json!(secret), "personalisation").await.unwrap().expect_success().unwrap();
    service
        .publish(&anna, "shop.order-placed", &secret, &json!({ "secret": secret }))
        .await
        .unwrap()
        .expect_success()
        .unwrap();
    let refused = office.world.client().unwrap().residing_in("RU").seen_from(address);
    let denied =
        refused.put_record(&person("refused"), "profile", &secret, &json!({})).await.unwrap().expect(451).unwrap();
    let denied = denied.header("domicile-decision").unwrap().to_owned();
    office.registered().await;

    let mut said = vec![("receipt".to_owned(), receipt)];
    for region in ["eu-central", "us-east"] {
        for format in ["jsonl", "csv", "parquet"] {
            let out = office.path(&format!("{region}.{format}"));
            let out_text = out.to_string_lossy().into_owned();
            office.audit(&["export", "--region", region, "--format", format, "--out", &out_text]).await;
            said.push((format!("{region} {format}"), file(&out)));
            let answer = office.get(&format!("/v1/audit/{region}/export?format={format}")).await;
            said.push((format!("{region} {format} over HTTP"), String::from_utf8_lossy(&answer.body).into_owned()));
        }
        let pack = office.path(&format!("{region}.zip"));
        office.audit(&["pack", "--region", region, "--out", &pack.to_string_lossy()]).await;
        said.push((format!("{region} pack"), unzipped(&pack).await));
        let leaves = office.world.region(region).sql("SELECT line FROM domicile.leaves").await.unwrap();
        said.push((format!("{region} leaves"), leaves.join("\n")));
        let violations = office.audit(&["violations", "list", "--region", region, "--json"]).await;
        said.push((format!("{region} violations"), String::from_utf8_lossy(&violations.stdout).into_owned()));
        let transfers = office.audit(&["transfers", "--region", region, "--json"]).await;
        said.push((format!("{region} transfers"), String::from_utf8_lossy(&transfers.stdout).into_owned()));
    }
    for path in [
        "/v1/audit/violations".to_owned(),
        "/v1/audit/transfers".to_owned(),
        "/v1/audit/decisions".to_owned(),
        format!("/v1/audit/decisions/{denied}"),
        format!("/v1/audit/decisions/{denied}/explain"),
        "/v1/audit/us-east/tile/entries/000.p/4".to_owned(),
    ] {
        said.push((path.clone(), office.get(&path).await.text()));
    }
    for (what, text) in said {
        assert!(!text.is_empty(), "{what} says something");
        for name in [anna.as_str(), secret.as_str(), address] {
            assert!(!text.contains(name), "{name} is in {what}");
        }
    }
    office.world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_what_the_log_holds_in_every_form_and_the_log_says_that_it_was_made() {
    let office = Office::open().await;
    let service = office.world.client().unwrap().residing_in("DE");
    for n in 0..20 {
        let put =
            service.put_record(&person("exported"), "profile", &format!("k{n}"), &json!({ "n": n })).await.unwrap();
        put.expect(201).unwrap();
    }
    let jsonl = office.path("part.jsonl");
    let made = office
        .audit(&[
            "export",
            "--region",
            "eu-central",
            "--to",
            "30",
            "--format",
            "jsonl",
            "--json",
            "--out",
            &jsonl.to_string_lossy(),
        ])
        .await;
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let lines = "SELECT line FROM domicile.leaves WHERE seq < 30 ORDER BY seq";
    let lines = office.world.region("eu-central").sql(lines).await.unwrap();
    assert_eq!(file(&jsonl), lines.iter().map(|line| format!("{line}\n")).collect::<String>());
    assert_eq!((made["rows"].as_u64(), made["altered"].as_u64()), (Some(30), Some(0)));
    // The same part over HTTP has the same bytes, and a hash that the log knows.
    for format in ["jsonl", "csv", "parquet"] {
        let out = office.path(&format!("again.{format}"));
        let out_text = out.to_string_lossy().into_owned();
        office.audit(&["export", "--region", "eu-central", "--to", "30", "--format", format, "--out", &out_text]).await;
        let answer = office.get(&format!("/v1/audit/eu-central/export?format={format}&to=30")).await;
        assert_eq!(answer.body, std::fs::read(&out).unwrap(), "{format}");
        assert!(answer.header("content-disposition").unwrap().contains(&format!("eu-central-0-30.{format}")));
        let hash = sha256(&answer.body);
        let made = "SELECT line FROM domicile.leaves WHERE line LIKE '%\"k\":\"export.make\"%'";
        let made = office.world.region("eu-central").sql(made).await.unwrap();
        let of_it: Vec<_> = made.iter().filter(|line| line.contains(&hash)).collect();
        assert_eq!(of_it.len(), if format == "jsonl" { 3 } else { 2 }, "{format}: {made:?}");
        assert!(of_it.iter().any(|line| line.contains("\"act\":\"key:auditor\"")), "{of_it:?}");
    }
    let only = office.get("/v1/audit/eu-central/export?format=jsonl&kind=subject.register,log.genesis").await.text();
    assert_eq!(only.lines().filter(|line| line.contains("\"k\":\"subject.register\"")).count(), 20);
    assert_eq!(only.lines().count(), 21, "{only}");
    for wrong in ["format=xml", "", "format=csv&kind=decision", "format=csv&from=yesterday"] {
        let refused = office.ask(&format!("/v1/audit/eu-central/export?{wrong}")).await;
        assert_eq!(refused.code().as_deref(), Some("malformed_query"), "{wrong}");
    }
    read_by_duckdb(&office).await;
    office.world.shutdown().await;
}

/// DuckDB, somebody else's reader, finds the same in Parquet and CSV as the log holds.
async fn read_by_duckdb(office: &Office) {
    let Some(python) = world::tools::fakesnow_python() else {
        // The Parquet and CSV readers of the crates `parquet` and `csv` have read both files in `audit`'s tests.
        eprintln!("DuckDB IS NOT INSTALLED HERE (cargo xtask tools): it was not asked to read the exports");
        return;
    };
    let script = r#"
import duckdb, json, sys
seen = {}
for name, reader in (("parquet", "read_parquet"), ("csv", "read_csv")):
    options = "" if name == "parquet" else ", header = true, all_varchar = true"
    rows = duckdb.sql(f"SELECT CAST(seq AS BIGINT), leaf_hash, kind, line FROM {reader}('{sys.argv[1]}/again.{name}'{options}) ORDER BY 1").fetchall()
    seen[name] = [list(row) for row in rows]
typed = duckdb.sql(f"SELECT count(*), min(epoch_us(ts)) > 1600000000000000, sum(bytes) >= 0, count(evidence) FROM read_parquet('{sys.argv[1]}/again.parquet')").fetchall()[0]
print(json.dumps({"seen": seen, "typed": list(typed)}))
"#;
    let output = Command::new(python).args(["-c", script]).arg(office.folder.path()).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read: Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = "SELECT jsonb_build_array(seq, encode(hash, 'hex'), line::jsonb ->> 'k', line)::text \
                    FROM domicile.leaves WHERE seq < 30 ORDER BY seq";
    let expected = office.world.region("eu-central").sql(expected).await.unwrap();
    let expected: Vec<Value> = expected.iter().map(|row| serde_json::from_str(row).unwrap()).collect();
    assert_eq!(read["seen"]["parquet"], json!(expected));
    assert_eq!(read["seen"]["csv"], json!(expected));
    assert_eq!((&read["typed"][0], &read["typed"][1]), (&json!(30), &json!(true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_attempt_is_in_the_register_and_somebody_answers_for_it() {
    let office = Office::open().await;
    let service = office.world.client().unwrap().residing_in("RU");
    for n in 0..3 {
        service
            .put_record(&person(&format!("denied-{n}")), "profile", "x", &json!({}))
            .await
            .unwrap()
            .expect(451)
            .unwrap();
    }
    until("all three are registered", PATIENCE, || async {
        let page = office.get("/v1/audit/violations?rule=denied").await.json();
        page["items"].as_array().unwrap().len() == 3
    })
    .await
    .unwrap();
    // Page by page, newest first.
    let (mut seen, mut path) = (Vec::new(), "/v1/audit/violations?rule=denied&limit=1".to_owned());
    loop {
        let page = office.get(&path).await.json();
        seen.extend(page["items"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/audit/violations?rule=denied&limit=1&cursor={next}");
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert!(seen.iter().all(|one| one["says"].as_str().unwrap().contains("residency_refused")), "{seen:?}");
    let id = seen[0]["id"].as_str().unwrap();
    let acknowledge = |client: &Client, body: Value| {
        let path = ["v1", "audit", "violations", id, "acknowledge"];
        let request = client.request(reqwest::Method::POST, path).json(&body);
        let client = client.clone();
        async move { client.send(request).await.unwrap() }
    };
    let reader = office.world.client().unwrap().with_key(&office.world.keys().compliance);
    let refused = acknowledge(&reader, json!({ "reason": "x" })).await.expect(403).unwrap();
    assert_eq!(refused.code().as_deref(), Some("scope_missing"));
    for wrong in [
        json!({ "reason": " " }),
        json!({ "reason": "x".repeat(501) }),
        json!({}),
        json!({ "reason": "x", "by": "me" }),
    ] {
        acknowledge(&office.auditor, wrong).await.expect(400).unwrap();
    }
    let reason = "A test of the new checkout";
    let done = acknowledge(&office.auditor, json!({ "reason": reason })).await.expect(200).unwrap().json();
    assert_eq!(
        (done["acknowledged"]["by"].as_str(), done["acknowledged"]["reason"].as_str()),
        (Some("key:auditor"), Some(reason))
    );
    // The first acknowledgement stays.
    let again = acknowledge(&office.auditor, json!({ "reason": "Another" })).await.expect(200).unwrap().json();
    assert_eq!(again["acknowledged"]["reason"].as_str(), Some(reason));
    let open = office.get("/v1/audit/violations?acknowledged=false&rule=denied").await.json();
    assert_eq!(open["items"].as_array().unwrap().len(), 2, "{open}");
    let leaves = "SELECT line FROM domicile.leaves WHERE line LIKE '%\"k\":\"violation.acknowledge\"%'";
    let region = seen[0]["region"].as_str().unwrap().to_owned();
    let leaves = office.world.region(&region).sql(leaves).await.unwrap();
    assert_eq!(leaves.len(), 1, "{leaves:?}");
    assert!(leaves[0].contains("\"act\":\"key:auditor\"") && !leaves[0].contains(reason), "{leaves:?}");
    // By command, too.
    let number = seen[1]["id"].as_str().unwrap().rsplit('.').next().unwrap().to_owned();
    office.audit(&["violations", "acknowledge", &number, "--region", &region, "--reason", "Known"]).await;
    let listed =
        office.audit(&["violations", "list", "--region", &region, "--open", "--rule", "denied", "--json"]).await;
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed["violations"].as_array().unwrap().len(), 1, "{listed}");
    let unknown = office
        .auditor
        .request(reqwest::Method::POST, ["v1", "audit", "violations", "eu-central.999999", "acknowledge"]);
    let unknown = office.auditor.send(unknown.json(&json!({ "reason": "x" }))).await.unwrap().expect(404).unwrap();
    assert_eq!(unknown.code().as_deref(), Some("violation_not_found"));
    office.world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_crossed_a_border_is_in_both_registers_and_finds_its_other_side() {
    let office = Office::open().await;
    let service = office.world.client().unwrap().residing_in("US");
    let anna = person("crossing");
    service.put_record(&anna, "profile", "x", &json!({ "n": 1 })).await.unwrap().expect(201).unwrap();
    let read = service.get_record(&anna, "profile", "x").await.unwrap().expect(200).unwrap();
    let decision = read.header("domicile-decision").unwrap().to_owned();
    until("both sides are matched", PATIENCE, || async {
        let page = office.get("/v1/audit/transfers?matched=true&out_of=us-east").await.json();
        let items = page["items"].as_array().unwrap();
        let sides: Vec<_> = items.iter().filter(|one| one["id"] == decision.as_str()).collect();
        sides.len() == 2 && sides.iter().any(|one| one["side"] == "counterpart" && one["region"] == "eu-central")
    })
    .await
    .unwrap();
    let none = office.get("/v1/audit/transfers?into=us-east&out_of=us-east").await.json();
    assert_eq!(none["items"], json!([]));
    // In the pack, as the entries say; altered there, Python sees it.
    let pack = office.path("us.zip");
    until("the transfer is signed", PATIENCE, || async {
        drop(std::fs::remove_file(&pack));
        office.audit(&["pack", "--region", "us-east", "--out", &pack.to_string_lossy()]).await;
        unzipped(&pack).await.contains(&format!("\"id\":\"{decision}\",\"k\":\"decision.read\""))
    })
    .await
    .unwrap();
    let key = office.world.log_key("us-east").unwrap();
    let (holds, said) = python_verifies(&office, &pack, &key).await;
    assert!(holds && said.contains("transfers.jsonl, as the entries say"), "{said}");
    let altered = office.path("altered.zip");
    let script = "import sys, zipfile, json, hashlib\n\
        a = zipfile.ZipFile(sys.argv[1]); b = zipfile.ZipFile(sys.argv[2], 'w')\n\
        files = {n: a.read(n) for n in a.namelist()}\n\
        files['transfers.jsonl'] = files['transfers.jsonl'].replace(b'us-east', b'eu-north')\n\
        m = json.loads(files.pop('manifest.json')); m['files'] = {n: hashlib.sha256(c).hexdigest() for n, c in files.items()}\n\
        files['manifest.json'] = json.dumps(m).encode()\n\
        [b.writestr(n, c) for n, c in files.items()]; b.close()";
    let done = Command::new("python3").args(["-c", script]).arg(&pack).arg(&altered).output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let (holds, said) = python_verifies(&office, &altered, &key).await;
    assert!(!holds && said.contains("listed: FAILS"), "{said}");
    let domicile = world::tools::domicile().unwrap();
    let verified =
        Command::new(domicile).args(["audit", "verify", "--json", "--key", &key]).arg(&altered).output().await.unwrap();
    assert_eq!(verified.status.code(), Some(11), "{}", String::from_utf8_lossy(&verified.stdout));
    assert!(String::from_utf8_lossy(&verified.stdout).contains("list_differs"));
    office.world.shutdown().await;
}

async fn python_verifies(office: &Office, pack: &Path, key: &str) -> (bool, String) {
    let script = office.path("verify.py");
    let extract = "import sys, zipfile; open(sys.argv[2], 'wb').write(zipfile.ZipFile(sys.argv[1]).read('verify.py'))";
    let done = Command::new("python3").args(["-c", extract]).arg(pack).arg(&script).output().await.unwrap();
    assert!(done.status.success());
    let output = Command::new("python3").arg("-I").arg(&script).arg(pack).arg(key).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said)
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
