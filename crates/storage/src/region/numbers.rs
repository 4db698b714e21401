//! The gateway's count of its leaves in one log: every number from 1 on is used once, so that a missing
//! one shows that a leaf is missing. A batch that was not committed gives its numbers back.

use std::sync::{Mutex, PoisonError};

/// The numbers that may be used.
#[derive(Debug)]
pub(super) struct Numbers(Mutex<Free>);

#[derive(Debug)]
struct Free {
    /// The lowest number that was never taken.
    next: u64,
    /// Numbers that were given back.
    returned: Vec<u64>,
}

impl Numbers {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Free { next: 1, returned: Vec::new() }))
    }

    /// Takes so many numbers.
    pub(super) fn take(&self, count: usize) -> Vec<u64> {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let reused = free.returned.len().min(count);
        let at = free.returned.len() - reused;
        let mut taken = free.returned.split_off(at);
        let fresh = (count - reused) as u64;
        taken.extend(free.next..free.next + fresh);
        free.next += fresh;
        taken
    }

    /// Gives numbers back that are in no log.
    pub(super) fn give_back(&self, unused: Vec<u64>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).returned.extend(unused);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_used_once() {
        let numbers = Numbers::new();
        assert_eq!(numbers.take(2), [1, 2]);
        let lost = numbers.take(2);
        numbers.give_back(lost);
        let mut next = numbers.take(3);
        next.sort_unstable();
        assert_eq!(next, [3, 4, 5]);
    }
}
