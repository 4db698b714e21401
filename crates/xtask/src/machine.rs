//! What this machine is and has.

use crate::run::succeeds;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest PostgreSQL the demo and the tests work with.
pub(crate) const POSTGRES_MAJOR_MIN: u32 = 15;

/// Where `program` lies on `PATH`.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Whether packages are installed with apt here.
pub(crate) fn is_debian_like() -> bool {
    on_path("apt-get").is_some() && Path::new("/etc/debian_version").exists()
}

/// How to become root for apt: nothing, or sudo. `None` when neither will do.
pub(crate) fn root_prefix() -> Option<&'static [&'static str]> {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|said| said.stdout.trim_ascii() == b"0");
    if is_root {
        return Some(&[]);
    }
    // Without a terminal sudo must not ask for a password: nobody would answer.
    let asks_nothing = succeeds("sudo", ["-n", "true"]);
    let can_ask = on_path("sudo").is_some() && std::io::IsTerminal::is_terminal(&std::io::stdin());
    (asks_nothing || can_ask).then_some(&["sudo"])
}

/// The major version of the newest PostgreSQL server programs here.
pub(crate) fn postgres_major() -> Option<u32> {
    if let Some(bin) = env::var_os("PG_BIN") {
        return major_of(&Path::new(&bin).join("postgres"));
    }
    let mut servers: Vec<PathBuf> = on_path("postgres").into_iter().collect();
    servers.extend(inside("/usr/lib/postgresql", ""));
    servers.extend(inside("/usr", "pgsql-"));
    for opt in ["/opt/homebrew/opt", "/usr/local/opt", "/home/linuxbrew/.linuxbrew/opt"] {
        servers.extend(inside(opt, "postgresql"));
    }
    servers.iter().filter_map(|server| major_of(server)).max()
}

fn inside(parent: &str, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    named.map(|entry| entry.path().join("bin/postgres")).filter(|server| server.is_file()).collect()
}

/// `postgres (PostgreSQL) 15.18 (Debian …)` is 15.
fn major_of(server: &Path) -> Option<u32> {
    let said = Command::new(server).arg("--version").output().ok()?;
    version_in(&String::from_utf8(said.stdout).ok()?)
}

fn version_in(words: &str) -> Option<u32> {
    words.split(')').nth(1)?.trim().split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// `${XDG_CACHE_HOME:-~/.cache}/domicile/tools`.
pub(crate) fn tools_dir() -> PathBuf {
    let base = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let base = base.or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    base.unwrap_or_else(env::temp_dir).join("domicile/tools")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_the_server_says() {
        assert_eq!(version_in("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(version_in("postgres (PostgreSQL) 17.2\n"), Some(17));
        assert_eq!(version_in("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(version_in("what?"), None);
    }
}
