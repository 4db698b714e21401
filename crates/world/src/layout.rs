//! Where everything of a world lies: one folder, taken by one process at a time.

use anyhow::{Context, Result, bail};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The folder of a world. Removed at the end unless its path was given.
pub(crate) struct Layout {
    root: PathBuf,
    // In this order: the lock is let go before the folder is removed.
    _lock: File,
    temporary: Option<TempDir>,
}

impl Layout {
    /// Takes `chosen`, or a temporary folder.
    ///
    /// # Errors
    /// When it cannot be made, holds something that is not a world's, or another process has it.
    pub(crate) fn open(chosen: Option<&Path>) -> Result<Self> {
        // Not 0700: PostgreSQL runs as another user when we are root, and must pass. What is private below is 0600.
        let mode = Permissions::from_mode(0o711);
        let (root, temporary) = match chosen {
            Some(path) => {
                if !path.exists() {
                    fs::create_dir_all(path).with_context(|| format!("{} could not be made", path.display()))?;
                    fs::set_permissions(path, mode)?;
                } else if !path.join(LOCK).exists() && fs::read_dir(path)?.next().is_some() {
                    bail!(
                        "{} holds files and is no earlier world's folder: name an empty or a new one",
                        path.display()
                    );
                }
                (path.canonicalize()?, None)
            }
            None => {
                let folder = tempfile::Builder::new().prefix("domicile-").permissions(mode).tempdir()?;
                (folder.path().canonicalize()?, Some(folder))
            }
        };
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(root.join(LOCK))?;
        if lock.try_lock().is_err() {
            bail!("Another process keeps a world in {}: end it, or name another folder", root.display());
        }
        let layout = Self { root, _lock: lock, temporary };
        for folder in ["postgres", "brokers", "snowflake", "secrets", "config", "logs"] {
            fs::create_dir_all(layout.root.join(folder))?;
        }
        fs::set_permissions(layout.root.join("secrets"), Permissions::from_mode(0o700))?;
        fs::set_permissions(layout.root.join("postgres"), Permissions::from_mode(0o711))?;
        Ok(layout)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }

    /// The folder of one piece, e.g. `brokers/eu-central`, made when missing.
    pub(crate) fn folder(&self, kind: &str, name: &str) -> Result<PathBuf> {
        let path = self.root.join(kind).join(name);
        fs::create_dir_all(&path).with_context(|| format!("{} could not be made", path.display()))?;
        Ok(path)
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.root.join("logs").join(format!("{name}.log"))
    }

    pub(crate) fn config(&self, gateway: &str) -> PathBuf {
        self.root.join("config").join(format!("{gateway}.toml"))
    }

    /// The path of a secret's file.
    pub(crate) fn secret(&self, name: &str) -> PathBuf {
        self.root.join("secrets").join(name)
    }
}

const LOCK: &str = ".world.lock";

/// Writes a file that only its owner may read; whoever reads at the same time sees the old one or the new one.
///
/// # Errors
/// When the folder cannot be written to.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    let folder = path.parent().context("A file lies in a folder")?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?; // mode 0600
    file.write_all(content)?;
    file.persist(path).with_context(|| format!("{} could not be written", path.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_taken_by_one_world_at_a_time_and_by_the_next_one_afterwards() {
        let parent = tempfile::tempdir().expect("a folder");
        let path = parent.path().join("world");
        let first = Layout::open(Some(&path)).expect("a new folder");
        assert!(Layout::open(Some(&path)).is_err(), "it is taken");
        drop(first);
        Layout::open(Some(&path)).expect("an earlier world's folder");
    }

    #[test]
    fn a_folder_with_somebody_elses_files_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("thesis.txt"), "years of work").expect("a file");
        let refusal = Layout::open(Some(folder.path())).err().expect("it is not ours").to_string();
        assert!(refusal.contains("no earlier world's"), "{refusal}");
    }

    #[test]
    fn a_private_file_is_read_by_its_owner_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        write_private(&path, b"word").expect("written");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    }
}
