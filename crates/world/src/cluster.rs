//! One throw-away PostgreSQL cluster: its own data folder, a unix socket and nothing else to reach it by.

mod template;

pub(crate) use self::template::template;
use self::template::{found, give_to};
use crate::nursery::{Nursery, Process, Spec, output};
use crate::ports;
use crate::tools::Postgres;
use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::sync::Mutex;

/// A socket's path may have 107 bytes on Linux, 103 on macOS; this leaves room for `/.s.PGSQL.32000`.
const SOCKET_FOLDER_LEN_MAX: usize = 84;
/// How long a start may take; recovery after a kill is part of it.
const START_PATIENCE: Duration = Duration::from_secs(180);
/// How long a clean stop may take; it writes a checkpoint.
const STOP_PATIENCE: Duration = Duration::from_secs(120);
/// How long a start is tried again while the remains of a killed server still hold the shared memory.
const REMAINS_PATIENCE: Duration = Duration::from_secs(60);
/// The superuser of every cluster of a world.
const SUPERUSER: &str = "postgres";

/// One PostgreSQL server. Durable (`fsync` is on): what it acknowledged survives [`Cluster::kill`].
pub struct Cluster {
    name: String,
    postgres: Postgres,
    nursery: Arc<Nursery>,
    home: PathBuf,
    sockets: Sockets,
    number: u16,
    log: PathBuf,
    settings: Vec<(String, String)>,
    process: Mutex<Option<Process>>,
}

enum Sockets {
    AtHome(PathBuf),
    // The data folder's path is too long for a socket.
    Elsewhere(TempDir),
}

impl Cluster {
    /// Founds a cluster in `home`, or takes the one that is already there, and starts it. The server's log goes to
    /// `log`. `template` is what the function `template` gave. `settings` come after our own and override them.
    ///
    /// # Errors
    /// When a file cannot be written, the cluster there belongs to another PostgreSQL version or the server does not
    /// start.
    pub async fn start(
        nursery: &Arc<Nursery>,
        postgres: &Postgres,
        name: &str,
        home: &Path,
        log: &Path,
        template: &Path,
        settings: &[(String, String)],
    ) -> Result<Self> {
        fs::create_dir_all(home).with_context(|| format!("The folder {} could not be made", home.display()))?;
        let home = home.canonicalize()?;
        fs::set_permissions(&home, Permissions::from_mode(0o700))?;
        give_to(&home, postgres.run_as())?;
        let data = home.join("data");
        match fs::read_to_string(data.join("PG_VERSION")) {
            Ok(version) => ensure!(
                version.trim() == postgres.version_major().to_string(),
                "The cluster in {} was made by PostgreSQL {}, and this machine now runs {}: remove the data folder or set PG_BIN",
                data.display(),
                version.trim(),
                postgres.version_major()
            ),
            Err(_) => found(postgres, template, &data).await?,
        }
        let sockets = if home.as_os_str().len() <= SOCKET_FOLDER_LEN_MAX {
            Sockets::AtHome(home.clone())
        } else {
            let folder =
                tempfile::Builder::new().prefix("dom-").permissions(Permissions::from_mode(0o700)).tempdir()?;
            give_to(folder.path(), postgres.run_as())?;
            Sockets::Elsewhere(folder)
        };
        let cluster = Self {
            name: name.to_owned(),
            postgres: postgres.clone(),
            nursery: Arc::clone(nursery),
            home,
            sockets,
            number: ports::socket_number(),
            log: log.to_owned(),
            settings: settings.to_vec(),
            process: Mutex::new(None),
        };
        cluster.start_again().await?;
        Ok(cluster)
    }

    /// What it is called, e.g. `eu-central`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number in the socket's name.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The connection string of a database for `user`; psql, pg_dump and sqlx understand it. No password: only the
    /// owner of the socket's folder can reach it.
    #[must_use]
    pub fn dsn(&self, user: &str, database: &str) -> String {
        let folder = percent_encoded(&self.socket_folder().to_string_lossy());
        format!("postgresql:///{database}?host={folder}&port={}&user={user}", self.number)
    }

    /// The connection string of a database for the superuser.
    #[must_use]
    pub fn superuser_dsn(&self, database: &str) -> String {
        self.dsn(SUPERUSER, database)
    }

