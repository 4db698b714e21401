//! The sink for machines without Snowflake: NDJSON files in a folder, one line per row, in log order.
//!
//! Files are named by the first log position they hold. A batch is appended and flushed to disk before it
//! counts. A line whose position is not above the highest one on disk is a repetition and is left out, so
//! that repeating a batch, or the whole log, changes nothing. A line that a crash cut off is removed at the
//! next start.
//!
//! The current state is the newest line of each (subject digest, attribute). When a file grows beyond its
//! bound, and at every start, the files are compacted into one that holds that state only: superseded and
//! withdrawn values leave the disk then.

mod files;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use async_trait::async_trait;
use residency::Region;

use crate::change::{Forgotten, Row};
use crate::disk::{Disk, doing, sync_folder};
use crate::error::Error;
use crate::sink::{Applied, Place, Sink};
use files::{cut_torn_line, files, halves, named, replace, state, write_line};

/// A file beyond this is compacted.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Zero-party data of one region in a folder.
pub struct FolderSink {
    disk: Disk<Writer>,
}

struct Writer {
    file: File,
    bytes: u64,
    /// The highest log position on disk.
    seq: u64,
}

impl FolderSink {
    /// A sink in `folder`, which is created when needed. One process may write to it at a time: the
    /// forwarder's lease sees to that, and a lock on the folder where it outlives its lease.
    #[must_use]
    pub fn new(folder: &Path, region: Region) -> Self {
        Self { disk: Disk::new(folder, region) }
    }
}

#[async_trait]
impl Sink for FolderSink {
    fn region(&self) -> &Region {
        self.disk.region()
    }

    fn name(&self) -> &'static str {
        "folder"
    }

    async fn setup(&self, place: Place) -> Result<(), Error> {
        self.disk.setup(place, Writer::open).await
    }

    fn leave(&self) {
        self.disk.leave();
    }

    async fn apply(&self, rows: &[Row]) -> Result<Applied, Error> {
        let rows = rows.to_vec();
        self.disk
            .write(move |folder, region, slot| {
                let mut writer = match slot.take() {
                    Some(writer) => writer,
                    None => Writer::open(folder, region)?,
                };
                // On an error the writer is dropped: what is on disk is looked at anew before anything is appended.
                let changed = writer.append(region, rows)?;
                if writer.bytes > FILE_BYTES_MAX {
                    drop(writer);
                    writer = Writer::open(folder, region)?;
                }
                *slot = Some(writer);
                Ok(Applied { changed, refused: 0 })
            })
            .await
    }

    async fn erase(&self, erased: &[Forgotten]) -> Result<String, Error> {
        let digests: BTreeSet<String> = erased.iter().map(|one| one.subject_digest.clone()).collect();
        self.disk
            .write(move |folder, region, slot| {
                // What is appended to is rewritten: the file must be closed before.
                drop(slot.take());
                *slot = Some(Writer::open_without(folder, region, &digests)?);
                Ok("its files were rewritten".to_owned())
            })
            .await
    }

    async fn rows(&self, subject_digest: Option<&str>, limit: u32) -> Result<Vec<Row>, Error> {
        let subject_digest = subject_digest.map(str::to_owned);
        self.disk
            .read(move |folder, region| {
                let rows = state(folder, region)?.into_values();
                let wanted = |row: &Row| subject_digest.as_ref().is_none_or(|digest| *digest == row.subject_digest);
                Ok(rows.filter(wanted).take(limit as usize).collect())
            })
            .await
    }
}

impl Writer {
    /// Looks at what is on disk, compacts it, and goes on behind it.
    fn open(folder: &Path, region: &Region) -> Result<Self, Error> {
        Self::open_without(folder, region, &BTreeSet::new())
    }

    /// The same, leaving out the rows of these subjects.
    fn open_without(folder: &Path, region: &Region, gone: &BTreeSet<String>) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(doing("create its folder"))?;
        for half in halves(folder)? {
            fs::remove_file(half).map_err(doing("remove what a crash left half written"))?;
        }
        for path in files(folder)? {
            cut_torn_line(&path).map_err(doing("repair a file"))?;
        }
        let mut state = state(folder, region)?;
        let seq = state.values().map(|row| row.seq).max().unwrap_or(0);
        state.retain(|(digest, _), _| !gone.contains(digest));
        let old = files(folder)?;
        let path = named(folder, seq);
        let mut rows: Vec<Row> = state.into_values().collect();
        rows.sort_by_key(|row| row.seq);
        let bytes = replace(&path, &rows).map_err(doing("compact its files"))?;
        sync_folder(folder)?;
        for superseded in old.iter().filter(|old| **old != path) {
            fs::remove_file(superseded).map_err(doing("remove a compacted file"))?;
        }
        sync_folder(folder)?;
        let file = OpenOptions::new().append(true).open(&path).map_err(doing("open its file"))?;
        Ok(Self { file, bytes, seq })
    }

    fn append(&mut self, region: &Region, mut rows: Vec<Row>) -> Result<u64, Error> {
        if let Some(foreign) = rows.iter().find(|row| row.region != *region) {
            return Err(Error::Abroad { region: region.clone(), found: foreign.region.clone() });
        }
        // In log order, so that a batch cut short by a crash leaves no position out below its last.
        rows.sort_by_key(|row| row.seq);
        rows.retain(|row| row.seq > self.seq);
        let Some(newest) = rows.last().map(|row| row.seq) else { return Ok(0) };
        let mut text = Vec::new();
        for row in &rows {
            write_line(&mut text, row).map_err(doing("write a row"))?;
        }
        self.file.write_all(&text).map_err(doing("append to its file"))?;
        self.file.sync_data().map_err(doing("flush its file"))?;
        self.bytes += text.len() as u64;
        self.seq = newest;
        Ok(rows.len() as u64)
    }
}
