//! What the program of a release tells of the places of backups: each was tried.

use serde::Deserialize;

use super::{Deployer, LOOK_MAX};
use crate::exit::{Exit, Trouble};

/// `ops backup check --json`.
#[derive(Debug, Deserialize)]
pub(super) struct Places {
    /// Each database that has one.
    pub(super) places: Vec<PlaceRow>,
    /// Served regions that have none.
    pub(super) without: Vec<String>,
}

/// One of them.
#[derive(Debug, Deserialize)]
pub(super) struct PlaceRow {
    /// Whose backups rest there.
    pub(super) region: String,
    /// Where that is, e.g. `the folder /var/lib/domicile/backups in azure/germanywestcentral`.
    pub(super) place: String,
    /// Why it cannot be used; `None`: a small object was written, read back and removed.
    #[serde(default)]
    pub(super) error: Option<String>,
    /// What would mend it.
    #[serde(default)]
    pub(super) fix: Option<String>,
}

impl PlaceRow {
    /// Whose it is, where it is, why not, and what mends it.
    fn in_words(&self) -> String {
        let (error, fix) = (self.error.as_deref().unwrap_or("it was tried"), self.fix.as_deref());
        let fix = fix.map(|fix| format!(". To mend it: {fix}")).unwrap_or_default();
        format!("{}: {}: {error}{fix}", self.region, self.place)
    }
}

impl Places {
    /// What keeps backups from being made, in a line for each database.
    pub(super) fn in_the_way(&self) -> Option<String> {
        if self.places.is_empty() {
            let tables = self.without.iter().map(|region| format!("[regions.{region}.backup]")).collect::<Vec<_>>();
            return Some(format!("no database has a place for its backups: write {}", tables.join(" and ")));
        }
        let bad: Vec<String> = self.places.iter().filter(|row| row.error.is_some()).map(PlaceRow::in_words).collect();
        (!bad.is_empty()).then(|| bad.join("\n"))
    }
}

impl Deployer<'_> {
    /// Has the program of a tag try every place of backups. `None`: it is too old to know how.
    pub(super) fn backup_places(&self, tag: &str) -> Result<Option<Places>, Trouble> {
        let ran = self.runtime.run(tag, &["ops", "backup", "check", "--json"], LOOK_MAX)?;
        match serde_json::from_str(&ran.stdout) {
            Ok(places) => Ok(Some(places)),
            Err(_) if ran.code == i32::from(Exit::Usage.code()) && ran.stderr.contains("unrecognized subcommand") => {
                Ok(None)
            }
            Err(_) => Err(Trouble::of(Exit::Unproven, format!("no backup could be taken:\n{}", ran.last_words()))),
        }
    }
}
