//! One Parquet file: rows in, rows out.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::record::RowAccessor;
use parquet::schema::parser::parse_message_type;
use residency::Region;

use super::doing;
use crate::change::Row;
use crate::error::Error;

/// `value` and `consents` are JSON text, and absent in a tombstone.
const SCHEMA: &str = "message zero_party {
    required binary subject_digest (UTF8);
    required binary attribute (UTF8);
    optional binary value (UTF8);
    optional binary consents (UTF8);
    required int64 version;
    required int64 log_seq;
    required boolean deleted;
    required int64 changed_at (TIMESTAMP(MICROS, true));
}";

/// Writes a whole file in place of whatever has its name.
pub(super) fn write(path: &Path, rows: &[Row]) -> Result<(), Error> {
    let scratch = path.with_extension("scratch");
    let file = File::create(&scratch).map_err(doing("create a file"))?;
    let kept = file.try_clone().map_err(doing("create a file"))?;
    fill(file, rows).map_err(|error| doing("write a file")(io::Error::other(error)))?;
    kept.sync_all().map_err(doing("flush a file"))?;
    fs::rename(&scratch, path).map_err(doing("put a file in its place"))
}

fn fill(file: File, rows: &[Row]) -> Result<(), ParquetError> {
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = SerializedFileWriter::new(file, Arc::new(parse_message_type(SCHEMA)?), Arc::new(properties))?;
    let mut group = writer.next_row_group()?;
    let text = |of: &dyn Fn(&Row) -> &str| -> Vec<ByteArray> { rows.iter().map(|row| of(row).into()).collect() };
    texts(&mut group, &text(&|row| row.subject_digest.as_str()), None)?;
    texts(&mut group, &text(&|row| row.attribute.as_str()), None)?;
    for of in [|row: &Row| row.value.clone(), |row: &Row| row.consents.clone()] {
        let present: Vec<Option<String>> = rows.iter().map(of).collect();
        let levels: Vec<i16> = present.iter().map(|text| i16::from(text.is_some())).collect();
        let values: Vec<ByteArray> = present.iter().flatten().map(|text| text.as_str().into()).collect();
        texts(&mut group, &values, Some(&levels))?;
    }
    // Positions and versions are far below 2^63.
    numbers(&mut group, &rows.iter().map(|row| row.version as i64).collect::<Vec<_>>())?;
    numbers(&mut group, &rows.iter().map(|row| row.seq as i64).collect::<Vec<_>>())?;
    let mut column = group.next_column()?.ok_or_else(missing)?;
    if let ColumnWriter::BoolColumnWriter(writer) = column.untyped() {
        writer.write_batch(&rows.iter().map(|row| row.deleted).collect::<Vec<_>>(), None, None)?;
    }
    column.close()?;
    numbers(&mut group, &rows.iter().map(|row| row.at_us).collect::<Vec<_>>())?;
    group.close()?;
    writer.close()?;
    Ok(())
}

fn texts(
    group: &mut SerializedRowGroupWriter<'_, File>,
    values: &[ByteArray],
    levels: Option<&[i16]>,
) -> Result<(), ParquetError> {
    let mut column = group.next_column()?.ok_or_else(missing)?;
    if let ColumnWriter::ByteArrayColumnWriter(writer) = column.untyped() {
        writer.write_batch(values, levels, None)?;
    }
    column.close()
}

fn numbers(group: &mut SerializedRowGroupWriter<'_, File>, values: &[i64]) -> Result<(), ParquetError> {
    let mut column = group.next_column()?.ok_or_else(missing)?;
    if let ColumnWriter::Int64ColumnWriter(writer) = column.untyped() {
        writer.write_batch(values, None, None)?;
    }
    column.close()
}

fn missing() -> ParquetError {
    ParquetError::General("the schema has fewer columns than a row".to_owned())
}

/// Reads a whole file.
pub(super) fn read(path: &Path, region: &Region) -> Result<Vec<Row>, Error> {
    let broken = |error: ParquetError| doing("understand a file")(io::Error::other(error));
    let file = File::open(path).map_err(doing("open a file"))?;
    let reader = SerializedFileReader::new(file).map_err(broken)?;
    let mut rows = Vec::new();
    for row in reader.get_row_iter(None).map_err(broken)? {
        let row = row.map_err(broken)?;
        let number = |at: usize| row.get_long(at).map_err(broken);
        let text = |at: usize| row.get_string(at).cloned().map_err(broken);
        let deleted = row.get_bool(6).map_err(broken)?;
        rows.push(Row {
            subject_digest: text(0)?,
            attribute: text(1)?,
            value: if deleted { None } else { Some(text(2)?) },
            consents: if deleted { None } else { Some(text(3)?) },
            version: number(4)? as u64,
            seq: number(5)? as u64,
            region: region.clone(),
            deleted,
            at_us: row.get_timestamp_micros(7).map_err(broken)?,
        });
    }
    Ok(rows)
}
