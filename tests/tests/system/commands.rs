//! What an operator and an auditor type, from the outside: the commands of a log's life after its entries were written, with
//! the exit codes and words that their help promises.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use futures::future::try_join_all;
use leaf::{Fact, GatewayId};
use residency::{Jurisdiction, Region};
use serde_json::{Value, json};
use storage::{AuditReads, Limits, RegionSettings, RegionStore};
use system_tests::soak::Auditor;
use system_tests::{PATIENCE, person, until};
use tempfile::TempDir;
use tlog::{Checkpoint, KeyKind, Note, SigningKey};
use tokio::process::Command;
use world::World;

const REGION: &str = "eu-central";

/// What a command said, and how it ended.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    /// Its standard output as JSON.
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// Insists on an exit code, and on words in what it said on either stream.
    fn insist(&self, code: i32, words: &[&str]) -> &Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        for word in words {
            assert!(self.out.contains(word) || self.err.contains(word), "{word:?} is not said: {self:?}");
        }
        self
    }
}

/// A world, and somebody who types `domicile audit …`.
struct Desk {
    world: World,
    folder: TempDir,
}

impl Desk {
    fn at(world: World) -> Self {
        Self { world, folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn url(&self, region: &str) -> String {
        format!("{}/v1/audit/{region}", self.world.gateways()[0].url())
    }

    fn key(&self, region: &str) -> String {
        self.world.log_key(region).unwrap()
    }

    fn config(&self) -> &Path {
        self.world.gateways()[0].config()
    }

    fn configured(&self) -> toml::Table {
        std::fs::read_to_string(self.config()).unwrap().parse().unwrap()
    }

    async fn domicile(&self, args: &[&str]) -> Said {
        let output = Command::new(world::tools::domicile().unwrap())
            .args(args)
            .env("AUDIT_TOKEN", &self.world.keys().compliance)
            .output()
            .await
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// The same with the gateway's configuration.
    async fn configured_domicile(&self, args: &[&str]) -> Said {
        let config = self.config().to_string_lossy().into_owned();
        self.domicile(&[args, &["--config", &config]].concat()).await
    }

    /// `domicile audit verify` of a region's log as the gateway serves it.
    async fn verify(&self, region: &str, more: &[&str]) -> Said {
        let (url, key) = (self.url(region), self.key(region));
        let args = ["audit", "verify", &url, "--key", &key, "--token", "env:AUDIT_TOKEN"];
        self.domicile(&[&args[..], more].concat()).await
    }

    async fn count(&self, sql: &str) -> u64 {
        self.world.region(REGION).sql(sql).await.unwrap()[0].parse().unwrap()
    }
}

/// Lets entries of every kind go after so many days.
fn kept_for(days: i64) -> toml::Value {
    let rule: toml::Table = format!("kind = \"*\"\nmin_days = {days}").parse().unwrap();
    toml::Value::Array(vec![toml::Value::Table(rule)])
}

#[tokio::test(flavor = "multi_thread")]
async fn old_lines_are_let_go_by_command_and_the_log_verifies_as_before() {
    let world = World::with_regions([REGION]).without_brokers().without_snowflakes().gateways_not_started();
    let desk = Desk::at(world.setting("regions.eu-central.retention", kept_for(30)).start().await.unwrap());
    // A log that begins two days ago, and is served today.
    beat(&desk, "older", -2 * 86_400, 600).await;
    let gateway = &desk.world.gateways()[0];
    gateway.start_again().await.unwrap();
    let client = desk.world.client().unwrap().residing_in("DE");
    let put = client.put_record(&person("pruned"), "profile", "x", &json!({})).await.unwrap().expect(201).unwrap();
    let auditor = Auditor::new(&desk.world, desk.folder.path()).unwrap();
    auditor.signed_beyond(put.seq().unwrap()).await.unwrap();
    let kept = desk.path("kept.checkpoint").to_string_lossy().into_owned();
    desk.verify(REGION, &["--save", &kept]).await.insist(0, &["Nothing failed."]);
    // The first 512 entries become a partition of their own, and an event of one of them waits.
    gateway.terminate().await.unwrap();
    let sql = "INSERT INTO domicile.outbox SELECT (jsonb_populate_record(NULL::domicile.outbox, to_jsonb(o) || '{\"seq\": 100}')).* \
               FROM (SELECT * FROM domicile.outbox ORDER BY seq LIMIT 1) AS o; \
               ALTER TABLE domicile.leaves DETACH PARTITION domicile.leaves_000000; \
               CREATE TABLE domicile.leaves_old (LIKE domicile.leaves INCLUDING ALL); \
               INSERT INTO domicile.leaves_old SELECT * FROM domicile.leaves_000000 WHERE seq < 512; \
               DELETE FROM domicile.leaves_000000 WHERE seq < 512; \
               ALTER TABLE domicile.leaves ATTACH PARTITION domicile.leaves_old FOR VALUES FROM (0) TO (512); \
               ALTER TABLE domicile.leaves ATTACH PARTITION domicile.leaves_000000 FOR VALUES FROM (512) TO (16777216)";
    desk.world.region(REGION).sql(sql).await.unwrap();
    gateway.start_again().await.unwrap();

    let prune = async |how: &[&str]| {
        desk.configured_domicile(&[&["audit", "prune", "--region", REGION][..], how].concat()).await
    };
    prune(&[]).await.insist(2, &["--dry-run", "--apply"]);
    prune(&["--dry-run", "--apply"]).await.insist(2, &["cannot be used with"]);
    let elsewhere = ["audit", "prune", "--region", "us-east", "--dry-run"];
    desk.configured_domicile(&elsewhere).await.insist(1, &["region us-east is not served here"]);
    // Nothing is old enough, and applying changes nothing.
    for how in ["--dry-run", "--apply"] {
        prune(&[how]).await.insist(0, &["No lines may go.", "The next partition stays", "for another 28 days"]);
    }
    assert_eq!(desk.count("SELECT count(*) FROM domicile.leaves WHERE seq < 512").await, 512);
    let mut config = desk.configured();
    config["regions"][REGION].as_table_mut().unwrap().insert("retention".to_owned(), kept_for(1));
    std::fs::write(desk.config(), toml::to_string(&config).unwrap()).unwrap();
    // Old enough, but the event is not in its topic yet.
    let waits = "events up to entry 512 are not all in their topics";
    until("only the relay is behind", PATIENCE, || async {
        prune(&["--dry-run", "--json"]).await.json()["hindered"] == json!([waits])
    })
    .await
    .unwrap();
    prune(&["--dry-run"]).await.insist(0, &["The lines of the entries 0 to 511 may go.", &format!("But {waits}.")]);
    prune(&["--apply"]).await.insist(1, &[waits, "nothing has gone"]);
    assert_eq!(desk.count("SELECT count(*) FROM domicile.leaves WHERE seq < 512").await, 512);
    let carried =
        "INSERT INTO domicile.cursors (name, seq) VALUES ('relay', 600) ON CONFLICT (name) DO UPDATE SET seq = 600";
    desk.world.region(REGION).sql(carried).await.unwrap();
    let planned = prune(&["--dry-run", "--json"]).await.insist(0, &[]).json();
    assert_eq!((&planned["from"], &planned["to"], &planned["applied"]), (&json!(0), &json!(512), &json!(false)));
    prune(&["--apply"]).await.insist(0, &["The lines of the entries 0 to 511 are gone; their hashes stay."]);
    assert_eq!(desk.count("SELECT count(*) FROM domicile.leaves WHERE seq < 512").await, 0);
    assert_eq!(desk.count("SELECT count(*) FROM domicile.tiles WHERE level = 0 AND n < 2").await, 2);
    let said = desk.count("SELECT count(*) FROM domicile.leaves WHERE line LIKE '%\"k\":\"log.prune\"%'").await;
    assert_eq!(said, 1, "refusals and plans leave no word in the log");
    prune(&["--apply"]).await.insist(0, &["No lines may go."]);

    // An auditor who kept a checkpoint from before, by the URL and by a pack.
    let verified = desk.verify(REGION, &["--since", &kept, "--json"]).await.insist(0, &[]).json();
    assert_eq!(verified["verdicts"]["append-only"]["outcome"], "holds", "{verified}");
    assert_eq!(verified["leaves"].as_u64().unwrap() + 512, verified["size"].as_u64().unwrap(), "{verified}");
    desk.verify(REGION, &["--since", &kept]).await.insist(0, &["pruned: 512", "Nothing failed."]);
    let pack = desk.path("rest.zip").to_string_lossy().into_owned();
    desk.configured_domicile(&["audit", "pack", "--region", REGION, "--from", "512", "--since", &kept, "--out", &pack])
        .await
        .insist(0, &[]);
    let key = desk.key(REGION);
    desk.domicile(&["audit", "verify", &pack, "--key", &key, "--since", &kept]).await.insist(0, &["Nothing failed."]);
    // A receipt from before is proven, though its line is gone.
    let auditor = desk.world.client().unwrap().with_key(&desk.world.keys().compliance);
    let proof = auditor.get(&format!("/v1/audit/{REGION}/proof/100")).await.unwrap().expect(200).unwrap();
    assert!(proof.text().starts_with("c2sp.org/tlog-proof@v1\n"), "{}", proof.text());
    // What goes without a word is missed, beside what was let go.
    desk.world.region(REGION).sql("DELETE FROM domicile.leaves WHERE seq = 600").await.unwrap();
    let missed = desk.verify(REGION, &["--json"]).await.insist(11, &[]).json();
    assert_eq!(missed["failed"], "well-formed", "{missed}");
    desk.world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_logs_are_held_against_each_other_by_command() {
    let world = World::with_regions([REGION, "us-east"]).without_brokers().without_snowflakes().start().await.unwrap();
    let desk = Desk::at(world);
    let client = desk.world.client().unwrap().residing_in("US");
    let cross = async |name: &str| {
        let put = client.put_record(&person(name), "profile", "x", &json!({})).await.unwrap().expect(201).unwrap();
        put.header("domicile-decision").unwrap().to_owned()
    };
    let (url, key) = (desk.url(REGION), desk.key(REGION));
    let verify = async |more: &[&str]| {
        desk.verify("us-east", &[&["--other", &url, "--other-key", &key, "--json"][..], more].concat()).await
    };
    let first = cross("balanced").await;
    until("both sides are signed", PATIENCE, || async {
        let said = verify(&[]).await;
        said.code == Some(0) && said.json()["verdicts"]["balanced"]["outcome"] == "holds"
    })
    .await
    .unwrap();
    let report = verify(&[]).await.insist(0, &[]).json();
    assert_eq!(report["verdicts"]["balanced"]["looked_at"], "1 of 1 transfers on both sides", "{report}");
    assert_eq!(report["others"][0]["verdicts"]["balanced"]["outcome"], "holds", "{report}");
    // With one log alone nothing is said about the other.
    let alone = desk.verify("us-east", &["--json"]).await.insist(0, &[]).json();
    assert_eq!(alone["verdicts"]["balanced"]["outcome"], "unchecked", "{alone}");
    // Each log has its own key, and each source its key.
    let swapped = desk.verify("us-east", &["--other", &url, "--other-key", &desk.key("us-east")]).await;
    swapped.insist(10, &["not_signed_by_this_key"]);
    desk.verify("us-east", &["--other", &url]).await.insist(2, &["each --other needs its --other-key"]);
    desk.verify("us-east", &["--other-key", &key]).await.insist(2, &["--other"]);
    // Somebody keeps the other side out of the other region's log.
    let hold = "UPDATE domicile.cursors SET owner = 'somebody', token = token + 1, lease_until = 'infinity' \
                WHERE name = 'transfers/eu-central'";
    desk.world.region("us-east").sql(hold).await.unwrap();
    let second = cross("one-sided").await;
    until("it may still come", PATIENCE, || async {
        let report = verify(&[]).await.insist(0, &[]).json();
        report["verdicts"]["balanced"]["looked_at"]
            == "1 of 2 transfers on both sides; 1 at an end of what was read of the other log"
    })
    .await
    .unwrap();
    until("the register awaits it", PATIENCE, || async {
        let listed = ["audit", "transfers", "--region", "us-east", "--unmatched"];
        desk.configured_domicile(&listed).await.insist(0, &[]).out.contains("awaited")
    })
    .await
    .unwrap();
    // The other log goes on for more than two minutes without it.
    beat(&desk, "ahead", 150, 1).await;
    until("that is signed", PATIENCE, || async { verify(&[]).await.code == Some(15) }).await.unwrap();
    let report = verify(&[]).await.insist(15, &[]).json();
    assert_eq!(report["failed"], "balanced", "{report}");
    let found = report["findings"].as_array().unwrap();
    assert_eq!(found.len(), 1, "{report}");
    assert_eq!(found[0]["rule"], "transfer_unmatched");
    let says = found[0]["says"].as_str().unwrap();
    assert!(says.contains(&second) && !says.contains(&first), "{says}");
    desk.world.shutdown().await;
}

#[expect(clippy::disallowed_methods, reason = "a test is a front door")]
fn now_us() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

/// Has another gateway write heartbeats into the log of `eu-central`, so many seconds from now.
async fn beat(desk: &Desk, gateway: &str, seconds: i64, beats: usize) {
    let at_us = now_us() + seconds * 1_000_000;
    let store = RegionStore::open(RegionSettings {
        region: Region::new(REGION).unwrap(),
        jurisdiction: Jurisdiction::new("eu").unwrap(),
        dsn: desk.world.region(REGION).superuser_dsn().into(),
        log_origin: desk.key(REGION).split('+').next().unwrap().to_owned(),
        audit_reads: AuditReads::Durable,
        keeps_details: false,
        gateway: GatewayId::new(gateway, 1).unwrap(),
        peppers: desk.world.peppers().unwrap(),
        reader_connections: 1,
        committer_connections: 1,
        limits: Limits::default(),
    });
    try_join_all((0..beats).map(|_| store.record(Fact::gateway_heartbeat(at_us, 10)))).await.unwrap();
    store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_check_that_fails_has_an_exit_code_of_its_own() {
    let world = World::with_regions([REGION]).without_brokers().without_snowflakes().start().await.unwrap();
    let desk = Desk::at(world);
    let client = desk.world.client().unwrap().residing_in("DE");
    client.put_record(&person("checked"), "profile", "x", &json!({})).await.unwrap().expect(201).unwrap();
    let verify = async |more: &[&str]| desk.verify(REGION, more).await;
    until("the log is signed and holds", PATIENCE, || async { verify(&[]).await.code == Some(0) }).await.unwrap();
    let key = desk.key(REGION);
    // 1: it cannot be read. 2: the command line is wrong.
    let nowhere = format!("http://127.0.0.1:{}/v1/audit/{REGION}", world::free_port().unwrap());
    desk.domicile(&["audit", "verify", &nowhere, "--key", &key]).await.insist(1, &["could not be read"]);
    desk.domicile(&["audit", "verify", &nowhere]).await.insist(2, &["--key"]);
    // 10: another key.
    let other = SigningKey::new(key.split('+').next().unwrap(), KeyKind::Log, &[7; 32]).unwrap();
    let other = other.public().to_string();
    let args = ["audit", "verify", &desk.url(REGION), "--key", &other, "--token", "env:AUDIT_TOKEN"];
    desk.domicile(&args).await.insist(10, &["not_signed_by_this_key", "The log FAILS: signed."]);
    // 12: whoever has the key has signed another history, of which an auditor kept a checkpoint.
    let secret = desk.configured()["regions"][REGION]["signer"]["key"].as_str().unwrap().replace("file:", "");
    let secret: SigningKey = std::fs::read_to_string(secret).unwrap().trim().parse().unwrap();
    let mut note = Note::new(Checkpoint::new(secret.public().name(), 2, [7; 32]).to_string()).unwrap();
    note.add(secret.sign(note.text(), 0));
    let forked = desk.path("forked.checkpoint").to_string_lossy().into_owned();
    std::fs::write(&forked, note.to_string()).unwrap();
    let saved = desk.path("saved.checkpoint").to_string_lossy().into_owned();
    let said = verify(&["--since", &forked, "--save", &saved]).await;
    said.insist(12, &["append-only rewritten", "The log FAILS: append-only."]);
    assert!(!Path::new(&saved).exists(), "what fails is not kept");
    // 13: no witness has seen it.
    let witness = SigningKey::new("witness.test/w1", KeyKind::Witness, &[5; 32]).unwrap().public().to_string();
    verify(&["--witness", &witness]).await.insist(13, &["too_few_witnesses", "The log FAILS: witnessed."]);
    // 16: the policy that is shown is not the one that was in force.
    let region = desk.world.region(REGION);
    let swap = "ALTER TABLE domicile.policy_sets DROP CONSTRAINT policy_sets_check; \
                UPDATE domicile.policy_sets SET text = text || E'\\n# changed\\n'";
    region.sql(swap).await.unwrap();
    verify(&[]).await.insist(16, &["policy_swapped", "The log FAILS: replayed."]);
    // 14: a gateway's count stands there twice.
    for _ in 0..2 {
        beat(&desk, "twin", 0, 1).await;
    }
    until("that is signed", PATIENCE, || async { verify(&[]).await.code == Some(14) }).await.unwrap();
    verify(&[]).await.insist(14, &["leaf_repeated", "The log FAILS: gapless."]);
    // 11: an entry was edited. The first check that fails gives the code.
    region.sql("UPDATE domicile.leaves SET line = replace(line, '\"v\":1', '\"v\":2') WHERE seq = 1").await.unwrap();
    verify(&[]).await.insist(11, &["The log FAILS: well-formed."]);
    desk.world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_succeeded_by_command_and_both_logs_verify_each_with_its_own() {
    let world = World::with_regions([REGION]).without_brokers().without_snowflakes().start().await.unwrap();
    let desk = Desk::at(world);
    let text = |name: &str| desk.path(name).to_string_lossy().into_owned();
    let anna = person("succeeded");
    let client = desk.world.client().unwrap().residing_in("DE");
    client.put_record(&anna, "profile", "x", &json!({ "n": 1 })).await.unwrap().expect(201).unwrap();
    let (old, new_key, last) = (desk.key(REGION), text("new.key"), text("last.checkpoint"));
    let generate = ["audit", "key", "generate", "eu-central-2.log.world.test", "--out", &new_key];
    let made = desk.domicile(&generate).await;
    let new = made.insist(0, &["eu-central-2.log.world.test+"]).out.trim().to_owned();
    desk.domicile(&generate).await.insist(1, &["new.key"]);
    assert_eq!(desk.domicile(&["audit", "key", "show", &new_key]).await.insist(0, &[]).out.trim(), new);

    // 2. While a gateway signs the log it cannot be ended; once it is stopped it can, and no dry run does.
    let retire = async |next: &str, more: &[&str]| {
        let args = ["audit", "key", "retire", "--region", REGION, "--next", next];
        desk.configured_domicile(&[&args[..], more].concat()).await
    };
    retire(&new, &["--out", &last]).await.insist(1, &["another process signs the log"]);
    assert!(!Path::new(&last).exists(), "an empty checkpoint would only mislead");
    retire(&new, &[]).await.insist(2, &["--out"]);
    retire(&old, &["--dry-run"]).await.insist(1, &["a new key needs a new origin"]);
    desk.world.gateways()[0].terminate().await.unwrap();
    let leaves = desk.count("SELECT size FROM domicile.head").await;
    retire(&new, &["--dry-run"]).await.insist(0, &["can be ended", &new]);
    assert_eq!(desk.count("SELECT size FROM domicile.head").await, leaves, "a dry run writes nothing");
    until("the log has ended", PATIENCE, || async { retire(&new, &["--out", &last]).await.code == Some(0) })
        .await
        .unwrap();
    assert_eq!(desk.count("SELECT size FROM domicile.head").await, leaves + 1);
    let note = std::fs::read_to_string(&last).unwrap();
    assert_eq!(note.lines().nth(1), Some((leaves + 1).to_string().as_str()), "all of it is under the last checkpoint");

    // 3. A pack of the old log, which stays verifiable.
    let pack = text("old.zip");
    desk.configured_domicile(&["audit", "pack", "--region", REGION, "--out", &pack]).await.insist(0, &["has ended"]);
    desk.domicile(&["audit", "verify", &pack, "--key", &old, "--since", &last]).await.insist(0, &["Nothing failed."]);
    assert_eq!(desk.count("SELECT size FROM domicile.head").await, leaves + 1, "nothing is written that nobody signs");

    // 4. A new database for the new log; subjects and records come along.
    let cluster = &desk.world.region(REGION).cluster;
    let mut config = desk.configured();
    let settings = config["regions"][REGION].as_table_mut().unwrap();
    for (setting, dsn) in
        [("postgres", cluster.dsn("gateway", "successor")), ("postgres_owner", cluster.superuser_dsn("successor"))]
    {
        let file = desk.path(setting);
        std::fs::write(&file, dsn).unwrap();
        settings.insert(setting.to_owned(), format!("file:{}", file.display()).into());
    }
    settings.insert("log_origin".to_owned(), "eu-central-2.log.world.test".into());
    let signer = settings["signer"].as_table_mut().unwrap();
    signer.insert("key".to_owned(), format!("file:{new_key}").into());
    signer.insert("memory_file".to_owned(), text("signed-2").into());
    std::fs::write(desk.config(), toml::to_string(&config).unwrap()).unwrap();
    desk.configured_domicile(&["migrate", "--create"]).await.insist(0, &[]);
    for table in ["subjects", "records"] {
        let all = format!("SELECT coalesce(json_agg(t), '[]')::text FROM domicile.{table} AS t");
        let rows = desk.world.region(REGION).sql(&all).await.unwrap().concat();
        let insert = format!(
            "INSERT INTO domicile.{table} SELECT * FROM json_populate_recordset(NULL::domicile.{table}, $rows${rows}$rows$)"
        );
        cluster.sql("successor", &insert).await.unwrap();
    }

    // 5. The new log names its predecessor, once.
    let succeed = async |was: &str, more: &[&str]| {
        let args = ["audit", "key", "succeed", "--region", REGION, "--was", was, "--checkpoint", &last];
        desk.configured_domicile(&[&args[..], more].concat()).await
    };
    succeed(&new, &[]).await.insist(1, &["a new key needs a new origin"]);
    succeed(&old, &["--dry-run"]).await.insist(0, &["would name", &old]);
    let forged = text("forged.checkpoint");
    std::fs::write(&forged, note.replacen(&(leaves + 1).to_string(), &(leaves + 2).to_string(), 1)).unwrap();
    let args = ["audit", "key", "succeed", "--region", REGION, "--was", &old, "--checkpoint", &forged];
    desk.configured_domicile(&args).await.insist(1, &["is not signed by"]);
    succeed(&old, &[]).await.insist(0, &["Entry 1 of eu-central-2.log.world.test names its predecessor.", &new]);
    succeed(&old, &[]).await.insist(1, &["has 2 entries already"]);

    // 6. Gateways start again, and data is where it was.
    desk.world.gateways()[0].start_again().await.unwrap();
    let read = client.get_record(&anna, "profile", "x").await.unwrap().expect(200).unwrap();
    assert_eq!(read.header("domicile-region"), Some(REGION));
    let url = desk.url(REGION);
    let verify =
        async |key: &str| desk.domicile(&["audit", "verify", &url, "--key", key, "--token", "env:AUDIT_TOKEN"]).await;
    until("the new log is signed", PATIENCE, || async { verify(&new).await.code == Some(0) }).await.unwrap();
    verify(&old).await.insist(10, &["not_signed_by_this_key"]);
    desk.domicile(&["audit", "verify", &pack, "--key", &new]).await.insist(10, &["not_signed_by_this_key"]);
    desk.world.shutdown().await;
}
