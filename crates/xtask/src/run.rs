//! Running other programs, and saying so.

use anyhow::{Context, Result, bail};
use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, Write as _};
use std::os::unix::process::{CommandExt, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The cargo that runs us, at work in this repository.
pub(crate) struct Cargo {
    program: OsString,
    root: PathBuf,
}

impl Cargo {
    /// Finds it by what cargo tells the programs it runs.
    pub(crate) fn find() -> Result<Self> {
        let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let manifest =
            env::var_os("CARGO_MANIFEST_DIR").context("Run this as `cargo xtask`, so that it finds its place")?;
        let root = Path::new(&manifest).ancestors().nth(2).context("This crate lies in crates/xtask")?.to_owned();
        Ok(Self { program, root })
    }

    /// The top of the repository.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A cargo command at the top of the repository.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> CommandLine {
        self.tool(&self.program).args(args)
    }

    /// A program at the top of the repository that is told what we were told: ourselves.
    pub(crate) fn as_we_were_told(&self, program: impl AsRef<OsStr>) -> CommandLine {
        let mut command = Command::new(program);
        command.current_dir(&self.root).env("CARGO", &self.program);
        CommandLine(command)
    }

    /// Another program at the top of the repository.
    pub(crate) fn tool(&self, program: impl AsRef<OsStr>) -> CommandLine {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        // What cargo told us of ourselves is not meant for what it builds next: it would build that again.
        for (name, _) in env::vars_os() {
            let told =
                name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_BIN_"));
            if told || name == "CARGO_MANIFEST_DIR" || name == "CARGO_MANIFEST_PATH" || name == "CARGO_PRIMARY_PACKAGE"
            {
                command.env_remove(name);
            }
        }
        CommandLine(command)
    }
}

/// A command, put together piece by piece.
pub(crate) struct CommandLine(Command);

impl CommandLine {
    /// Any program.
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        Self(Command::new(program))
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.0.arg(arg);
        self
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.0.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    pub(crate) fn folder(mut self, folder: &Path) -> Self {
        self.0.current_dir(folder);
        self
    }

    /// As a person would type it.
    fn in_words(&self) -> String {
        let program = Path::new(self.0.get_program()).file_name().unwrap_or_default();
        let parts = [program].into_iter().chain(self.0.get_args());
        parts.map(|part| part.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }
}

/// Runs a command that must succeed, and says how long it took.
pub(crate) fn step(what: &str, mut command: CommandLine) -> Result<()> {
    let words = command.in_words();
    eprintln!("» {what}: {words}");
    let began = Instant::now();
    let status = command.0.status().with_context(|| format!("`{words}` could not be run"))?;
    if !status.success() {
        bail!("{what} failed after {} ({status})", seconds(began.elapsed()));
    }
    eprintln!("  done in {}", seconds(began.elapsed()));
    Ok(())
}

/// Runs a command that may fail, does not show what it says, and ends it when its time is over. Whether it succeeded.
pub(crate) fn within(patience: Duration, what: &str, mut command: CommandLine) -> bool {
    eprintln!("» {what}: {}", command.in_words());
    let began = Instant::now();
    // A group of its own, so that what it has started ends with it.
    command.0.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let Ok(mut child) = command.0.spawn() else { return false };
    while began.elapsed() < patience {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) => thread::sleep(Duration::from_millis(50)),
            Err(_) => break,
        }
    }
    let group = format!("-{}", child.id());
    let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
    let _ = child.wait();
    false
}

/// What became of a command that had a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    /// It ended, with this code; 128 and more for a signal.
    Ended(i32),
    /// Its time was over, and it was ended with all that it had started.
    Late,
}

/// How long a command that is asked to end may take for it.
const END_MAX: Duration = Duration::from_secs(20);

