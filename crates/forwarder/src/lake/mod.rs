//! Zero-party data as Parquet files in a folder, for those without Snowflake: `region=<region>/day=<day>/….parquet`,
//! which DuckDB, pyarrow and Spark read as one table partitioned by region and day (the day, UTC, of the change).
//!
//! A file is written whole, flushed and renamed into its place before its rows count, so that a crash leaves a whole
//! file or none. A row is taken only if its log position is above the newest one of its key on disk: repeating a
//! batch changes nothing. Later rows lie beside earlier ones until they are compacted; the current state is the
//! newest row of each (subject digest, attribute) that is not deleted:
//!
//! ```sql
//! SELECT * FROM read_parquet('folder/**/*.parquet', hive_partitioning = true)
//! QUALIFY row_number() OVER (PARTITION BY subject_digest, attribute ORDER BY log_seq DESC) = 1
//! ```
//!
//! A tombstone takes every older row of its key off the disk before [`Sink::apply`] returns; should a crash come
//! between, the next start does it. The tombstone stays, so that no late replay brings the value back.

mod file;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use residency::Region;

use crate::change::{Forgotten, Row};
use crate::disk::{Disk, doing, sync_folder};
use crate::error::Error;
use crate::sink::{Applied, Place, Sink};

/// A day with more files than this is compacted.
const FILES_OF_DAY_MAX: usize = 64;
const EXTENSION: &str = "parquet";
/// What a file is called while it is being written.
const SCRATCH: &str = "scratch";

type Key = (String, String);

/// Zero-party data of one region as Parquet files.
pub struct ParquetSink {
    disk: Disk<Shelf>,
}

impl ParquetSink {
    /// A sink in `folder`, which is created when needed. One process may write to it at a time: the forwarder's
    /// lease sees to that, and a lock on the folder where it outlives its lease. Keeps about 200 bytes in memory for each (subject digest, attribute).
    #[must_use]
    pub fn new(folder: &Path, region: Region) -> Self {
        Self { disk: Disk::new(folder, region) }
    }
}

#[async_trait]
impl Sink for ParquetSink {
    fn region(&self) -> &Region {
        self.disk.region()
    }

    fn name(&self) -> &'static str {
        "parquet"
    }

    async fn setup(&self, place: Place) -> Result<(), Error> {
        self.disk.setup(place, Shelf::open).await
    }

    fn leave(&self) {
        self.disk.leave();
    }

    async fn apply(&self, rows: &[Row]) -> Result<Applied, Error> {
        if let Some(foreign) = rows.iter().find(|row| row.region != *self.region()) {
            return Err(Error::Abroad { region: self.region().clone(), found: foreign.region.clone() });
        }
        let rows = rows.to_vec();
        self.disk
            .write(move |folder, region, slot| {
                // On an error the shelf is dropped: what is on disk is looked at anew before anything is written.
                let mut shelf = match slot.take() {
                    Some(shelf) => shelf,
                    None => Shelf::open(folder, region)?,
                };
                let changed = shelf.take(rows)?;
                *slot = Some(shelf);
                Ok(Applied { changed, refused: 0 })
            })
            .await
    }

    async fn erase(&self, erased: &[Forgotten]) -> Result<String, Error> {
        let digests: BTreeSet<String> = erased.iter().map(|one| one.subject_digest.clone()).collect();
        self.disk
            .write(move |folder, region, slot| {
                let mut shelf = match slot.take() {
                    Some(shelf) => shelf,
                    None => Shelf::open(folder, region)?,
                };
                let files = shelf.erase(&digests)?;
                *slot = Some(shelf);
                Ok(format!("{files} files rewritten"))
            })
            .await
    }

    async fn rows(&self, subject_digest: Option<&str>, limit: u32) -> Result<Vec<Row>, Error> {
        let subject_digest = subject_digest.map(str::to_owned);
        self.disk
            .read(move |folder, region| {
                let mut newest: BTreeMap<Key, Row> = BTreeMap::new();
                for path in files(&of_region(folder, region), EXTENSION)? {
                    for row in file::read(&path, region)? {
                        if newest.get(&row.key()).is_none_or(|known| known.seq < row.seq) {
                            newest.insert(row.key(), row);
                        }
                    }
                }
                let wanted = |row: &Row| subject_digest.as_ref().is_none_or(|digest| *digest == row.subject_digest);
                Ok(newest.into_values().filter(wanted).take(limit as usize).collect())
            })
            .await
    }
}

