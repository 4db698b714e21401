//! One Kafka-protocol broker per region.

pub use relay::Message;

use crate::nursery::{Nursery, Process, Spec};
use crate::{ports, tools};
use anyhow::{Result, bail};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

/// Generous, here and for all servers: a machine with much else to do is slow and not broken, and a process that ends
/// by itself is noticed at once.
const START_PATIENCE: Duration = Duration::from_secs(180);
const READ_PATIENCE: Duration = Duration::from_secs(120);
const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// Where a broker keeps its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// A file in its folder: they outlive the process.
    File,
    /// Memory.
    Memory,
}

/// A broker on a loopback port.
pub struct Broker {
    region: String,
    kind: Kind,
}

enum Kind {
    Nisshi(Box<Nisshi>),
    InProcess(relay::mock::MockBroker),
}

struct Nisshi {
    program: PathBuf,
    nursery: Arc<Nursery>,
    folder: PathBuf,
    log: PathBuf,
    port: u16,
    storage: Storage,
    process: Mutex<Option<Process>>,
}

impl Broker {
    /// Starts `nisshi` when the machine has it, with its messages in `folder`; otherwise the in-process broker, which
    /// keeps them in memory.
    ///
    /// # Errors
    /// When it does not start; the sentence carries its last words.
    pub async fn start(
        nursery: &Arc<Nursery>,
        region: &str,
        folder: &Path,
        log: &Path,
        storage: Storage,
    ) -> Result<Self> {
        let Some(program) = tools::nisshi() else { return Self::in_process(region) };
        let nisshi = Nisshi {
            program,
            nursery: Arc::clone(nursery),
            folder: folder.to_owned(),
            log: log.to_owned(),
            port: ports::free_port()?,
            storage,
            process: Mutex::new(None),
        };
        nisshi.start_again().await?;
        Ok(Self { region: region.to_owned(), kind: Kind::Nisshi(Box::new(nisshi)) })
    }

    /// Starts librdkafka's broker inside this process: nothing to install, nothing on disk, faults on demand.
    ///
    /// # Errors
    /// When librdkafka refuses.
    pub fn in_process(region: &str) -> Result<Self> {
        Ok(Self { region: region.to_owned(), kind: Kind::InProcess(relay::mock::MockBroker::start()?) })
    }

    /// The region whose topics it keeps.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The bootstrap address, `host:port`.
    #[must_use]
    pub fn addresses(&self) -> String {
        match &self.kind {
            Kind::Nisshi(nisshi) => format!("127.0.0.1:{}", nisshi.port),
            Kind::InProcess(broker) => broker.brokers().to_owned(),
        }
    }

    /// The topics it has, in order.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn topics(&self) -> Result<Vec<String>> {
        Ok(relay::topics(&self.addresses()).await?)
    }

    /// Everything in these topics, ordered by topic, partition and offset.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn messages(&self, topics: &[String]) -> Result<Vec<Message>> {
        Ok(relay::tail(&self.addresses(), topics, true, READ_PATIENCE).await?)
    }

    /// The number of its process, while it runs; `None` when it is the in-process broker.
    pub async fn id(&self) -> Option<u32> {
        let Kind::Nisshi(nisshi) = &self.kind else { return None };
        nisshi.process.lock().await.as_ref().filter(|process| process.ended().is_none()).map(Process::id)
    }

    /// In words, for the person who looks on.
    #[must_use]
    pub fn in_words(&self) -> &'static str {
        match &self.kind {
            Kind::Nisshi(_) => "nisshi, a Kafka-protocol broker of its own process, on disk",
            Kind::InProcess(_) => "librdkafka's broker inside this process, in memory",
        }
    }

    /// The in-process broker, to make it misbehave; `None` when it is `nisshi`.
    #[must_use]
    pub fn mock(&self) -> Option<&relay::mock::MockBroker> {
        match &self.kind {
            Kind::Nisshi(_) => None,
            Kind::InProcess(broker) => Some(broker),
        }
    }

    /// Kills `nisshi`; what it acknowledged is on disk.
    ///
    /// # Errors
    /// When it is the in-process broker, which can only misbehave (see [`Broker::mock`]).
    pub async fn kill(&self) -> Result<()> {
        let Kind::Nisshi(nisshi) = &self.kind else { bail!("The in-process broker cannot be killed") };
        let mut slot = nisshi.process.lock().await;
        if let Some(process) = slot.as_ref() {
            process.signal(Signal::KILL);
            process.wait(STOP_PATIENCE).await?;
        }
        *slot = None;
        Ok(())
    }

    /// Starts `nisshi` again on the same port and the same messages.
    ///
    /// # Errors
    /// When it does not start, or is the in-process broker.
    pub async fn start_again(&self) -> Result<()> {
        let Kind::Nisshi(nisshi) = &self.kind else { bail!("The in-process broker is always up") };
        nisshi.start_again().await
    }
}

impl Nisshi {
    async fn start_again(&self) -> Result<()> {
        let mut slot = self.process.lock().await;
        if slot.as_ref().is_some_and(|process| process.ended().is_none()) {
            return Ok(());
        }
        *slot = None;
        // Both URLs: by default it listens on every address of the machine.
        let url = format!("tcp://127.0.0.1:{}", self.port);
        let args = [
            "broker",
            "--listener-url",
            &url,
            "--advertised-listener-url",
            &url,
            "--storage-engine",
            self.storage.url(),
        ];
        let process = self
            .nursery
            .spawn(Spec {
                name: "The broker".into(),
                program: &self.program,
                args: args.map(Into::into).into(),
                env: vec![("RUST_LOG".into(), "warn".into())],
                folder: &self.folder,
                log: self.log.clone(),
                run_as: None,
                may_pass: false,
                last_word: Signal::KILL,
            })
            .await?;
        let port = self.port;
        let listens = move || async move { TcpStream::connect(("127.0.0.1", port)).await.is_ok() };
        process.until(START_PATIENCE, listens).await?;
        *slot = Some(process);
        Ok(())
    }
}

impl Storage {
    fn url(self) -> &'static str {
        match self {
            Self::File => "sqlite://messages.db",
            Self::Memory => "memory://messages/",
        }
    }
}
