//! Evidence packs: whole, they verify offline, also with Python's standard library; altered, they do not.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use audit::pack::{Pack, VERIFY_PY, Wanted, write_pack};
use audit::verify::{Check, Expected, Outcome};
use audit::{bundle, read_bundle};
use residency::PolicyHashes;
use residency::presets::{JURISDICTIONS, LOCATIONS, SHIPPED_POLICY};
use sha2::{Digest as _, Sha256};
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

use crate::stage::{Stage, audit, caught, clean, key};

async fn packed(stage: &Stage, wanted: &Wanted) -> PathBuf {
    let path = stage.file(&format!("{}.zip", rand::random::<u64>()));
    Box::pin(write_pack(&stage.log(), wanted, File::create(&path).unwrap(), |_, _| {})).await.unwrap();
    path
}

fn everything() -> Wanted {
    Wanted { range: 0..u64::MAX, ..Wanted::default() }
}

async fn verified(path: &Path, since: Option<&str>) -> audit::verify::Report {
    let expected = Expected { since: since.map(str::to_owned), ..Expected::of_key(key().public().clone()) };
    audit(Pack::open(path).unwrap(), expected).await
}

/// Rewrites a pack's files, and its manifest to fit them.
fn altered(path: &Path, change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>)) -> PathBuf {
    let mut archive = ZipArchive::new(File::open(path).unwrap()).unwrap();
    let mut files = BTreeMap::new();
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).unwrap();
        let mut content = Vec::new();
        file.read_to_end(&mut content).unwrap();
        let name = file.name().unwrap().into_owned();
        files.insert(name, content);
    }
    let manifest = files.remove("manifest.json").unwrap();
    change(&mut files);
    let mut manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    manifest["files"] =
        files.iter().map(|(name, content)| (name.clone(), hex::encode(Sha256::digest(content)))).collect();
    files.insert("manifest.json".to_owned(), serde_json::to_vec(&manifest).unwrap());
    let out = path.with_extension("altered.zip");
    let mut writer = ZipWriter::new(File::create(&out).unwrap());
    for (name, content) in files {
        writer.start_file(name, SimpleFileOptions::default()).unwrap();
        writer.write_all(&content).unwrap();
    }
    writer.finish().unwrap();
    out
}

