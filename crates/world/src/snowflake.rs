//! One stand-in for a Snowflake account per region: `fakesnow` where Python has it, otherwise the forwarder's folder.

use crate::nursery::{Nursery, Process, Spec};
use crate::{ports, tools};
use anyhow::{Result, ensure};
use forwarder::{Credentials, FolderSink, Price, Row, Sink, SnowflakeSettings, SnowflakeSink};
use residency::Region;
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

/// Adds the reply fields that Snowflake always sends and fakesnow leaves out.
const COMPAT: &str = include_str!("../assets/fakesnow_compat.py");
/// Python imports half a gigabyte of libraries, on a cold disk.
const START_PATIENCE: Duration = Duration::from_secs(300);
const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// The user, the warehouse and the database of every stand-in.
pub(crate) const LOGIN: &str = "DOMICILE";
/// Believed by every stand-in, as any other would be.
pub(crate) const PASSWORD: &str = "stand-in";
/// What Snowflake answers when it is asked about a table or a database that does not exist.
const ABSENT: [&str; 2] = ["002003", "002043"];
/// At most so many rows are read.
const ROWS_MAX: u32 = 100_000;

/// The account of a region's stand-in.
pub(crate) fn account(region: &str) -> String {
    format!("world-{region}")
}

/// What a region's zero-party data is forwarded to.
pub struct Snowflake {
    region: String,
    kind: Kind,
}

enum Kind {
    Fakesnow(Box<Fakesnow>),
    Folder(PathBuf),
}

struct Fakesnow {
    python: PathBuf,
    nursery: Arc<Nursery>,
    folder: PathBuf,
    log: PathBuf,
    port: u16,
    process: Mutex<Option<Process>>,
}

impl Snowflake {
    /// Starts `fakesnow` when the machine has it (its rows live in memory), otherwise names a folder for NDJSON files.
    /// Returns before it accepts connections: see [`Snowflake::ready`].
    ///
    /// # Errors
    /// When the process cannot be run.
    pub async fn start(nursery: &Arc<Nursery>, region: &str, folder: &Path, log: &Path) -> Result<Self> {
        let Some(python) = tools::fakesnow_python() else { return Ok(Self::in_folder(region, folder)) };
        let fakesnow = Fakesnow {
            python,
            nursery: Arc::clone(nursery),
            folder: folder.to_owned(),
            log: log.to_owned(),
            port: ports::free_port()?,
            process: Mutex::new(None),
        };
        fakesnow.launch().await?;
        Ok(Self { region: region.to_owned(), kind: Kind::Fakesnow(Box::new(fakesnow)) })
    }

    /// Names a folder that stands in for an account.
    #[must_use]
    pub fn in_folder(region: &str, folder: &Path) -> Self {
        Self { region: region.to_owned(), kind: Kind::Folder(folder.to_owned()) }
    }

    /// Waits until it accepts connections.
    ///
    /// # Errors
    /// When it does not; the sentence carries its last words.
    pub async fn ready(&self) -> Result<()> {
        let Kind::Fakesnow(fakesnow) = &self.kind else { return Ok(()) };
        let slot = fakesnow.process.lock().await;
        let Some(process) = slot.as_ref() else { return Ok(()) };
        let port = fakesnow.port;
        let listens = move || async move { TcpStream::connect(("127.0.0.1", port)).await.is_ok() };
        process.until(START_PATIENCE, listens).await
    }

    /// The region whose zero-party data it takes.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Where it is: `http://127.0.0.1:port`, or `file:///folder`.
    #[must_use]
    pub fn url(&self) -> String {
        match &self.kind {
            Kind::Fakesnow(fakesnow) => format!("http://127.0.0.1:{}", fakesnow.port),
            Kind::Folder(folder) => format!("file://{}", folder.display()),
        }
    }

