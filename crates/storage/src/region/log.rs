//! Reading the region log: the head, the outbox, leaves and decisions. What relay, forwarder and audit
//! stand on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use leaf::SubjectTag;
use residency::{DecisionId, Region, SubjectId};
use sqlx::postgres::PgConnection;
use tlog::{Hash, Tile};
use tokio::sync::{Mutex, Notify, Semaphore, SemaphorePermit, watch};
use tokio::time::{Instant, sleep};

use super::checkpoints::PublishedCheckpoint;
use super::cursors::{self, CursorLease, CursorState};
use super::decisions::{self, DecisionFilter, DecisionRow};
use super::details::{self, DetailedLeaf};
use super::facts::{self, FactFilter};
use super::outbox::{self, Channel, OutboxRow};
use super::policies::KeptPolicy;
use super::records::column;
use super::{Shared, checkpoints, head, index, policies, settings_seen, tiles};
use crate::error::{Cause, Error, Trouble};
use crate::link::{Link, Work, within};

/// The most rows of the outbox or of the log in one answer.
const ROWS_MAX: u32 = 10_000;

/// Searches under way at a time, of any kind.
const SEARCHES_MAX: usize = 2;
/// How long whoever searches waits before looking again whether an index has caught up.
const CATCH_UP_PAUSE: Duration = Duration::from_millis(2);

/// A region's log, to be read. Cheap to clone.
#[derive(Clone)]
pub struct Log(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) shared: Arc<Shared>,
    /// Connections that are not in use; a permit stands for the right to take one.
    pub(super) idle: Mutex<Vec<Link>>,
    permits: Semaphore,
    /// The right to search, which may take long: never on so many connections that relay, signer and forwarder find none.
    searches: Semaphore,
    /// Somebody waits for the index.
    index_wanted: Arc<Notify>,
}

/// The end of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// How many leaves it has; the next one has this index.
    pub size: u64,
    /// The RFC 6962 root over all of them.
    pub root: [u8; 32],
    /// How often any subject's state has changed here.
    pub fence: u64,
}

/// Runs one statement on a borrowed connection, with a deadline, and gives the connection back.
macro_rules! ask {
    ($log:expr, $connection:ident => $work:expr) => {{
        let shared = &$log.0.shared;
        let (permit, mut link) = $log.borrow().await?;
        let outcome = match link.connection().await {
            Ok($connection) => within(shared.address.patience(), $work).await,
            Err(trouble) => Err(trouble),
        };
        let outcome = link.settle(outcome);
        $log.0.idle.lock().await.push(link);
        drop(permit);
        outcome.map_err(|trouble| trouble.into_error(Some(&shared.region)))
    }};
}
pub(super) use ask;

/// The same for what takes several statements: should one fail, a transaction may be open, and the connection goes.
macro_rules! change {
    ($log:expr, $connection:ident => $work:expr) => {{
        let shared = &$log.0.shared;
        let (permit, mut link) = $log.borrow().await?;
        let outcome = match link.connection().await {
            Ok($connection) => $work.await,
            Err(trouble) => Err(trouble),
        };
        if outcome.is_err() {
            link.cut();
        }
        $log.0.idle.lock().await.push(link);
        drop(permit);
        outcome.map_err(|trouble| trouble.into_error(Some(&shared.region)))
    }};
}
pub(super) use change;

