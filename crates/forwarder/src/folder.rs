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

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use residency::Region;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::change::{Forgotten, Row};
use crate::error::Error;
use crate::sink::{Applied, Place, Sink};

/// A file beyond this is compacted.
const FILE_BYTES_MAX: u64 = 64 << 20;
const PREFIX: &str = "zero-party-";
const SUFFIX: &str = ".ndjson";

/// Zero-party data of one region in a folder.
pub struct FolderSink {
    region: Region,
    folder: PathBuf,
    /// `None` until the folder was looked at. Held by one writer at a time, on a blocking thread.
    writer: Arc<Mutex<Option<Writer>>>,
}

struct Writer {
    file: File,
    bytes: u64,
    /// The highest log position on disk.
    seq: u64,
}

/// A row as a line.
#[derive(Serialize, Deserialize)]
struct Line<'a> {
    seq: u64,
    region: &'a str,
    subject_digest: &'a str,
    attribute: &'a str,
    version: u64,
    deleted: bool,
    #[serde(default)]
    at_us: i64,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    value: Option<&'a RawValue>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    consents: Option<&'a RawValue>,
}

impl FolderSink {
    /// A sink in `folder`, which is created when needed. One process may write to it at a time: the
    /// forwarder's lease sees to that.
    #[must_use]
    pub fn new(folder: &Path, region: Region) -> Self {
        Self { region, folder: folder.to_owned(), writer: Arc::default() }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path, &Region, &mut Option<Writer>) -> Result<T, Error> + Send + 'static,
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

#[async_trait]
impl Sink for FolderSink {
    fn region(&self) -> &Region {
        &self.region
    }

    fn name(&self) -> &'static str {
        "folder"
    }

    async fn setup(&self, place: Place) -> Result<(), Error> {
        if place == Place::Beside {
            let why = "a folder has one writer, and keeps the newest of everything already: there is nothing to replay";
            return Err(Error::Settings(why.to_owned()));
        }
        self.blocking(|folder, region, writer| {
            *writer = Some(Writer::open(folder, region)?);
            Ok(())
        })
        .await
    }

