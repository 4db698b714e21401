//! What was proven last, in one small file: for the metrics of a process that serves, and so for the alerts.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use metrics::gauge;
use serde::{Deserialize, Serialize};

/// How often the file's lock is tried, which is held for a few milliseconds.
const TRIES_MAX: u32 = 1_000;
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(10);

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
    /// When the file cannot be read; [`io::ErrorKind::InvalidData`] when it is damaged.
    pub fn read(state: &Path) -> io::Result<Self> {
        match fs::read(file(state)) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| {
                let what = format!("{} is damaged: {error}", file(state).display());
                io::Error::new(io::ErrorKind::InvalidData, what)
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Changes those of a state folder, one after the other; afterwards the file is the old or the new. One that is damaged
    /// is put aside, and begun anew: what was in it comes back with the next backups and drills. Then the sentence that
    /// says so is given.
    ///
    /// # Errors
    /// When the file cannot be read or written, or somebody else does not come to an end with it.
    pub fn change(state: &Path, change: impl FnOnce(&mut Self)) -> io::Result<Option<String>> {
        fs::create_dir_all(state)?;
        let _turn = Turn::take(state)?;
        let (mut proofs, damage) = match Self::read(state) {
            Ok(proofs) => (proofs, None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let aside = state.join("proofs.json.damaged");
                fs::rename(file(state), &aside)?;
                (Self::default(), Some(format!("{error}; it is begun anew, and {} is the old one", aside.display())))
            }
            Err(error) => return Err(error),
        };
        change(&mut proofs);
        let text = serde_json::to_vec_pretty(&proofs).map_err(io::Error::other)?;
        let beside = state.join(format!(".proofs.json.{}.part", std::process::id()));
        let mut part = File::create(&beside)?;
        part.write_all(&text)?;
        part.sync_all()?;
        fs::rename(beside, file(state))?;
        File::open(state)?.sync_all()?;
        Ok(damage)
    }

    /// Notes what a catalogue shows of a database. What never was has the time 0: an alert sees only what has a time.
    pub fn note_backups(&mut self, database: &str, taken_s: Option<i64>, verified_s: Option<i64>) {
        for (times, at_s) in [(&mut self.taken, taken_s), (&mut self.verified, verified_s)] {
            let noted = times.entry(database.to_owned()).or_default();
            *noted = at_s.unwrap_or(*noted);
        }
    }

    /// Notes that a drill is to be done, and when it last passed, if it ever did: a later time that is known stays.
    pub fn note_drill_due(&mut self, database: &str, kind: &str, passed_s: Option<i64>) {
        let noted = self.drills.entry(database.to_owned()).or_default().entry(kind.to_owned()).or_default();
        *noted = passed_s.unwrap_or(0).max(*noted);
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

/// The turn of whoever changes the file.
struct Turn(File);

impl Turn {
    fn take(state: &Path) -> io::Result<Self> {
        let path = state.join("proofs.lock");
        // One that another user made can be locked all the same.
        let made = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let lock = made.or_else(|_| File::open(&path))?;
        for _ in 0..TRIES_MAX {
            match lock.try_lock() {
                Ok(()) => return Ok(Self(lock)),
                Err(TryLockError::WouldBlock) => sleep(TRY_AGAIN_AFTER),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "somebody else does not come to an end with proofs.lock"))
    }
}

impl Drop for Turn {
    /// By name: a child that is being started has a copy of the descriptor for a moment.
    fn drop(&mut self) {
        let _ = self.0.unlock();
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

    #[test]
    fn what_was_tried_and_never_succeeded_has_a_time_for_an_alert_to_see() {
        let mut proofs = Proofs::default();
        proofs.note_backups("eu-central", Some(5), None);
        proofs.note_drill_due("eu-central", "restore", None);
        assert_eq!((proofs.taken["eu-central"], proofs.verified["eu-central"]), (5, 0));
        assert_eq!(proofs.drills["eu-central"]["restore"], 0);
        proofs.note_drill("eu-central", "restore", 7);
        proofs.note_drill_due("eu-central", "restore", Some(6));
        proofs.note_backups("eu-central", None, None);
        assert_eq!(
            (proofs.taken["eu-central"], proofs.drills["eu-central"]["restore"]),
            (5, 7),
            "and keeps a better one"
        );
    }

    #[test]
    fn many_change_it_at_once_and_each_is_in_it() {
        let state = tempfile::tempdir().expect("a folder");
        std::thread::scope(|scope| {
            for number in 0..16 {
                let state = state.path();
                scope.spawn(move || {
                    Proofs::change(state, |proofs| proofs.note_drill(&number.to_string(), "restore", 7))
                        .expect("written");
                });
            }
        });
        assert_eq!(Proofs::read(state.path()).expect("there").drills.len(), 16);
    }

    #[test]
    fn a_damaged_one_is_put_aside_and_begun_anew_and_that_is_said() {
        let state = tempfile::tempdir().expect("a folder");
        fs::write(file(state.path()), "{\"taken\": {").expect("written");
        assert!(Proofs::read(state.path()).is_err(), "whoever shows it shows nothing wrong");
        let note = |proofs: &mut Proofs| proofs.note_drill("eu-central", "restore", 7);
        let said = Proofs::change(state.path(), note).expect("written").expect("it is said");
        assert!(said.contains("proofs.json is damaged") && said.contains("proofs.json.damaged"), "{said}");
        assert_eq!(Proofs::change(state.path(), note).expect("written"), None);
        assert_eq!(Proofs::read(state.path()).expect("there").drills.len(), 1);
    }
}
