//! What is derived from the log and what keeps it going: the index of decisions, room for the log's next
//! entries, tiles that an older gateway left out, and forgetting old idempotency keys. A cursor's work, done by one gateway
//! at a time, in small steps, and never in the way of a commit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::derived::{Derived, derived};
use super::pace::rest;
use super::{Shared, facts, head, idempotency, tiles};
use crate::error::Trouble;
use crate::link::{Link, Work, within};

/// The index of decisions.
const INDEX: Derived = Derived {
    cursor: "index",
    lock: 0x646f_6d69_6e64_6578, // the bytes of `dom index`
    step_leaves_max: 2_000,
    sql: derived!(
        "indexed AS ( \
             INSERT INTO domicile.decision_index (seq, id, at_us, actor, rule, outcome, kind, operation, subject_tag) \
             SELECT n.seq, d.id::uuid, (extract(epoch FROM d.ts::timestamptz) * 1000000)::bigint, \
                    d.act, d.pol->>1, d.\"out\", d.k, d.op, d.sub \
             FROM next AS n CROSS JOIN LATERAL json_to_record(n.line::json) \
                  AS d (id text, ts text, act text, pol json, \"out\" text, k text, op text, sub text) \
             WHERE d.id IS NOT NULL AND d.op IS NOT NULL \
             ON CONFLICT (seq) DO NOTHING)"
    ),
};

/// How long it waits for company when it has all there was: leaves of this time are indexed together. Whoever searches
/// calls it at once, so nobody waits for this, and every region served has such a task.
const PAUSE_MIN: Duration = Duration::from_millis(500);

/// How often it looks although nobody called, since other gateways write the log, too.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How often the log is given room and old keys are forgotten.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(60);

/// How often in one upkeep old keys are forgotten, each time as many as one statement takes: a million keys a minute, more
/// than a region can use. The indexes go on between them.
const FORGETTING_TURNS_MAX: u32 = 100;

/// How far the indexes are behind the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behind {
    /// They have all of it, or somebody else fills them.
    Nothing,
    /// There are more steps to take, the next one after this pause.
    Some(Duration),
}

/// Starts the work; it ends when the store closes.
pub(super) fn spawn(shared: &Arc<Shared>, wanted: Arc<Notify>) -> JoinHandle<()> {
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let mut closing = shared.closing.subscribe();
        tokio::select! {
            () = run(&shared, &wanted) => {}
            _ = closing.wait_for(|closing| *closing) => {}
        }
    })
}

async fn run(shared: &Arc<Shared>, wanted: &Notify) {
    let mut link = Link::new(Arc::clone(&shared.address), Work::Occasional);
    let mut committed = shared.committed.subscribe();
    let mut upkeep_at = Instant::now();
    // Below this tile of the lowest level there is no gap.
    let mut tiled_to = 0;
    loop {
        let begun = Instant::now();
        let outcome = match link.connection().await {
            Ok(connection) => {
                let outcome = work(shared, connection, begun >= upkeep_at, &mut tiled_to).await;
                link.settle(outcome)
            }
            Err(trouble) => Err(trouble),
        };
        if begun >= upkeep_at && outcome.is_ok() {
            upkeep_at = begun + UPKEEP_INTERVAL;
        }
        let leisurely = async {
            match outcome {
                Ok(Behind::Some(pause)) => sleep(pause).await,
                Ok(Behind::Nothing) => {
                    sleep(PAUSE_MIN).await;
                    drop(timeout(PAUSE_MAX, committed.changed()).await);
                }
                Err(trouble) => {
                    debug!(region = %shared.region, cause = %trouble.cause(), "The index of decisions is not continued");
                    link.pause().await;
                }
            }
        };
        tokio::select! {
            () = leisurely => {}
            () = wanted.notified() => {}
        }
    }
}

/// One step, and the upkeep when it is due. How far the indexes are behind then.
async fn work(
    shared: &Shared,
    connection: &mut PgConnection,
    upkeep: bool,
    tiled_to: &mut u64,
) -> Result<Behind, Trouble> {
    let patience = shared.address.patience();
    if upkeep {
        let room_to: i64 = within(patience, async {
            Ok(sqlx::query_scalar("SELECT domicile.extend_log()").fetch_one(&mut *connection).await?)
        })
        .await?;
        debug!(region = %shared.region, room_to, "The log has room");
        let kept_s = i64::try_from(shared.limits.idempotency_kept.as_secs()).unwrap_or(i64::MAX);
        for _ in 0..FORGETTING_TURNS_MAX {
            if !within(patience, idempotency::forget_old(connection, kept_s)).await? {
                break;
            }
            step(patience, connection).await?;
        }
        let size = within(patience, head::read(connection)).await?.size();
        loop {
            let (done, more) = within(patience, tiles::mend(connection, size, *tiled_to)).await?;
            *tiled_to = done;
            if !more {
                break;
            }
        }
    }
    let begun = Instant::now();
    if !step(patience, connection).await? {
        return Ok(Behind::Nothing);
    }
    let took = begun.elapsed();
    let size = within(patience, head::read(connection)).await?.size();
    let left = size.saturating_sub(within(patience, position(connection)).await?);
    Ok(Behind::Some(rest(left, took)))
}

/// Takes the next leaves into every index. Whether there are more for one of them.
async fn step(patience: Duration, connection: &mut PgConnection) -> Result<bool, Trouble> {
    let more_facts = within(patience, facts::INDEX.step(connection)).await?;
    Ok(within(patience, INDEX.step(connection)).await? | more_facts)
}

/// How far the index of decisions has come.
pub(super) async fn position(connection: &mut PgConnection) -> Result<u64, Trouble> {
    INDEX.position(connection).await
}
