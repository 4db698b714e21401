//! Sixteen clients that keep their connections and never stop asking.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use system_tests::{PATIENCE, person};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::cell::Cell;

const CLIENTS: usize = 16;

pub(crate) struct Load {
    counts: Arc<Counts>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Counts {
    asked: AtomicU64,
    failed: AtomicU64,
    stop: AtomicBool,
    first: Mutex<Option<String>>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) asked: u64,
    pub(crate) failed: u64,
    /// The first failure, for a message.
    #[expect(dead_code, reason = "it is shown by Debug")]
    pub(crate) first: Option<String>,
}

impl Load {
    /// Begins: every client writes a record of its own subject and reads it, again and again.
    pub(crate) fn on(cell: &Cell) -> Self {
        let counts = Arc::new(Counts::default());
        let clients = (0..CLIENTS).map(|number| {
            let (counts, client) =
                (Arc::clone(&counts), cell.client().residing_in(if number % 2 == 0 { "DE" } else { "US" }));
            tokio::spawn(async move {
                let subject = person("load");
                for round in 0_u64.. {
                    if counts.stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let answer = match round % 4 {
                        0 => client.put_record(&subject, "basket", "now", &json!({ "round": round })).await,
                        _ => client.get_record(&subject, "basket", "now").await,
                    };
                    counts.asked.fetch_add(1, Ordering::Relaxed);
                    let failure = match answer {
                        Ok(answer) if answer.is_success() => continue,
                        Ok(answer) => format!("{} {}", answer.status, answer.text()),
                        Err(error) => format!("{error:#}"),
                    };
                    counts.failed.fetch_add(1, Ordering::Relaxed);
                    counts.first.lock().await.get_or_insert(failure);
                }
            })
        });
        let clients = clients.collect();
        Self { counts, clients }
    }

    pub(crate) fn asked(&self) -> u64 {
        self.counts.asked.load(Ordering::Relaxed)
    }

    /// Goes on until so many were asked in all.
    pub(crate) async fn until(&self, asked: u64) {
        let begun = Instant::now();
        while self.asked() < asked && begun.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends, and tells.
    pub(crate) async fn stop(self) -> Tally {
        self.counts.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.expect("no panic");
        }
        let first = self.counts.first.lock().await.clone();
        let count = |n: &AtomicU64| n.load(Ordering::Relaxed);
        Tally { asked: count(&self.counts.asked), failed: count(&self.counts.failed), first }
    }
}