/// What is on disk.
struct Shelf {
    region: Region,
    /// `folder/region=<region>`
    home: PathBuf,
    /// The newest position of each key, and the files that have rows of it.
    keys: BTreeMap<Key, Whereabouts>,
}

/// Where a key's rows are.
#[derive(Default)]
struct Whereabouts {
    newest: u64,
    files: BTreeSet<PathBuf>,
}

impl Shelf {
    /// Looks at everything, compacts days of several files and finishes what a crash left undone.
    fn open(folder: &Path, region: &Region) -> Result<Self, Error> {
        foreign(folder, region)?;
        let home = of_region(folder, region);
        fs::create_dir_all(&home).map_err(doing("create its folder"))?;
        for half in files(&home, SCRATCH)? {
            fs::remove_file(half).map_err(doing("remove what a crash left half written"))?;
        }
        let mut shelf = Self { region: region.clone(), home, keys: BTreeMap::new() };
        // Days in order, so that what is newest is known before anything older is let go of.
        let mut newest: BTreeMap<Key, (u64, bool)> = BTreeMap::new();
        let paths = files(&shelf.home, EXTENSION)?;
        for path in &paths {
            for row in file::read(path, region)? {
                let known = newest.entry(row.key()).or_insert((row.seq, row.deleted));
                if known.0 <= row.seq {
                    *known = (row.seq, row.deleted);
                }
            }
        }
        let stale = |row: &Row| newest.get(&row.key()).is_some_and(|(seq, _)| row.seq < *seq);
        let mut days: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
        for path in paths {
            days.entry(path.parent().unwrap_or(&shelf.home).to_owned()).or_default().push(path);
        }
        for paths in days.values() {
            shelf.merge(paths, &stale)?;
        }
        Ok(shelf)
    }

    /// Takes the rows that are newer than what is there.
    fn take(&mut self, mut rows: Vec<Row>) -> Result<u64, Error> {
        rows.sort_by_key(|row| row.seq);
        rows.retain(|row| self.keys.get(&row.key()).is_none_or(|known| known.newest < row.seq));
        let mut days: BTreeMap<String, Vec<Row>> = BTreeMap::new();
        for row in &rows {
            days.entry(day(row.at_us)).or_default().push(row.clone());
        }
        for (day, rows) in &days {
            let folder = self.home.join(format!("day={day}"));
            self.write(&folder, rows)?;
        }
        let withdrawn: BTreeSet<Key> = rows.iter().filter(|row| row.deleted).map(Row::key).collect();
        self.forget(&withdrawn)?;
        for day in days.keys() {
            let paths = files(&self.home.join(format!("day={day}")), EXTENSION)?;
            if paths.len() > FILES_OF_DAY_MAX {
                let newest: BTreeMap<Key, u64> = self.keys.iter().map(|(key, at)| (key.clone(), at.newest)).collect();
                self.merge(&paths, &|row| newest.get(&row.key()).is_some_and(|seq| row.seq < *seq))?;
            }
        }
        Ok(rows.len() as u64)
    }

    /// Takes every older row of these keys off the disk.
    fn forget(&mut self, keys: &BTreeSet<Key>) -> Result<(), Error> {
        let touched: BTreeSet<PathBuf> =
            keys.iter().filter_map(|key| self.keys.get(key)).flat_map(|at| at.files.iter().cloned()).collect();
        let newest: BTreeMap<Key, u64> =
            keys.iter().filter_map(|key| Some((key.clone(), self.keys.get(key)?.newest))).collect();
        for path in touched {
            let stale = |row: &Row| newest.get(&row.key()).is_some_and(|seq| row.seq < *seq);
            self.merge(&[path], &stale)?;
        }
        Ok(())
    }

