//! Previews of erasures: what an erasure would take away is counted one at a time, on a connection that is made for it and
//! closed behind it. Of a large subject that takes as long as the erasure may, and no other lookup waits for it.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Executor;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::entry::Entry;
use super::lookups::Sight;
use super::reader::{Query, find, noted};
use super::tally::Tally;
use super::{Shared, erasures};
use crate::error::Trouble;
use crate::link::{Link, Work, within};

/// Our deadline is a little longer than the server's, which says what happened.
const GRACE: Duration = Duration::from_millis(500);

/// Starts a region's previews.
pub(super) fn spawn(
    shared: &Arc<Shared>,
    mut queries: mpsc::UnboundedReceiver<Query>,
    entries: &mpsc::UnboundedSender<Vec<Entry>>,
) -> JoinHandle<()> {
    let (shared, entries) = (Arc::clone(shared), entries.clone());
    tokio::spawn(async move {
        let mut closing = shared.closing.subscribe();
        loop {
            let query = tokio::select! {
                biased;
                query = queries.recv() => query,
                _ = closing.wait_for(|closing| *closing) => queries.try_recv().ok(),
            };
            let Some(query) = query else { return };
            // Whoever has given up in the line need not be counted for.
            if !query.reply.is_closed() {
                preview(&shared, query, &entries).await;
            }
        }
    })
}

async fn preview(shared: &Shared, query: Query, entries: &mpsc::UnboundedSender<Vec<Entry>>) {
    let queries = [query];
    let outcome = count(shared, &queries).await;
    let [query] = queries;
    match outcome {
        // The committers outlive the previews; if they do not, the reply is dropped and the caller told so.
        Ok(sight) => drop(entries.send(vec![noted(shared, query, sight)])),
        Err(trouble) => drop(query.reply.send(Err(trouble.into_error(Some(&shared.region))))),
    }
}

async fn count(shared: &Shared, queries: &[Query; 1]) -> Result<Sight, Trouble> {
    let (patience, long) = (shared.address.patience(), shared.limits.erasure_timeout);
    let mut link = Link::new(Arc::clone(&shared.address), Work::Lookups);
    let connection = link.connection().await?;
    let outcome = async {
        within(patience, async { Ok(connection.execute("BEGIN").await?) }).await?;
        within(patience, erasures::take_time(connection, long)).await?;
        let mut tally = Tally::of(&shared.limits, queries.len());
        let sights = within(long + GRACE, find(shared, connection, queries, &mut tally)).await?;
        sights
            .and_then(|mut sights| sights.pop())
            .ok_or_else(|| Trouble::Internal(crate::error::Cause::new("a lookup without an answer")))
    };
    let outcome = outcome.await;
    link.settle(outcome)
}
