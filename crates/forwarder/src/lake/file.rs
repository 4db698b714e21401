//! One Parquet file: rows in, rows out.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use residency::Region;
use sheet::{Cell, Cells, Column, Type};

use crate::change::Row;
use crate::disk::doing;
use crate::error::Error;

/// `value` and `consents` are JSON text, and absent in a tombstone.
const COLUMNS: [Column; 8] = [
    Column::required("subject_digest", Type::Text),
    Column::required("attribute", Type::Text),
    Column::optional("value", Type::Text),
    Column::optional("consents", Type::Text),
    Column::required("version", Type::Number),
    Column::required("log_seq", Type::Number),
    Column::required("deleted", Type::Flag),
    Column::required("changed_at", Type::Time),
];

/// Writes a whole file in place of whatever has its name.
pub(super) fn write(path: &Path, rows: &[Row]) -> Result<(), Error> {
    let scratch = path.with_extension(super::SCRATCH);
    let file = File::create(&scratch).map_err(doing("create a file"))?;
    let kept = file.try_clone().map_err(doing("create a file"))?;
    fill(file, rows).map_err(|error| doing("write a file")(io::Error::other(error)))?;
    kept.sync_all().map_err(doing("flush a file"))?;
    fs::rename(&scratch, path).map_err(doing("put a file in its place"))
}

fn fill(file: File, rows: &[Row]) -> Result<(), sheet::Error> {
    let mut writer = sheet::Writer::new(file, "zero_party", &COLUMNS)?;
    let texts = |of: &dyn Fn(&Row) -> Option<String>| Cells::Texts(rows.iter().map(of).collect());
    let numbers = |of: &dyn Fn(&Row) -> i64| rows.iter().map(|row| Some(of(row))).collect();
    writer.rows(&[
        texts(&|row| Some(row.subject_digest.clone())),
        texts(&|row| Some(row.attribute.clone())),
        texts(&|row| row.value.clone()),
        texts(&|row| row.consents.clone()),
        // Positions and versions are far below 2^63.
        Cells::Numbers(numbers(&|row| row.version as i64)),
        Cells::Numbers(numbers(&|row| row.seq as i64)),
        Cells::Flags(rows.iter().map(|row| Some(row.deleted)).collect()),
        Cells::Times(numbers(&|row| row.at_us)),
    ])?;
    writer.close()?;
    Ok(())
}

/// Reads a whole file.
pub(super) fn read(path: &Path, region: &Region) -> Result<Vec<Row>, Error> {
    let broken = |error: sheet::Error| doing("understand a file")(io::Error::other(error));
    let mut rows = Vec::new();
    for row in sheet::read(path).map_err(broken)? {
        let row = row.map_err(broken)?;
        let Ok(
            [
                Cell::Text(subject_digest),
                Cell::Text(attribute),
                value,
                consents,
                Cell::Number(version),
                Cell::Number(seq),
                Cell::Flag(deleted),
                Cell::Time(at_us),
            ],
        ) = <[Cell; COLUMNS.len()]>::try_from(row)
        else {
            return Err(doing("understand a file")(io::ErrorKind::InvalidData.into()));
        };
        let text = |cell| match cell {
            Cell::Text(text) if !deleted => Some(text),
            _ => None,
        };
        rows.push(Row {
            subject_digest,
            attribute,
            value: text(value),
            consents: text(consents),
            version: version as u64,
            seq: seq as u64,
            region: region.clone(),
            deleted,
            at_us,
        });
    }
    Ok(rows)
}
