//! Backups and drills by the binary, as an operator types them.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use age::x25519::Identity;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::process::Command;
use world::{Gateway, World};

/// A world whose region has a place for its backups.
struct Scene {
    world: World,
    folder: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        let (verify, emergency) = (Identity::generate(), Identity::generate());
        std::fs::write(path("identity"), verify.to_string().expose_secret()).unwrap();
        let made =
            run(&["audit", "key", "generate", "eu-central.backup.test", "--out", &path("backup-key")], None).await;
        assert!(made.status.success(), "{}", words(&made));
        let recipients = [verify, emergency].map(|key| toml::Value::from(key.to_public().to_string()));
        let backup = "regions.eu-central.backup";
        let world = World::with_regions(["eu-central"])
            .without_brokers()
            .without_snowflakes()
            .setting(&format!("{backup}.folder"), path("backups"))
            .setting(&format!("{backup}.location"), "aws/eu-central-1")
            .setting(&format!("{backup}.recipients"), recipients.to_vec())
            .setting(&format!("{backup}.key"), format!("file:{}", path("backup-key")))
            .setting("backup.state_folder", path("state"))
            .start()
            .await
            .unwrap();
        Self { world, folder }
    }

    fn gateway(&self) -> &Gateway {
        &self.world.gateways()[0]
    }

    fn identity(&self) -> String {
        format!("file:{}", self.folder.path().join("identity").display())
    }

    /// `domicile ops …` with the configuration of the gateway.
    async fn ops(&self, words: &[&str]) -> Output {
        let mut arguments = vec!["ops"];
        arguments.extend(words);
        run(&arguments, Some(self.gateway().config())).await
    }

    async fn listed(&self) -> Vec<Value> {
        let list = self.ops(&["backup", "list", "--json"]).await;
        let told: Value = serde_json::from_slice(&list.stdout).unwrap_or_else(|_| panic!("{}", words(&list)));
        told["backups"].as_array().expect("a list").clone()
    }
}

async fn run(arguments: &[&str], config: Option<&Path>) -> Output {
    let mut command = Command::new(world::tools::domicile().unwrap());
    command.args(arguments).kill_on_drop(true);
    if let Some(config) = config {
        command.env("DOMICILE_CONFIG", config);
    }
    command.output().await.expect("it runs")
}

