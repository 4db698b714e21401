//! `domicile smoke`: a synthetic subject of each region is written and read through a gateway, and is then looked for
//! in every region's database: it must be in its own and in no other.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use residency::{Outcome, Place, Region};
use secrecy::ExposeSecret as _;
use serde_json::json;
use storage::admin;

use super::{FAILED, Failure, keys, load};
use crate::config::Config;
use crate::{cli, print};

/// A subject was found where it must not be, or not where it must be.
const MISPLACED: u8 = 9;
/// What the run's key may do.
const SCOPES: [&str; 4] = ["subjects:read", "subjects:write", "records:read", "records:write"];
/// How often it is written and read when another run of this writes at the same time.
const TURNS_MAX: u32 = 5;
/// How often a gateway that does not know the new key yet is asked again.
const KEY_PAUSE: Duration = Duration::from_millis(250);

/// How one region did.
struct Proof {
    region: Region,
    /// What it was proven with; `None`: the policy leads nobody there by residence.
    residence: Option<Place>,
}

/// Why it is not proven.
enum Fault {
    /// The gateway does not work.
    Broken(anyhow::Error),
    /// A subject is in the wrong place.
    Misplaced(String),
}

impl From<anyhow::Error> for Fault {
    fn from(error: anyhow::Error) -> Self {
        Self::Broken(error)
    }
}

/// Proves it, and says how it went.
pub(crate) async fn run(args: &cli::Smoke) -> Result<ExitCode, Failure> {
    let config = load(&args.config)?;
    let keys = keys::owned(&config)?;
    let name = format!("domicile-smoke-{:08x}", rand::random::<u32>());
    let key = keys.create(&name, &SCOPES, None).await.context("no key for the run was made")?;
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    let outcome = prove(&config, &args.target, key.token.expose_secret(), deadline).await;
    // Whatever came of it, the key ends here.
    if let Err(error) = keys.revoke(&key.id).await {
        print::note(format!("the key {} of this run was not revoked: {error}", key.id));
    }
    let proofs = match outcome {
        Ok(proofs) => proofs,
        Err(Fault::Broken(error)) => {
            print::note(format!("{}: {error:#}", args.target));
            return Ok(ExitCode::from(FAILED));
        }
        Err(Fault::Misplaced(what)) => {
            print::note(format!("{}: {what}", args.target));
            return Ok(ExitCode::from(MISPLACED));
        }
    };
    if args.json {
        let rows = proofs.iter().map(|proof| {
            json!({ "region": proof.region.to_string(), "residence": proof.residence.map(|place| place.to_string()) })
        });
        print::json(&json!({ "target": args.target, "proven": rows.collect::<Vec<_>>() }))?;
    }
    for proof in &proofs {
        print::note(match proof.residence {
            Some(place) => format!("{}: a resident of {place} was written, read, and is there only", proof.region),
            None => format!("{}: no residence leads there, so nothing was written", proof.region),
        });
    }
    Ok(ExitCode::SUCCESS)
}

async fn prove(config: &Config, target: &str, token: &str, deadline: Instant) -> Result<Vec<Proof>, Fault> {
    let left = deadline.saturating_duration_since(Instant::now());
    let http = Client::builder().timeout(left).no_proxy().build().context("no HTTP client")?;
    let mut proofs = Vec::new();
    for region in config.served.keys() {
        let residence = residence_of(config, region);
        if let Some(residence) = residence {
            let subject = format!("domicile-smoke-{region}");
            let url = format!("{}/v1/subjects/{subject}/records/smoke/probe", target.trim_end_matches('/'));
            Probe { http: &http, url, token, region, residence, deadline }.write_and_read().await?;
            in_its_region_only(config, region, &subject).await?;
        }
        proofs.push(Proof { region: region.clone(), residence });
    }
    Ok(proofs)
}

/// A residence that leads to a region; `None`: the policy leads nobody there by residence.
pub(crate) fn residence_of(config: &Config, region: &Region) -> Option<Place> {
    let leads = |outcome: &Outcome| matches!(outcome, Outcome::Home { region: home, .. } if home == region);
    let report = config.policy.check();
    report.countries.iter().find(|country| leads(&country.outcome)).map(|country| country.place)
}

/// The record of one region's synthetic subject.
struct Probe<'a> {
    http: &'a Client,
    url: String,
    token: &'a str,
    region: &'a Region,
    residence: Place,
    deadline: Instant,
}

impl Probe<'_> {
    async fn write_and_read(&self) -> anyhow::Result<()> {
        for _ in 0..TURNS_MAX {
            let word = format!("{:016x}", rand::random::<u64>());
            self.write(&word).await?;
            if self.read().await?.contains(&word) {
                return Ok(());
            }
            // Another run may have written over it, which is no fault of the gateway: that of a deployer that was
            // killed goes on for a while.
        }
        bail!("{}: a read does not show what was written, {TURNS_MAX} times in a row", self.region)
    }

    async fn write(&self, word: &str) -> anyhow::Result<()> {
        let region = self.region;
        let written = loop {
            let answer = self.request(Method::PUT).json(&json!({ "word": word })).send().await;
            let answer = answer.map_err(|e| anyhow!("{region}: no answer to a write: {}", e.without_url()))?;
            // A gateway learns of new keys within two seconds.
            if answer.status() != StatusCode::UNAUTHORIZED || Instant::now() >= self.deadline {
                break answer;
            }
            tokio::time::sleep(KEY_PAUSE).await;
        };
        let (status, home) = (written.status(), header(&written, "domicile-region"));
        if !status.is_success() {
            bail!("{region}: a write was answered {status}: {}", written.text().await.unwrap_or_default().trim());
        }
        ensure!(home == region.as_str(), "{region}: a write went to region {home:?}");
        Ok(())
    }

    async fn read(&self) -> anyhow::Result<String> {
        let region = self.region;
        let answer = self.request(Method::GET).send().await;
        let answer = answer.map_err(|e| anyhow!("{region}: no answer to a read: {}", e.without_url()))?;
        let status = answer.status();
        let body = answer.text().await.unwrap_or_default();
        ensure!(status.is_success(), "{region}: a read was answered {status}: {}", body.trim());
        Ok(body)
    }

    fn request(&self, method: Method) -> RequestBuilder {
        let request = self.http.request(method, &self.url).bearer_auth(self.token);
        request.header("domicile-residence", self.residence.to_string())
    }
}

fn header(answer: &reqwest::Response, name: &str) -> String {
    answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

async fn in_its_region_only(config: &Config, region: &Region, subject: &str) -> Result<(), Fault> {
    for (other, served) in &config.served {
        let holds = admin::holds_subject(&served.postgres.owner_dsn, subject)
            .await
            .with_context(|| format!("{other}: the database does not tell whom it holds"))?;
        if holds != (other == region) {
            let what = if holds { "is in the database of" } else { "is not in the database of" };
            return Err(Fault::Misplaced(format!("a subject whose home is {region} {what} {other}")));
        }
    }
    Ok(())
}
