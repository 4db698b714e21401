//! Child processes that do not outlive us.
//!
//! On Linux a child can ask for a signal at its parent's death (`PR_SET_PDEATHSIG`), but the kernel means the *thread*
//! that spawned it. A runtime's threads come and go, so one thread of our own spawns every child of a world and
//! lives until the world is dropped. Each child has its own process group: Ctrl-C on the terminal reaches us alone,
//! and we end the children in our order.

use crate::tools::{self, SystemUser};
use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How often an awaited end is looked for.
const POLL: Duration = Duration::from_millis(10);
/// How long a drop waits for a child that was told to end, before it is killed.
const DROP_PATIENCE: Duration = Duration::from_secs(3);

/// The thread that spawns, and so keeps alive, every child of a world.
pub struct Nursery {
    orders: Option<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
    children: Mutex<Vec<Weak<Kept>>>,
}

struct Order {
    command: Command,
    reply: oneshot::Sender<io::Result<Child>>,
}

/// What to run.
pub struct Spec<'a> {
    /// What it is called in messages, e.g. `PostgreSQL of eu-central`.
    pub name: String,
    /// The program's path.
    pub program: &'a Path,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Environment variables to add.
    pub env: Vec<(OsString, OsString)>,
    /// Its working folder.
    pub folder: &'a Path,
    /// Where its output is appended.
    pub log: PathBuf,
    /// Whom to run it as; `None` is ourselves.
    pub run_as: Option<&'a SystemUser>,
    /// Whether it must pass folders that `run_as` may not (root only, see [`crate::Cluster`]).
    pub may_pass: bool,
    /// The signal that ends it at once and cleanly: sent at our death and when it is dropped.
    pub last_word: Signal,
}

impl Nursery {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn open() -> Result<Self> {
        let (orders, inbox) = mpsc::channel::<Order>();
        let thread = thread::Builder::new().name("nursery".into()).spawn(move || {
            for Order { mut command, reply } in inbox {
                // A caller that went away leaves a child nobody knows of: end it at once.
                if let Err(Ok(mut orphan)) = reply.send(command.spawn()) {
                    let _ = orphan.kill();
                    let _ = orphan.wait();
                }
            }
        })?;
        Ok(Self { orders: Some(orders), thread: Some(thread), children: Mutex::default() })
    }

    /// Starts a child.
    ///
    /// # Errors
    /// When its log cannot be opened or the program cannot be run.
    pub async fn spawn(&self, spec: Spec<'_>) -> Result<Process> {
        let log = OpenOptions::new().create(true).append(true).open(&spec.log);
        let log = log.with_context(|| format!("The log {} could not be opened", spec.log.display()))?;
        let mut command = command(&spec);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir(spec.folder).process_group(0);
        command.envs(spec.env);
        let (reply, answer) = oneshot::channel();
        let orders = self.orders.as_ref().ok_or_else(|| anyhow!("The nursery is closed"))?;
        orders.send(Order { command, reply }).map_err(|_| anyhow!("The nursery's thread has ended"))?;
        let child = answer.await.context("The nursery's thread has ended")?;
        let child = child.with_context(|| format!("{} could not be run", spec.program.display()))?;
        let kept = Kept { name: spec.name, log: spec.log, last_word: spec.last_word, child: Mutex::new(child) };
        let kept = Arc::new(kept);
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.retain(|child| child.strong_count() > 0);
        children.push(Arc::downgrade(&kept));
        Ok(Process(kept))
    }

    /// Says the last word to every child, youngest first, without waiting for any: dropping them one by one then takes
    /// as long as the slowest, not as all together.
    pub fn dismiss_all(&self) {
        let children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        for child in children.iter().rev().filter_map(Weak::upgrade) {
            child.signal(child.last_word);
        }
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Wraps a program in `setpriv`, which sets the death signal and drops from root, where there is one.
fn command(spec: &Spec<'_>) -> Command {
    let Some(setpriv) = cfg!(target_os = "linux").then(|| tools::on_path("setpriv")).flatten() else {
        let mut command = Command::new(spec.program);
        command.args(&spec.args);
        if let Some(user) = spec.run_as {
            command.uid(user.uid).gid(user.gid);
        }
        return command;
    };
    let mut command = Command::new(setpriv);
    let at_our_death = match spec.last_word {
        Signal::QUIT => "QUIT",
        Signal::USR1 => "USR1",
        _ => "KILL",
    };
    command.arg(format!("--pdeathsig={at_our_death}"));
    if let Some(user) = spec.run_as {
        command.args([format!("--reuid={}", user.uid), format!("--regid={}", user.gid), "--clear-groups".into()]);
        if spec.may_pass {
            command.args(["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]);
        }
    }
    command.arg("--").arg(spec.program).args(&spec.args);
    command
}

/// A child process. Dropping it ends it.
pub struct Process(Arc<Kept>);

struct Kept {
    name: String,
    log: PathBuf,
    last_word: Signal,
    child: Mutex<Child>,
}

impl Process {
    /// The file its output goes to.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.0.log
    }

    /// The process's number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.child().id()
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn ended(&self) -> Option<ExitStatus> {
        self.0.ended()
    }

    /// Sends a signal, unless it has ended.
    pub fn signal(&self, signal: Signal) {
        self.0.signal(signal);
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it still runs after `patience`.
    pub async fn wait(&self, patience: Duration) -> Result<ExitStatus> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            if began.elapsed() > patience {
                bail!("{} still runs {patience:?} after it was told to end", self.0.name);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until `ready` says so.
    ///
    /// # Errors
    /// When the process ends before, or `patience` is over: the sentence carries the last lines of its log.
    pub async fn until<F: Future<Output = bool>>(
        &self,
        patience: Duration,
        mut ready: impl FnMut() -> F,
    ) -> Result<()> {
        let began = Instant::now();
        loop {
            if ready().await {
                return Ok(());
            }
            if let Some(status) = self.ended() {
                bail!("{} ended while it started ({status}). Its last words:\n{}", self.0.name, self.last_lines());
            }
            if began.elapsed() > patience {
                bail!("{} was not ready after {patience:?}. Its last words:\n{}", self.0.name, self.last_lines());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The end of its log, for a message.
    #[must_use]
    pub fn last_lines(&self) -> String {
        const LINES_MAX: usize = 15;
        let bytes = std::fs::read(&self.0.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES_MAX)..].join("\n")
    }
}

impl Kept {
    fn ended(&self) -> Option<ExitStatus> {
        self.child().try_wait().ok().flatten()
    }

    fn signal(&self, signal: Signal) {
        let mut child = self.child();
        // Reaped processes give their number back, so look first: the lock keeps the two together.
        if matches!(child.try_wait(), Ok(None))
            && let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process(pid, signal);
        }
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.signal(self.last_word);
        let began = Instant::now();
        while self.ended().is_none() {
            if began.elapsed() > DROP_PATIENCE {
                let mut child = self.child();
                let _ = child.kill();
                let _ = child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Runs a program to its end and gives its output back.
///
/// # Errors
/// When it cannot be run or says that it failed: the sentence carries what it said.
pub async fn output(program: &Path, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Vec<u8>> {
    let done = tokio::process::Command::new(program)
        .args(args)
        .env("PGCONNECT_TIMEOUT", "60")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("{} could not be run", program.display()))?;
    if !done.status.success() {
        bail!("{} failed ({}): {}", program.display(), done.status, String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(done.stdout)
}