/// Runs a command whose output is seen, and ends it when its time is over: first by asking.
pub(crate) fn until(deadline: Option<Instant>, what: &str, mut command: CommandLine) -> Result<Done> {
    let words = command.in_words();
    eprintln!("» {what}: {words}");
    let began = Instant::now();
    command.0.stdin(Stdio::null()).process_group(0);
    let mut child = command.0.spawn().with_context(|| format!("`{words}` could not be run"))?;
    let group = format!("-{}", child.id());
    let mut asked_at = None;
    loop {
        if let Some(status) = child.try_wait()? {
            eprintln!("  ended after {}", seconds(began.elapsed()));
            let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
            return Ok(if asked_at.is_some() { Done::Late } else { Done::Ended(code) });
        }
        match asked_at {
            None if deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                eprintln!("  its time is over after {}: it is asked to end", seconds(began.elapsed()));
                drop(Command::new("kill").args(["-TERM", "--", &group]).status());
                asked_at = Some(Instant::now());
            }
            Some(at) if at.elapsed() >= END_MAX => drop(Command::new("kill").args(["-KILL", "--", &group]).status()),
            _ => {}
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Runs a command, shows what it prints as it comes, and gives each line of standard output to `each`. Its exit code.
pub(crate) fn reading(mut command: CommandLine, mut each: impl FnMut(&str)) -> Result<i32> {
    let words = command.in_words();
    eprintln!("» {words}");
    let mut child = command.0.stdout(Stdio::piped()).spawn().with_context(|| format!("`{words}` could not be run"))?;
    let output = child.stdout.take().context("it has an output")?;
    let mut shown = std::io::stdout().lock();
    for line in std::io::BufReader::new(output).split(b'\n') {
        let line = line?;
        shown.write_all(&line).and_then(|()| shown.write_all(b"\n")).and_then(|()| shown.flush())?;
        each(&String::from_utf8_lossy(&line));
    }
    let status = child.wait()?;
    Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}

/// Becomes the command that everything before was for: its output stands last, signals reach it and not us, and its
/// exit code is ours.
pub(crate) fn last(mut command: CommandLine) -> Result<ExitCode> {
    let words = command.in_words();
    eprintln!("» {words}");
    Err(command.0.exec()).with_context(|| format!("`{words}` could not be run"))
}

/// Whether a command succeeds, in silence.
pub(crate) fn succeeds<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> bool {
    Command::new(program).args(args).output().is_ok_and(|done| done.status.success())
}

/// `12.3 s` or `4 min 10 s`.
pub(crate) fn seconds(took: Duration) -> String {
    match took.as_secs() {
        0..60 => format!("{:.1} s", took.as_secs_f64()),
        whole => format!("{} min {} s", whole / 60, whole % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_succeeds_fails_or_is_ended_in_its_time() {
        let shell = |script| CommandLine::new("sh").args(["-c", script]);
        let long = Duration::from_secs(120);
        assert!(within(long, "Nothing", shell("exit 0")));
        assert!(!within(long, "Nothing", shell("exit 1")));
        assert!(!within(Duration::ZERO, "Nothing", shell("sleep 1000")));
        assert!(!within(long, "Nothing", CommandLine::new("/nonexistent")));
    }

    #[test]
    fn a_command_is_read_as_it_speaks_and_its_code_is_kept() {
        let mut lines = Vec::new();
        let script = CommandLine::new("sh").args(["-c", "echo one; echo two; exit 7"]);
        assert_eq!(reading(script, |line| lines.push(line.to_owned())).expect("it runs"), 7);
        assert_eq!(lines, ["one", "two"]);
    }

    #[test]
    fn what_is_late_is_ended_with_all_that_it_started() {
        let shell = |script| CommandLine::new("sh").args(["-c", script]);
        assert_eq!(until(None, "Ending", shell("exit 3")).expect("it runs"), Done::Ended(3));
        let soon = Instant::now() + Duration::from_millis(200);
        let began = Instant::now();
        assert_eq!(until(Some(soon), "Staying", shell("sleep 1000 & wait")).expect("it runs"), Done::Late);
        assert!(began.elapsed() < END_MAX, "it was asked, and went");
    }

    #[test]
    fn durations_read_well() {
        assert_eq!(seconds(Duration::from_millis(1_250)), "1.2 s");
        assert_eq!(seconds(Duration::from_secs(250)), "4 min 10 s");
    }
}
