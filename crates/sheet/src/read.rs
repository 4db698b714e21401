//! Reading back.

use std::fs::File;
use std::path::Path;

use parquet::file::reader::SerializedFileReader;
use parquet::record::Field;
use parquet::record::reader::RowIter;

use crate::{Error, wrong};

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// There is nothing in it.
    Nothing,
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
    /// A boolean.
    Flag(bool),
    /// Microseconds since 1970-01-01 UTC.
    Time(i64),
}

/// The rows of a table, in order.
pub struct Records(RowIter<'static>);

/// Opens a table.
///
/// # Errors
/// When there is no such file, or it is no Parquet file.
pub fn read(path: &Path) -> Result<Records, Error> {
    let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
    let reader = SerializedFileReader::new(file)?;
    Ok(Records(RowIter::from_file_into(Box::new(reader))))
}

impl Iterator for Records {
    type Item = Result<Vec<Cell>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = match self.0.next()? {
            Ok(row) => row,
            Err(error) => return Some(Err(error.into())),
        };
        let cells = row.get_column_iter().map(|(name, field)| match field {
            Field::Null => Ok(Cell::Nothing),
            Field::Str(text) => Ok(Cell::Text(text.clone())),
            Field::Long(number) => Ok(Cell::Number(*number)),
            Field::Bool(flag) => Ok(Cell::Flag(*flag)),
            Field::TimestampMicros(at_us) => Ok(Cell::Time(*at_us)),
            _ => Err(wrong(format!("{name} is of a type that such a table does not have"))),
        });
        Some(cells.collect())
    }
}