impl Log {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        let connections = shared.limits.log_connections_max.max(1) as usize;
        Self(Arc::new(Inner {
            shared: Arc::clone(shared),
            idle: Mutex::default(),
            permits: Semaphore::new(connections),
            searches: Semaphore::new(SEARCHES_MAX.min(connections - 1).max(1)),
            index_wanted: Arc::new(Notify::new()),
        }))
    }

    pub(super) fn index_wanted(&self) -> Arc<Notify> {
        Arc::clone(&self.0.index_wanted)
    }

    /// Whose log it is.
    #[must_use]
    pub fn region(&self) -> &Region {
        &self.0.shared.region
    }

    /// Its origin (C2SP tlog-checkpoint).
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.0.shared.origin
    }

    /// The end of the log as it is committed now.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn head(&self) -> Result<Head, Error> {
        let tip = ask!(self, connection => head::read(connection))?;
        Ok(Head { size: tip.size(), root: tip.frontier.root(), fence: tip.fence })
    }

    /// Up to `limit` (at most 10,000) events behind `after_seq`, in the order of the log. Nothing is ever
    /// committed between two events that were read.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn outbox(&self, channel: Channel, after_seq: u64, limit: u32) -> Result<Vec<OutboxRow>, Error> {
        let limit = limit.min(ROWS_MAX);
        ask!(self, connection => outbox::read(connection, channel, after_seq, limit))
    }

    /// The position of the last event up to and including `seq`; 0 when there is none.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn last_event(&self, seq: u64) -> Result<u64, Error> {
        ask!(self, connection => outbox::last(connection, seq))
    }

    /// Takes or renews the lease on a cursor; it is made at 0 if it does not exist. `None` while another
    /// owner has it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn acquire_cursor(&self, name: &str, owner: &str, lease: Duration) -> Result<Option<CursorLease>, Error> {
        ask!(self, connection => cursors::acquire(connection, name, owner, lease))
    }

    /// Advances a cursor to a log position, which is never lower than before, and renews its lease.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] when somebody else has taken it meanwhile; nothing was advanced.
    pub async fn advance_cursor(&self, lease: &CursorLease, seq: u64, lease_for: Duration) -> Result<(), Error> {
        let kept = ask!(self, connection => cursors::advance(connection, lease, seq, lease_for))?;
        if kept { Ok(()) } else { Err(Error::LeaseLost) }
    }

    /// Every cursor and how far it has come.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn cursors(&self) -> Result<Vec<CursorState>, Error> {
        ask!(self, connection => cursors::all(connection))
    }

    /// The size of the log after the last commit of this process: changes wake whoever follows the log.
    /// Other gateways' commits do not show here, so a follower also looks by itself now and then.
    #[must_use]
    pub fn wakeups(&self) -> watch::Receiver<u64> {
        self.0.shared.committed.subscribe()
    }

    /// Decisions, newest first. Everything that was committed before the call is found.
    ///
    /// # Errors
    /// When the database does not answer, or its index does not catch up within `index_wait_max`.
    pub async fn decisions(&self, filter: DecisionFilter) -> Result<Vec<DecisionRow>, Error> {
        let _turn = self.turn(&self.0.searches).await?;
        self.index_caught_up().await?;
        let origin = &self.0.shared.origin;
        ask!(self, connection => decisions::search(connection, &filter, origin))
    }

    /// Up to where the lines of the log were let go, as its newest `log.prune` says; 0 when all are there.
    ///
    /// # Errors
    /// When the database does not answer, or its index does not catch up within `index_wait_max`.
    pub async fn pruned_to(&self) -> Result<u64, Error> {
        self.facts_caught_up().await?;
        ask!(self, connection => facts::pruned_to(connection))
    }

    /// A leaf with the identifying details that lie sealed beside it; `None` when there are none, or when they went with
    /// their subject.
    ///
    /// # Errors
    /// When the database does not answer, or the details are not those that the leaf committed to.
    pub async fn details(&self, seq: u64) -> Result<Option<DetailedLeaf>, Error> {
        let origin = &self.0.shared.origin;
        ask!(self, connection => details::open(connection, seq, origin))
    }

    /// The tag of a subject in this log; `None` for one that is not registered here.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn tag_of(&self, subject: &SubjectId) -> Result<Option<SubjectTag>, Error> {
        let origin = &self.0.shared.origin;
        ask!(self, connection => decisions::tag_of(connection, subject, origin))
    }

    /// One decision's leaf; the last one, if it left several.
    ///
    /// # Errors
    /// When the database does not answer, or its index does not catch up within `index_wait_max`.
    pub async fn decision(&self, id: DecisionId) -> Result<Option<DecisionRow>, Error> {
        self.index_caught_up().await?;
        ask!(self, connection => decisions::find(connection, id))
    }

    /// Leaves that are about no decision, and decisions whose data crossed a border: newest first, or oldest first
    /// behind a position. Everything that was committed before the call is found.
    ///
    /// # Errors
    /// When the database does not answer, or its index does not catch up within `index_wait_max`.
    pub async fn facts(&self, filter: FactFilter) -> Result<Vec<DecisionRow>, Error> {
        let _turn = self.turn(&self.0.searches).await?;
        self.facts_caught_up().await?;
        ask!(self, connection => facts::search(connection, &filter))
    }

    /// Up to `limit` (at most 10,000) leaves from an index on.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn leaves(&self, from_seq: u64, limit: u32) -> Result<Vec<DecisionRow>, Error> {
        let limit = limit.min(ROWS_MAX);
        ask!(self, connection => leaves(connection, from_seq, limit))
    }

    /// How long ago the leaf at this position was decided, by the database's clock; `None` when there is none.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn age(&self, seq: u64) -> Result<Option<Duration>, Error> {
        let seconds: Option<f64> = ask!(self, connection => async {
            Ok(sqlx::query_scalar(
                "SELECT extract(epoch FROM now() - (line::jsonb ->> 'ts')::timestamptz)::float8 \
                 FROM domicile.leaves WHERE seq = $1",
            )
            .bind(column(seq))
            .fetch_optional(connection)
            .await?
            .flatten())
        })?;
        // A gateway's clock may be ahead of the database's: what is younger than now is of now.
        Ok(seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()))
    }

    /// The hashes of a tile of the log's Merkle tree, full or partial; `None` when the log does not reach it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn tile(&self, tile: Tile) -> Result<Option<Vec<Hash>>, Error> {
        ask!(self, connection => tiles::read(connection, tile))
    }

    /// The newest signed checkpoint, if there is one; with `witnessed`, the newest that a witness has cosigned.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn checkpoint(&self, witnessed: bool) -> Result<Option<PublishedCheckpoint>, Error> {
        ask!(self, connection => checkpoints::newest(connection, witnessed))
    }

    /// Publishes a signed checkpoint. A size that has one already keeps it; the root that is published under
    /// that size is returned, for the signer to compare.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn publish_checkpoint(&self, size: u64, root: &[u8; 32], note: &str) -> Result<[u8; 32], Error> {
        ask!(self, connection => checkpoints::publish(connection, size, root, note))
    }

    /// Keeps a witness's signature line under the published checkpoint of this size.
    ///
    /// # Errors
    /// When the database does not answer or has no such checkpoint.
    pub async fn keep_cosignature(&self, size: u64, witness: &str, line: &str) -> Result<(), Error> {
        ask!(self, connection => checkpoints::cosign(connection, size, witness, line))
    }

    /// The largest size that a witness has cosigned, as far as is known here; 0 for none.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn cosigned_by(&self, witness: &str) -> Result<u64, Error> {
        ask!(self, connection => checkpoints::cosigned_by(connection, witness))
    }

    /// Keeps a policy that is in force, for whoever takes its decisions again later.
    ///
    /// # Errors
    /// When the database does not answer, or the hash is not that of the text.
    pub async fn keep_policy(&self, policy: &KeptPolicy) -> Result<(), Error> {
        ask!(self, connection => policies::keep(connection, policy))
    }

    /// The policies that were in force here, the newest 256.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn policies(&self) -> Result<Vec<KeptPolicy>, Error> {
        ask!(self, connection => policies::all(connection))
    }

    /// What each key of an instance's configuration hashed to when it last started here.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn settings_seen(&self, instance: &str) -> Result<BTreeMap<String, [u8; 32]>, Error> {
        ask!(self, connection => settings_seen::read(connection, instance))
    }

    /// Keeps what each key of an instance's configuration hashes to.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn keep_settings(&self, instance: &str, settings: &BTreeMap<String, [u8; 32]>) -> Result<(), Error> {
        ask!(self, connection => settings_seen::keep(connection, instance, settings))
    }

    /// Thins out old checkpoints: of those older than a day, the last of every hour stays, and what witnesses
    /// have cosigned. Returns how many went.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn thin_checkpoints(&self) -> Result<u64, Error> {
        ask!(self, connection => checkpoints::thin(connection))
    }

    /// Waits until the decisions that are committed now can be searched.
    async fn index_caught_up(&self) -> Result<(), Error> {
        let size = ask!(self, connection => head::read(connection))?.size();
        let begun = Instant::now();
        while ask!(self, connection => index::position(connection))? + 1 < size {
            self.while_patient(begun)?;
            self.0.index_wanted.notify_one();
            sleep(CATCH_UP_PAUSE).await;
        }
        Ok(())
    }

    /// Takes the facts that are committed now into their index. Whoever looks for facts does so many times a minute, and
    /// that must not drive the index of decisions, which parses and enters every leaf, beyond its own pace.
    async fn facts_caught_up(&self) -> Result<(), Error> {
        let size = ask!(self, connection => head::read(connection))?.size();
        let begun = Instant::now();
        while ask!(self, connection => facts::catch_up(connection))? + 1 < size {
            self.while_patient(begun)?;
            sleep(CATCH_UP_PAUSE).await;
        }
        Ok(())
    }

    /// Whether an index that has not caught up is still waited for.
    fn while_patient(&self, begun: Instant) -> Result<(), Error> {
        let shared = &self.0.shared;
        if begun.elapsed() <= shared.limits.index_wait_max {
            return Ok(());
        }
        let source = Cause::new("the index of the log has not caught up with it yet");
        Err(Error::Unavailable { region: Some(shared.region.clone()), source })
    }

    pub(super) async fn borrow(&self) -> Result<(SemaphorePermit<'_>, Link), Error> {
        let permit = self.turn(&self.0.permits).await?;
        let shared = &self.0.shared;
        let idle = self.0.idle.lock().await.pop();
        let link = idle.unwrap_or_else(|| Link::new(Arc::clone(&shared.address), Work::Occasional));
        Ok((permit, link))
    }

    /// Waits for a turn, as long as a caller waits for anything.
    async fn turn<'a>(&self, turns: &'a Semaphore) -> Result<SemaphorePermit<'a>, Error> {
        let shared = &self.0.shared;
        let unavailable = |why| Error::Unavailable { region: Some(shared.region.clone()), source: Cause::new(why) };
        tokio::time::timeout(shared.limits.answer_timeout, turns.acquire())
            .await
            .map_err(|_| unavailable("too many readers of the log"))?
            .map_err(|_| unavailable("the store is closed"))
    }
}

async fn leaves(connection: &mut PgConnection, from_seq: u64, limit: u32) -> Result<Vec<DecisionRow>, Trouble> {
    let rows = sqlx::query("SELECT seq, hash, line FROM domicile.leaves WHERE seq >= $1 ORDER BY seq LIMIT $2")
        .bind(column(from_seq))
        .bind(i64::from(limit))
        .fetch_all(connection)
        .await?;
    rows.iter().map(decisions::row).collect()
}
