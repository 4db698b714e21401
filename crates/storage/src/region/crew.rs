//! What readers and committers have in common: several tasks, each with a connection of its own, in front
//! of one queue. While none of them has a connection, whoever has queued is refused at once rather than
//! kept waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tracing::debug;

use super::{REFUSAL_PAUSE, Shared};
use crate::error::{Error, Trouble};
use crate::link::{Link, Work};

/// The tasks in front of one queue.
#[derive(Debug)]
pub(super) struct Crew {
    /// What one of them is called.
    name: &'static str,
    /// How many of them have a connection, as far as they know.
    up: AtomicUsize,
}

impl Crew {
    pub(super) fn new(name: &'static str) -> Arc<Self> {
        Arc::new(Self { name, up: AtomicUsize::new(0) })
    }

    /// One more of them.
    pub(super) fn hand(self: &Arc<Self>, shared: &Arc<Shared>, work: Work) -> Hand {
        let link = Link::new(Arc::clone(&shared.address), work);
        Hand { crew: Arc::clone(self), shared: Arc::clone(shared), link, counted: false }
    }
}

/// One task's connection.
pub(super) struct Hand {
    crew: Arc<Crew>,
    shared: Arc<Shared>,
    pub(super) link: Link,
    /// Whether this one is counted in `up`.
    counted: bool,
}

impl Hand {
    /// Makes sure of the connection: one attempt and, if it fails, one pause, during which `refuse` is
    /// called with the reason as long as nobody else has a connection. Whether there is one now.
    pub(super) async fn connected(&mut self, refuse: impl Fn(&Error)) -> bool {
        let address = Arc::clone(&self.shared.address);
        // Begun before the attempt, so that no return of the database is missed.
        let revived = address.health.revived();
        let outcome = self.link.connection().await.map(drop);
        let Self { crew, shared, link, counted } = self;
        let Err(trouble) = outcome else {
            if !std::mem::replace(counted, true) {
                crew.up.fetch_add(1, Ordering::AcqRel);
                debug!(region = %shared.region, "A {} of region {} is connected", crew.name, shared.region);
            }
            return true;
        };
        if std::mem::replace(counted, false) {
            crew.up.fetch_sub(1, Ordering::AcqRel);
            debug!(region = %shared.region, cause = %trouble.cause(), "A {} lost its connection", crew.name);
        }
        let misplaced = matches!(trouble, Trouble::Misplaced(_));
        let error = trouble.into_error(Some(&shared.region));
        let pause = async {
            if misplaced {
                // Refused for good: whoever still comes is told so, until the store is closed.
                drop(shared.closing.subscribe().wait_for(|closing| *closing).await);
            } else {
                // Whoever is first to find the database back wakes the others, reader or committer.
                tokio::select! {
                    () = link.pause() => {}
                    () = revived => {}
                }
            }
        };
        let mut pause = std::pin::pin!(pause);
        loop {
            if crew.up.load(Ordering::Acquire) == 0 {
                refuse(&error);
            }
            tokio::select! {
                () = &mut pause => return false,
                () = tokio::time::sleep(REFUSAL_PAUSE) => {}
            }
        }
    }
}
