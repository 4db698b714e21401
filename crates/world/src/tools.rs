//! Finding what is installed on this machine: PostgreSQL, the broker, the Snowflake stand-in, the binary itself.

use anyhow::{Context, Result, bail};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The version of the broker whose binary is looked for in the cache.
pub const NISSHI_VERSION: &str = "0.8.1";
/// The version of the Snowflake stand-in whose virtual environment is looked for in the cache.
pub const FAKESNOW_VERSION: &str = "0.12.1";

/// `${XDG_CACHE_HOME:-~/.cache}/domicile/tools`, where `cargo xtask tools` installs.
#[must_use]
pub fn tools_dir() -> PathBuf {
    cache_dir().join("tools")
}

/// `${XDG_CACHE_HOME:-~/.cache}/domicile`.
#[must_use]
pub fn cache_dir() -> PathBuf {
    let base = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
        .unwrap_or_else(env::temp_dir);
    base.join("domicile")
}

/// The broker's binary: `DOMICILE_NISSHI`, the cache, `PATH`. `DOMICILE_NISSHI=none` says that there is none.
#[must_use]
pub fn nisshi() -> Option<PathBuf> {
    chosen("DOMICILE_NISSHI", || {
        let cached = tools_dir().join(format!("nisshi-{NISSHI_VERSION}/bin/nisshi"));
        if cached.is_file() { Some(cached) } else { on_path("nisshi") }
    })
}

/// The Python that has the Snowflake stand-in: `DOMICILE_FAKESNOW` or the cache. `DOMICILE_FAKESNOW=none` says that
/// there is none.
#[must_use]
pub fn fakesnow_python() -> Option<PathBuf> {
    chosen("DOMICILE_FAKESNOW", || {
        let root = tools_dir().join(format!("fakesnow-{FAKESNOW_VERSION}/bin"));
        let installed = root.join("fakesnow").is_file() && root.join("uvicorn").is_file();
        installed.then(|| root.join("python"))
    })
}

fn chosen(variable: &str, otherwise: impl FnOnce() -> Option<PathBuf>) -> Option<PathBuf> {
    match env::var_os(variable) {
        Some(value) if value == "none" => None,
        Some(value) => Some(PathBuf::from(value)),
        None => otherwise(),
    }
}

/// The `domicile` binary: `DOMICILE_BIN`, this process itself when it is one, or its sibling in the target folder.
///
/// # Errors
/// When it has not been built; the sentence says how to build it.
pub fn domicile() -> Result<PathBuf> {
    if let Some(path) = env::var_os("DOMICILE_BIN") {
        return Ok(PathBuf::from(path));
    }
    let this = env::current_exe().context("This program does not know its own path")?;
    if this.file_stem().is_some_and(|name| name == "domicile") {
        return Ok(this);
    }
    // A test's binary lies in target/<profile>/deps, a bin's or bench's in target/<profile>.
    this.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("domicile"))
        .find(|path| path.is_file())
        .context("The domicile binary has not been built: run `cargo build --bin domicile`, or name it in DOMICILE_BIN")
}

/// The server programs of one PostgreSQL installation, and whom to run them as.
#[derive(Debug, Clone)]
pub struct Postgres {
    bin: PathBuf,
    server: PathBuf,
    version_major: u32,
    run_as: Option<SystemUser>,
}

/// A user of this machine, to drop to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemUser {
    /// The name, e.g. `postgres`.
    pub name: String,
    /// The user's number.
    pub uid: u32,
    /// The primary group's number.
    pub gid: u32,
}

