//! What the deployer remembers: `.domicile/<project>/`. Every file is either whole or not there.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::attendants::InForce;
use super::disk::{append, mend_end, torn_end, write_whole};
use super::plan::Kind;
use super::release::{Release, ReleaseId, Serving};
use crate::exit::Trouble;

/// `state.json`: what serves, by what the deployer last proved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Grows by one with every change.
    pub sequence: u64,
    /// SHA-256 of the state before this one: who restores an old file by hand is noticed.
    pub previous_sha256: Option<String>,
    /// What serves.
    pub serving: Option<Serving>,
    /// What served before and still runs, out of the edge, for an instant rollback.
    pub warm: Option<Serving>,
    /// Which runtime made the containers, e.g. `compose v1`: mixing them would recreate containers.
    pub runtime: Option<String>,
    /// The settings with which the services run that no release replaces, as far as is known.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, InForce>,
}

/// One line of `audit.jsonl`: a deed that ended. Each line names the hash of the one before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deed {
    /// When it ended, RFC 3339.
    pub at: String,
    /// The operation's name.
    pub op: String,
    /// `deploy` or `rollback`; `contract` for migrations that take something away.
    pub kind: String,
    /// Which release was to serve; of a `contract`, whose program did it.
    pub release: ReleaseId,
    /// Which one served before.
    pub from: Option<ReleaseId>,
    /// `committed`, `undone` or `aborted`; of a `contract` `applied` or `failed`.
    pub outcome: String,
    /// Who did it, as the system knows them.
    pub by: String,
    /// Why, if it did not succeed.
    pub why: Option<String>,
    /// SHA-256 of the line before; empty for the first.
    pub previous: String,
}

/// What served when a release was deployed, what served when that one was, and so on. Each is below the one before it.
pub(super) fn ancestors(history: &[Deed], release: ReleaseId) -> impl Iterator<Item = ReleaseId> {
    let before = |release: &ReleaseId| {
        let deployed =
            |deed: &&Deed| deed.release == *release && deed.kind == Kind::Deploy.name() && deed.outcome == "committed";
        let from = history.iter().rev().find(deployed).and_then(|deed| deed.from);
        from.filter(|from| from < release)
    };
    std::iter::successors(before(&release), before)
}

