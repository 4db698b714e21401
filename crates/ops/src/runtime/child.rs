//! Running other programs to their end, with a deadline, and keeping one that holds the deployer's lease.
//!
//! Each has a process group of its own: who presses Ctrl-C asks the deployer to stop, and it is the deployer that ends the
//! step under way and turns back. In the terminal's own group the program of that step would die instead, and its lease.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;

use super::{Held, Ran};
use crate::exit::{Exit, Trouble};

const POLL: Duration = Duration::from_millis(10);
/// How often the keeper of the lease is told that we live. It gives the lease back when it hears nothing for some time:
/// not every wrapper hands the end of our side of a pipe on.
const SIGN_OF_LIFE_EVERY: Duration = Duration::from_secs(3);
/// How long a lease may take to be given.
const LEASE_MAX: Duration = Duration::from_secs(60);

/// How long a program that somebody still has open for writing may stay so.
const BUSY_MAX: Duration = Duration::from_secs(5);

/// Starts a program. One that was written a moment ago is tried again for a while: a child that another thread is
/// starting has a copy of the descriptor it was written by, between fork and exec, and so long nobody may run it.
pub(super) fn spawn(command: &mut Command) -> io::Result<Child> {
    let begun = Instant::now();
    loop {
        match command.spawn() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy && begun.elapsed() < BUSY_MAX => {
                thread::sleep(POLL);
            }
            outcome => return outcome,
        }
    }
}

/// Runs a program to its end.
pub(super) fn run(mut command: Command, patience: Duration) -> Result<Ran, Trouble> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = spawn(&mut command).map_err(|e| Trouble::new(format!("{name} cannot be run: {e}")))?;
    let (out, err) = (reader(child.stdout.take()), reader(child.stderr.take()));
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begun.elapsed() > patience {
            end_group(&mut child);
            return Err(Trouble::of(Exit::Unreachable, format!("{name} did not end within {} s", patience.as_secs())));
        }
        thread::sleep(POLL);
    };
    let text = |reader: JoinHandle<String>| reader.join().unwrap_or_default();
    let signal = std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or(0);
    Ok(Ran { code: status.code().unwrap_or(128 + signal), stdout: text(out), stderr: text(err) })
}

/// Ends a program and everything that it started: its group is its own.
fn end_group(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

fn reader(stream: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            let _ = stream.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// What `ops lease` says, a line at a time.
#[derive(Debug, Deserialize)]
#[serde(tag = "lease", rename_all = "snake_case")]
enum Said {
    Held { token: Option<i64>, whole: bool },
    Refused { by: String },
    Lost { why: String },
}

/// A child that holds the lease as long as we live.
struct Keeper {
    child: Child,
    token: Option<i64>,
    whole: bool,
    lost: Arc<Mutex<Option<String>>>,
    stop: Arc<AtomicBool>,
}

/// Starts `ops lease` and waits for its first word.
pub(super) fn hold(mut command: Command) -> Result<Box<dyn Held>, Trouble> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
    let mut child = spawn(&mut command)?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let stop = Arc::new(AtomicBool::new(false));
    let stopping = Arc::clone(&stop);
    thread::spawn(move || {
        let Some(mut stdin) = stdin else { return };
        let mut told = Instant::now();
        // The pipe closes when this ends, and at our death.
        while !stopping.load(Ordering::Relaxed) {
            if told.elapsed() >= SIGN_OF_LIFE_EVERY {
                told = Instant::now();
                if stdin.write_all(b"\n").and_then(|()| stdin.flush()).is_err() {
                    return;
                }
            }
            thread::sleep(Duration::from_millis(50));
        }
    });
    let (first, heard) = std::sync::mpsc::channel();
    let lost = Arc::new(Mutex::new(None));
    let losing = Arc::clone(&lost);
    thread::spawn(move || {
        let Some(stdout) = stdout else { return };
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            match serde_json::from_str::<Said>(&line) {
                Ok(Said::Lost { why }) => {
                    *losing.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.clone());
                    drop(first.send(Said::Lost { why }));
                }
                Ok(said) => drop(first.send(said)),
                Err(_) => {} // a wrapper's own words
            }
        }
        let mut lost = losing.lock().unwrap_or_else(PoisonError::into_inner);
        lost.get_or_insert_with(|| "whoever held it has ended".to_owned());
    });
    let mut keeper = Keeper { child, token: None, whole: false, lost, stop };
    match heard.recv_timeout(LEASE_MAX) {
        Ok(Said::Held { token, whole }) => {
            (keeper.token, keeper.whole) = (token, whole);
            Ok(Box::new(keeper))
        }
        Ok(Said::Refused { by }) => Err(Trouble::of(Exit::Locked, by)),
        Ok(Said::Lost { why }) => Err(Trouble::new(why)),
        Err(_) => Err(Trouble::of(Exit::Unreachable, "the databases did not say who is at work")),
    }
}

