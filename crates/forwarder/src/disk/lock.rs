//! The lock on a folder: a process that dies lets go of it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use super::doing;
use crate::error::Error;

/// Readers of a folder of Parquet pass over names that begin with a dot.
const NAME: &str = ".lock";

/// Nobody else writes into the folder while this lives.
pub(super) struct Lock(File);

impl Lock {
    /// Takes it, in a folder that is created when needed.
    ///
    /// # Errors
    /// When somebody else has it, or the file system knows no locks.
    pub(super) fn take(folder: &Path) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(doing("create its folder"))?;
        let file = File::options().create(true).truncate(false).write(true).open(folder.join(NAME));
        let file = file.map_err(doing("open the lock of its folder"))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => {
                Err(doing("write: another one still holds its folder")(io::ErrorKind::WouldBlock.into()))
            }
            Err(TryLockError::Error(error)) => Err(doing("lock its folder")(error)),
        }
    }
}

impl Drop for Lock {
    /// By name: a copy of its descriptor in a child that is being started would keep it.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}