impl Postgres {
    /// Finds an installation that has `initdb`, `postgres`, `psql` and `pg_dump`: `PG_BIN`, then what `PATH` leads
    /// to, then the newest under `/usr/lib/postgresql`, `/usr/pgsql-*` and Homebrew. At least version 15.
    ///
    /// # Errors
    /// When there is none; the sentence says how to install one.
    pub fn find() -> Result<Self> {
        let mut candidates = Vec::new();
        if let Some(bin) = env::var_os("PG_BIN") {
            candidates.push(PathBuf::from(bin));
        }
        let named = !candidates.is_empty();
        candidates.extend(
            // Distributions link single programs onto PATH; the folder they point into holds all of them.
            on_path("initdb")
                .and_then(|path| path.canonicalize().ok())
                .and_then(|path| Some(path.parent()?.to_owned())),
        );
        candidates.extend(versioned("/usr/lib/postgresql", ""));
        candidates.extend(versioned("/usr", "pgsql-"));
        for prefix in ["/opt/homebrew/opt", "/usr/local/opt", "/home/linuxbrew/.linuxbrew/opt"] {
            candidates.extend(versioned(prefix, "postgresql@"));
            candidates.push(Path::new(prefix).join("postgresql/bin"));
        }
        for bin in candidates {
            let complete =
                ["initdb", "postgres", "psql", "pg_dump", "pg_resetwal"].iter().all(|p| bin.join(p).is_file());
            match version_major(&bin.join("postgres")) {
                Some(version_major) if complete && version_major >= 15 => {
                    return Ok(Self { server: bin.join("postgres"), bin, version_major, run_as: demotion()? });
                }
                _ if named => bail!("PG_BIN must name a folder with the programs of PostgreSQL 15 or newer"),
                _ => {}
            }
        }
        bail!(
            "PostgreSQL 15 or newer was not found on this machine. Install its server programs (Debian and Ubuntu: \
             `apt-get install postgresql`; Homebrew: `brew install postgresql@17`), or name their folder in PG_BIN"
        )
    }

    /// The path of one of its programs.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// The server itself.
    #[must_use]
    pub fn server(&self) -> &Path {
        &self.server
    }

    /// The version without its minor part, e.g. 15.
    #[must_use]
    pub fn version_major(&self) -> u32 {
        self.version_major
    }

    /// Whom the server runs as: `None` is ourselves. PostgreSQL refuses to run as root, so root drops to `postgres`
    /// or `nobody`.
    #[must_use]
    pub fn run_as(&self) -> Option<&SystemUser> {
        self.run_as.as_ref()
    }
}

/// Newest first: the `bin` folders of `<parent>/<prefix><number>`.
fn versioned(parent: &str, prefix: &str) -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.into_iter().map(|(_, bin)| bin).collect()
}

/// `postgres (PostgreSQL) 15.18 (Debian …)` is 15.
fn version_major(server: &Path) -> Option<u32> {
    let said = Command::new(server).arg("--version").output().ok()?;
    let text = String::from_utf8(said.stdout).ok()?;
    text.split(')').nth(1)?.trim().split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn demotion() -> Result<Option<SystemUser>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let passwd = std::fs::read_to_string("/etc/passwd").context("/etc/passwd could not be read")?;
    let user = ["postgres", "nobody"].iter().find_map(|name| user_of(&passwd, name));
    user.map(Some)
        .context("PostgreSQL does not run as root, and this machine has no user `postgres` or `nobody` to run it as")
}

fn user_of(passwd: &str, name: &str) -> Option<SystemUser> {
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut numbers = line.split(':').skip(2);
    Some(SystemUser { name: name.to_owned(), uid: numbers.next()?.parse().ok()?, gid: numbers.next()?.parse().ok()? })
}

/// Where `program` lies on `PATH`.
#[must_use]
pub fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(program)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_read_from_passwd_by_whole_name() {
        let passwd =
            "root:x:0:0:root:/root:/bin/bash\npostgres2:x:7:7::/:\npostgres:x:105:111:,,,:/var/lib:/bin/bash\n";
        let user = user_of(passwd, "postgres").expect("the line is there");
        assert_eq!((user.uid, user.gid), (105, 111));
        assert_eq!(user_of(passwd, "nobody"), None);
    }
}