impl Held for Keeper {
    fn lost(&mut self) -> Option<String> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn token(&self) -> Option<i64> {
        self.token
    }

    fn is_whole(&self) -> bool {
        self.whole
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(10) {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(POLL);
        }
        end_group(&mut self.child);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::os::unix::fs::OpenOptionsExt as _;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_program_is_run_to_its_end_with_both_of_its_voices() {
        let ran = run(shell("echo out; echo err >&2; exit 9"), Duration::from_secs(60)).expect("it runs");
        assert_eq!((ran.code, ran.stdout.trim(), ran.stderr.trim()), (9, "out", "err"));
        let ran = run(shell("kill -9 $$"), Duration::from_secs(60)).expect("it runs");
        assert_eq!(ran.code, 137);
    }

    #[test]
    fn a_program_that_is_still_open_for_writing_is_run_as_soon_as_it_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("program");
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o755).open(&path).expect("new");
        file.write_all(b"#!/bin/sh\necho ran\n").expect("written");
        let closing = thread::spawn(move || {
            thread::sleep(Duration::from_millis(100));
            drop(file);
        });
        let ran = run(Command::new(&path), Duration::from_secs(60)).expect("it runs");
        assert_eq!(ran.stdout.trim(), "ran");
        closing.join().expect("closed");
    }

    #[test]
    fn a_program_that_does_not_end_is_ended() {
        let late = run(shell("exec sleep 600"), Duration::from_millis(50)).expect_err("it is late");
        assert_eq!(late.exit, Exit::Unreachable);
    }

    #[test]
    fn what_a_program_that_does_not_end_has_started_ends_with_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let pid = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! >{}; wait", pid.display());
        run(shell(&script), Duration::from_millis(300)).expect_err("it is late");
        let pid = std::fs::read_to_string(pid).expect("it began");
        let begun = Instant::now();
        let runs = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
        };
        while runs() && begun.elapsed() < Duration::from_secs(60) {
            thread::sleep(POLL);
        }
        assert!(!runs(), "nobody would wait for it");
    }

    #[test]
    fn what_the_terminal_sends_to_our_group_reaches_no_program_of_ours() {
        // Field 5 of the line is the process group; the name in the second has no space here.
        let own = std::fs::read_to_string("/proc/self/stat").expect("Linux");
        let own =
            own.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(2)).expect("a group").to_owned();
        let ran = run(shell("cut -d ' ' -f 5 /proc/$$/stat"), Duration::from_secs(60)).expect("it runs");
        assert!(ran.code == 0 && ran.stdout.trim() != own, "{ran:?}");
        let script =
            r#"echo "{\"lease\":\"held\",\"token\":$(cut -d ' ' -f 5 /proc/$$/stat),\"whole\":true}"; cat >/dev/null"#;
        let held = hold(shell(script)).expect("it is held");
        assert_ne!(held.token().expect("a group").to_string(), own);
    }

    #[test]
    fn a_lease_is_held_until_it_is_let_go_or_lost() {
        let mut held = hold(shell(r#"echo noise; echo '{"lease":"held","token":7,"whole":true}'; cat >/dev/null"#))
            .expect("it is held");
        assert_eq!((held.token(), held.is_whole(), held.lost()), (Some(7), true, None));
        drop(held);
        let refused = hold(shell(r#"echo '{"lease":"refused","by":"anna is at work"}'"#)).err().expect("refused");
        assert_eq!((refused.exit, refused.what.as_str()), (Exit::Locked, "anna is at work"));
        let mut held = hold(shell(r#"echo '{"lease":"held","token":7,"whole":true}'"#)).expect("it is held");
        let begun = Instant::now();
        while held.lost().is_none() && begun.elapsed() < Duration::from_secs(120) {
            thread::sleep(POLL);
        }
        assert!(held.lost().is_some(), "its keeper has ended");
    }
}
