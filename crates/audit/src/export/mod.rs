//! Exports of a region log for whoever works with it by other tools: the leaves verbatim (JSONL), a spreadsheet (CSV),
//! or typed columns (Parquet). They are made piece by piece, so that an export of any length needs the memory of a few
//! thousand leaves.
//!
//! Every line of JSONL, and the column `line` of the other two, is a leaf's own bytes: with `seq` it can be held against
//! the log's tree. What an export leaves out (other kinds, other times) it leaves out: only a pack shows that nothing is missing.

mod csv;
mod parquet;
mod row;

use std::ops::Range;

use sha2::{Digest, Sha256};
use storage::{DecisionRow, Log};
use tlog::leaf_hash;

use self::row::Row;

/// Leaves that are read at once, and at most in a group of rows of a Parquet file.
const STEP_LEAVES: u32 = 4_096;
/// The most kinds that an export can be limited to.
pub const KINDS_MAX: usize = 32;

/// The form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The leaves verbatim, one per line.
    Jsonl,
    /// For spreadsheets. A cell that one would take for a formula begins with an apostrophe instead.
    Csv,
    /// For DuckDB, pyarrow, Spark and the like.
    Parquet,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 3] = [Self::Jsonl, Self::Csv, Self::Parquet];

    /// Its name, which is also the file's extension.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        }
    }

    /// The format with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }
}

/// What is to be exported.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Which entries; cut at the end of the log as it is when the export begins.
    pub range: Range<u64>,
    /// Only these kinds; all of them when there are none. At most [`KINDS_MAX`].
    pub kinds: Vec<String>,
    /// In which form.
    pub format: Format,
}

/// Why an export ended early. What was written until then is of no use.
#[derive(Debug, thiserror::Error)]
pub enum NotExported {
    /// The database did not answer.
    #[error("the log could not be read")]
    Unread(#[from] storage::Error),
    /// A leaf of the range is not there.
    #[error("the log does not hold its entry {0}: it lost a part of itself")]
    Missing(u64),
    /// The rows could not be written in this form.
    #[error("the rows could not be written")]
    Unwritten(#[from] std::io::Error),
}

/// What an export came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The entries that were looked at.
    pub range: Range<u64>,
    /// How many of them are in the export.
    pub rows: u64,
    /// How many of those do not have the hash that is stored with them any more: somebody edited them.
    pub altered: u64,
    /// The length of the file.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: [u8; 32],
}

/// An export under way: [`next`](Self::next) is called until there is no more.
pub struct Export {
    log: Log,
    kinds: Vec<String>,
    writer: Option<Writer>,
    at: u64,
    range: Range<u64>,
    rows: u64,
    altered: u64,
    bytes: u64,
    hasher: Sha256,
}

enum Writer {
    Jsonl,
    Csv { begun: bool },
    Parquet(Box<parquet::Table>),
}

impl Export {
    /// Begins an export of what is committed now.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn begin(log: Log, asked: Asked) -> Result<Self, NotExported> {
        let size = log.head().await?.size;
        let to = asked.range.end.min(size);
        // Of a log whose old entries were let go it begins with the oldest that is left, and says so by its range.
        let oldest = log.leaves(asked.range.start.min(to), 1).await?.first().map_or(to, |row| row.seq);
        let range = oldest.min(to)..to;
        let writer = match asked.format {
            Format::Jsonl => Writer::Jsonl,
            Format::Csv => Writer::Csv { begun: false },
            Format::Parquet => Writer::Parquet(Box::new(parquet::Table::begin()?)),
        };
        Ok(Self {
            log,
            kinds: asked.kinds,
            writer: Some(writer),
            at: range.start,
            range,
            rows: 0,
            altered: 0,
            bytes: 0,
            hasher: Sha256::new(),
        })
    }

    /// The entries that it covers.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// How many of them have been looked at.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.at - self.range.start
    }

    /// What it came to: the pieces until now, so the whole file behind the last.
    #[must_use]
    pub fn made(&self) -> Made {
        Made {
            range: self.range.clone(),
            rows: self.rows,
            altered: self.altered,
            bytes: self.bytes,
            sha256: self.hasher.clone().finalize().into(),
        }
    }

    /// The next piece of the file; `None` behind the last.
    ///
    /// # Errors
    /// [`NotExported`].
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, NotExported> {
        let mut piece = Vec::new();
        while piece.is_empty() && self.at < self.range.end {
            let rows = self.read().await?;
            piece = self.write(&rows)?;
        }
        if piece.is_empty() {
            piece = self.close()?;
        }
        self.bytes += piece.len() as u64;
        self.hasher.update(&piece);
        Ok(Some(piece).filter(|piece| !piece.is_empty()))
    }

    /// Reads on: leaves of the wanted kinds, perhaps none.
    async fn read(&mut self) -> Result<Vec<DecisionRow>, NotExported> {
        let count = (self.range.end - self.at).min(STEP_LEAVES.into());
        let mut rows = self.log.leaves(self.at, u32::try_from(count).unwrap_or(STEP_LEAVES)).await?;
        let whole = (self.at..).zip(&rows).all(|(seq, row)| row.seq == seq) && rows.len() as u64 == count;
        if !whole {
            let missing = (self.at..).zip(&rows).find(|(seq, row)| row.seq != *seq).map(|(seq, _)| seq);
            return Err(NotExported::Missing(missing.unwrap_or(self.at + rows.len() as u64)));
        }
        self.at += count;
        if !self.kinds.is_empty() {
            rows.retain(|row| row::kind(&row.line).is_some_and(|kind| self.kinds.contains(&kind)));
        }
        self.rows += rows.len() as u64;
        self.altered += rows.iter().filter(|row| leaf_hash(row.line.as_bytes()) != row.leaf_hash).count() as u64;
        Ok(rows)
    }

    fn write(&mut self, rows: &[DecisionRow]) -> Result<Vec<u8>, NotExported> {
        Ok(match &mut self.writer {
            None => Vec::new(),
            Some(Writer::Jsonl) => {
                let mut piece = Vec::with_capacity(rows.iter().map(|row| row.line.len() + 1).sum());
                for row in rows {
                    piece.extend_from_slice(row.line.as_bytes());
                    piece.push(b'\n');
                }
                piece
            }
            Some(Writer::Csv { begun }) => {
                let heading = !std::mem::replace(begun, true);
                csv::write(&rows.iter().map(Row::of).collect::<Vec<_>>(), heading)?
            }
            Some(Writer::Parquet(table)) => table.rows(rows.iter().map(Row::of).collect())?,
        })
    }

    /// What stands at the end of the file, once.
    fn close(&mut self) -> Result<Vec<u8>, NotExported> {
        Ok(match self.writer.take() {
            None | Some(Writer::Jsonl | Writer::Csv { begun: true }) => Vec::new(),
            Some(Writer::Csv { begun: false }) => csv::write(&[], true)?,
            Some(Writer::Parquet(table)) => table.close()?,
        })
    }
}