fn words(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn parsed(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", words(output)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_tool_that_is_killed_leaves_no_backup_that_is_none() {
    let scene = Scene::new().await;
    let put = scene.world.client().unwrap().residing_in("DE");
    for n in 0..20 {
        put.put_record(&format!("killed-{n}"), "profile", "x", &json!({ "n": n })).await.unwrap().expect(201).unwrap();
    }
    for ms in [30, 60, 90, 130, 180, 240, 320, 420, 550] {
        let mut child = Command::new(world::tools::domicile().unwrap())
            .args(["ops", "backup", "create"])
            .env("DOMICILE_CONFIG", scene.gateway().config())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(ms)).await;
        child.kill().await.unwrap();
        for listed in scene.listed().await {
            assert_ne!(listed["standing"], "refused", "killed after {ms} ms: {listed}");
        }
    }
    let made = scene.ops(&["backup", "create", "--json"]).await;
    assert!(made.status.success(), "{}", words(&made));
    assert_eq!(parsed(&made)["backups"][0]["verified"], true);
    let proven = scene.ops(&["backup", "verify", "--from-cipher", "--identity", &scene.identity()]).await;
    assert!(proven.status.success(), "{}", words(&proven));
    // What the server was still making for a tool that was killed goes with a later run.
    system_tests::until("the scratch databases of the killed are gone", Duration::from_secs(120), || async {
        assert!(scene.ops(&["backup", "create"]).await.status.success());
        let scratch = "SELECT count(*) FROM pg_database WHERE datname LIKE '%verify%'";
        scene.world.region("eu-central").cluster.sql("postgres", scratch).await.unwrap() == ["0"]
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn restoring_and_tampering_are_rehearsed_reported_and_shown_as_metrics() {
    let scene = Scene::new().await;
    let put = scene.world.client().unwrap().residing_in("DE");
    put.put_record("rehearsed", "profile", "x", &json!({})).await.unwrap().expect(201).unwrap();
    assert!(scene.ops(&["backup", "create"]).await.status.success());
    let identity = scene.identity();
    for kind in ["restore", "tamper"] {
        let done = scene.ops(&["drill", kind, "--identity", &identity, "--json"]).await;
        assert!(done.status.success(), "{}", words(&done));
        let report = &parsed(&done)["drills"][0];
        assert_eq!((&report["kind"], &report["verdict"]), (&kind.into(), &"pass".into()), "{report}");
        assert!(report["measured"]["rows"].as_u64().is_some_and(|rows| rows > 0), "{report}");
    }
    let history = parsed(&scene.ops(&["drill", "history", "--json"]).await);
    assert_eq!(history["drills"].as_array().map(Vec::len), Some(2));
    let markdown = scene.ops(&["drill", "report"]).await;
    assert!(
        words(&markdown).contains("a byte in the middle was flipped: refused (cipher_hash)"),
        "{}",
        words(&markdown)
    );
    system_tests::until("the proofs are shown", Duration::from_secs(60), || async {
        let shown = scene.gateway().metrics().await.unwrap_or_default();
        shown.contains("domicile_backup_last_verified_timestamp_seconds{region=\"eu-central\"}")
            && shown.contains("domicile_drill_last_success_timestamp_seconds{")
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_made_under_writes_lacks_nothing_that_was_acknowledged_before_it() {
    let scene = Scene::new().await;
    let url = scene.gateway().url().to_owned();
    let words = ["drill", "restore", "--identity", &scene.identity(), "--probe", &url, "--rpo", "600", "--json"];
    let done = scene.ops(&words).await;
    assert!(done.status.success(), "{}", self::words(&done));
    let report = &parsed(&done)["drills"][0];
    let measured = &report["measured"];
    assert_eq!((&measured["lost"], &report["verdict"]), (&json!(0), &json!("pass")), "{report}");
    assert!(measured["acknowledged"].as_u64().is_some_and(|count| count >= 50), "{report}");
    assert!(measured["rto_ms"].is_u64() && measured["rpo_ms"].is_u64(), "{report}");
    // What the probe wrote is gone, but for the log; its key, too.
    let left = "SELECT count(*) FROM domicile.records WHERE collection = 'drill'";
    assert_eq!(scene.world.region("eu-central").cluster.sql("domicile", left).await.unwrap(), ["0"]);
    let keys = run(&["keys", "list"], Some(scene.gateway().config())).await;
    assert!(self::words(&keys).contains("revoked"), "{}", self::words(&keys));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_cannot_be_used_is_named_with_what_would_mend_it() {
    let scene = Scene::new().await;
    let good = scene.ops(&["backup", "check", "--json"]).await;
    assert!(good.status.success(), "{}", words(&good));
    let told = parsed(&good);
    assert_eq!((&told["places"][0]["region"], &told["without"]), (&json!("eu-central"), &json!([])), "{told}");
    let folder = scene.folder.path().join("backups");
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::write(&folder, "in the way").unwrap();
    let bad = scene.ops(&["backup", "check", "--json"]).await;
    assert_eq!(bad.status.code(), Some(9), "{}", words(&bad));
    let row = parsed(&bad)["places"][0].clone();
    assert!(row["place"].as_str().is_some_and(|place| place.contains("aws/eu-central-1")), "{row}");
    assert!(row["fix"].as_str().is_some_and(|fix| fix.contains("a folder")), "{row}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_is_rehearsed_with_its_outage_measured_and_no_acknowledged_write_lost() {
    let folder = tempfile::tempdir().unwrap();
    // No configuration: a world of its own.
    let nowhere = folder.path().join("none.toml");
    let done = run(&["ops", "drill", "crash", "--json", "--rto", "120"], Some(&nowhere)).await;
    let report = parsed(&done)["drills"][0].clone();
    assert_eq!(report["measured"]["lost"], 0, "{report}");
    assert!(report["measured"]["acknowledged"].as_u64().is_some_and(|count| count >= 100), "{report}");
    assert!(report["measured"]["rto_ms"].as_u64().is_some_and(|ms| ms > 0), "{report}");
    assert_eq!(report["findings"], json!([]), "{report}");
    assert!(done.status.success(), "{}", words(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_serves_people_is_not_broken_by_a_slip() {
    let scene = Scene::new().await;
    let url = scene.gateway().url().to_owned();
    let asked = ["drill", "crash", "--url", &url, "--residence", "DE", "--region", "eu-central", "--break", "false"];
    let refused = |more: &'static [&'static str]| {
        let words: Vec<String> =
            asked.iter().map(|&word| word.to_owned()).chain(more.iter().map(|&w| w.to_owned())).collect();
        let scene = &scene;
        async move { scene.ops(&words.iter().map(String::as_str).collect::<Vec<_>>()).await }
    };
    let output = refused(&[]).await;
    assert_eq!(output.status.code(), Some(4), "{}", words(&output));
    assert!(words(&output).contains("--production"), "{}", words(&output));
    let output = refused(&["--production", "--confirm", "eu-central"]).await;
    assert_eq!(output.status.code(), Some(4), "without a proven backup: {}", words(&output));
    assert!(scene.ops(&["backup", "create"]).await.status.success());
    let output = refused(&["--production", "--confirm", "us-east"]).await;
    assert_eq!(output.status.code(), Some(4), "another name was typed: {}", words(&output));
    assert!(words(&output).contains("Nothing was done"), "{}", words(&output));
}
