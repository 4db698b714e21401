//! The name of a backup: when it was begun, and a few letters by chance.

use std::fmt;
use std::str::FromStr;

use time::OffsetDateTime;
use time::macros::format_description;

/// Names one backup of one database, e.g. `20261125T012345Z-3fa9c1d0`. Sorts by time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupId(String);

impl BackupId {
    /// A new name for a backup that begins at `at`.
    #[must_use]
    pub fn new(at: OffsetDateTime) -> Self {
        let at = at.to_offset(time::UtcOffset::UTC);
        let format = format_description!("[year][month][day]T[hour][minute][second]Z");
        let at = at.format(format).unwrap_or_else(|_| "00000000T000000Z".into());
        Self(format!("{at}-{:08x}", rand::random::<u32>()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// When it was begun, by its name.
    #[must_use]
    pub fn taken_at(&self) -> Option<OffsetDateTime> {
        let format = format_description!("[year][month][day]T[hour][minute][second]Z");
        let at = self.0.split_once('-')?.0;
        time::PrimitiveDateTime::parse(at, format).ok().map(time::PrimitiveDateTime::assume_utc)
    }

    /// The name as a part of a database's name.
    pub(crate) fn in_database_name(&self) -> String {
        self.0.to_ascii_lowercase().replace('-', "_")
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is not the name of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a backup is named like 20261125T012345Z-3fa9c1d0")]
pub struct NotAnId;

impl FromStr for BackupId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let (at, chance) = text.split_once('-').ok_or(NotAnId)?;
        let (day, clock) = at.strip_suffix('Z').and_then(|at| at.split_once('T')).ok_or(NotAnId)?;
        let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
        let hex = chance.len() == 8 && chance.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        (digits(day, 8) && digits(clock, 6) && hex).then(|| Self(text.to_owned())).ok_or(NotAnId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written_and_nothing_else_is_one() {
        let id = BackupId::new(OffsetDateTime::UNIX_EPOCH);
        assert!(id.as_str().starts_with("19700101T000000Z-"), "{id}");
        assert_eq!(id.as_str().parse(), Ok(id));
        for bad in ["", "x", "20261125T012345Z", "20261125T012345Z-3FA9C1D0", "../../etc/passwd", "20261125T012345Z-"] {
            assert_eq!(bad.parse::<BackupId>(), Err(NotAnId), "{bad}");
        }
    }
}
