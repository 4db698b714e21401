//! Throw-away PostgreSQL clusters: a data folder each, a unix socket and no TCP port, real fsync, and nothing
//! left behind. The last one to drop a cluster stops the server and removes the folder; if the test process dies
//! first, the kernel stops the server.
//!
//! A test that stops its server, or makes roles in it, has one of its own ([`Cluster::start_new`]); all others share
//! one and have a database each ([`Cluster::shared`]). Only so many tests use servers at a time, however many
//! cores there are.
//!
//! `initdb` runs once per machine and user; later clusters are copies of its result.

#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::fs;
use std::io;
use std::ops::Deref;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, PoisonError, Weak, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use storage::Limits;
use tempfile::TempDir;

/// How long a test waits for what must come about. No test may demand more speed than this of the machine: a bench
/// says how fast something is.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// How many tests of one process may use servers at a time.
const TESTS_AT_ONCE_MAX: usize = 8;

/// A unix socket's path must fit `sockaddr_un` (108 bytes on Linux) with room to spare.
const SOCKET_PATH_BYTES_MAX: usize = 100;

/// The unprivileged user a server runs as when the tests are run by root, which PostgreSQL refuses.
const SERVER_USER: &str = "postgres";

/// Limits that a slow machine does not reach: for whatever is not about a limit. With them, what is answered at all is
/// not answered because a time was over.
pub(crate) fn patient() -> Limits {
    Limits {
        connect_timeout: PATIENCE / 2,
        statement_timeout: PATIENCE / 2,
        lock_timeout: PATIENCE / 2,
        answer_timeout: PATIENCE,
        index_wait_max: PATIENCE,
        shutdown_timeout: PATIENCE,
        ..Limits::default()
    }
}

/// Waits until something holds.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "not within {} s: {what}", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A PostgreSQL server as one test uses it.
#[derive(Clone)]
pub(crate) struct Cluster {
    server: Arc<Server>,
    // Given back after the server has gone.
    seat: Arc<Seat>,
}

impl Cluster {
    /// A cluster of this test's own, which it may stop, kill and freeze.
    pub(crate) fn start_new() -> Self {
        let seat = Arc::new(Seat::take());
        Self { server: Arc::new(Server::start_new(true)), seat }
    }

    /// A second server on a copy of this one's data, as a replica is that was promoted behind a partition: to whoever
    /// connects it is the same cluster. This one is stopped while its data is copied.
    pub(crate) fn fork(&self) -> Self {
        self.stop();
        let server = Arc::new(Server::start_on(&self.folder().join("data"), true));
        self.start();
        Self { server, seat: Arc::clone(&self.seat) }
    }

    /// The cluster of all tests of this process that leave it running. It goes away with the last of them.
    pub(crate) fn shared() -> Self {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let seat = Arc::new(Seat::take());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let server = shared.upgrade().unwrap_or_else(|| Arc::new(Server::start_new(false)));
        *shared = Arc::downgrade(&server);
        Self { server, seat }
    }
}

impl Deref for Cluster {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

/// The right to use a server.
struct Seat;

static TAKEN: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

impl Seat {
    /// Waits for it. A test takes one only, or two tests could wait for each other.
    fn take() -> Self {
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let free = FREED.wait_while(taken, |taken| *taken >= TESTS_AT_ONCE_MAX);
        *free.unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        FREED.notify_one();
    }
}

/// A PostgreSQL server.
pub(crate) struct Server {
    folder: TempDir,
    port: u16,
    /// Whether one test has it for itself.
    alone: bool,
    names: AtomicU32,
    server: Mutex<Option<Child>>,
}

impl Server {
    /// Makes and starts a cluster, and waits until it accepts connections.
    fn start_new(alone: bool) -> Self {
        Self::start_on(template(), alone)
    }

    /// Starts a server on a copy of a data folder that no server uses.
    fn start_on(data: &Path, alone: bool) -> Self {
        let folder = tempfile::Builder::new().prefix("domicile-pg-").tempdir_in("/tmp").expect("a temporary folder");
        own(folder.path());
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("permissions of the folder");
        run(as_server_user("cp").arg("-a").arg("--reflink=auto").arg(data).arg(folder.path().join("data")));
        let port = rand::random_range(20_000..60_000);
        let cluster = Self { folder, port, alone, names: AtomicU32::new(0), server: Mutex::new(None) };
        assert!(cluster.socket().as_os_str().len() < SOCKET_PATH_BYTES_MAX, "the socket's path is too long");
        cluster.start();
        cluster
    }

