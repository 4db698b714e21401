//! A table as a Parquet file, written one group of rows after another and read back row by row. The one room that
//! speaks Parquet: the warehouse's folder and the exports of a region log stand on it.
//!
//! A group of rows is in memory while it is written, and nothing of it afterwards but some 100 bytes for each column.

mod read;
mod write;

pub use read::{Cell, Records, read};
pub use write::{Cells, Writer};

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// UTF-8.
    Text,
    /// A 64-bit integer.
    Number,
    /// A boolean.
    Flag,
    /// Microseconds since 1970-01-01 UTC.
    Time,
}

/// One column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name: lower-case letters, digits and underscores.
    pub name: &'static str,
    /// What it holds.
    pub of: Type,
    /// Whether a row may have nothing in it.
    pub optional: bool,
}

impl Column {
    /// A column in which every row has something.
    #[must_use]
    pub const fn required(name: &'static str, of: Type) -> Self {
        Self { name, of, optional: false }
    }

    /// A column in which a row may have nothing.
    #[must_use]
    pub const fn optional(name: &'static str, of: Type) -> Self {
        Self { name, of, optional: true }
    }
}

/// The file is no such table, or could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the Parquet file could not be written or understood: {0}")]
pub struct Error(#[from] parquet::errors::ParquetError);

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        Self::other(error)
    }
}

fn wrong(why: impl Into<String>) -> Error {
    Error(parquet::errors::ParquetError::General(why.into()))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    const COLUMNS: [Column; 4] = [
        Column::required("seq", Type::Number),
        Column::optional("why", Type::Text),
        Column::required("deleted", Type::Flag),
        Column::optional("at", Type::Time),
    ];

    fn group(from: i64) -> Vec<Cells> {
        vec![
            Cells::Numbers(vec![Some(from), Some(from + 1)]),
            Cells::Texts(vec![None, Some("why not".to_owned())]),
            Cells::Flags(vec![Some(true), Some(false)]),
            Cells::Times(vec![Some(7), None]),
        ]
    }

    #[test]
    fn groups_of_rows_are_read_back_in_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("t.parquet");
        let mut writer = Writer::new(File::create(&path).expect("a file"), "rows", &COLUMNS).expect("a writer");
        writer.rows(&group(1)).expect("a group");
        writer.rows(&group(3)).expect("a group");
        drop(writer.close().expect("a whole file"));
        let rows: Vec<_> = read(&path).expect("a table").collect::<Result<_, _>>().expect("rows");
        let seqs: Vec<_> = rows.iter().map(|row| row[0].clone()).collect();
        assert_eq!(seqs, [1, 2, 3, 4].map(Cell::Number));
        assert_eq!(rows[0][1..], [Cell::Nothing, Cell::Flag(true), Cell::Time(7)]);
        assert_eq!(rows[1][1..], [Cell::Text("why not".to_owned()), Cell::Flag(false), Cell::Nothing]);
    }

    #[test]
    fn a_required_cell_is_never_left_empty_and_a_column_is_never_of_another_type() {
        let mut writer = Writer::new(Vec::new(), "rows", &COLUMNS).expect("a writer");
        let mut empty = group(1);
        empty[2] = Cells::Flags(vec![Some(true), None]);
        assert!(writer.rows(&empty).is_err());
        let mut writer = Writer::new(Vec::new(), "rows", &COLUMNS).expect("a writer");
        let mut other = group(1);
        other[0] = Cells::Texts(vec![None, None]);
        assert!(writer.rows(&other).is_err());
        let mut writer = Writer::new(Vec::new(), "rows", &COLUMNS).expect("a writer");
        assert!(writer.rows(&group(1)[..3]).is_err());
    }

    #[test]
    fn what_is_no_table_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("t.parquet");
        std::fs::write(&path, b"PAR1, or so it says").expect("a file");
        assert!(read(&path).is_err());
    }
}
