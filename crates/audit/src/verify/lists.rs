//! Lists that come with a pack for whoever reads it first: they must say what the entries say.

use tlog::Hash;

use super::report::{Check, Finding, Notebook};
use super::source::{Source, Unread};
use crate::pack::lists::{DENIALS, TRANSFERS, denial, transfer};

/// What the lists must say, as far as entries have been read.
#[derive(Default)]
pub(super) struct Lists {
    denials: String,
    transfers: String,
}

impl Lists {
    /// Takes an entry that is the one in the tree.
    pub(super) fn take(&mut self, seq: u64, hash: &Hash, entry: &[u8]) {
        // Most entries are in no list: two searches of a short line are cheaper than two parses.
        if contains(entry, br#""out":"deny""#) {
            self.denials.extend(denial(seq, entry).map(|line| line + "\n"));
        }
        if contains(entry, br#""xf":{"#) {
            self.transfers.extend(transfer(seq, hash, entry).map(|line| line + "\n"));
        }
    }

    /// Takes over what the next entries say.
    pub(super) fn append(&mut self, next: &Self) {
        self.denials.push_str(&next.denials);
        self.transfers.push_str(&next.transfers);
    }

    /// Compares them with what the source has.
    pub(super) fn compare(&self, source: &dyn Source, notebook: &mut Notebook) -> Result<(), Unread> {
        for (name, expected) in [(DENIALS, &self.denials), (TRANSFERS, &self.transfers)] {
            match source.list(name) {
                Ok(None) => {}
                Ok(Some(list)) if list == expected.as_bytes() => notebook.listed(expected.lines().count() as u64),
                Ok(Some(_)) => {
                    let sentence = format!("{name} does not say what the entries say");
                    notebook.find(Finding::of_log(Check::WellFormed, "list_differs", sentence));
                }
                Err(missing @ Unread::Missing(_)) => {
                    notebook.find(Finding::of_log(Check::WellFormed, "missing", missing.to_string()));
                }
                Err(unreachable @ Unread::Unreachable(_)) => return Err(unreachable),
            }
        }
        Ok(())
    }
}

fn contains(entry: &[u8], what: &[u8]) -> bool {
    memchr::memmem::find(entry, what).is_some()
}
