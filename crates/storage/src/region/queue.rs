//! The bounds of what a region's store may hold at one time, in deeds and in bytes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A room with so many seats.
#[derive(Debug)]
pub(super) struct Room {
    deeds: AtomicUsize,
    bytes: AtomicUsize,
    deeds_max: usize,
    bytes_max: usize,
}

impl Room {
    pub(super) fn new(deeds_max: usize, bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { deeds: AtomicUsize::new(0), bytes: AtomicUsize::new(0), deeds_max, bytes_max })
    }

    /// Takes a seat, or none when the room is full.
    pub(super) fn enter(self: &Arc<Self>, bytes: usize) -> Option<Seat> {
        // The seat exists before the bounds are looked at, so that giving it up is one and the same path.
        let deeds = self.deeds.fetch_add(1, Ordering::Relaxed) + 1;
        let held = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let seat = Seat { room: Arc::clone(self), bytes };
        (deeds <= self.deeds_max && held <= self.bytes_max).then_some(seat)
    }

    /// How many seats are taken.
    pub(super) fn deeds(&self) -> usize {
        self.deeds.load(Ordering::Relaxed)
    }
}

/// A seat in the room, given back when it is dropped: when the deed has been answered.
#[derive(Debug)]
pub(super) struct Seat {
    room: Arc<Room>,
    pub(super) bytes: usize,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.room.deeds.fetch_sub(1, Ordering::Relaxed);
        self.room.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The leaves of reads that were answered before they were accountable: so many at most, and none of
/// them for longer than a while.
#[derive(Debug)]
pub(super) struct Buffer {
    room: Arc<Room>,
    age_max: Duration,
    /// Since when the buffer has held leaves and none has been written.
    stuck_since: Mutex<Option<Instant>>,
}

impl Buffer {
    pub(super) fn new(leaves_max: usize, age_max: Duration) -> Self {
        Self { room: Room::new(leaves_max, usize::MAX), age_max, stuck_since: Mutex::new(None) }
    }

    /// Takes a place for one leaf, or none when the log does not keep up.
    pub(super) fn enter(&self) -> Option<Seat> {
        let mut stuck_since = self.stuck_since.lock().unwrap_or_else(PoisonError::into_inner);
        let since = stuck_since.get_or_insert_with(Instant::now);
        if since.elapsed() > self.age_max && self.room.deeds() > 0 {
            return None;
        }
        self.room.enter(0)
    }

    /// Some of the leaves have been written.
    pub(super) fn written(&self) {
        let since = (self.room.deeds() > 0).then(Instant::now);
        *self.stuck_since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.room.deeds() == 0
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_room_is_bounded_in_deeds_and_in_bytes() {
        let room = Room::new(2, 100);
        let first = room.enter(60).unwrap();
        assert!(room.enter(60).is_none(), "too many bytes");
        let _second = room.enter(40).unwrap();
        assert!(room.enter(0).is_none(), "too many deeds");
        drop(first);
        assert!(room.enter(60).is_some());
        assert_eq!(room.deeds(), 1);
    }

    #[test]
    fn a_buffer_that_is_not_written_refuses_after_a_while() {
        let buffer = Buffer::new(10, Duration::ZERO);
        let held = buffer.enter().unwrap();
        std::thread::sleep(Duration::from_millis(2));
        assert!(buffer.enter().is_none());
        drop(held);
        buffer.written();
        assert!(buffer.enter().is_some());
    }
}