/// What the pack's own verifier says, run by Python and nothing else.
fn python(stage: &Stage, pack: &Path, since: Option<&str>) -> (bool, String) {
    let script = stage.file("verify.py");
    std::fs::write(&script, VERIFY_PY).unwrap();
    let mut command = Command::new("python3");
    command.arg("-I").arg(&script).arg(pack).arg(key().public().to_string());
    if let Some(since) = since {
        let kept = stage.file("kept");
        std::fs::write(&kept, since).unwrap();
        command.arg(kept);
    }
    let output = command.output().expect("python3 is installed");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pack_verifies_offline_by_the_binary_and_by_python() {
    let stage = Stage::with(600).await;
    let kept = stage.checkpoint().await;
    stage.grow(700).await;
    stage.sign().await;
    let whole = packed(&stage, &Wanted { since: Some(600), ..everything() }).await;
    let report = verified(&whole, Some(&kept)).await;
    clean(&report);
    assert_eq!((report.leaves, report.outcome(Check::AppendOnly)), (1_300, Outcome::Holds));
    let (holds, said) = python(&stage, &whole, Some(&kept));
    assert!(holds && said.contains("1300 entries") && said.contains("700 leaves since your checkpoint"), "{said}");
    // A part: whole tiles, and the path from them to the root.
    let part = packed(&stage, &Wanted { range: 300..400, since: Some(600), ..Wanted::default() }).await;
    let report = verified(&part, Some(&kept)).await;
    clean(&report);
    assert_eq!((report.range.clone(), report.leaves), (256..512, 256));
    let (holds, said) = python(&stage, &part, Some(&kept));
    assert!(holds && said.contains("256 entries"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_line_removed_from_a_pack() {
    let stage = Stage::with(600).await;
    let pack = packed(&stage, &everything()).await;
    let removed = altered(&pack, |files| {
        let entries = files.get_mut("tile/entries/001").unwrap();
        let mut lines = read_bundle(entries).unwrap();
        lines.remove(40);
        let shorter = bundle(lines);
        *entries = shorter;
    });
    let report = verified(&removed, None).await;
    caught(&report, Check::WellFormed, "entries_missing", Some(256));
    caught(&report, Check::WellFormed, "leaf_differs_from_tile", Some(296));
    let (holds, said) = python(&stage, &removed, None);
    assert!(!holds && said.contains("well-formed: FAILS"), "{said}");
    // The file as a whole, which the manifest does not mention any more either.
    let gone = altered(&pack, |files| drop(files.remove("tile/entries/001")));
    caught(&verified(&gone, None).await, Check::WellFormed, "missing", None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_byte_of_a_pack_changed() {
    let stage = Stage::with(600).await;
    let kept = stage.checkpoint().await;
    stage.grow(100).await;
    stage.sign().await;
    let pack = packed(&stage, &Wanted { since: Some(600), ..everything() }).await;
    let names = ["tile/0/000", "tile/0/002.p/188", "tile/1/000.p/2", "tile/entries/000", "checkpoint"];
    for (name, check) in names.into_iter().zip([Check::WellFormed; 4].into_iter().chain([Check::Signed])) {
        let changed = altered(&pack, |files| {
            let content = files.get_mut(name).unwrap_or_else(|| panic!("{name} is in the pack"));
            let at = content.len() / 2;
            content[at] = if content[at] == b'1' { b'2' } else { b'1' };
        });
        let report = verified(&changed, Some(&kept)).await;
        assert_eq!(report.failed(), Some(check), "{name}: {report:#?}");
        let (holds, said) = python(&stage, &changed, Some(&kept));
        assert!(!holds, "{name}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_policy_file_swapped() {
    let stage = Stage::with(20).await;
    let kept = storage::KeptPolicy {
        sha256: PolicyHashes::of(SHIPPED_POLICY, JURISDICTIONS, LOCATIONS).policy,
        text: SHIPPED_POLICY.to_owned(),
        jurisdictions: JURISDICTIONS.to_owned(),
        locations: LOCATIONS.to_owned(),
    };
    stage.log().keep_policy(&kept).await.unwrap();
    let other = storage::KeptPolicy { text: "other".to_owned(), ..kept.clone() };
    assert!(
        stage.log().keep_policy(&storage::KeptPolicy { sha256: [7; 32], ..other }).await.is_err(),
        "by its own hash only"
    );
    let pack = packed(&stage, &everything()).await;
    assert_eq!(verified(&pack, None).await.failed(), None);
    // The table itself, and each preset that it chooses from.
    for part in [".toml", ".jurisdictions.csv", ".locations.csv"] {
        let swapped = altered(&pack, |files| {
            let (_, text) = files.iter_mut().find(|(name, _)| name.ends_with(part)).unwrap();
            text.extend_from_slice(b"\n# a later thought\n");
        });
        let report = verified(&swapped, None).await;
        caught(&report, Check::Replayed, "policy_swapped", None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_an_older_version_kept_by_its_text_alone_still_decides_again() {
    let stage = Stage::with(20).await;
    let sql = "INSERT INTO domicile.policies (sha256, text, jurisdictions, locations) VALUES ($1, $2, $3, $4)";
    sqlx::query(sql)
        .bind(<[u8; 32]>::from(Sha256::digest(SHIPPED_POLICY)))
        .bind(SHIPPED_POLICY)
        .bind(JURISDICTIONS)
        .bind(LOCATIONS)
        .execute(&mut stage.scene.outside().await)
        .await
        .unwrap();
    let pack = packed(&stage, &everything()).await;
    assert_eq!(verified(&pack, None).await.failed(), None);
    let swapped = altered(&pack, |files| {
        let (_, text) = files.iter_mut().find(|(name, _)| name.ends_with(".toml")).unwrap();
        text.extend_from_slice(b"\n# a later thought\n");
    });
    caught(&verified(&swapped, None).await, Check::Replayed, "policy_swapped", None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_pack_is_refused_without_a_panic() {
    let stage = Stage::with(20).await;
    let pack = std::fs::read(packed(&stage, &everything()).await).unwrap();
    let path = stage.file("junk.zip");
    for cut in (0..pack.len()).step_by(pack.len() / 40) {
        std::fs::write(&path, &pack[..cut]).unwrap();
        assert!(Pack::open(&path).is_err(), "cut at {cut}");
    }
    for at in (0..pack.len()).step_by(pack.len() / 97) {
        let mut bytes = pack.clone();
        bytes[at] ^= 0x55;
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(opened) = Pack::open(&path) {
            let expected = Expected::of_key(key().public().clone());
            let verified = tokio::task::spawn_blocking(move || {
                let pace = audit::verify::Pace { threads: std::num::NonZeroUsize::MIN, progress: &|_, _| {} };
                audit::verify::verify(&opened, &expected, pace).map(|report| report.exit_code())
            });
            drop(verified.await.unwrap());
        }
    }
}
