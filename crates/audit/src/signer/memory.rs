//! What a signer signed last, in a file of its own: outside the database, so that a database that was put
//! back to an earlier state cannot make it forget.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tlog::{Checkpoint, NOTE_BYTES_MAX, Note, VerifierKey};

/// The file.
#[derive(Debug, Clone)]
pub struct Memory {
    path: PathBuf,
}

/// The file cannot be relied on.
#[derive(Debug, thiserror::Error)]
pub enum Forgotten {
    /// It cannot be read or written.
    #[error("the signer's memory {} cannot be used", path.display())]
    Unusable {
        /// Where it is.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It holds something that this key did not sign for this log.
    #[error("{} holds no checkpoint of {origin} that this key has signed", path.display())]
    Foreign {
        /// Where it is.
        path: PathBuf,
        /// The log.
        origin: String,
    },
}

impl Memory {
    /// The memory in this file, which need not exist yet; its folder must.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// What was signed last; `None` when nothing ever was.
    ///
    /// # Errors
    /// [`Forgotten`] when there is a file and it does not hold a checkpoint of this log by this key.
    pub fn recall(&self, key: &VerifierKey) -> Result<Option<Checkpoint>, Forgotten> {
        let text = match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Ok(meta) if meta.len() > NOTE_BYTES_MAX as u64 => return Err(self.foreign(key)),
            Err(error) => return Err(self.unusable(error)),
            Ok(_) => fs::read_to_string(&self.path).map_err(|error| self.unusable(error))?,
        };
        let note: Note = text.parse().map_err(|_| self.foreign(key))?;
        let checkpoint: Checkpoint = note.text().parse().map_err(|_| self.foreign(key))?;
        let ours = checkpoint.origin == key.name() && key.verify(&note).is_ok();
        if ours { Ok(Some(checkpoint)) } else { Err(self.foreign(key)) }
    }

    /// Remembers a signed checkpoint; when this returns, it is on the disk.
    ///
    /// # Errors
    /// [`Forgotten::Unusable`]: then it must not be published.
    pub fn remember(&self, note: &Note) -> Result<(), Forgotten> {
        replace(&self.path, note.to_string().as_bytes()).map_err(|error| self.unusable(error))
    }

    pub(super) fn unusable(&self, source: io::Error) -> Forgotten {
        Forgotten::Unusable { path: self.path.clone(), source }
    }

    fn foreign(&self, key: &VerifierKey) -> Forgotten {
        Forgotten::Foreign { path: self.path.clone(), origin: key.name().to_owned() }
    }
}

/// Replaces a file's content so that after a crash it is the old or the new, and durable when this returns.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = folder.join(format!(".{name}.new"));
    let mut file = File::create(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&beside, path)?;
    File::open(folder)?.sync_all()
}
