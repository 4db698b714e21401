//! PostgreSQL's own programs: found, checked against the server, run with their secrets in the environment, and never
//! believed before their exit status has been seen.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use secrecy::{ExposeSecret as _, SecretString};
use storage::admin::libpq_environment;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;

use super::Error;

/// The most that is read of what a program complains about, bytes.
const COMPLAINT_BYTES_MAX: u64 = 64 << 10;
/// What a child may inherit; everything else, our secrets among it, is kept from it.
const INHERITED: [&str; 7] = ["PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "PGPASSFILE"];

/// Where `pg_dump` and `pg_restore` are, and of which version.
#[derive(Debug, Clone)]
pub struct Programs {
    bin: PathBuf,
    major: u32,
}

impl Programs {
    /// Those in this folder; else those that `PG_BIN` or `PATH` lead to; else the newest of the usual places.
    ///
    /// # Errors
    /// [`Error::NoProgram`].
    pub fn find(configured: Option<&Path>) -> Result<Self, Error> {
        let missing = || Error::NoProgram { program: "pg_dump", looked_in: configured.map(Path::to_owned) };
        let candidates: Vec<PathBuf> = match configured {
            Some(folder) => vec![folder.to_owned()],
            None => usual_places(),
        };
        for bin in candidates {
            if bin.join("pg_restore").is_file()
                && let Some(major) = version_of(&bin.join("pg_dump"))
            {
                return Ok(Self { bin, major });
            }
        }
        Err(missing())
    }

    /// Their major version.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.major
    }

    /// Whether they can read a server of this version, e.g. `15.14 (Debian …)`.
    ///
    /// # Errors
    /// [`Error::OldProgram`].
    pub fn check_server(&self, version: &str) -> Result<(), Error> {
        let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
        let server = digits.parse().unwrap_or(u32::MAX);
        if self.major >= server {
            Ok(())
        } else {
            Err(Error::OldProgram { program: "pg_dump", client: self.major, server })
        }
    }

    /// Starts a dump of everything under an exported snapshot.
    pub(super) fn dump(&self, dsn: &SecretString, snapshot: &str) -> Result<Running, Error> {
        let snapshot = format!("--snapshot={snapshot}");
        let arguments =
            ["--format=custom", "--compress=3", "--no-password", "--lock-wait-timeout=30s", "--no-sync", &snapshot];
        self.start("pg_dump", &arguments, &libpq_environment(dsn, None)?)
    }

    /// Starts a restore into an empty database, all or nothing. With `bare`, owners and grants stay out: for a copy
    /// that is only counted.
    pub(super) fn restore(&self, dsn: &SecretString, database: &str, bare: bool) -> Result<Running, Error> {
        let into = format!("--dbname={database}");
        let mut arguments =
            vec!["--format=custom", "--single-transaction", "--exit-on-error", "--no-password", "--no-owner", &into];
        if bare {
            arguments.extend(["--no-privileges", "--no-comments", "--no-security-labels"]);
        }
        self.start("pg_restore", &arguments, &libpq_environment(dsn, Some(database))?)
    }

    fn start(
        &self,
        program: &'static str,
        arguments: &[&str],
        environment: &[(&'static str, SecretString)],
    ) -> Result<Running, Error> {
        let mut command = Command::new(self.bin.join(program));
        command.env_clear();
        for name in INHERITED {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        for (name, value) in environment {
            command.env(name, value.expose_secret());
        }
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|source| Error::Run { program, source })?;
        let stderr = child.stderr.take();
        let complaints = tokio::spawn(async move {
            let mut said = Vec::new();
            if let Some(mut stderr) = stderr {
                drop((&mut stderr).take(COMPLAINT_BYTES_MAX).read_to_end(&mut said).await);
                // Whatever more it says is taken in, so that it is not stopped by a full pipe.
                drop(tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await);
            }
            said
        });
        let stdin = child.stdin.take();
        Ok(Running { program, child, stdin, complaints })
    }
}

/// A program that runs. Dropped, it is killed.
pub(super) struct Running {
    program: &'static str,
    child: Child,
    stdin: Option<ChildStdin>,
    complaints: JoinHandle<Vec<u8>>,
}

impl Running {
    /// The next bytes of what it writes; empty at the end.
    pub(super) async fn read(&mut self, piece: &mut [u8]) -> Result<usize, Error> {
        let program = self.program;
        match self.child.stdout.as_mut() {
            Some(stdout) => stdout.read(piece).await.map_err(|source| Error::Run { program, source }),
            None => Ok(0),
        }
    }

    /// Gives it bytes to read. When it has gone, what it said is the error.
    pub(super) async fn feed(&mut self, piece: &[u8]) -> Result<(), Error> {
        let Some(stdin) = self.stdin.as_mut() else { return Ok(()) };
        if stdin.write_all(piece).await.is_ok() {
            return Ok(());
        }
        self.stdin = None;
        Err(self.failed().await)
    }

    /// Ends its input, waits for it, and looks at its exit status.
    pub(super) async fn finish(mut self) -> Result<(), Error> {
        drop(self.stdin.take());
        let program = self.program;
        // What it writes besides is of no interest, and must not stop it.
        if let Some(mut stdout) = self.child.stdout.take() {
            drop(tokio::io::copy(&mut stdout, &mut tokio::io::sink()).await);
        }
        let status = self.child.wait().await.map_err(|source| Error::Run { program, source })?;
        if status.success() {
            return Ok(());
        }
        Err(self.failed().await)
    }

    async fn failed(&mut self) -> Error {
        let how = match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(_) => "unknown".to_owned(),
        };
        let said = (&mut self.complaints).await.unwrap_or_default();
        Error::Program { program: self.program, how, said: first_complaint(&String::from_utf8_lossy(&said)) }
    }
}

/// The first line of a complaint without what it quotes: the rest (`DETAIL`, `CONTEXT`) may repeat a row.
fn first_complaint(said: &str) -> String {
    let line = said.lines().find(|line| line.contains("error")).or_else(|| said.lines().next()).unwrap_or("nothing");
    let mut plain = String::with_capacity(line.len());
    let mut quoted = false;
    for character in line.chars().take(400) {
        if character == '"' {
            if !quoted {
                plain.push_str("\"…\"");
            }
            quoted = !quoted;
        } else if !quoted {
            plain.push(character);
        }
    }
    plain
}

fn usual_places() -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = std::env::var_os("PG_BIN").map(PathBuf::from).into_iter().collect();
    let on_path =
        std::env::var_os("PATH").into_iter().flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    // Debian's wrapper on PATH chooses a version by a cluster that it knows, and ours it does not know.
    places.extend(on_path.map(|folder| folder.join("pg_dump")).filter(|file| file.is_file()).filter_map(|file| {
        let real = file.canonicalize().ok()?;
        (real.file_name()? == "pg_dump").then(|| real.parent().map(Path::to_owned))?
    }));
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut installed: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    installed.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    places.extend(installed.into_iter().map(|(_, bin)| bin));
    places.extend(["/usr/local/bin", "/opt/homebrew/bin"].map(PathBuf::from));
    places
}

/// `pg_dump (PostgreSQL) 15.18 (Debian …)` is 15.
fn version_of(program: &Path) -> Option<u32> {
    let said = std::process::Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8(said.stdout).ok()?;
    text.split(')').nth(1)?.trim().split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_repeated_without_what_it_quotes() {
        let said = "pg_restore: error: COPY failed for table \"records\": ERROR:  invalid input \"Anna\"\n\
                    CONTEXT:  COPY records, line 1: \"eu-central\tanna\"\nDETAIL:  Key (subject)=(anna) exists.\n";
        let told = first_complaint(said);
        assert!(told.starts_with("pg_restore: error: COPY failed for table"), "{told}");
        assert!(!told.to_lowercase().contains("anna"), "{told}");
    }

    #[test]
    fn a_folder_without_the_programs_is_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = Programs::find(Some(folder.path())).expect_err("nothing there").to_string();
        assert!(error.contains("pg_dump was not found in"), "{error}");
    }
}
