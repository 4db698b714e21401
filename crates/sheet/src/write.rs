//! Writing.

use std::io::Write;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use crate::{Column, Error, Type, wrong};

/// The cells of one column in a group of rows.
#[derive(Debug, Clone)]
pub enum Cells {
    /// Of a column of [`Type::Text`].
    Texts(Vec<Option<String>>),
    /// Of a column of [`Type::Number`].
    Numbers(Vec<Option<i64>>),
    /// Of a column of [`Type::Flag`].
    Flags(Vec<Option<bool>>),
    /// Of a column of [`Type::Time`].
    Times(Vec<Option<i64>>),
}

/// A table that is being written.
pub struct Writer<W: Write + Send> {
    file: SerializedFileWriter<W>,
    columns: Vec<Column>,
}

impl<W: Write + Send> Writer<W> {
    /// Begins a table. `name` is what the file calls its rows.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn new(out: W, name: &str, columns: &[Column]) -> Result<Self, Error> {
        let mut message = format!("message {name} {{\n");
        for column in columns {
            let presence = if column.optional { "optional" } else { "required" };
            let (name, (physical, logical)) = (column.name, words(column.of));
            message.push_str(&format!("    {presence} {physical} {name}{logical};\n"));
        }
        message.push('}');
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let schema = Arc::new(parse_message_type(&message)?);
        let file = SerializedFileWriter::new(out, schema, Arc::new(properties))?;
        Ok(Self { file, columns: columns.to_vec() })
    }

    /// Writes a group of rows: the cells of each column, in the order of the columns.
    ///
    /// # Errors
    /// When the cells do not fit the columns, or `out` cannot be written. The table is of no use then.
    pub fn rows(&mut self, cells: &[Cells]) -> Result<(), Error> {
        if cells.len() != self.columns.len() {
            return Err(wrong("there are not as many lists of cells as columns"));
        }
        let mut group = self.file.next_row_group()?;
        for (column, cells) in self.columns.iter().zip(cells) {
            let mut writer = group.next_column()?.ok_or_else(|| wrong("the file has fewer columns than the table"))?;
            let optional = column.optional;
            match (writer.untyped(), cells, column.of) {
                (ColumnWriter::ByteArrayColumnWriter(out), Cells::Texts(texts), Type::Text) => {
                    let (values, levels) = present(texts, optional, |text| ByteArray::from(text.as_str()))?;
                    out.write_batch(&values, levels.as_deref(), None)?;
                }
                (ColumnWriter::Int64ColumnWriter(out), Cells::Numbers(numbers), Type::Number)
                | (ColumnWriter::Int64ColumnWriter(out), Cells::Times(numbers), Type::Time) => {
                    let (values, levels) = present(numbers, optional, |number| *number)?;
                    out.write_batch(&values, levels.as_deref(), None)?;
                }
                (ColumnWriter::BoolColumnWriter(out), Cells::Flags(flags), Type::Flag) => {
                    let (values, levels) = present(flags, optional, |flag| *flag)?;
                    out.write_batch(&values, levels.as_deref(), None)?;
                }
                _ => return Err(wrong(format!("the cells of {} are of another type", column.name))),
            }
            writer.close()?;
        }
        group.close()?;
        Ok(())
    }

    /// Ends the table.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn close(self) -> Result<W, Error> {
        Ok(self.file.into_inner()?)
    }
}

/// The values that are there, and for an optional column which they are.
fn present<T, V>(
    cells: &[Option<T>],
    optional: bool,
    value: impl Fn(&T) -> V,
) -> Result<(Vec<V>, Option<Vec<i16>>), Error> {
    let values: Vec<V> = cells.iter().flatten().map(value).collect();
    if optional {
        return Ok((values, Some(cells.iter().map(|cell| i16::from(cell.is_some())).collect())));
    }
    if values.len() == cells.len() {
        Ok((values, None))
    } else {
        Err(wrong("a cell that must hold something is empty"))
    }
}

const fn words(of: Type) -> (&'static str, &'static str) {
    match of {
        Type::Text => ("binary", " (UTF8)"),
        Type::Number => ("int64", ""),
        Type::Flag => ("boolean", ""),
        Type::Time => ("int64", " (TIMESTAMP(MICROS, true))"),
    }
}
