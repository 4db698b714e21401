//! Where lookups queue, and how a reader takes them: short ones by the thousand, long ones a few at a time and never by all
//! readers at once, so that no page of a large collection stands in the way of a look at one record.

use std::sync::Arc;

use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::sleep;

use super::reader::Query;
use super::turns;
use crate::deeds::Lookup;
use crate::error::Error;
use crate::limits::Limits;

/// Long lookups in one batch: it bounds what its answers may hold together.
pub(super) const LONG_MAX: usize = 16;

/// Where lookups are put.
#[derive(Debug, Clone)]
pub(super) struct Lanes {
    short: mpsc::UnboundedSender<Query>,
    long: mpsc::UnboundedSender<Query>,
    previews: mpsc::UnboundedSender<Query>,
}

impl Lanes {
    /// The lanes of a region with so many readers: where lookups are put, where its readers take them, and where the
    /// previews of erasures come out.
    pub(super) fn new(readers: u32) -> (Self, Line, mpsc::UnboundedReceiver<Query>) {
        let (short, short_out) = mpsc::unbounded_channel();
        let (long, long_out) = mpsc::unbounded_channel();
        let (previews, previews_out) = mpsc::unbounded_channel();
        let line = Line {
            ends: Mutex::new(Ends { short: short_out, long: long_out }),
            turns: Arc::new(Semaphore::new(readers.saturating_sub(1).max(1) as usize)),
        };
        (Self { short, long, previews }, line, previews_out)
    }

    /// Puts a lookup into its lane. `false` when nobody takes it any more.
    pub(super) fn put(&self, query: Query) -> bool {
        let lane = match &query.lookup {
            Lookup::Record { .. } | Lookup::Attribute(_) | Lookup::Subject => &self.short,
            Lookup::Records { .. } | Lookup::Attributes | Lookup::History { .. } => &self.long,
            Lookup::Extent => &self.previews,
        };
        lane.send(query).is_ok()
    }
}

/// Where readers take lookups.
#[derive(Debug)]
pub(super) struct Line {
    ends: Mutex<Ends>,
    /// One for every reader that may be busy with long lookups: all but one, where there are several.
    turns: Arc<Semaphore>,
}

#[derive(Debug)]
struct Ends {
    short: mpsc::UnboundedReceiver<Query>,
    long: mpsc::UnboundedReceiver<Query>,
}

/// What came of waiting for lookups.
#[derive(Debug)]
pub(super) enum Next {
    /// Short lookups, or long ones with the turn that is held while they are looked up.
    Queries(Vec<Query>, Option<OwnedSemaphorePermit>),
    Idle,
    Closed,
}

impl Line {
    /// The next lookups, as soon as there are any: short ones up to `max`, or up to `few_max` long ones.
    pub(super) async fn next(
        &self,
        limits: &Limits,
        max: usize,
        few_max: usize,
        closing: &mut watch::Receiver<bool>,
    ) -> Next {
        let mut ends = self.ends.lock().await;
        let Ends { short, long } = &mut *ends;
        let (mut few, mut many) = (Vec::new(), Vec::new());
        let mut turn = None;
        // Whichever is ready; when both are, either.
        tokio::select! {
            _ = short.recv_many(&mut many, max) => {}
            taken = async {
                let turn = Arc::clone(&self.turns).acquire_owned().await.ok();
                long.recv_many(&mut few, few_max).await;
                turn
            } => turn = taken,
            _ = closing.wait_for(|closing| *closing) => {}
            () = sleep(limits.idle_check_interval) => return Next::Idle,
        }
        if many.is_empty() && few.is_empty() {
            // It closes: what is still there is finished first.
            take(short, &mut many, max);
            if many.is_empty() {
                turn = turn.or_else(|| Arc::clone(&self.turns).try_acquire_owned().ok());
                // Without a turn another reader has it, and will come back for the rest.
                if turn.is_some() {
                    take(long, &mut few, few_max);
                }
            }
        }
        if !few.is_empty() {
            return Next::Queries(few, turn);
        }
        if many.is_empty() {
            return Next::Closed;
        }
        turns::give(limits.gather_turns_max, max, many.len(), || {
            take(short, &mut many, max);
            many.len()
        })
        .await;
        Next::Queries(many, None)
    }

    /// Refuses every lookup that has queued, unless a reader is taking them at this moment.
    pub(super) fn refuse(&self, error: &Error) {
        let Ok(mut ends) = self.ends.try_lock() else { return };
        let Ends { short, long } = &mut *ends;
        for lane in [short, long] {
            while let Ok(query) = lane.try_recv() {
                drop(query.reply.send(Err(error.clone())));
            }
        }
    }
}

/// Takes what is there, until there are `max`.
fn take(lane: &mut mpsc::UnboundedReceiver<Query>, into: &mut Vec<Query>, max: usize) {
    while into.len() < max
        && let Ok(query) = lane.try_recv()
    {
        into.push(query);
    }
}