    async fn apply(&self, rows: &[Row]) -> Result<Applied, Error> {
        let rows = rows.to_vec();
        self.blocking(move |folder, region, slot| {
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
        self.blocking(move |folder, region, slot| {
            // What is appended to is rewritten: the file must be closed before.
            drop(slot.take());
            *slot = Some(Writer::open_without(folder, region, &digests)?);
            Ok("its files were rewritten".to_owned())
        })
        .await
    }

    async fn rows(&self, subject_digest: Option<&str>, limit: u32) -> Result<Vec<Row>, Error> {
        let subject_digest = subject_digest.map(str::to_owned);
        self.blocking(move |folder, region, _| {
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
        for path in files(folder)? {
            cut_torn_line(&path).map_err(doing("repair a file"))?;
        }
        let mut state = state(folder, region)?;
        let seq = state.values().map(|row| row.seq).max().unwrap_or(0);
        state.retain(|(digest, _), _| !gone.contains(digest));
        let old = files(folder)?;
        let path = folder.join(format!("{PREFIX}{seq:020}{SUFFIX}"));
        let mut rows: Vec<Row> = state.into_values().collect();
        rows.sort_by_key(|row| row.seq);
        let bytes = replace(&path, &rows).map_err(doing("compact its files"))?;
        sync_folder(folder).map_err(doing("flush its folder"))?;
        for superseded in old.iter().filter(|old| **old != path) {
            fs::remove_file(superseded).map_err(doing("remove a compacted file"))?;
        }
        sync_folder(folder).map_err(doing("flush its folder"))?;
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

/// The newest row of each (subject digest, attribute).
fn state(folder: &Path, region: &Region) -> Result<BTreeMap<(String, String), Row>, Error> {
    let mut state: BTreeMap<(String, String), Row> = BTreeMap::new();
    for path in files(folder)? {
        let file = File::open(path).map_err(doing("open a file"))?;
        for line in BufReader::new(file).lines() {
            let line = line.map_err(doing("read a file"))?;
            let row = read_line(&line, region)?;
            let known = state.get(&row.key()).map(|known| known.seq);
            if known.is_none_or(|known| known < row.seq) {
                state.insert(row.key(), row);
            }
        }
    }
    Ok(state)
}

/// The sink's files, oldest first.
fn files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    let listing = match fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
        Err(error) => return Err(doing("list its folder")(error)),
    };
    for item in listing {
        let item = item.map_err(doing("list its folder"))?;
        let name = item.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
            files.push(item.path());
        }
    }
    files.sort();
    Ok(files)
}

fn write_line(text: &mut Vec<u8>, row: &Row) -> io::Result<()> {
    let raw = |text: &Option<String>| -> io::Result<Option<Box<RawValue>>> {
        // A line is a line: JSON text may hold line breaks between its tokens.
        let Some(text) = text else { return Ok(None) };
        let value: Box<RawValue> = serde_json::from_str(text)?;
        if !value.get().contains(['\n', '\r']) {
            return Ok(Some(value));
        }
        Ok(Some(RawValue::from_string(value.get().replace(['\n', '\r'], " "))?))
    };
    let (value, consents) = (raw(&row.value)?, raw(&row.consents)?);
    let line = Line {
        seq: row.seq,
        region: row.region.as_str(),
        subject_digest: &row.subject_digest,
        attribute: &row.attribute,
        version: row.version,
        deleted: row.deleted,
        at_us: row.at_us,
        value: value.as_deref(),
        consents: consents.as_deref(),
    };
    serde_json::to_writer(&mut *text, &line)?;
    text.push(b'\n');
    Ok(())
}

fn read_line(line: &str, region: &Region) -> Result<Row, Error> {
    let line: Line<'_> = serde_json::from_str(line).map_err(|_| broken())?;
    if line.region != region.as_str() {
        return Err(Error::Misplaced { region: region.clone(), found: line.region.to_owned() });
    }
    Ok(Row {
        subject_digest: line.subject_digest.to_owned(),
        attribute: line.attribute.to_owned(),
        // `null` is a value too: a raw JSON null reads as an absent one.
        value: (!line.deleted).then(|| line.value.map_or("null", RawValue::get).to_owned()),
        consents: (!line.deleted).then(|| line.consents.map_or("[]", RawValue::get).to_owned()),
        version: line.version,
        seq: line.seq,
        region: region.clone(),
        deleted: line.deleted,
        at_us: line.at_us,
    })
}

/// Removes what follows the last line break: a row that a crash cut off and that was never counted.
fn cut_torn_line(path: &Path) -> io::Result<()> {
    let text = fs::read(path)?;
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if whole < text.len() {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(whole as u64)?;
        file.sync_all()?;
    }
    Ok(())
}

/// Writes a whole file in place of whatever has its name, and returns its size in bytes.
fn replace(path: &Path, rows: &[Row]) -> io::Result<u64> {
    let mut text = Vec::new();
    for row in rows {
        write_line(&mut text, row)?;
    }
    let scratch = path.with_extension("scratch");
    let mut file = File::create(&scratch)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&scratch, path)?;
    Ok(text.len() as u64)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn doing(doing: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Folder { doing, source }
}

fn broken() -> Error {
    doing("understand a line of its files")(io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region() -> Region {
        Region::new("eu-central").unwrap()
    }

    fn row(seq: u64, digest: &str, value: &str) -> Row {
        Row {
            subject_digest: digest.to_owned(),
            attribute: "colour".to_owned(),
            value: Some(value.to_owned()),
            consents: Some(r#"[{"purpose":"recommendations","granted":true}]"#.to_owned()),
            version: seq,
            seq,
            region: region(),
            deleted: false,
            at_us: 1_795_521_600_000_000,
        }
    }

    fn text_of(folder: &Path) -> String {
        files(folder).unwrap().iter().map(|path| fs::read_to_string(path).unwrap()).collect()
    }

    #[tokio::test]
    async fn rows_survive_and_a_repetition_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let sink = FolderSink::new(folder.path(), region());
        sink.setup(Place::Owner).await.unwrap();
        let rows = [row(3, "aa", "{\"a\":\n [1, \"ü'\\\\\"]}"), row(4, "bb", "null")];
        assert_eq!(sink.apply(&rows).await.unwrap().changed, 2);
        let before = text_of(folder.path());
        assert_eq!(sink.apply(&rows).await.unwrap().changed, 0);
        assert_eq!(text_of(folder.path()), before);
        let again = FolderSink::new(folder.path(), region());
        again.setup(Place::Owner).await.unwrap();
        assert_eq!(again.apply(&rows).await.unwrap().changed, 0);
        let found = again.rows(None, 100).await.unwrap();
        let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(parse(found[0].value.as_ref().unwrap()), parse(rows[0].value.as_ref().unwrap()));
        assert_eq!(found[1], rows[1]);
    }

    #[tokio::test]
    async fn a_withdrawn_value_leaves_the_disk_at_the_next_start_and_stays_away() {
        let folder = tempfile::tempdir().unwrap();
        let sink = FolderSink::new(folder.path(), region());
        sink.apply(&[row(3, "aa", "\"secret-wish\"")]).await.unwrap();
        sink.apply(&[row(5, "aa", "\"secret-wish\"").tombstone()]).await.unwrap();
        assert_eq!(sink.apply(&[row(3, "aa", "\"secret-wish\"")]).await.unwrap().changed, 0, "a late replay");
        let again = FolderSink::new(folder.path(), region());
        again.setup(Place::Owner).await.unwrap();
        assert!(!text_of(folder.path()).contains("secret-wish"));
        let found = again.rows(Some("aa"), 10).await.unwrap();
        assert!(found.len() == 1 && found[0].deleted && found[0].seq == 5);
    }

    #[tokio::test]
    async fn a_line_that_a_crash_cut_off_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let sink = FolderSink::new(folder.path(), region());
        sink.apply(&[row(3, "aa", "1"), row(4, "bb", "2")]).await.unwrap();
        let path = files(folder.path()).unwrap().pop().unwrap();
        let length = fs::metadata(&path).unwrap().len();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 7).unwrap();
        let again = FolderSink::new(folder.path(), region());
        again.setup(Place::Owner).await.unwrap();
        assert_eq!(again.rows(None, 10).await.unwrap().len(), 1);
        assert_eq!(again.apply(&[row(3, "aa", "1"), row(4, "bb", "2")]).await.unwrap().changed, 1);
        assert_eq!(again.rows(None, 10).await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_foreign_row_and_a_foreign_folder_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let sink = FolderSink::new(folder.path(), region());
        let mut foreign = row(3, "aa", "1");
        foreign.region = Region::new("us-east").unwrap();
        assert!(matches!(sink.apply(&[foreign]).await, Err(Error::Abroad { .. })));
        sink.apply(&[row(3, "aa", "1")]).await.unwrap();
        let elsewhere = FolderSink::new(folder.path(), Region::new("us-east").unwrap());
        assert!(matches!(elsewhere.setup(Place::Owner).await, Err(Error::Misplaced { .. })));
    }

    #[tokio::test]
    async fn an_erased_subject_leaves_the_files_and_the_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let sink = FolderSink::new(folder.path(), region());
        sink.apply(&[row(3, "aa", "\"secret-wish\""), row(4, "bb", "2"), row(5, "aa", "\"secret-wish\"")])
            .await
            .unwrap();
        let erased = Forgotten { subject_digest: "aa".to_owned(), digest: [0; 32], seq: 6, region: region(), at_us: 0 };
        sink.erase(&[erased]).await.unwrap();
        assert!(!text_of(folder.path()).contains("secret-wish") && !text_of(folder.path()).contains("aa"));
        assert_eq!(sink.apply(&[row(5, "aa", "1")]).await.unwrap().changed, 0, "what came before does not come back");
        assert_eq!(sink.apply(&[row(7, "cc", "3")]).await.unwrap().changed, 1);
        let again = FolderSink::new(folder.path(), region());
        again.setup(Place::Owner).await.unwrap();
        assert_eq!(again.rows(None, 10).await.unwrap().iter().map(|row| row.seq).collect::<Vec<_>>(), [4, 7]);
    }
}
