//! What a thread remembers of the leaves that it has read in full, so that it need not read their likes in full again.

use std::sync::Arc;

use leaf::Mould;

/// Moulds that a thread keeps.
const MOULDS_MAX: usize = 48;

/// What is known of every leaf that fits a mould.
pub(super) struct Known {
    pub(super) mould: Mould,
    pub(super) gateway: Arc<str>,
    /// Whether the decision was taken again, with the same result.
    pub(super) replayed: bool,
}

/// The moulds, those that were of use last first.
#[derive(Default)]
pub(super) struct Moulds(Vec<Known>);

impl Moulds {
    /// What a line has in the gaps of a mould, and what is known of its like.
    pub(super) fn cast(&mut self, line: &[u8]) -> Option<(leaf::Cast, &Known)> {
        let (at, cast) = self.0.iter().enumerate().find_map(|(at, known)| Some((at, known.mould.cast(line)?)))?;
        // What is of use moves forward, one place at a time.
        let at = if at > 0 {
            self.0.swap(at, at - 1);
            at - 1
        } else {
            0
        };
        self.0.get(at).map(|known| (cast, known))
    }

    pub(super) fn keep(&mut self, known: Known) {
        self.0.truncate(MOULDS_MAX - 1);
        self.0.push(known);
    }
}