    /// A name for a database that no other test uses.
    pub(crate) fn unused(&self, stem: &str) -> String {
        format!("{stem}_{}", self.names.fetch_add(1, Ordering::Relaxed))
    }

    /// Where to connect as the cluster's superuser.
    pub(crate) fn dsn(&self, database: &str) -> String {
        self.dsn_as("postgres", database)
    }

    /// Where to connect as a role of one's choice: this cluster trusts every name.
    pub(crate) fn dsn_as(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}@localhost:{}/{database}?host={}", self.port, self.folder.path().display())
    }

    /// Runs SQL as the superuser and gives each row as a line, its columns separated by `|`.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> Vec<String> {
        let mut psql = Command::new(binaries().join("psql"));
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", &self.dsn(database), "-c", sql]);
        let output = psql.output().expect("psql starts");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }

    /// The folder that holds the socket and the data.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Takes over the data of another server, as a site does that rejoins after a partition: its own is lost. Both servers
    /// run afterwards.
    pub(crate) fn rejoin(&self, other: &Self) {
        self.stop();
        other.stop();
        let data = self.folder.path().join("data");
        fs::remove_dir_all(&data).expect("the data goes");
        run(as_server_user("cp").arg("-a").arg("--reflink=auto").arg(other.folder.path().join("data")).arg(&data));
        other.start();
        self.start();
    }

    /// Starts the server, again after [`stop`](Self::stop) or [`kill`](Self::kill), and waits until it accepts.
    pub(crate) fn start(&self) {
        let mut server = self.server.lock().expect("the server's lock");
        assert!(server.is_none(), "the server is running already");
        let log = fs::File::options().create(true).append(true).open(self.folder.path().join("log")).expect("a log");
        let mut command = as_server_user(binaries().join("postgres"));
        command
            .arg("-D")
            .arg(self.folder.path().join("data"))
            .arg("-k")
            .arg(self.folder.path())
            .arg("-p")
            .arg(self.port.to_string())
            .args(["-c", "listen_addresses=", "-c", "fsync=on", "-c", "max_connections=400"])
            .args(["-c", "shared_buffers=32MB", "-c", "log_min_messages=warning"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log twice"))
            .stderr(log);
        *server = Some(spawn_for_life(command).expect("the server starts"));
        let begun = Instant::now();
        while !self.accepts() {
            let ended = server.as_mut().and_then(|child| child.try_wait().ok().flatten());
            assert!(ended.is_none() && begun.elapsed() < PATIENCE, "the server did not start: {}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops the server in good order: sessions are ended, data is flushed.
    pub(crate) fn stop(&self) {
        assert!(self.alone, "other tests stand on this server");
        self.end("INT");
    }

    /// Ends the server at once and without clean-up, as a crash does.
    pub(crate) fn kill(&self) {
        assert!(self.alone, "other tests stand on this server");
        self.end("QUIT");
    }

    /// Freezes every process of the server: connections stay open and nothing answers.
    pub(crate) fn freeze(&self) {
        assert!(self.alone, "other tests stand on this server");
        self.signal_all("STOP");
    }

    /// Undoes [`freeze`](Self::freeze).
    pub(crate) fn thaw(&self) {
        self.signal_all("CONT");
    }

    /// What the server wrote to its log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join(format!(".s.PGSQL.{}", self.port))
    }

    /// The postmaster writes its state into line 8 of its pid file.
    fn accepts(&self) -> bool {
        let pid_file = fs::read_to_string(self.folder.path().join("data/postmaster.pid")).unwrap_or_default();
        pid_file.lines().nth(7).is_some_and(|state| state.trim() == "ready")
    }

    fn end(&self, signal: &str) {
        let Some(mut child) = self.server.lock().expect("the server's lock").take() else { return };
        send(signal, &[child.id()]);
        let begun = Instant::now();
        while child.try_wait().ok().flatten().is_none() {
            if begun.elapsed() > PATIENCE {
                drop(child.kill());
                drop(child.wait());
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        // A crashed server leaves its pid file, and the next start would take its last line for its own.
        drop(fs::remove_file(self.folder.path().join("data/postmaster.pid")));
    }

    fn signal_all(&self, signal: &str) {
        let server = self.server.lock().expect("the server's lock");
        let Some(parent) = server.as_ref().map(Child::id) else { return };
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        send(signal, &std::iter::once(parent).chain(children).collect::<Vec<u32>>());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.thaw();
        // The data is thrown away, so nothing needs flushing.
        self.end("QUIT");
    }
}

/// Where the server's programs are: `PG_BIN`, else the newest of the usual places.
fn binaries() -> &'static Path {
    static FOUND: LazyLock<PathBuf> = LazyLock::new(|| {
        if let Ok(named) = std::env::var("PG_BIN") {
            return named.into();
        }
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let mut folders: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
        folders.sort();
        let usual = ["/usr/local/bin", "/usr/bin", "/opt/homebrew/bin"].map(PathBuf::from);
        let mut all = folders.into_iter().rev().chain(usual);
        all.find(|folder| folder.join("initdb").exists())
            .expect("a PostgreSQL server is installed, or PG_BIN says where")
    });
    &FOUND
}

/// An initialised, never started data folder to copy from.
fn template() -> &'static Path {
    static MADE: LazyLock<PathBuf> = LazyLock::new(|| {
        let version = Command::new(binaries().join("initdb")).arg("--version").output().expect("initdb runs").stdout;
        let version: String = String::from_utf8_lossy(&version).chars().filter(char::is_ascii_digit).collect();
        let ready =
            PathBuf::from(format!("/tmp/domicile-pg-template-{version}-{}", if am_root() { "root" } else { "user" }));
        if !ready.exists() {
            let work =
                tempfile::Builder::new().prefix("domicile-pg-init-").tempdir_in("/tmp").expect("a temporary folder");
            own(work.path());
            let data = work.path().join("data");
            let mut initdb = as_server_user(binaries().join("initdb"));
            initdb.args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--wal-segsize=4"]);
            run(initdb.arg("--no-sync").arg("-D").arg(&data));
            // Two test binaries may get here at once: the first rename wins, both results are the same.
            if let Err(e) = fs::rename(&data, &ready) {
                assert!(ready.exists(), "the template could not be kept: {e}");
            }
        }
        ready
    });
    &MADE
}

fn am_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|of_self| of_self.uid() == 0)
}

/// Gives a folder to the user that the server will run as.
fn own(folder: &Path) {
    if am_root() {
        run(Command::new("chown").arg(format!("{SERVER_USER}:{SERVER_USER}")).arg(folder));
    }
}

/// A command that runs as the server's user and dies with the thread that starts it.
fn as_server_user(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    if am_root() {
        command.args([&format!("--reuid={SERVER_USER}"), &format!("--regid={SERVER_USER}"), "--clear-groups"]);
    }
    command.arg("--pdeathsig=QUIT").arg("--").arg(program).current_dir("/tmp");
    command
}

fn run(command: &mut Command) {
    let output = command.output().expect("the command starts");
    assert!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
}

fn send(signal: &str, pids: &[u32]) {
    let pids = pids.iter().map(u32::to_string);
    drop(Command::new("kill").arg(format!("-{signal}")).args(pids).stderr(Stdio::null()).status());
}

/// Starts a child from a thread that lives as long as this process: the parent-death signal fires when
/// the *thread* that started the child ends, and a test's thread may end before its cluster does.
fn spawn_for_life(command: Command) -> io::Result<Child> {
    type Order = (Command, mpsc::Sender<io::Result<Child>>);
    static STARTER: LazyLock<mpsc::Sender<Order>> = LazyLock::new(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in inbox {
                drop(answer.send(command.spawn()));
            }
        });
        orders
    });
    let (answer, child) = mpsc::channel();
    STARTER.send((command, answer)).map_err(io::Error::other)?;
    child.recv().map_err(io::Error::other)?
}
