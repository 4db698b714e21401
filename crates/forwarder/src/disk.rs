//! What the sinks that write into a folder have in common: one writer at a time, on a blocking thread, and errors that
//! name what was being done.
//!
//! A lease alone does not keep two processes apart: work on a blocking thread cannot be called back, and goes on when the
//! lease under which it began is another's. So whoever holds the lease also holds a lock on the folder, and gives it back
//! when its work has ended; and what is known of the folder is known for one tenure only.

mod lock;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use residency::Region;
use tokio::sync::Mutex;

use crate::error::Error;
use crate::sink::Place;
use lock::Lock;

/// One region's folder, and `W`, who writes into it.
pub(crate) struct Disk<W> {
    region: Region,
    folder: PathBuf,
    /// Counts when a tenure begins and when one ends.
    turn: Arc<AtomicU64>,
    hold: Arc<Mutex<Hold<W>>>,
}

/// What is held of the folder.
struct Hold<W> {
    /// The turn that this is of. Of another than the present one it is nobody's any more.
    turn: u64,
    /// `None` until the folder was looked at, and after an error.
    writer: Option<W>,
    lock: Option<Lock>,
}

impl<W: Send + 'static> Disk<W> {
    pub(crate) fn new(folder: &Path, region: Region) -> Self {
        let hold = Arc::new(Mutex::new(Hold { turn: 0, writer: None, lock: None }));
        Self { region, folder: folder.to_owned(), turn: Arc::default(), hold }
    }

    pub(crate) const fn region(&self) -> &Region {
        &self.region
    }

    /// Takes the folder for a tenure, looks at it and goes on behind what is there.
    ///
    /// # Errors
    /// When somebody wants to write beside the writer, when another process holds the folder, and those of `open`.
    pub(crate) async fn setup(&self, place: Place, open: fn(&Path, &Region) -> Result<W, Error>) -> Result<(), Error> {
        if place == Place::Beside {
            let why = "a folder has one writer, and keeps the newest of everything already: there is nothing to replay";
            return Err(Error::Settings(why.to_owned()));
        }
        let turn = self.next_turn();
        self.alone(move |folder, region, now, hold| {
            // Others may have written since it was last looked at.
            hold.writer = None;
            if turn != now {
                return Err(not_held());
            }
            hold.turn = turn;
            if hold.lock.is_none() {
                hold.lock = Some(Lock::take(folder)?);
            }
            hold.writer = Some(open(folder, region)?);
            Ok(())
        })
        .await
    }

    /// Lets go of the folder: at once, or else when what is being done in it has ended.
    pub(crate) fn leave(&self) {
        self.next_turn();
        let_go(&self.turn, &self.hold);
    }

    /// Writes, between [`Disk::setup`] and [`Disk::leave`].
    ///
    /// # Errors
    /// When the folder is not held, and those of `work`.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path, &Region, &mut Option<W>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let turn = self.turn.load(Ordering::SeqCst);
        self.alone(move |folder, region, now, hold| {
            // It may have begun so late that the tenure has ended.
            let held = turn == now && hold.turn == now && hold.lock.is_some();
            if held { work(folder, region, &mut hold.writer) } else { Err(not_held()) }
        })
        .await
    }

    /// Reads, whether the folder is held or not.
    ///
    /// # Errors
    /// Those of `work`.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path, &Region) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.alone(move |folder, region, _, _| work(folder, region)).await
    }

    /// Works where blocking is allowed, alone in this process; it is told which turn it is.
    async fn alone<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path, &Region, u64, &mut Hold<W>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (folder, region) = (self.folder.clone(), self.region.clone());
        let (turn, shared) = (Arc::clone(&self.turn), Arc::clone(&self.hold));
        let mut hold = Arc::clone(&self.hold).lock_owned().await;
        let run = move || {
            let outcome = work(&folder, &region, turn.load(Ordering::SeqCst), &mut hold);
            drop(hold);
            let_go(&turn, &shared);
            outcome
        };
        match tokio::task::spawn_blocking(run).await {
            Ok(outcome) => outcome,
            Err(stopped) => Err(doing("finish")(io::Error::other(stopped))),
        }
    }

    fn next_turn(&self) -> u64 {
        self.turn.fetch_add(1, Ordering::SeqCst) + 1
    }
}

/// Lets go of what a former turn held. Where somebody is at work, that is for them to do when they have ended: they look
/// after the mutex is free again, and so see a turn that ended while it was not.
fn let_go<W>(turn: &AtomicU64, hold: &Mutex<Hold<W>>) {
    if let Ok(mut hold) = hold.try_lock()
        && hold.turn != turn.load(Ordering::SeqCst)
    {
        (hold.writer, hold.lock) = (None, None);
    }
}

fn not_held() -> Error {
    doing("write into its folder, which is no longer held")(io::ErrorKind::PermissionDenied.into())
}

/// Makes a folder's list of files safe from a power cut.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(doing("flush its folder"))
}

/// An error of the disk while doing this.
pub(crate) fn doing(doing: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Folder { doing, source }
}