    /// Runs SQL as the superuser and gives each row as a line, its columns separated by `|`.
    ///
    /// # Errors
    /// What PostgreSQL says against it.
    pub async fn sql(&self, database: &str, sql: &str) -> Result<Vec<String>> {
        let dsn = self.superuser_dsn(database);
        let args = ["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", &dsn, "-c", sql];
        let said = output(&self.postgres.program("psql"), args).await?;
        Ok(String::from_utf8(said)?.lines().map(str::to_owned).collect())
    }

    /// Everything in a database, as `pg_dump` writes it.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn dump(&self, database: &str) -> Result<Vec<u8>> {
        output(&self.postgres.program("pg_dump"), ["-d", &self.superuser_dsn(database)]).await
    }

    /// The databases made in it, without those every cluster has.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn databases(&self) -> Result<Vec<String>> {
        let made = "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres' ORDER BY 1";
        self.sql("postgres", made).await
    }

    /// The number of its first process, the parent of all others, while it runs.
    pub async fn id(&self) -> Option<u32> {
        self.process.lock().await.as_ref().filter(|process| process.ended().is_none()).map(Process::id)
    }

    /// Whether its process runs.
    pub async fn is_running(&self) -> bool {
        self.process.lock().await.as_ref().is_some_and(|process| process.ended().is_none())
    }

    /// Starts it after [`Cluster::stop`] or [`Cluster::kill`]; returns when it accepts connections. Does nothing when
    /// it runs.
    ///
    /// # Errors
    /// When it does not start; the sentence carries its last words.
    pub async fn start_again(&self) -> Result<()> {
        let mut slot = self.process.lock().await;
        if slot.as_ref().is_some_and(|process| process.ended().is_none()) {
            return Ok(());
        }
        *slot = None;
        let began = Instant::now();
        loop {
            let process = self.nursery.spawn(self.spec()).await?;
            let (file, id) = (self.data().join("postmaster.pid"), process.id());
            match process.until(START_PATIENCE, || std::future::ready(accepts(&file, id))).await {
                Ok(()) => {
                    *slot = Some(process);
                    return Ok(());
                }
                // The backends of a killed server take a moment to notice and to let go.
                Err(_) if remains(&process.last_lines()) && began.elapsed() < REMAINS_PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Stops it cleanly: open connections are ended, a checkpoint is written.
    ///
    /// # Errors
    /// When it still runs after two minutes.
    pub async fn stop(&self) -> Result<()> {
        let mut slot = self.process.lock().await;
        if let Some(process) = slot.as_ref() {
            process.signal(Signal::INT);
            process.wait(STOP_PATIENCE).await?;
        }
        *slot = None;
        Ok(())
    }

    /// Kills the server as a power cut would: no checkpoint, no goodbye.
    ///
    /// # Errors
    /// When the system does not end it.
    pub async fn kill(&self) -> Result<()> {
        let mut slot = self.process.lock().await;
        if let Some(process) = slot.as_ref() {
            process.signal(Signal::KILL);
            process.wait(STOP_PATIENCE).await?;
        }
        *slot = None;
        Ok(())
    }

    fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    fn socket_folder(&self) -> &Path {
        match &self.sockets {
            Sockets::AtHome(folder) => folder,
            Sockets::Elsewhere(folder) => folder.path(),
        }
    }

    fn spec(&self) -> Spec<'_> {
        let settings = [
            ("listen_addresses", String::new()),
            ("unix_socket_directories", self.socket_folder().to_string_lossy().into_owned()),
            ("port", self.number.to_string()),
            ("max_connections", "120".into()),
            ("shared_buffers", "64MB".into()),
            ("fsync", "on".into()),
            ("synchronous_commit", "on".into()),
            ("timezone", "UTC".into()),
            // A server's log is no place for what a statement carried (promise 1): neither its text nor its DETAIL.
            ("log_min_error_statement", "panic".into()),
            ("log_error_verbosity", "terse".into()),
        ];
        let mut args: Vec<OsString> = vec!["-D".into(), self.data().into()];
        let wished = self.settings.iter().map(|(key, value)| (key.as_str(), value.clone()));
        for (key, value) in settings.into_iter().chain(wished) {
            args.extend(["-c".into(), format!("{key}={value}").into()]);
        }
        Spec {
            name: format!("The PostgreSQL of {}", self.name),
            program: self.program(),
            args,
            env: Vec::new(),
            folder: &self.home,
            log: self.log.clone(),
            run_as: self.postgres.run_as(),
            may_pass: !passable(&self.home),
            last_word: Signal::QUIT,
        }
    }

    fn program(&self) -> &Path {
        self.postgres.server()
    }
}

/// Whether any user may pass through every folder above `home`. Where not (a data folder under /root), root lends
/// the server the capability to pass; nobody else needs it.
fn passable(home: &Path) -> bool {
    home.ancestors().skip(1).all(|folder| fs::metadata(folder).is_ok_and(|meta| meta.mode() & 0o001 != 0))
}

/// The server writes `ready` into the eighth line of its pid file once it accepts connections.
fn accepts(pid_file: &Path, id: u32) -> bool {
    let Ok(text) = fs::read_to_string(pid_file) else { return false };
    let mut lines = text.lines();
    lines.next().is_some_and(|line| line.trim() == id.to_string()) && lines.nth(6).is_some_and(|l| l.trim() == "ready")
}

fn remains(words: &str) -> bool {
    words.contains("pre-existing shared memory block") || words.contains("lock file")
}

fn percent_encoded(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => encoded.push(char::from(byte)),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn two(home: &Path) -> (Cluster, Cluster) {
        let nursery = Arc::new(Nursery::open().expect("a thread"));
        let postgres = Postgres::find().expect("PostgreSQL is installed");
        let template = template(&nursery, &postgres, home).await.expect("initdb");
        let start = |name: &'static str| {
            let (nursery, postgres, template) = (&nursery, &postgres, &template);
            let (folder, log) = (home.join(name), home.join(format!("{name}.log")));
            async move { Cluster::start(nursery, postgres, name, &folder, &log, template, &[]).await.expect("it starts") }
        };
        tokio::join!(start("first"), start("second"))
    }

    fn home() -> TempDir {
        tempfile::Builder::new().permissions(Permissions::from_mode(0o711)).tempdir().expect("a temporary folder")
    }

    #[tokio::test]
    async fn two_clusters_are_never_taken_for_one_another() {
        let home = home();
        let (first, second) = two(home.path()).await;
        let identity = "SELECT system_identifier FROM pg_control_system()";
        let (one, other) = (first.sql("postgres", identity).await, second.sql("postgres", identity).await);
        assert_ne!(one.expect("a row"), other.expect("a row"));
    }

    #[tokio::test]
    async fn what_was_committed_before_a_kill_is_there_after_the_next_start() {
        let home = home();
        let (cluster, _other) = two(home.path()).await;
        cluster.sql("postgres", "CREATE DATABASE kept").await.expect("a database");
        cluster.sql("kept", "CREATE TABLE t AS SELECT 'still here' AS word").await.expect("a table");
        cluster.kill().await.expect("it ends");
        assert!(cluster.sql("kept", "SELECT 1").await.is_err(), "a killed server must not answer");
        cluster.start_again().await.expect("it recovers");
        assert_eq!(cluster.sql("kept", "SELECT word FROM t").await.expect("a row"), ["still here"]);
        assert_eq!(cluster.databases().await.expect("a list"), ["kept"]);
        let dump = String::from_utf8(cluster.dump("kept").await.expect("a dump")).expect("text");
        assert!(dump.contains("still here"));
    }

    #[tokio::test]
    async fn a_data_folder_with_a_path_too_long_for_a_socket_works() {
        let home = home();
        let deep = home.path().join("a-folder-with-a-rather-long-name".repeat(4));
        fs::create_dir(&deep).expect("a folder");
        let (cluster, _other) = two(&deep).await;
        assert_eq!(cluster.sql("postgres", "SELECT 1").await.expect("a row"), ["1"]);
    }

    #[test]
    fn a_folder_with_strange_characters_survives_the_connection_string() {
        assert_eq!(percent_encoded("/tmp/a b%ü?&"), "/tmp/a%20b%25%C3%BC%3F%26");
    }
}
