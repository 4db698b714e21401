//! Lists that come with a pack for whoever reads it first: they must say what the entries say.

use sha2::{Digest as _, Sha256};
use tlog::Hash;

use super::report::{Check, Finding, Notebook};
use super::source::{Source, Unread};
use crate::pack::lists::{DENIALS, TRANSFERS, denial, transfer};

/// What a stretch of entries says for the lists.
#[derive(Default)]
pub(super) struct Lines {
    denials: String,
    transfers: String,
}

impl Lines {
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
}

/// A list as the entries have it: hashed, so that one of any length takes no room.
#[derive(Default)]
struct Drawn {
    digest: Sha256,
    bytes: u64,
    lines: u64,
}

impl Drawn {
    fn append(&mut self, text: &str) {
        self.digest.update(text);
        self.bytes += text.len() as u64;
        self.lines += text.lines().count() as u64;
    }
}

/// What the lists must say, as far as entries have been read.
#[derive(Default)]
pub(super) struct Lists {
    denials: Drawn,
    transfers: Drawn,
}

impl Lists {
    /// Takes over what the next entries say.
    pub(super) fn append(&mut self, next: &Lines) {
        self.denials.append(&next.denials);
        self.transfers.append(&next.transfers);
    }

    /// Compares them with what the source has.
    pub(super) fn compare(self, source: &dyn Source, notebook: &mut Notebook) -> Result<(), Unread> {
        for (name, Drawn { digest, bytes, lines }) in [(DENIALS, self.denials), (TRANSFERS, self.transfers)] {
            match source.list(name, bytes) {
                Ok(None) => {}
                Ok(Some(hash)) if hash == <Hash>::from(digest.finalize()) => notebook.listed(lines),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_the_same_however_the_entries_were_divided() {
        let drawn = |parts: &[&str]| {
            let mut drawn = Drawn::default();
            parts.iter().for_each(|part| drawn.append(part));
            (<Hash>::from(drawn.digest.finalize()), drawn.bytes, drawn.lines)
        };
        let whole = drawn(&["{\"seq\":1}\n{\"seq\":2}\n"]);
        assert_eq!(whole, drawn(&["{\"seq\":1}\n", "", "{\"seq\":2}\n"]));
        assert_eq!((whole.1, whole.2), (20, 2));
    }
}
