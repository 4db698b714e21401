//! What was proven last, in one small file: for the metrics of a process that serves, and so for the alerts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use metrics::gauge;
use serde::{Deserialize, Serialize};

/// When each thing was last proven, seconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Proofs {
    /// The newest backup that is not refused, by database: when it was taken.
    pub taken: BTreeMap<String, i64>,
    /// The newest verification that went well, by database.
    pub verified: BTreeMap<String, i64>,
    /// The newest drill that passed, by database and kind.
    pub drills: BTreeMap<String, BTreeMap<String, i64>>,
}

impl Proofs {
    /// Reads those of a state folder; none when there is no file yet.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(state: &Path) -> io::Result<Self> {
        match fs::read(file(state)) {
            Ok(text) => serde_json::from_slice(&text).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Changes those of a state folder; afterwards the file is the old or the new.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn change(state: &Path, change: impl FnOnce(&mut Self)) -> io::Result<()> {
        fs::create_dir_all(state)?;
        let mut proofs = Self::read(state)?;
        change(&mut proofs);
        let beside = state.join("proofs.json.part");
        fs::write(&beside, serde_json::to_vec_pretty(&proofs).map_err(io::Error::other)?)?;
        fs::rename(beside, file(state))
    }

    /// Notes what a catalogue shows of a database.
    pub fn note_backups(&mut self, database: &str, taken_s: Option<i64>, verified_s: Option<i64>) {
        self.taken.extend(taken_s.map(|at| (database.to_owned(), at)));
        self.verified.extend(verified_s.map(|at| (database.to_owned(), at)));
    }

    /// Notes a drill that passed.
    pub fn note_drill(&mut self, database: &str, kind: &str, at_s: i64) {
        self.drills.entry(database.to_owned()).or_default().insert(kind.to_owned(), at_s);
    }

    /// Shows them as metrics.
    pub fn show(&self) {
        for (region, at) in &self.taken {
            gauge!("domicile_backup_last_taken_timestamp_seconds", "region" => region.clone()).set(*at as f64);
        }
        for (region, at) in &self.verified {
            gauge!("domicile_backup_last_verified_timestamp_seconds", "region" => region.clone()).set(*at as f64);
        }
        for (region, kinds) in &self.drills {
            for (kind, at) in kinds {
                let labels = [("region", region.clone()), ("kind", kind.clone())];
                gauge!("domicile_drill_last_success_timestamp_seconds", &labels).set(*at as f64);
            }
        }
    }
}

fn file(state: &Path) -> PathBuf {
    state.join("proofs.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_proven_is_remembered_beside_what_was_proven_before() {
        let state = tempfile::tempdir().expect("a folder");
        let state = state.path().join("ops");
        assert_eq!(Proofs::read(&state).expect("none yet"), Proofs::default());
        Proofs::change(&state, |proofs| proofs.note_backups("eu-central", Some(5), Some(6))).expect("written");
        Proofs::change(&state, |proofs| proofs.note_backups("eu-central", Some(9), None)).expect("written");
        Proofs::change(&state, |proofs| proofs.note_drill("eu-central", "restore", 7)).expect("written");
        let proofs = Proofs::read(&state).expect("there");
        assert_eq!((proofs.taken["eu-central"], proofs.verified["eu-central"]), (9, 6));
        assert_eq!(proofs.drills["eu-central"]["restore"], 7);
    }
}
