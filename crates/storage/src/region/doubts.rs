//! Pages whose commit was cut off, until it is known what became of them.
//!
//! A number that such a page took would be missing in the gateway's count if it were given up, and there twice if it were
//! used again; so would be a leaf that nobody waits for and that must be written all the same. Either would look like a
//! violation. So they are kept here, and whoever has a connection next looks into the log for them.

use std::sync::{Mutex, PoisonError};

use super::entry::Entry;
use super::head::Place;

/// So many at most: each is a connection that broke during a commit, and all are looked for as soon as there is one again.
const DOUBTS_MAX: usize = 64;

/// A page that is in the log or not.
#[derive(Debug)]
pub(super) struct Doubt {
    pub(super) place: Place,
    /// The numbers that its leaves took.
    pub(super) numbers: Vec<u64>,
    /// Leaves in it that are to be written if it is not there.
    pub(super) kept: Vec<Entry>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Doubts(Mutex<Vec<Doubt>>);

impl Doubts {
    /// One more. Leaves that are to be written after all, since there is no room to wait for what is known of the oldest.
    pub(super) fn add(&self, doubt: Doubt) -> Vec<Entry> {
        let mut doubts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = (doubts.len() >= DOUBTS_MAX).then(|| doubts.remove(0));
        doubts.push(doubt);
        oldest.map(|oldest| oldest.kept).unwrap_or_default()
    }

    pub(super) fn take(&self) -> Option<Doubt> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

/// What an attempt at a page has taken, and by what it would be found in the log. It outlives a panic in the attempt.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    pub(super) numbers: Vec<u64>,
    /// Where it would be, once it may have been sent.
    pub(super) place: Option<Place>,
}
