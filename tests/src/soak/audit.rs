//! A region's log under write load and `kill -9`, verified again and again by the command that an auditor uses, each
//! time as a continuation of the last; then every receipt against the signed tree, a pack by Python alone, and at
//! the end an edit by the database's superuser, which must be caught by name.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::task::JoinSet;
use world::{Client, World};

use super::Length;
use crate::{person, until};

const WRITERS: u64 = 8;
const REGION: &str = "eu-central";

/// Runs it; the answer is what held, in words.
///
/// # Errors
/// When a verification fails that should hold, or holds that should fail, or a receipt is not in the signed tree.
pub async fn audit(length: Length) -> Result<String> {
    let rounds: u64 = length.of(4, 40);
    let world = World::with_regions([REGION]).without_brokers().without_snowflakes().start().await?;
    let folder = tempfile::tempdir()?;
    let auditor = Auditor::new(&world, folder.path())?;
    let gateway = &world.gateways()[0];
    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(AtomicU64::new(0));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let client = world.client()?.residing_in("DE");
        writers.spawn(write_until(client, writer, Arc::clone(&stop), Arc::clone(&acknowledged)));
    }
    for round in 0..rounds {
        let before = acknowledged.load(Ordering::Relaxed);
        until("Writes under load", Duration::from_secs(120), || async {
            acknowledged.load(Ordering::Relaxed) > before + 150
        })
        .await?;
        if round % 2 == 1 {
            gateway.kill().await?;
            gateway.start_again().await?;
        }
        auditor.signed_beyond(1).await?;
        auditor.continues().await?;
    }
    stop.store(true, Ordering::Relaxed);
    let mut receipts = BTreeMap::new();
    while let Some(writer) = writers.join_next().await {
        receipts.extend(writer?);
    }
    let last = receipts.keys().next_back().copied().context("something was written")?;
    let size = auditor.signed_beyond(last).await?;
    auditor.continues().await?;
    auditor.receipts_are_in_the_tree(&receipts, size).await?;
    auditor.a_receipt_checks(&receipts).await?;
    auditor.a_pack_verifies_by_python(gateway.config()).await?;

    let edited = last / 2;
    let sql = format!("UPDATE domicile.leaves SET line = replace(line, '\"v\":1', '\"v\":2') WHERE seq = {edited}");
    world.region(REGION).sql(&sql).await?;
    let (code, report) = auditor.verify(&[]).await?;
    let caught = report["findings"].as_array().is_some_and(|findings| {
        findings.iter().any(|finding| finding["rule"] == "leaf_differs_from_tile" && finding["seq"] == edited)
    });
    ensure!(code == 11 && caught, "an edited leaf was not caught by name: exit {code}, {report}");
    world.shutdown().await;
    Ok(format!(
        "{size} leaves verified in {} steps, {} receipts in the signed tree; an edit was caught",
        rounds + 1,
        receipts.len()
    ))
}