    /// Takes every row of these subjects off the disk. How many files held one. No tombstone stays: this folder has one
    /// writer, and the log that it follows holds nothing of theirs any more.
    fn erase(&mut self, digests: &BTreeSet<String>) -> Result<usize, Error> {
        let theirs = |key: &Key| digests.contains(&key.0);
        let touched: BTreeSet<PathBuf> =
            self.keys.iter().filter(|(key, _)| theirs(key)).flat_map(|(_, at)| at.files.iter().cloned()).collect();
        for path in &touched {
            self.merge(std::slice::from_ref(path), &|row| digests.contains(&row.subject_digest))?;
        }
        self.keys.retain(|key, _| !theirs(key));
        Ok(touched.len())
    }

    /// Writes rows in log order as one file of a day.
    fn write(&mut self, folder: &Path, rows: &[Row]) -> Result<PathBuf, Error> {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(folder.to_owned()) };
        fs::create_dir_all(folder).map_err(doing("create a day's folder"))?;
        let path = folder.join(format!("zero-party-{:020}-{:020}.{EXTENSION}", first.seq, last.seq));
        file::write(&path, rows)?;
        sync_folder(folder)?;
        sync_folder(&self.home)?;
        for row in rows {
            let at = self.keys.entry(row.key()).or_default();
            at.newest = at.newest.max(row.seq);
            at.files.insert(path.clone());
        }
        Ok(path)
    }

    /// Makes one file of several of one day, without the stale rows. Whole files are left alone.
    fn merge(&mut self, paths: &[PathBuf], stale: &dyn Fn(&Row) -> bool) -> Result<(), Error> {
        let Some(folder) = paths.first().and_then(|path| path.parent()).map(Path::to_owned) else { return Ok(()) };
        let (mut kept, mut dropped): (Vec<Row>, BTreeSet<Key>) = (Vec::new(), BTreeSet::new());
        for path in paths {
            for row in file::read(path, &self.region)? {
                if stale(&row) {
                    dropped.insert(row.key());
                } else {
                    kept.push(row);
                }
            }
        }
        kept.sort_by_key(|row| row.seq);
        let whole = paths.len() == 1 && dropped.is_empty();
        let merged = if whole || kept.is_empty() { None } else { Some(self.write(&folder, &kept)?) };
        for path in paths.iter().filter(|path| !whole && merged.as_ref() != Some(*path)) {
            fs::remove_file(path).map_err(doing("remove a file that was rewritten"))?;
            for key in kept.iter().map(Row::key).chain(dropped.iter().cloned()) {
                if let Some(at) = self.keys.get_mut(&key) {
                    at.files.remove(path);
                }
            }
        }
        if let Some(path) = &merged {
            let kept: BTreeSet<Key> = kept.iter().map(Row::key).collect();
            for key in dropped.difference(&kept) {
                if let Some(at) = self.keys.get_mut(key) {
                    at.files.remove(path);
                }
            }
        }
        if whole {
            for row in &kept {
                let at = self.keys.entry(row.key()).or_default();
                at.newest = at.newest.max(row.seq);
                at.files.insert(paths[0].clone());
            }
        }
        sync_folder(&folder)
    }
}

fn of_region(folder: &Path, region: &Region) -> PathBuf {
    folder.join(format!("region={region}"))
}

/// Another region's files are not to be beside ours: one folder is one region's.
fn foreign(folder: &Path, region: &Region) -> Result<(), Error> {
    let listing = match fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(doing("list its folder")(error)),
    };
    for item in listing {
        let name = item.map_err(doing("list its folder"))?.file_name();
        if let Some(found) = name.to_string_lossy().strip_prefix("region=")
            && found != region.as_str()
        {
            return Err(Error::Misplaced { region: region.clone(), found: found.to_owned() });
        }
    }
    Ok(())
}

/// Every file of a kind below a folder, in order.
fn files(folder: &Path, kind: &str) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    let listing = match fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(doing("list its folder")(error)),
    };
    for item in listing {
        let item = item.map_err(doing("list its folder"))?;
        let path = item.path();
        if item.file_type().map_err(doing("list its folder"))?.is_dir() {
            found.extend(files(&path, kind)?);
        } else if path.extension().is_some_and(|extension| extension == kind) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The day of an instant, UTC.
fn day(at_us: i64) -> String {
    // Days since 1970 to a date (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days).
    let days = at_us.div_euclid(86_400_000_000) + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}
