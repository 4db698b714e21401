//! The region log as proof: what is served to auditors, and what a witness of their own adds.

use std::time::Duration;

use serde_json::json;
use system_tests::soak::Auditor;
use system_tests::{canary, person, shared, until};
use tokio::process::Command;
use world::World;

use crate::witness::Witness;

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_served_to_auditors_only_and_by_its_rules() {
    let world = shared().await;
    let (service, auditor) = (world.client(), world.client().with_key(&world.keys().compliance));
    let put =
        service.clone().residing_in("DE").put_record(&person("served"), "profile", "x", &json!({})).await.unwrap();
    let seq = put.expect(201).unwrap().seq().expect("a receipt");
    for path in ["checkpoint", "tile/0/000", "tile/entries/000", "proof/0"] {
        let refused = service.get(&format!("/v1/audit/eu-central/{path}")).await.unwrap().expect(403).unwrap();
        assert_eq!(refused.code().as_deref(), Some("scope_missing"), "{path}");
    }
    until("the entry is signed", Duration::from_secs(120), || async {
        let proof = auditor.get(&format!("/v1/audit/eu-central/proof/{seq}")).await.unwrap();
        proof.status == 200 && proof.text().starts_with("c2sp.org/tlog-proof@v1\n")
    })
    .await
    .unwrap();
    let note = auditor.get("/v1/audit/eu-central/checkpoint").await.unwrap().expect(200).unwrap();
    assert!(note.text().starts_with("eu-central.log.world.test\n"), "{}", note.text());
    assert_eq!(note.header("content-type"), Some("text/plain; charset=utf-8"));
    for (path, status, code) in [
        ("tile/0/x000/000", 400, "malformed_path"),
        ("tile/0/67", 400, "malformed_path"),
        ("tile/9/000", 400, "malformed_path"),
        ("tile/entries/000.p/256", 400, "malformed_path"),
        ("tile/0/x999/999", 404, "not_in_log"),
        ("tile/entries/x999/999", 404, "not_in_log"),
        ("proof/9007199254740991", 404, "not_in_log"),
        ("proof/-1", 400, "malformed_path"),
    ] {
        let answer = auditor.get(&format!("/v1/audit/eu-central/{path}")).await.unwrap();
        assert_eq!((answer.status, answer.code().as_deref()), (status, Some(code)), "{path}: {}", answer.text());
    }
    let elsewhere = world.client_of(world.european()).unwrap().with_key(&world.keys().compliance);
    let misdirected = elsewhere.get("/v1/audit/us-east/checkpoint").await.unwrap().expect(421).unwrap();
    assert_eq!(misdirected.code().as_deref(), Some("misdirected_region"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_of_the_auditors_own_cosigns_and_no_pack_or_entry_names_anybody() {
    let world = World::with_regions(["eu-central"]).without_brokers().without_snowflakes().start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let domicile = world::tools::domicile().unwrap();
    let gateway = &world.gateways()[0];
    let witness = Witness::of(&world, "eu-central").await;
    witness.is_asked_by(gateway, "eu-central").await;
    let public = &witness.key;

    let (anna, secret) = (person("witnessed"), canary());
    let client = world.client().unwrap().residing_in("DE").seen_from("2.160.0.1");
    let written = client.put_record(&anna, "profile", &secret, &json!({ "secret": secret })).await.unwrap();
    let seq = written.expect(201).unwrap().seq().unwrap();
    let auditor = Auditor::new(&world, folder.path()).unwrap();
    until("a checkpoint is cosigned", Duration::from_secs(120), || async {
        let (code, report) = auditor.verify(&["--witness", public]).await.unwrap();
        code == 0 && report["verdicts"]["witnessed"]["outcome"] == "holds" && report["leaves"].as_u64() > Some(seq)
    })
    .await
    .unwrap();
    let (code, report) = auditor.verify(&["--witness", public, "--quorum", "2"]).await.unwrap();
    assert_eq!((code, report["failed"].as_str()), (13, Some("witnessed")), "{report}");

    let pack = path("pack.zip");
    let config = gateway.config().to_string_lossy().into_owned();
    let packed = Command::new(&domicile)
        .args(["audit", "pack", "--region", "eu-central", "--out", &pack, "--config", &config])
        .output()
        .await
        .unwrap();
    assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
    let unpacked = Command::new("python3")
        .args(["-c", "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); [sys.stdout.buffer.write(z.read(n)) for n in z.namelist()]", &pack])
        .output()
        .await
        .unwrap();
    let everything = String::from_utf8_lossy(&unpacked.stdout).into_owned();
    assert!(everything.contains("\"k\":\"decision.write\""), "the pack holds the entries");
    for name in [anna.as_str(), secret.as_str(), "2.160.0.1"] {
        assert!(!everything.contains(name), "{name} is in the pack");
    }
    world.shutdown().await;
}
