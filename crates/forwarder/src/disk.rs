//! What the sinks that write into a folder have in common: one writer at a time, on a blocking thread, and errors that
//! name what was being done.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use residency::Region;

use crate::error::Error;
use crate::sink::Place;

/// One region's folder, and `W`, who writes into it.
pub(crate) struct Disk<W> {
    region: Region,
    folder: PathBuf,
    /// `None` until the folder was looked at, and after an error.
    writer: Arc<Mutex<Option<W>>>,
}

impl<W: Send + 'static> Disk<W> {
    pub(crate) fn new(folder: &Path, region: Region) -> Self {
        Self { region, folder: folder.to_owned(), writer: Arc::default() }
    }

    pub(crate) const fn region(&self) -> &Region {
        &self.region
    }

    /// Looks at the folder and goes on behind what is there.
    ///
    /// # Errors
    /// When somebody wants to write beside the writer, and those of `open`.
    pub(crate) async fn setup(&self, place: Place, open: fn(&Path, &Region) -> Result<W, Error>) -> Result<(), Error> {
        if place == Place::Beside {
            let why = "a folder has one writer, and keeps the newest of everything already: there is nothing to replay";
            return Err(Error::Settings(why.to_owned()));
        }
        self.blocking(move |folder, region, writer| {
            *writer = Some(open(folder, region)?);
            Ok(())
        })
        .await
    }

    /// Works where blocking is allowed, alone.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path, &Region, &mut Option<W>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (folder, region, writer) = (self.folder.clone(), self.region.clone(), Arc::clone(&self.writer));
        let run = move || match writer.lock() {
            Ok(mut writer) => work(&folder, &region, &mut writer),
            Err(_) => Err(doing("go on after a panic")(io::ErrorKind::Other.into())),
        };
        match tokio::task::spawn_blocking(run).await {
            Ok(outcome) => outcome,
            Err(stopped) => Err(doing("finish")(io::Error::other(stopped))),
        }
    }
}

/// Makes a folder's list of files safe from a power cut.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(doing("flush its folder"))
}

/// An error of the disk while doing this.
pub(crate) fn doing(doing: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Folder { doing, source }
}