    /// The folder, when it is one.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        match &self.kind {
            Kind::Fakesnow(_) => None,
            Kind::Folder(folder) => Some(folder),
        }
    }

    /// What was forwarded to it, tombstones included; nothing when it is a folder that the forwarder has not made
    /// yet.
    ///
    /// # Errors
    /// When it does not answer, or holds more than 100,000 rows.
    pub async fn rows(&self) -> Result<Vec<Row>> {
        let region = Region::new(&self.region)?;
        let sink: Box<dyn Sink> = match &self.kind {
            Kind::Folder(folder) => Box::new(FolderSink::new(folder, region)),
            Kind::Fakesnow(_) => Box::new(SnowflakeSink::new(&self.settings(), region)?),
        };
        let rows = match forwarder::inspect(&*sink, None, ROWS_MAX).await {
            Ok(rows) => rows,
            // The tables are the forwarder's to make: setting them up here would clear what it is just staging.
            Err(forwarder::Error::Refused { code, .. }) if ABSENT.contains(&code.as_str()) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        ensure!(rows.len() < ROWS_MAX as usize, "The Snowflake of {} holds more rows than are read", self.region);
        Ok(rows)
    }

    /// How many rows are between their insert and their merge; none in a folder.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn staged(&self) -> Result<u64> {
        match &self.kind {
            Kind::Folder(_) => Ok(0),
            Kind::Fakesnow(_) => {
                let sink = SnowflakeSink::new(&self.settings(), Region::new(&self.region)?)?;
                Ok(sink.staged().await?)
            }
        }
    }

    /// How the gateway and we log in; the stand-in believes anything.
    fn settings(&self) -> SnowflakeSettings {
        SnowflakeSettings {
            account: account(&self.region),
            user: LOGIN.into(),
            credentials: Credentials::Password(PASSWORD.into()),
            role: None,
            warehouse: Some(LOGIN.into()),
            database: LOGIN.into(),
            schema: "PUBLIC".into(),
            base_url: Some(self.url()),
            location: None,
            price: Price::default(),
            retention_days: 0,
            request_max: Duration::from_secs(60),
            create: true,
        }
    }

    /// In words, for the person who looks on.
    #[must_use]
    pub fn in_words(&self) -> &'static str {
        match &self.kind {
            Kind::Fakesnow(_) => "fakesnow, a Snowflake stand-in, through the real Snowflake client",
            Kind::Folder(_) => {
                "a local folder of NDJSON files: no Snowflake stand-in is installed (`cargo xtask tools`)"
            }
        }
    }

    /// Ends it, with everything it held in memory. Does nothing to a folder.
    ///
    /// # Errors
    /// When the system does not end it.
    pub async fn kill(&self) -> Result<()> {
        let Kind::Fakesnow(fakesnow) = &self.kind else { return Ok(()) };
        let mut slot = fakesnow.process.lock().await;
        if let Some(process) = slot.as_ref() {
            process.signal(Signal::KILL);
            process.wait(STOP_PATIENCE).await?;
        }
        *slot = None;
        Ok(())
    }

    /// Starts it again, empty, on the same port, and waits until it accepts connections.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_again(&self) -> Result<()> {
        if let Kind::Fakesnow(fakesnow) = &self.kind {
            fakesnow.launch().await?;
        }
        self.ready().await
    }
}

impl Fakesnow {
    async fn launch(&self) -> Result<()> {
        let mut slot = self.process.lock().await;
        if slot.as_ref().is_some_and(|process| process.ended().is_none()) {
            return Ok(());
        }
        *slot = None;
        let script = self.folder.join("fakesnow_compat.py");
        std::fs::write(&script, COMPAT)?;
        let process = self
            .nursery
            .spawn(Spec {
                name: "The Snowflake stand-in".into(),
                program: &self.python,
                args: vec![script.into(), self.port.to_string().into()],
                // Its own folder for what it would leave behind in the system's.
                env: vec![
                    ("TMPDIR".into(), self.folder.clone().into()),
                    ("PYTHONDONTWRITEBYTECODE".into(), "1".into()),
                ],
                folder: &self.folder,
                log: self.log.clone(),
                run_as: None,
                may_pass: false,
                last_word: Signal::KILL,
            })
            .await?;
        *slot = Some(process);
        Ok(())
    }
}
