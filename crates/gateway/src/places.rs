//! Places for work that may take long: so many in all, and so many for one caller, so that none of them can
//! keep all the others out.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Error;

/// The places.
pub(crate) struct Places {
    all_max: usize,
    caller_max: usize,
    taken: Arc<Taken>,
}

/// How many places each caller has; who has none is not in it.
#[derive(Default)]
struct Taken(Mutex<HashMap<u128, usize>>);

impl Taken {
    fn lock(&self) -> MutexGuard<'_, HashMap<u128, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place, given back when it is dropped.
pub(crate) struct Place {
    caller: u128,
    taken: Arc<Taken>,
}

impl Places {
    pub(crate) fn new(all_max: usize, caller_max: usize) -> Self {
        Self { all_max, caller_max, taken: Arc::default() }
    }

    /// Takes a place.
    ///
    /// # Errors
    /// [`Error::RateLimited`] when the caller has all that it may, [`Error::Overloaded`] when none is left.
    pub(crate) fn take(&self, caller: u128) -> Result<Place, Error> {
        let mut taken = self.taken.lock();
        if taken.get(&caller).is_some_and(|has| *has >= self.caller_max) {
            return Err(Error::RateLimited { retry_after_s: 1 });
        }
        if taken.values().sum::<usize>() >= self.all_max {
            return Err(Error::Overloaded);
        }
        *taken.entry(caller).or_default() += 1;
        Ok(Place { caller, taken: Arc::clone(&self.taken) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Entry::Occupied(mut has) = self.taken.lock().entry(self.caller) {
            *has.get_mut() -= 1;
            if *has.get() == 0 {
                has.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_caller_can_take_all_places_and_what_is_given_back_can_be_taken_again() {
        let places = Places::new(3, 2);
        let first = places.take(1).unwrap();
        let _second = places.take(1).unwrap();
        assert!(matches!(places.take(1), Err(Error::RateLimited { .. })));
        let third = places.take(2).unwrap();
        assert!(matches!(places.take(3), Err(Error::Overloaded)));
        drop(third);
        let _other = places.take(3).unwrap();
        drop(first);
        let _again = places.take(1).unwrap();
        assert_eq!(places.taken.lock().len(), 2, "who has no place is not remembered");
    }
}