/// Writes until told to stop; keeps every receipt: sequence number -> leaf hash.
async fn write_until(
    client: Client,
    writer: u64,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
) -> BTreeMap<u64, String> {
    let subject = person(&format!("audit-{writer}"));
    let mut receipts = BTreeMap::new();
    let mut n = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        match client.put_record(&subject, "audit", &format!("k{}", n % 50), &json!({ "n": n })).await {
            Ok(answer) if answer.is_success() => {
                if let (Some(seq), Some(receipt)) = (answer.seq(), answer.header("domicile-audit")) {
                    receipts.insert(seq, receipt.to_owned());
                }
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    receipts
}

/// Somebody with the log's public key, an API key, and a file for the last checkpoint.
pub struct Auditor<'a> {
    client: Client,
    url: String,
    token: String,
    key: String,
    folder: &'a Path,
}

impl<'a> Auditor<'a> {
    /// An auditor of the region `eu-central`, at the world's first gateway.
    ///
    /// # Errors
    /// When the world has no such log.
    pub fn new(world: &World, folder: &'a Path) -> Result<Self> {
        let token = world.keys().compliance.clone();
        Ok(Self {
            client: world.client()?.with_key(&token),
            url: format!("{}/v1/audit/{REGION}", world.gateways()[0].url()),
            key: world.log_key(REGION)?,
            token,
            folder,
        })
    }

    /// Waits until an entry is under a signed checkpoint; the size of that.
    ///
    /// # Errors
    /// When it is not within half a minute.
    pub async fn signed_beyond(&self, seq: u64) -> Result<u64> {
        let size = AtomicU64::new(0);
        until("The entry is signed", Duration::from_secs(120), || async {
            let note = self.client.get(&format!("/v1/audit/{REGION}/checkpoint")).await;
            let signed = note
                .ok()
                .filter(|note| note.is_success())
                .and_then(|note| note.text().lines().nth(1).and_then(|line| line.parse().ok()));
            size.store(signed.unwrap_or(0), Ordering::Relaxed);
            size.load(Ordering::Relaxed) > seq
        })
        .await?;
        Ok(size.load(Ordering::Relaxed))
    }

    /// Runs `domicile audit verify`; its exit code and its report.
    ///
    /// # Errors
    /// When it cannot be run, or does not print JSON.
    pub async fn verify(&self, more: &[&str]) -> Result<(i32, Value)> {
        let mut arguments =
            vec!["audit", "verify", &self.url, "--key", &self.key, "--token", "env:AUDIT_TOKEN", "--json"];
        arguments.extend(more);
        let (code, said) = self.domicile(&arguments).await?;
        let report = serde_json::from_str(&said).with_context(|| format!("exit {code}, not JSON: {said}"))?;
        Ok((code, report))
    }

    /// Verifies that the log holds and continues what was verified last, and keeps the checkpoint.
    ///
    /// # Errors
    /// When it does not.
    pub async fn continues(&self) -> Result<Value> {
        let kept = self.folder.join("kept.checkpoint");
        let kept_path = kept.to_string_lossy().into_owned();
        let mut arguments = vec!["--save", &kept_path];
        if kept.exists() {
            arguments.extend(["--since", &kept_path]);
        }
        let (code, report) = self.verify(&arguments).await?;
        ensure!(code == 0, "the log does not verify: exit {code}, {report}");
        Ok(report)
    }

    async fn domicile(&self, arguments: &[&str]) -> Result<(i32, String)> {
        let output = Command::new(world::tools::domicile()?)
            .args(arguments)
            .env("AUDIT_TOKEN", &self.token)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok((output.status.code().unwrap_or(-1), if said.is_empty() { complaint } else { said }))
    }

    async fn receipts_are_in_the_tree(&self, receipts: &BTreeMap<u64, String>, size: u64) -> Result<()> {
        let mut tile = (u64::MAX, Vec::new());
        for (seq, receipt) in receipts {
            let index = seq / 256;
            if tile.0 != index {
                let width = (size - index * 256).min(256);
                let partial = if width < 256 { format!(".p/{width}") } else { String::new() };
                let groups = if index < 1_000 { String::new() } else { format!("x{:03}/", index / 1_000) };
                let index_path = format!("{groups}{:03}", index % 1_000);
                let answer = self.client.get(&format!("/v1/audit/{REGION}/tile/0/{index_path}{partial}")).await?;
                tile = (index, answer.expect(200)?.body.to_vec());
            }
            let at = usize::try_from(seq % 256)? * 32;
            let hash = tile.1.get(at..at + 32).context("the tile is too short")?;
            let said = receipt.rsplit_once("leaf=").context("a receipt has a leaf")?.1;
            let found = URL_SAFE_NO_PAD.encode(hash);
            ensure!(said == found, "the receipt {receipt} is not what the signed tree has: {found}");
        }
        Ok(())
    }

    async fn a_receipt_checks(&self, receipts: &BTreeMap<u64, String>) -> Result<()> {
        let (seq, receipt) = receipts.iter().next_back().context("something was written")?;
        let proof = self.client.get(&format!("/v1/audit/{REGION}/proof/{seq}")).await?.expect(200)?.text();
        let file = self.folder.join("receipt.tlog-proof");
        std::fs::write(&file, proof)?;
        let path = file.to_string_lossy();
        let arguments = ["audit", "receipt", "check", receipt, "--proof", &path, "--key", &self.key];
        let (code, said) = self.domicile(&arguments).await?;
        ensure!(code == 0, "the receipt does not hold: exit {code}, {said}");
        let other = receipt.replace(&format!("seq={seq}"), &format!("seq={}", seq - 1));
        let (code, said) =
            self.domicile(&["audit", "receipt", "check", &other, "--proof", &path, "--key", &self.key]).await?;
        ensure!(code == 12, "a false receipt was not refused: exit {code}, {said}");
        Ok(())
    }

    async fn a_pack_verifies_by_python(&self, config: &Path) -> Result<()> {
        let (pack, kept) = (self.folder.join("pack.zip"), self.folder.join("kept.checkpoint"));
        let (pack, kept, config) = (pack.to_string_lossy(), kept.to_string_lossy(), config.to_string_lossy());
        let arguments = ["audit", "pack", "--region", REGION, "--since", &kept, "--out", &pack, "--config", &config];
        let (code, said) = self.domicile(&arguments).await?;
        ensure!(code == 0, "no pack was made: exit {code}, {said}");
        let (code, said) = self.domicile(&["audit", "verify", &pack, "--key", &self.key, "--since", &kept]).await?;
        ensure!(code == 0, "the pack does not verify: exit {code}, {said}");
        let script = self.folder.join("verify.py");
        let unzipped = Command::new("python3")
            .args([
                "-c",
                "import sys, zipfile; open(sys.argv[2], 'wb').write(zipfile.ZipFile(sys.argv[1]).read('verify.py'))",
            ])
            .args([pack.as_ref(), script.to_string_lossy().as_ref()])
            .status()
            .await?;
        ensure!(unzipped.success(), "the pack has no verifier");
        let verified =
            Command::new("python3").arg(&script).args([pack.as_ref(), &self.key, kept.as_ref()]).output().await?;
        let said = String::from_utf8_lossy(&verified.stdout);
        ensure!(verified.status.success() && said.contains("append-only: holds"), "by Python the pack fails: {said}");
        Ok(())
    }
}
