//! The two sets of migrations and the files in them, embedded at build time by `build.rs`.

use std::fmt;

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType};

use super::header::{self, Phase};
use super::locks::Locks;

include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

/// A set of migrations: what a database is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Set {
    /// The directory of pins and the API keys.
    Directory,
    /// One region's records and its log.
    Region,
}

impl Set {
    /// Its files, by number.
    pub(super) fn files(self) -> &'static [Embedded] {
        match self {
            Self::Directory => DIRECTORY,
            Self::Region => REGION,
        }
    }

    /// How far this program's schema goes: the number of its newest file. It may use a database whose floor is
    /// not above that.
    #[must_use]
    pub fn level(self) -> i64 {
        self.files().last().map_or(0, |file| file.version)
    }

    /// Where a database remembers which files it has seen. One name for each set, so that a small
    /// deployment may keep both in one database.
    pub(super) fn table(self) -> &'static str {
        match self {
            Self::Directory => "domicile.directory_migrations",
            Self::Region => "domicile.region_migrations",
        }
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Directory => "directory",
            Self::Region => "region",
        })
    }
}

/// One file of a set.
#[derive(Debug)]
pub(super) struct Embedded {
    pub(super) version: i64,
    pub(super) description: &'static str,
    pub(super) sql: &'static str,
}

impl Embedded {
    /// Whether the file only adds, so that the version before it runs on unharmed beside it.
    pub(super) fn expand_only(&self) -> bool {
        header::read(self.sql).is_ok_and(|header| header.phase == Phase::Expand)
    }

    /// The level of the oldest program that can use the schema after this file; 0 where every one can.
    pub(super) fn floor(&self) -> i64 {
        header::read(self.sql).map_or(0, |header| header.floor)
    }

    /// The form in which the driver applies it.
    pub(super) fn migration(&self) -> Migration {
        let no_tx = header::without_transaction(self.sql);
        Migration::new(self.version, self.description.into(), MigrationType::Simple, self.sql.into_sql_str(), no_tx)
    }
}

/// How one migration stands in one database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationState {
    /// Its number.
    pub version: i64,
    /// Its name.
    pub description: String,
    /// Whether the database has it.
    pub applied: bool,
    /// Whether it only adds. A file that also takes away is applied only when asked for, after every
    /// older gateway has gone. `false` for a file that this program does not know.
    pub expand_only: bool,
    /// Whether this program knows it; one that it does not was applied by a newer program.
    pub known: bool,
    /// What its author vouches for, where a statement looks worse than it is.
    pub assured: Vec<String>,
    /// The tables it locks, as far as its text tells.
    pub locks: Locks,
}
