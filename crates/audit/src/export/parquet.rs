//! Parquet: a group of rows for each step, handed on as soon as it is written.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use sheet::{Cells, Type};

use super::row::{COLUMNS, Row, Value};

/// A table under way.
pub(super) struct Table {
    writer: sheet::Writer<Outbox>,
    written: Outbox,
    /// Rows that are still too few for a group.
    rows: Vec<Row>,
}

impl Table {
    pub(super) fn begin() -> io::Result<Self> {
        let written = Outbox::default();
        let writer = sheet::Writer::new(written.clone(), "leaves", &COLUMNS)?;
        Ok(Self { writer, written, rows: Vec::new() })
    }

    /// Takes rows, and returns the bytes of a group when there are enough for one.
    pub(super) fn rows(&mut self, rows: Vec<Row>) -> io::Result<Vec<u8>> {
        self.rows.extend(rows);
        if self.rows.len() >= super::STEP_LEAVES as usize {
            self.group()?;
        }
        Ok(self.written.take())
    }

    /// Ends the table, and returns the last bytes.
    pub(super) fn close(mut self) -> io::Result<Vec<u8>> {
        if !self.rows.is_empty() {
            self.group()?;
        }
        self.writer.close()?;
        Ok(self.written.take())
    }

    fn group(&mut self) -> io::Result<()> {
        let rows = std::mem::take(&mut self.rows);
        let columns: Vec<_> = COLUMNS.iter().enumerate().map(|(at, column)| cells(&rows, at, column.of)).collect();
        Ok(self.writer.rows(&columns)?)
    }
}

fn cells(rows: &[Row], at: usize, of: Type) -> Cells {
    let values = rows.iter().map(|row| &row.0[at]);
    match of {
        Type::Text | Type::Flag => Cells::Texts(
            values
                .map(|value| match value {
                    Value::Text(text) => text.clone(),
                    Value::Number(_) | Value::Time(_) => None,
                })
                .collect(),
        ),
        Type::Number => Cells::Numbers(
            values
                .map(|value| match value {
                    Value::Number(number) => *number,
                    Value::Text(_) | Value::Time(_) => None,
                })
                .collect(),
        ),
        Type::Time => Cells::Times(
            values
                .map(|value| match value {
                    Value::Time(time) => time.as_ref().map(|(_, at_us)| *at_us),
                    Value::Text(_) | Value::Number(_) => None,
                })
                .collect(),
        ),
    }
}

/// What was written and not yet handed on.
#[derive(Clone, Default)]
struct Outbox(Arc<Mutex<Vec<u8>>>);

impl Outbox {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Outbox {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
