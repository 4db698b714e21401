//! The write-ahead journal of one operation: a line before each step, a line after it, each on the disk before the
//! next thing is done. After a crash, `resume` and `abort` read what was under way.

use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::disk::{append, write_whole};
use super::plan::Kind;
use super::release::{Abilities, ReleaseId, Serving};
use super::state::Store;
use super::step::Step;
use crate::exit::Trouble;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum Entry {
    /// The operation begins: everything that its steps need to know.
    Began(Box<Begun>),
    /// A step begins.
    Begin {
        /// Which.
        step: Step,
    },
    /// A step is done.
    Done {
        /// Which.
        step: Step,
    },
    /// It is given up: from here on everything is put back.
    Turned {
        /// Why.
        why: String,
    },
    /// It has ended, with this outcome.
    Ended {
        /// `committed`, `undone` or `aborted`.
        outcome: String,
    },
}

/// What an operation is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Begun {
    /// Its name: the time it began and the release.
    pub op: String,
    /// A deployment or a rollback.
    pub kind: Kind,
    /// The release that is to serve.
    pub release: ReleaseId,
    /// The image of that release, as it was named.
    pub reference: String,
    /// Its identity.
    pub image_id: String,
    /// The tag that keeps it.
    pub tag: String,
    /// What its program can do.
    pub abilities: Abilities,
    /// What serves before it.
    pub from: Option<Serving>,
    /// What was kept warm from earlier.
    pub warm: Option<Serving>,
    /// How many instances.
    pub instances: u32,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// How it is to be done.
    pub settings: super::plan::Settings,
    /// When it began, RFC 3339.
    pub at: String,
    /// Who began it.
    pub by: String,
}

/// The journal of one operation.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
}

/// An operation as its journal tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// What it is about.
    pub begun: Begun,
    /// The steps that are done.
    pub done: Vec<Step>,
    /// The step under way, if one was.
    pub under_way: Option<Step>,
    /// Why it was given up, if it was.
    pub turned: Option<String>,
    /// How it ended, if it has.
    pub ended: Option<String>,
}

impl Told {
    /// Whether it has begun to be written down that the new release serves: from here on it is only finished.
    #[must_use]
    pub fn is_written_down(&self) -> bool {
        self.turned.is_none() && (self.done.iter().chain(&self.under_way)).any(|step| step.is_written_down())
    }
}

impl Journal {
    /// Begins the journal of an operation. It is there with its first line or not at all: whoever only looks holds no lock.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin(store: &Store, begun: &Begun) -> Result<Self, Trouble> {
        let journal = Self::of(store, &begun.op);
        let line = serde_json::to_string(&Entry::Began(Box::new(begun.clone())))?;
        let written = write_whole(&journal.path, format!("{line}\n").as_bytes());
        written.map_err(|error| Trouble::from(error).while_doing("beginning the journal"))?;
        Ok(journal)
    }

    /// The journal of an operation that began earlier.
    #[must_use]
    pub fn of(store: &Store, op: &str) -> Self {
        Self { path: store.root().join("journal").join(format!("{op}.jsonl")) }
    }

    /// Writes a line and waits until it is on the disk.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, entry: &Entry) -> Result<(), Trouble> {
        append(&self.path, &serde_json::to_string(entry)?).map_err(|trouble| trouble.while_doing("writing the journal"))
    }

    /// Reads it. `None` when it is not there, or not even its first line is whole: then nothing had begun.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(&self) -> Result<Option<Told>, Trouble> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // The last line may have been torn by the crash; then what it says had not begun.
        let mut entries = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        let Some(Entry::Began(begun)) = entries.next() else { return Ok(None) };
        let mut told = Told { begun: *begun, done: Vec::new(), under_way: None, turned: None, ended: None };
        for entry in entries {
            match entry {
                Entry::Began(_) => return Err(Trouble::new(format!("{} begins twice", self.path.display()))),
                Entry::Begin { step } => told.under_way = Some(step),
                Entry::Done { step } => {
                    told.under_way = None;
                    told.done.push(step);
                }
                Entry::Turned { why } => told.turned = Some(why),
                Entry::Ended { outcome } => told.ended = Some(outcome),
            }
        }
        Ok(Some(told))
    }
}

/// The operation that has not ended, if there is one. Changes nothing.
///
/// # Errors
/// When a journal cannot be read.
pub fn unfinished(store: &Store) -> Result<Option<Told>, Trouble> {
    for op in store.journals()?.into_iter().rev() {
        if let Some(told) = Journal::of(store, &op).read()?.filter(|told| told.ended.is_none()) {
            return Ok(Some(told));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::super::plan::Settings;
    use super::*;

    fn begun() -> Begun {
        Begun {
            op: "20260101T000000Z-deploy-rel-1".into(),
            kind: Kind::Deploy,
            release: ReleaseId(1),
            reference: "myapp:prod".into(),
            image_id: "sha256:aa".into(),
            tag: "myapp:rel-1-aa".into(),
            abilities: Abilities::default(),
            from: None,
            warm: None,
            instances: 1,
            steps: Step::DEPLOY.to_vec(),
            settings: Settings::default(),
            at: "2026-01-01T00:00:00Z".into(),
            by: "anna".into(),
        }
    }

    #[test]
    fn a_journal_begins_whole_and_whoever_only_looks_removes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path()).expect("a store");
        // What an older deployer left that died while it wrote its first line.
        let torn = store.root().join("journal/20251231T000000Z-deploy-rel-1.jsonl");
        fs::write(&torn, "{\"entry\":\"beg").expect("written");
        assert_eq!(unfinished(&store).expect("readable"), None);
        assert!(torn.exists(), "whoever looks holds no lock");
        let journal = Journal::begin(&store, &begun()).expect("written");
        journal.write(&Entry::Begin { step: Step::Pin }).expect("written");
        let told = unfinished(&store).expect("readable").expect("one has not ended");
        assert_eq!((told.begun, told.under_way), (begun(), Some(Step::Pin)));
        assert_eq!(Journal::of(&store, "gone").read().expect("no trouble"), None);
    }
}
