//! The owner's runbook on real containers: build, deploy, look at logs, deploy again and roll back under load, a bad
//! release that undoes itself, and a backup that is opened. Whatever stands in the runbook is typed as it stands there, on
//! a terminal of its own.

mod cell;
mod load;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use reqwest::StatusCode;
use serde_json::json;

use self::cell::Cell;
use self::load::{Load, Tally};

/// What a phase under load must at least have asked.
const REQUESTS_MIN: u64 = 5_000;
/// `domicile ops`: failed and undone, the old release serves.
const UNDONE: i32 = 11;
const DEPLOY: &str = "./infrastructure/scripts/deploy.sh deploy";
const ROLLBACK: &str = "./infrastructure/scripts/deploy.sh rollback";

/// Plays it; whatever was made is removed, unless DOMICILE_KEEP asks to leave it.
///
/// # Errors
/// The first thing that does not hold.
pub async fn play(clone: &Path) -> Result<()> {
    let cell = Cell::prepare(clone)?;
    let outcome = scenes(&cell).await;
    if outcome.is_err() {
        cell.last_words();
    }
    if outcome.is_ok() || std::env::var_os("DOMICILE_KEEP").is_none() {
        cell.remove();
    }
    outcome
}

async fn scenes(cell: &Cell) -> Result<()> {
    cell.build("")?;
    cell.typed(DEPLOY, "y\n", 0)?;
    for service in ["web", "db"] {
        let said = cell.typed(&format!("docker-compose logs {service}"), "", 0)?;
        ensure!(said.lines().count() > 3, "docker-compose logs {service} says something:\n{said}");
    }
    let first = cell.serving()?;
    a_record_is_kept(cell).await?;

    // Nothing but a label differs, so that every layer is there already.
    cell.build("--label release=second ")?;
    let told = under_load(cell, "deploying a second release", || cell.typed(DEPLOY, "y\n", 0)).await?;
    ensure!(cell.serving()? != first, "another release serves");
    say(&told);

    // Its gateway listens where nobody can reach it: the containers are well, and the smoke test fails.
    cell.build_on("myapp:prod", "myapp:bad", "ENV DOMICILE__GATEWAY__LISTEN=127.0.0.1:8080")?;
    let second = cell.serving()?;
    let bad = format!("{DEPLOY} --image myapp:bad --gate-timeout 60 --yes");
    let told = under_load(cell, "a bad release that undoes itself", || cell.typed(&bad, "", UNDONE)).await?;
    ensure!(cell.serving()? == second, "what served before serves again: {} and not {second}", cell.serving()?);
    say(&told);

    let told = under_load(cell, "rolling back", || cell.typed(ROLLBACK, "y\n", 0)).await?;
    ensure!(cell.serving()? == first, "the first release serves again: {} and not {first}", cell.serving()?);
    say(&told);
    a_record_is_kept(cell).await?;
    a_backup_is_opened(cell)?;
    cell.typed("./infrastructure/scripts/deploy.sh status", "", 0)?;
    Ok(())
}

/// A backup made, opened from its ciphertext, restored beside the region's database, and held against what was signed since:
/// by the private key and the signer's memory, which one container alone sees.
fn a_backup_is_opened(cell: &Cell) -> Result<()> {
    let backup = |what: &str| cell.typed(&format!("./infrastructure/scripts/deploy.sh backup {what}"), "", 0);
    let identity = "--region eu-central --identity file:/run/secrets/offline/eu-central-backup-emergency";
    backup("create")?;
    backup(&format!("verify --from-cipher {identity}"))?;
    backup(&format!("restore --to eu_restored {identity} --yes"))?;
    let said = backup("restore --region eu-central --open eu_restored")?;
    ensure!(said.contains("The log of"), "the restored log is held against what was signed:\n{said}");
    Ok(())
}

/// One person of each region, through the edge: written, read, and told where it is.
async fn a_record_is_kept(cell: &Cell) -> Result<()> {
    for (residence, region) in [("DE", "eu-central"), ("GB", "uk-south"), ("US", "us-east")] {
        let subject = crate::person(region);
        let url = cell.url(&format!("/v1/subjects/{subject}/records/profile/address"));
        let http = reqwest::Client::new();
        let put = http.put(&url).bearer_auth(cell.key()).header("Domicile-Residence", residence);
        let answer = put.json(&json!({ "city": region })).send().await?;
        let told = answer.headers().get("Domicile-Region").map(|value| value.as_bytes().to_vec());
        let status = answer.status();
        ensure!(status == StatusCode::CREATED, "{status}: {}", answer.text().await?);
        ensure!(told.as_deref() == Some(region.as_bytes()), "{residence} is at home in {region}");
        let read = http.get(&url).bearer_auth(cell.key()).send().await?;
        ensure!(read.status() == StatusCode::OK, "what was written is read: {}", read.status());
    }
    Ok(())
}

/// Does something while callers go on, and holds the two promises: no request fails, and none goes to a container that
/// had not passed its gate.
async fn under_load(cell: &Cell, what: &str, deed: impl Fn() -> Result<String> + Sync) -> Result<String> {
    let begun = Instant::now();
    let load = Load::start(cell.url(""), cell.key()).await?;
    let watch = cell.watch_the_gate()?;
    let done = tokio::task::block_in_place(deed);
    let watched = watch.end().await;
    let tally: Tally = load.end(REQUESTS_MIN).await?;
    let said = done.with_context(|| format!("{what}: {tally}"))?;
    ensure!(tally.failed == 0, "{what}: {tally}\n{said}");
    let ungated = watched.with_context(|| format!("{what}: the edge was watched"))?;
    ensure!(ungated == 0, "{what}: {ungated} requests went to a container before its gate");
    Ok(format!("{what}: {tally}; 0 to an ungated container; {:.0} s", begun.elapsed().as_secs_f32()))
}

#[expect(clippy::print_stdout, reason = "what was measured is the command's result")]
fn say(line: &str) {
    println!("  held: {line}");
}
