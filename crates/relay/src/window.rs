//! What is in flight, in log order, and how far the unbroken run of acknowledgements reaches. Pure.

use std::collections::VecDeque;

struct Slot {
    seq: u64,
    bytes: usize,
    acknowledged: bool,
}

/// The entries handed to the producer, oldest first. Acknowledged ones leave from the front only.
#[derive(Default)]
pub(crate) struct Window {
    slots: VecDeque<Slot>,
    bytes: usize,
}

impl Window {
    /// Notes an entry as in flight. Entries come in ascending order.
    pub(crate) fn push(&mut self, seq: u64, bytes: usize) {
        debug_assert!(self.slots.back().is_none_or(|last| last.seq < seq), "entries are sent in log order");
        self.slots.push_back(Slot { seq, bytes, acknowledged: false });
        self.bytes += bytes;
    }

    /// Notes an acknowledgement and lets go of the unbroken run at the front. Unknown entries are ignored.
    pub(crate) fn acknowledge(&mut self, seq: u64) {
        if let Ok(index) = self.slots.binary_search_by_key(&seq, |slot| slot.seq) {
            self.slots[index].acknowledged = true;
        }
        while self.slots.front().is_some_and(|slot| slot.acknowledged) {
            if let Some(slot) = self.slots.pop_front() {
                self.bytes -= slot.bytes;
            }
        }
    }

    /// The oldest entry that is not acknowledged: the cursor may not pass it.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.slots.front().map(|slot| slot.seq)
    }

    /// The newest entry in flight.
    pub(crate) fn newest(&self) -> Option<u64> {
        self.slots.back().map(|slot| slot.seq)
    }

    /// Whether one more entry of `bytes` may go. An empty window takes any entry, however large.
    pub(crate) fn has_room(&self, bytes: usize, rows_max: usize, bytes_max: usize) -> bool {
        self.slots.is_empty() || (self.slots.len() < rows_max && self.bytes.saturating_add(bytes) <= bytes_max)
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_cursor_never_passes_an_unacknowledged_entry(order in Just((0..200u64).collect::<Vec<_>>()).prop_shuffle(), cut in 0..200usize) {
            let mut window = Window::default();
            for seq in 0..200 {
                window.push(seq * 3, 10);
            }
            let acknowledged = &order[..cut];
            for seq in acknowledged {
                window.acknowledge(seq * 3);
            }
            let expected = (0..200u64).find(|seq| !acknowledged.contains(seq)).map(|seq| seq * 3);
            prop_assert_eq!(window.oldest(), expected);
        }
    }

    #[test]
    fn rows_and_bytes_are_bounded_but_one_large_entry_always_passes() {
        let mut window = Window::default();
        assert!(window.has_room(1_000, 2, 100));
        window.push(1, 90);
        assert!(window.has_room(10, 2, 100));
        assert!(!window.has_room(11, 2, 100));
        window.push(2, 10);
        assert!(!window.has_room(0, 2, 100));
        window.acknowledge(1);
        assert!(window.has_room(90, 2, 100));
    }
}
