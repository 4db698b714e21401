//! Pins in memory: bounded by their number, small, and only such that are served.

use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use arc_swap::ArcSwap;
use quick_cache::UnitWeighter;
use quick_cache::sync::{Cache as Bounded, DefaultLifecycle};
use residency::{Epoch, Pin, PinState, Region};

use crate::digest::SubjectDigest;

/// Room for so many pins is made at once; more is made as it is needed.
const PINS_AT_FIRST: usize = 1_024;
/// A pin with an epoch beyond these bits is not remembered: nobody moves that often.
const EPOCH_BITS: u32 = 48;

/// Remembers active pins, each in some 60 bytes (the bench `memory` tells).
#[derive(Debug)]
pub(super) struct Cache {
    pins: Bounded<Name, Remembered, UnitWeighter, ByDigest>,
    regions: Regions,
    /// Grows with every `forget`.
    forgotten: AtomicU64,
}

/// The beginning of a digest. Under a secret key it is as good as random, and 96 random bits name a subject: that any two of
/// ten million begin alike has a chance of one in 10^15, and then the region would still know better. Four bytes more would
/// cost eight, where pins are kept.
type Name = [u8; NAME_BYTES];
const NAME_BYTES: usize = 12;

/// An active pin: its region's number in the upper 16 bits, its epoch in the lower 48.
#[derive(Debug, Clone, Copy)]
struct Remembered(u64);

impl Remembered {
    fn new(region: u16, epoch: u64) -> Option<Self> {
        (epoch >> EPOCH_BITS == 0).then_some(Self(u64::from(region) << EPOCH_BITS | epoch))
    }

    fn region(self) -> u16 {
        u16::try_from(self.0 >> EPOCH_BITS).unwrap_or(u16::MAX)
    }

    fn epoch(self) -> Epoch {
        Epoch(self.0 & ((1 << EPOCH_BITS) - 1))
    }
}

/// Taken before the directory is asked: shows whether anything was forgotten meanwhile.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket(u64);

impl Cache {
    pub(super) fn new(pins_max: u64) -> Self {
        let at_first = usize::try_from(pins_max).unwrap_or(usize::MAX).min(PINS_AT_FIRST);
        let pins = Bounded::with(at_first, pins_max, UnitWeighter, ByDigest, DefaultLifecycle::default());
        Self { pins, regions: Regions::default(), forgotten: AtomicU64::new(0) }
    }

    pub(super) fn get(&self, digest: &SubjectDigest) -> Option<Pin> {
        let remembered = self.pins.get(&name(digest))?;
        let region = self.regions.name(remembered.region())?;
        Some(Pin { region, epoch: remembered.epoch(), state: PinState::Active })
    }

    pub(super) fn ticket(&self) -> Ticket {
        Ticket(self.forgotten.load(Ordering::SeqCst))
    }

    /// Remembers an answer of the directory if the pin is active. An answer that was on its way while
    /// somebody forgot a pin may be the very one that was forgotten, so it is not kept.
    pub(super) fn put(&self, digest: &SubjectDigest, pin: &Pin, ticket: Ticket) {
        if pin.state != PinState::Active {
            return;
        }
        let Some(region) = self.regions.number(&pin.region) else { return };
        let Some(remembered) = Remembered::new(region, pin.epoch.0) else { return };
        self.pins.insert(name(digest), remembered);
        // Counted before it is removed in `forget`, and looked at after inserting here: one of the two removes it.
        if self.ticket().0 != ticket.0 {
            self.pins.remove(&name(digest));
        }
    }

    pub(super) fn forget(&self, digest: &SubjectDigest) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
        self.pins.remove(&name(digest));
    }

    pub(super) fn len(&self) -> u64 {
        self.pins.len() as u64
    }
}

fn name(digest: &SubjectDigest) -> Name {
    let mut name = [0; NAME_BYTES];
    name.copy_from_slice(&digest.bytes[..NAME_BYTES]);
    name
}

/// The regions that were ever seen, by number.
#[derive(Debug, Default)]
struct Regions {
    names: ArcSwap<Vec<Region>>,
    growing: Mutex<()>,
}

impl Regions {
    fn name(&self, number: u16) -> Option<Region> {
        self.names.load().get(usize::from(number)).cloned()
    }

    /// The number of a region; `None` when 65,536 others have one already.
    fn number(&self, region: &Region) -> Option<u16> {
        let position = |names: &[Region]| names.iter().position(|name| name == region);
        if let Some(known) = position(&self.names.load()) {
            return u16::try_from(known).ok();
        }
        let _growing = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names = self.names.load().as_ref().clone();
        if let Some(known) = position(&names) {
            return u16::try_from(known).ok();
        }
        let number = u16::try_from(names.len()).ok()?;
        names.push(region.clone());
        self.names.store(names.into());
        Some(number)
    }
}

/// A digest under a secret key is as good as random to anybody outside: its first bytes are its hash.
#[derive(Debug, Clone, Copy, Default)]
struct ByDigest;

impl BuildHasher for ByDigest {
    type Hasher = FirstBytes;

    fn build_hasher(&self) -> FirstBytes {
        FirstBytes(0)
    }
}

#[derive(Debug)]
struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn write(&mut self, bytes: &[u8]) {
        // An array's hash also writes its length, which says nothing.
        if let Some(first) = bytes.first_chunk::<8>().filter(|_| bytes.len() == size_of::<Name>()) {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn digest(n: u64) -> SubjectDigest {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        SubjectDigest { key_id: 1, bytes }
    }

    fn pin(region: &str, state: PinState) -> Pin {
        Pin { region: Region::new(region).unwrap(), epoch: Epoch(3), state }
    }

    #[test]
    fn it_remembers_active_pins_and_no_others() {
        let cache = Cache::new(10);
        for (n, state) in [(1, PinState::Active), (2, PinState::Moving), (3, PinState::Erased)] {
            cache.put(&digest(n), &pin("eu-central", state), cache.ticket());
        }
        assert_eq!(cache.get(&digest(1)), Some(pin("eu-central", PinState::Active)));
        assert_eq!(cache.get(&digest(2)), None);
        assert_eq!(cache.get(&digest(3)), None);
    }

    #[test]
    fn it_never_holds_more_pins_than_it_may() {
        let cache = Cache::new(100);
        for n in 0..10_000 {
            cache.put(&digest(n), &pin("eu-central", PinState::Active), cache.ticket());
        }
        assert!((1..=100).contains(&cache.len()), "{}", cache.len());
    }

    #[test]
    fn an_answer_that_was_on_its_way_while_its_pin_was_forgotten_is_not_kept() {
        let cache = Cache::new(10);
        let ticket = cache.ticket();
        cache.forget(&digest(1));
        cache.put(&digest(1), &pin("eu-central", PinState::Active), ticket);
        assert_eq!(cache.get(&digest(1)), None);
    }

    #[test]
    fn two_digests_that_begin_alike_are_two() {
        let cache = Cache::new(10);
        let mut other = digest(1);
        other.bytes[NAME_BYTES - 1] = 1;
        cache.put(&digest(1), &pin("eu-central", PinState::Active), cache.ticket());
        cache.put(&other, &pin("us-east", PinState::Active), cache.ticket());
        assert_eq!(cache.get(&digest(1)).unwrap().region.as_str(), "eu-central");
        assert_eq!(cache.get(&other).unwrap().region.as_str(), "us-east");
    }

    #[test]
    fn the_hash_of_a_digest_is_its_beginning() {
        assert_eq!(ByDigest.hash_one(name(&digest(1))), 0x9e37_79b9_7f4a_7c15);
    }
}
