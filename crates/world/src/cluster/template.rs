//! The template that clusters are copied from: one initialised data folder, and an identity of its own for each copy.

use crate::nursery::{Nursery, Spec};
use crate::tools::{Postgres, SystemUser, cache_dir};
use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{START_PATIENCE, SUPERUSER, passable};

/// An initialised data folder to copy clusters from, since copying takes a tenth of the time: from the cache, where
/// it is made when it is missing. `scratch` is an existing folder the server's user can reach.
///
/// # Errors
/// When `initdb` fails.
pub(crate) async fn template(nursery: &Arc<Nursery>, postgres: &Postgres, scratch: &Path) -> Result<PathBuf> {
    let owner = postgres.run_as().map_or("own", |user| user.name.as_str());
    let cached = cache_dir().join(format!("postgres-{}-{owner}", postgres.version_major()));
    if is_whole(&cached) {
        return Ok(cached);
    }
    let home = scratch.join("initdb");
    // What an interrupted start left there is of no use to anybody.
    if home.exists() {
        fs::remove_dir_all(&home)?;
    }
    fs::create_dir_all(&home)?;
    let home = home.canonicalize()?;
    give_to(&home, postgres.run_as())?;
    let fresh = home.join("data");
    let args = ["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", "-U", SUPERUSER, "-D"];
    let args = args.map(OsString::from).into_iter().chain([fresh.clone().into()]);
    run_as_server(nursery, postgres, "initdb", &home, args).await?;
    // Keeping it for the next time is worth no failure, and several processes may try at once: one rename wins.
    let staging = cached.with_extension(format!("{:016x}", rand::random::<u64>()));
    let keep = || {
        copied(&fresh, &staging, postgres.run_as())?;
        if cached.exists() && !is_whole(&cached) {
            fs::remove_dir_all(&cached)?;
        }
        fs::rename(&staging, &cached)
    };
    if keep().is_err() {
        let _ = fs::remove_dir_all(&staging);
    }
    Ok(fresh)
}

/// Whether nothing of a template was lost, e.g. to somebody who was tidying up.
fn is_whole(template: &Path) -> bool {
    ["PG_VERSION", "global/pg_control", "base/1/PG_VERSION", "base/5/PG_VERSION", "pg_xact/0000"]
        .iter()
        .all(|file| template.join(file).is_file())
}

/// Copies the template and gives the copy an identity of its own: a region is bound to its cluster's system
/// identifier, so two clusters must never share one.
pub(super) async fn found(postgres: &Postgres, template: &Path, data: &Path) -> Result<()> {
    // Under another name until it is whole, so that an interrupted start is not taken for a cluster.
    let unfinished = data.with_extension("unfinished");
    let (from, to, owner) = (template.to_owned(), unfinished.clone(), postgres.run_as().cloned());
    let copying = tokio::task::spawn_blocking(move || {
        if to.exists() {
            fs::remove_dir_all(&to)?;
        }
        copied(&from, &to, owner.as_ref())
    });
    copying
        .await?
        .with_context(|| format!("The cluster's template could not be copied to {}", unfinished.display()))?;
    // pg_control begins with the identifier; pg_resetwal, which trusts a control file of its version even when its
    // checksum is off, then writes it and a fresh write-ahead log that carries the same identifier.
    let control = unfinished.join("global/pg_control");
    let mut bytes = fs::read(&control)?;
    ensure!(bytes.len() > 8, "The control file of the cluster's template is empty");
    bytes[..8].copy_from_slice(&rand::random::<u64>().to_ne_bytes());
    fs::write(&control, bytes)?;
    let home = data.parent().context("A data folder has a parent")?;
    let nursery = Nursery::open()?;
    run_as_server(&nursery, postgres, "pg_resetwal", home, ["-f".into(), "-D".into(), unfinished.clone().into()])
        .await?;
    fs::rename(&unfinished, data)?;
    Ok(())
}

/// Runs one of PostgreSQL's programs as the server's user, to its end.
async fn run_as_server(
    nursery: &Nursery,
    postgres: &Postgres,
    program: &str,
    home: &Path,
    args: impl IntoIterator<Item = OsString>,
) -> Result<()> {
    let spec = Spec {
        name: program.to_owned(),
        program: &postgres.program(program),
        args: args.into_iter().collect(),
        env: Vec::new(),
        folder: home,
        log: home.join(format!("{program}.log")),
        run_as: postgres.run_as(),
        may_pass: !passable(home),
        last_word: Signal::KILL,
    };
    let process = nursery.spawn(spec).await?;
    let status = process.wait(START_PATIENCE).await?;
    if !status.success() {
        bail!("{program} failed ({status}):\n{}", process.last_lines());
    }
    Ok(())
}

/// Copies a folder with everything in it, modes kept, owner set.
fn copied(from: &Path, to: &Path, owner: Option<&SystemUser>) -> io::Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if from.ends_with("pg_wal") && entry.file_type()?.is_file() {
            continue; // 16 MB that pg_resetwal would throw away
        }
        if entry.file_type()?.is_dir() {
            copied(&entry.path(), &target, owner)?;
        } else {
            fs::copy(entry.path(), &target)?;
            give_to(&target, owner)?;
        }
    }
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    give_to(to, owner)
}

/// Gives a file or folder to the server's user, where that is another one.
pub(super) fn give_to(path: &Path, owner: Option<&SystemUser>) -> io::Result<()> {
    owner.map_or(Ok(()), |user| chown(path, Some(user.uid), Some(user.gid)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_that_lost_something_is_not_taken_for_one() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("PG_VERSION"), "15").expect("a file");
        assert!(!is_whole(folder.path()));
    }
}
