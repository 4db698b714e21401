//! The real `domicile` binary as a child process: `domicile serve --config <file>`.

use crate::nursery::{Nursery, Process, Spec};
use crate::{client, tools};
use anyhow::{Result, ensure};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

const START_PATIENCE: Duration = Duration::from_secs(180);
const STOP_PATIENCE: Duration = Duration::from_secs(120);
const KEY_PATIENCE: Duration = Duration::from_secs(120);

/// One gateway process.
pub struct Gateway {
    name: String,
    serves: Vec<String>,
    url: String,
    admin_url: String,
    config: PathBuf,
    log: PathBuf,
    roles: Option<String>,
    env: Vec<(String, String)>,
    http: reqwest::Client,
    nursery: Arc<Nursery>,
    process: Mutex<Option<Process>>,
}

/// What a gateway is made of.
pub(crate) struct Parts {
    pub(crate) name: String,
    pub(crate) serves: Vec<String>,
    pub(crate) port: u16,
    pub(crate) admin_port: u16,
    pub(crate) config: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) roles: Option<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) nursery: Arc<Nursery>,
}

impl Gateway {
    pub(crate) fn new(parts: Parts) -> Result<Self> {
        Ok(Self {
            name: parts.name,
            serves: parts.serves,
            url: format!("http://127.0.0.1:{}", parts.port),
            admin_url: format!("http://127.0.0.1:{}", parts.admin_port),
            config: parts.config,
            log: parts.log,
            roles: parts.roles,
            env: parts.env,
            http: client::http()?,
            nursery: parts.nursery,
            process: Mutex::new(None),
        })
    }

    /// Its name: `gateway.instance` of its configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The regions it serves.
    #[must_use]
    pub fn serves(&self) -> &[String] {
        &self.serves
    }

    /// The API, e.g. `http://127.0.0.1:23456`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Health, readiness, metrics.
    #[must_use]
    pub fn admin_url(&self) -> &str {
        &self.admin_url
    }

    /// Its configuration file.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Its log: JSON lines.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Starts it and waits until `/readyz` says yes. Does nothing when it runs.
    ///
    /// # Errors
    /// When it does not become ready in three minutes; the sentence carries its last words.
    pub async fn start_again(&self) -> Result<()> {
        self.start_until("/readyz").await
    }

    /// Starts it and waits only until it lives: `/readyz` may say no, e.g. because a region is down.
    ///
    /// # Errors
    /// When it does not answer `/healthz` in three minutes.
    pub async fn start_unready(&self) -> Result<()> {
        self.start_until("/healthz").await
    }

    /// Ends it as a power cut would.
    ///
    /// # Errors
    /// When the system does not end it.
    pub async fn kill(&self) -> Result<()> {
        self.end(Signal::KILL).await
    }

    /// Asks it to shut down and waits until it has: requests in flight are answered first.
    ///
    /// # Errors
    /// When it still runs after two minutes.
    pub async fn terminate(&self) -> Result<()> {
        self.end(Signal::TERM).await
    }

    /// Asks it to shut down without waiting for it.
    pub async fn dismiss(&self) {
        if let Some(process) = self.process.lock().await.as_ref() {
            process.signal(Signal::TERM);
        }
    }

    /// Whether its process runs.
    pub async fn is_running(&self) -> bool {
        self.process.lock().await.as_ref().is_some_and(|process| process.ended().is_none())
    }

    /// The process's number, while it runs.
    pub async fn id(&self) -> Option<u32> {
        self.process.lock().await.as_ref().filter(|process| process.ended().is_none()).map(Process::id)
    }

    /// The whole of `/metrics`.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self) -> Result<String> {
        let answer = self.http.get(format!("{}/metrics", self.admin_url)).send().await?;
        Ok(answer.error_for_status()?.text().await?)
    }

    /// Waits until it lets a caller in: it reads the keys now and then. Does nothing when it does not run.
    pub(crate) async fn knows(&self, token: &str) -> Result<()> {
        let began = Instant::now();
        while self.is_running().await {
            // The description of the API is open to every caller and about nobody.
            let asked = self.http.get(format!("{}/openapi.json", self.url)).bearer_auth(token).send().await;
            if asked.is_ok_and(|answer| answer.status().is_success()) {
                break;
            }
            ensure!(began.elapsed() < KEY_PATIENCE, "The gateway {} does not let a new key in", self.name);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn start_until(&self, path: &str) -> Result<()> {
        let mut slot = self.process.lock().await;
        if slot.as_ref().is_some_and(|process| process.ended().is_none()) {
            return Ok(());
        }
        *slot = None;
        let program = tools::domicile()?;
        let mut args = vec!["serve".into(), "--config".into(), self.config.clone().into()];
        if let Some(roles) = &self.roles {
            args.extend(["--role".into(), roles.into()]);
        }
        let spec = Spec {
            name: format!("The gateway {}", self.name),
            program: &program,
            args,
            env: self.env.iter().map(|(key, value)| (key.into(), value.into())).collect(),
            folder: self.config.parent().unwrap_or(Path::new("/")),
            log: self.log.clone(),
            run_as: None,
            may_pass: false,
            last_word: Signal::KILL,
        };
        let process = self.nursery.spawn(spec).await?;
        let url = format!("{}{path}", self.admin_url);
        let says_yes = || async { self.http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) };
        process.until(START_PATIENCE, says_yes).await?;
        *slot = Some(process);
        Ok(())
    }

    async fn end(&self, signal: Signal) -> Result<()> {
        let mut slot = self.process.lock().await;
        if let Some(process) = slot.as_ref() {
            process.signal(signal);
            process.wait(STOP_PATIENCE).await?;
        }
        *slot = None;
        Ok(())
    }
}
