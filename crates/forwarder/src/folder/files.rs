//! The folder's files: lines read and written, what a crash cut off, and the one that takes the place of all.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};

use residency::Region;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::change::Row;
use crate::disk::doing;
use crate::error::Error;

const PREFIX: &str = "zero-party-";
const SUFFIX: &str = ".ndjson";
/// How a file ends while it is being written.
const SCRATCH: &str = ".scratch";

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

/// The newest row of each (subject digest, attribute).
pub(super) fn state(folder: &Path, region: &Region) -> Result<BTreeMap<(String, String), Row>, Error> {
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

/// The file that holds what there is up to a log position.
pub(super) fn named(folder: &Path, seq: u64) -> PathBuf {
    folder.join(format!("{PREFIX}{seq:020}{SUFFIX}"))
}

/// The sink's files, oldest first.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    ending(folder, SUFFIX)
}

/// What a crash left half written: it may hold what has been withdrawn or erased since.
pub(super) fn halves(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    ending(folder, SCRATCH)
}

fn ending(folder: &Path, suffix: &str) -> Result<Vec<PathBuf>, Error> {
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
        if name.starts_with(PREFIX) && name.ends_with(suffix) {
            files.push(item.path());
        }
    }
    files.sort();
    Ok(files)
}

pub(super) fn write_line(text: &mut Vec<u8>, row: &Row) -> io::Result<()> {
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
pub(super) fn cut_torn_line(path: &Path) -> io::Result<()> {
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
pub(super) fn replace(path: &Path, rows: &[Row]) -> io::Result<u64> {
    let mut text = Vec::new();
    for row in rows {
        write_line(&mut text, row)?;
    }
    let scratch = path.with_extension(SCRATCH.trim_start_matches('.'));
    let mut file = File::create(&scratch)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&scratch, path)?;
    Ok(text.len() as u64)
}

fn broken() -> Error {
    doing("understand a line of its files")(io::ErrorKind::InvalidData.into())
}
