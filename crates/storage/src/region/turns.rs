//! How a batch grows before it begins: whoever is ready has a turn first.
//!
//! There is no timer. A task that yields comes back when the runtime has looked at everybody else who can go on; on an
//! idle machine that is nobody, on a busy one it is what makes batches large, and so a request cheap.

/// Lets everybody else have a turn, up to `turns_max` times, for as long as the batch grows by it and is not full at
/// `full`. It holds `there` so far; `look` takes up what has come and says how many it holds then.
pub(super) async fn give(turns_max: u32, full: usize, mut there: usize, mut look: impl FnMut() -> usize) {
    for _ in 0..turns_max {
        if there == 0 || there >= full {
            return;
        }
        tokio::task::yield_now().await;
        let before = std::mem::replace(&mut there, look());
        if there == before {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn turns_of(turns_max: u32, full: usize, grows: &[usize]) -> usize {
        let (mut sizes, mut looks) = (grows.iter().copied(), 0);
        let first = sizes.next().unwrap_or_default();
        give(turns_max, full, first, || {
            looks += 1;
            sizes.next().unwrap_or(full)
        })
        .await;
        looks
    }

    #[tokio::test]
    async fn turns_are_given_while_the_batch_grows_and_no_longer() {
        assert_eq!(turns_of(8, 100, &[1, 3, 9, 9, 20]).await, 3, "it stopped growing");
        assert_eq!(turns_of(8, 100, &[0, 3]).await, 0, "there is nothing to be done");
        assert_eq!(turns_of(8, 100, &[1, 100, 101]).await, 1, "it is full");
        assert_eq!(turns_of(2, 100, &[1, 2, 3, 4]).await, 2, "there is a bound");
        assert_eq!(turns_of(0, 100, &[1, 2]).await, 0);
    }
}
