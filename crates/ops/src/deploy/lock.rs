//! One operation at a time on a cell: a file lock, which the kernel frees when the process ends however it ends, and
//! beside it a note for people who find it taken.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::disk::write_whole;
use super::state::Store;
use crate::exit::{Exit, Trouble};

/// How often the lock is tried.
const TRIES_MAX: u32 = 20;
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// `lock.json`: who has it. For people; nothing is decided by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// The user.
    pub user: String,
    /// The machine.
    pub host: String,
    /// What was typed.
    pub command: String,
    /// Since when, RFC 3339.
    pub since: String,
}

impl Holder {
    /// This process.
    #[must_use]
    pub fn this_process(command: &str, since: String) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let user = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER")).unwrap_or_else(|_| "unknown".into());
        let host = read("/proc/sys/kernel/hostname");
        let command = command.to_owned();
        Self { pid: std::process::id(), user, host, command, since }
    }

    /// Who, in a few words.
    #[must_use]
    pub fn by(&self) -> String {
        format!("{}@{}", self.user, self.host)
    }
}

/// The lock, until it is dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
    note: PathBuf,
}

impl Lock {
    /// Takes it.
    ///
    /// # Errors
    /// [`Exit::Locked`] with the holder's name when somebody has it.
    pub fn take(store: &Store, holder: &Holder) -> Result<Self, Trouble> {
        let file = open(store)?;
        let note = store.root().join("lock.json");
        if !taken_soon(&file) {
            let who = match Self::holder(store) {
                Some(one) => {
                    format!("{} (process {}) is at work here since {}: {}", one.by(), one.pid, one.since, one.command)
                }
                None => "somebody is at work here".to_owned(),
            };
            let advice = "The lock goes away with that process; `deploy.sh lock status` tells more";
            return Err(Trouble::of(Exit::Locked, format!("{who}. {advice}")));
        }
        write_whole(&note, &serde_json::to_vec_pretty(holder)?)?;
        Ok(Self { file, note })
    }

    /// Who has it now; `None` when it is free.
    #[must_use]
    pub fn status(store: &Store) -> Option<Holder> {
        let taken = open(store).is_ok_and(|file| {
            let taken = file.try_lock_shared().is_err();
            if !taken {
                free(&file);
            }
            taken
        });
        taken.then(|| Self::holder(store)).flatten()
    }

    fn holder(store: &Store) -> Option<Holder> {
        serde_json::from_slice(&fs::read(store.root().join("lock.json")).ok()?).ok()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.note);
        free(&self.file);
    }
}

/// Whoever asks for the status has it for a moment.
fn taken_soon(file: &File) -> bool {
    (0..TRIES_MAX).any(|tried| {
        if tried > 0 {
            std::thread::sleep(TRY_AGAIN_AFTER);
        }
        file.try_lock().is_ok()
    })
}

/// Gives the lock back by name. Closing the file would not do: a child that another thread is starting has a copy of
/// the descriptor between fork and exec, and the lock would live as long as the last copy.
fn free(file: &File) {
    let _ = file.unlock();
}

fn open(store: &Store) -> Result<File, Trouble> {
    let path = store.root().join("lock");
    Ok(OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_deployed_to_by_one_at_a_time_and_the_other_learns_by_whom() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path()).expect("a store");
        let holder = Holder::this_process("deploy", "2026-01-01T00:00:00Z".into());
        assert_eq!(Lock::status(&store), None);
        let lock = Lock::take(&store, &holder).expect("it is free");
        assert_eq!(Lock::status(&store), Some(holder.clone()));
        let refused = Lock::take(&store, &holder).expect_err("it is taken");
        assert_eq!(refused.exit, Exit::Locked);
        assert!(refused.what.contains("at work here since 2026-01-01"), "{}", refused.what);
        drop(lock);
        Lock::take(&store, &holder).expect("it is free again");
    }

    #[test]
    fn whoever_only_looks_keeps_nobody_from_the_lock() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path()).expect("a store");
        let looking = open(&store).expect("a file");
        looking.try_lock_shared().expect("it is free");
        assert_eq!(Lock::status(&store), None, "two may look at once");
        let done = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            free(&looking);
        });
        let holder = Holder::this_process("deploy", "2026-01-01T00:00:00Z".into());
        Lock::take(&store, &holder).expect("it is waited for");
        done.join().expect("it ends");
    }

    #[test]
    fn a_copy_of_the_descriptor_in_a_child_that_is_being_started_does_not_keep_the_lock() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path()).expect("a store");
        let holder = Holder::this_process("deploy", "2026-01-01T00:00:00Z".into());
        let lock = Lock::take(&store, &holder).expect("it is free");
        let copy = lock.file.try_clone().expect("another descriptor of the same open file");
        drop(lock);
        assert_eq!(Lock::status(&store), None);
        Lock::take(&store, &holder).expect("it is free again");
        drop(copy);
    }
}