/// The folder.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens the folder of a project; makes it when it is new.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, Trouble> {
        let root = root.into();
        for folder in ["", "releases", "journal", "edge", "drills"] {
            let path = root.join(folder);
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
            made.map_err(|e| Trouble::new(format!("{} cannot be made: {e}", path.display())))?;
        }
        // The edge has a user of its own; the folder above keeps everybody else out.
        fs::set_permissions(root.join("edge"), fs::Permissions::from_mode(0o777))?;
        Ok(Self { root })
    }

    /// Where it lies.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The state; the empty one before the first deployment.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn state(&self) -> Result<State, Trouble> {
        Ok(self.read("state.json")?.unwrap_or_default())
    }

    /// Replaces the state: sequence and hash of the previous one are filled in here.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn replace_state(&self, next: State) -> Result<State, Trouble> {
        let path = self.root.join("state.json");
        let before = match fs::read(&path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let sequence = match &before {
            Some(bytes) => serde_json::from_slice::<State>(bytes)?.sequence + 1,
            None => 1,
        };
        let previous_sha256 = before.map(|bytes| hex::encode(Sha256::digest(bytes)));
        let state = State { sequence, previous_sha256, ..next };
        write_whole(&path, &serde_json::to_vec_pretty(&state)?)?;
        Ok(state)
    }

    /// All releases that were pinned, by number.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn releases(&self) -> Result<Vec<Release>, Trouble> {
        let mut releases: Vec<Release> = Vec::new();
        for name in self.names("releases", ".json")? {
            releases.extend(self.read(&format!("releases/{name}.json"))?);
        }
        releases.sort_by_key(|release| release.release);
        Ok(releases)
    }

    /// One release.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn release(&self, id: ReleaseId) -> Result<Option<Release>, Trouble> {
        self.read(&format!("releases/{id}.json"))
    }

    /// Writes a release down. It never changes afterwards: doing the same again is fine, anything else is refused.
    ///
    /// # Errors
    /// When another release has the name, or it cannot be written.
    pub fn keep_release(&self, release: &Release) -> Result<(), Trouble> {
        let name = release.release;
        match self.release(name)? {
            Some(kept) if kept.image_id == release.image_id => Ok(()),
            Some(_) => Err(Trouble::new(format!("{name} is another image's name already"))),
            None => {
                let path = self.root.join(format!("releases/{name}.json"));
                Ok(write_whole(&path, &serde_json::to_vec_pretty(release)?)?)
            }
        }
    }

    /// Forgets a release whose image has gone.
    ///
    /// # Errors
    /// When its file cannot be removed.
    pub fn forget_release(&self, id: ReleaseId) -> Result<(), Trouble> {
        Ok(fs::remove_file(self.root.join(format!("releases/{id}.json")))?)
    }

    /// The next release's name: above every one that was ever given.
    ///
    /// # Errors
    /// When the counter cannot be read or written.
    pub fn next_release(&self) -> Result<ReleaseId, Trouble> {
        let counted: u64 = self.read("counter.json")?.unwrap_or_default();
        let highest = self.releases()?.last().map_or(0, |release| release.release.0);
        let next = counted.max(highest) + 1;
        write_whole(&self.root.join("counter.json"), &serde_json::to_vec(&next)?)?;
        Ok(ReleaseId(next))
    }

    /// Adds a deed to the history.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add_deed(&self, deed: Deed) -> Result<(), Trouble> {
        let path = self.root.join("audit.jsonl");
        mend_end(&path)?;
        let kept = match fs::read_to_string(&path) {
            Ok(kept) => kept,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error.into()),
        };
        // `resume` may find the deed written already.
        if self.history()?.iter().any(|earlier| earlier.op == deed.op) {
            return Ok(());
        }
        let last = kept.lines().last();
        let previous = last.map_or_else(String::new, |line| hex::encode(Sha256::digest(line)));
        let line = serde_json::to_string(&Deed { previous, ..deed })?;
        append(&path, &line)
    }

    /// Every deed that ended, oldest first. A line that was torn by a crash is left out.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn history(&self) -> Result<Vec<Deed>, Trouble> {
        let text = match fs::read_to_string(self.root.join("audit.jsonl")) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// The first line of the history that does not continue the one before it. A line that was torn by a crash or a full
    /// disk is the last one, and none: the next deed takes its place.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn broken_history(&self) -> Result<Option<usize>, Trouble> {
        let text = fs::read_to_string(self.root.join("audit.jsonl")).unwrap_or_default();
        let text = &text[..text.len() - torn_end(text.as_bytes())];
        let mut previous = String::new();
        for (number, line) in text.lines().enumerate() {
            let continues = serde_json::from_str::<Deed>(line).is_ok_and(|deed| deed.previous == previous);
            if !continues {
                return Ok(Some(number + 1));
            }
            previous = hex::encode(Sha256::digest(line));
        }
        Ok(None)
    }

    /// The journals, by name: the newest is last, since operations are named by their time.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn journals(&self) -> Result<Vec<String>, Trouble> {
        self.names("journal", ".jsonl")
    }

    fn names(&self, folder: &str, ending: &str) -> Result<Vec<String>, Trouble> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.root.join(folder))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            names.extend(name.strip_suffix(ending).filter(|name| !name.starts_with('.')).map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Trouble> {
        let path = self.root.join(name);
        match fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(value) => Ok(Some(value)),
                Err(error) => Err(Trouble::new(format!("{} is damaged: {error}", path.display()))),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Trouble::new(format!("{} cannot be read: {error}", path.display()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path().join("domicile")).expect("a store");
        (folder, store)
    }

    fn deed(op: &str) -> Deed {
        Deed {
            at: "2026-01-01T00:00:00Z".into(),
            op: op.into(),
            kind: "deploy".into(),
            release: ReleaseId(1),
            from: None,
            outcome: "committed".into(),
            by: "anna".into(),
            why: None,
            previous: String::new(),
        }
    }

    #[test]
    fn a_state_counts_and_names_the_one_before_it() {
        let (_folder, store) = store();
        assert_eq!(store.state().expect("empty").sequence, 0);
        let first = store.replace_state(State::default()).expect("written");
        let second = store.replace_state(first.clone()).expect("written");
        assert_eq!((first.sequence, second.sequence), (1, 2));
        let hash = hex::encode(Sha256::digest(serde_json::to_vec_pretty(&first).expect("JSON")));
        assert_eq!(second.previous_sha256, Some(hash));
        assert_eq!(store.state().expect("read"), second);
    }

    #[test]
    fn a_release_is_written_once() {
        let (_folder, store) = store();
        let release = |image: &str| Release {
            release: ReleaseId(1),
            image_id: image.into(),
            reference: "myapp:prod".into(),
            tag: "myapp:rel-1-x".into(),
            abilities: super::super::release::Abilities::default(),
            pinned_at: String::new(),
        };
        store.keep_release(&release("a")).expect("new");
        store.keep_release(&release("a")).expect("the same");
        assert!(store.keep_release(&release("b")).is_err());
    }

    #[test]
    fn a_release_number_is_never_given_twice() {
        let (_folder, store) = store();
        let first = store.next_release().expect("a name");
        let second = store.next_release().expect("a name");
        assert!(second > first, "a release that was undone keeps its number for ever");
    }

    #[test]
    fn a_history_shows_where_it_was_changed() {
        let (_folder, store) = store();
        for op in ["a", "b", "c", "c"] {
            store.add_deed(deed(op)).expect("added");
        }
        assert_eq!(store.history().expect("read").len(), 3, "a deed is written once");
        assert_eq!(store.broken_history().expect("read"), None);
        let path = store.root().join("audit.jsonl");
        let forged = fs::read_to_string(&path).expect("read").replacen("\"anna\"", "\"berta\"", 1);
        fs::write(&path, forged).expect("written");
        assert_eq!(store.broken_history().expect("read"), Some(2));
    }

    #[test]
    fn a_line_that_a_full_disk_tore_is_replaced_by_the_next_deed_and_alarms_nobody() {
        let (_folder, store) = store();
        store.add_deed(deed("a")).expect("added");
        store.add_deed(deed("b")).expect("added");
        let path = store.root().join("audit.jsonl");
        let whole = fs::read(&path).expect("read");
        let second = whole.iter().position(|byte| *byte == b'\n').expect("a line") + 1;
        for end in second..whole.len() {
            fs::write(&path, &whole[..end]).expect("written");
            assert_eq!(store.broken_history().expect("read"), None, "cut at {end}");
            store.add_deed(deed("b")).expect("added");
            assert_eq!(fs::read(&path).expect("read"), whole, "cut at {end}");
        }
        store.add_deed(deed("c")).expect("added");
        assert_eq!((store.history().expect("read").len(), store.broken_history().expect("read")), (3, None));
    }

    #[test]
    fn a_damaged_file_is_an_error_and_not_an_empty_state() {
        let (_folder, store) = store();
        fs::write(store.root().join("state.json"), "{").expect("written");
        assert!(store.state().is_err());
    }
}
