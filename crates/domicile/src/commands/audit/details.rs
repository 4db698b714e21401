//! `domicile audit details`: what a server or a file says lies beside an entry, held against the entry itself.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use api::LeafDetails;
use leaf::{Detail, Shown, check_details};

use super::read;
use crate::commands::Failure;
use crate::config::secret_by_reference;
use crate::{cli, print};

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The exit code when the entry did not commit to the details.
const NOT_ITS_DETAILS: u8 = 11;

/// Reads the details, checks them, and shows them only if they hold.
pub(super) async fn run(args: &cli::AuditDetails) -> Result<ExitCode, Failure> {
    let text = if args.source.starts_with("http://") || args.source.starts_with("https://") {
        ask(&args.source, &args.token).await?
    } else {
        read(Path::new(&args.source))?
    };
    let said: LeafDetails = serde_json::from_str(&text).context("this is no answer about an entry's details")?;
    let parsed = leaf::parse(said.line.as_bytes()).context("the entry cannot be read")?;
    let shown = said.details.iter().map(shown).collect::<anyhow::Result<Vec<_>>>()?;
    if let Err(error) = check_details(parsed.details.as_ref(), &shown) {
        print::note(format!("error: {error}: do not believe them"));
        return Ok(ExitCode::from(NOT_ITS_DETAILS));
    }
    if args.json {
        print::json(&said)?;
    } else {
        let rows = said
            .details
            .iter()
            .map(|detail| vec![detail.name.clone(), detail.value.clone().unwrap_or_else(|| "(closed)".to_owned())]);
        print::line(print::table(&["detail", "value"], rows));
        print::line(format!("Entry {} of {} committed to these details.", said.seq, said.region));
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(detail: &api::LeafDetail) -> anyhow::Result<Shown> {
    match (&detail.salt, &detail.value) {
        (Some(salt), Some(value)) => {
            let salt = hex::decode(salt).ok().and_then(|salt| salt.try_into().ok());
            let salt = salt.with_context(|| format!("the salt of {} is not 32 hex digits", detail.name))?;
            Ok(Shown::Opened(Detail { name: detail.name.clone(), salt, value: value.clone() }))
        }
        _ => {
            let commitment = hex::decode(&detail.commitment).ok().and_then(|bytes| bytes.try_into().ok());
            let commitment = commitment.with_context(|| format!("the commitment of {} is not a hash", detail.name))?;
            Ok(Shown::Closed { name: detail.name.clone(), commitment })
        }
    }
}

async fn ask(url: &str, token: &str) -> anyhow::Result<String> {
    let token = secret_by_reference(token).map_err(|why| anyhow!("the token: {why}"))?;
    let client = reqwest::Client::builder().timeout(PATIENCE).build().context("no HTTP client")?;
    let answer = client.get(url).bearer_auth(token).send().await.map_err(reqwest::Error::without_url)?;
    let status = answer.status();
    let text = answer.text().await.map_err(reqwest::Error::without_url)?;
    if !status.is_success() {
        bail!("the gateway answered {status}: {text}");
    }
    Ok(text)
}
