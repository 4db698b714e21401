//! How much of the time may go into what is derived from the log, by how far it is behind.

use std::time::Duration;

/// Close behind the log: it works at leisure. Further behind, the log grows faster than that.
const CLOSE_LEAVES: u64 = 50_000;
/// So far behind it does not rest any more: the peak was none, and nobody shall search in what is hours old.
const FAR_LEAVES: u64 = 1_000_000;
/// At leisure it works at most one part in so many of the time.
const LEISURE: u32 = 16;
/// Further behind, one part in so many: a peak of requests is served first, and what it left is taken up after it.
const HASTE: u32 = 4;

/// How long whatever is derived from the log rests after a step that took `took`, when `left` leaves are still before it.
#[must_use]
pub fn rest(left: u64, took: Duration) -> Duration {
    if left > FAR_LEAVES {
        Duration::ZERO
    } else if left > CLOSE_LEAVES {
        took * (HASTE - 1)
    } else {
        took * (LEISURE - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_further_behind_the_log_the_shorter_it_rests() {
        let took = Duration::from_millis(100);
        assert_eq!(rest(0, took), took * 15);
        assert_eq!(rest(CLOSE_LEAVES, took), took * 15);
        assert_eq!(rest(CLOSE_LEAVES + 1, took), took * 3);
        assert_eq!(rest(FAR_LEAVES, took), took * 3);
        assert_eq!(rest(FAR_LEAVES + 1, took), Duration::ZERO);
    }
}
