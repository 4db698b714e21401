//! One region's database: the doors that a permit opens, and the tasks behind them.
//!
//! - `lanes`, `reader`, `tally`: concurrent lookups travel in one SELECT, as many as can be held; `previews`: those of
//!   erasures, by themselves;
//! - `collector`, `committer`, `transaction`: concurrent deeds travel in one transaction, with every leaf;
//! - `wants`, `draft`, `fold`, `slot`: what a batch of deeds comes to, in memory; `head`: the end of the log;
//! - `log`: reading the region log; `index`: what makes its decisions searchable;
//! - `answers`: giving answers and waiting for them; `doubts`: pages of which it is not known whether they are in the log;
//! - the rest: each table's SQL at home in the table's file.

mod aftermath;
mod answers;
mod checkpoints;
mod collector;
mod committer;
mod crew;
mod cursors;
mod decisions;
mod derived;
mod details;
mod doubts;
mod draft;
mod entry;
mod erasures;
mod events;
mod facts;
mod fold;
mod head;
mod history;
mod idempotency;
mod index;
mod lanes;
mod lists;
mod log;
mod lookups;
mod numbers;
pub(crate) mod origins;
mod outbox;
mod pace;
mod page;
mod policies;
mod previews;
mod queue;
mod reader;
mod records;
pub(crate) mod recovery;
mod registers;
mod remembered;
mod settings_seen;
mod slot;
mod subjects;
mod tally;
mod tiles;
mod transaction;
mod turns;
mod wants;
mod zero_party;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use leaf::{Fact, GatewayId};
use residency::{Denial, Jurisdiction, Permitted, Read, Region, Write};
use secrecy::SecretString;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::warn;

use crate::admin::{SchemaLevel, Set};
use crate::deeds::{Answer, Change, Effect, Found, LogPosition, Lookup};
use crate::digest::Peppers;
use crate::error::{Cause, Error};
use crate::health::Health;
use crate::limits::Limits;
use crate::link::{Address, Expected, Link, Work, ask, identify, within};

pub use self::checkpoints::PublishedCheckpoint;
pub use self::cursors::{CursorLease, CursorState};
pub use self::decisions::{DecisionFilter, DecisionRow};
pub use self::details::DetailedLeaf;
pub use self::events::topic_of;
pub(crate) use self::events::{instant, microseconds};
pub use self::facts::FactFilter;
pub use self::log::{Head, Log};
pub use self::outbox::{Channel, OutboxRow};
pub use self::pace::rest;
pub use self::policies::KeptPolicy;
pub use self::registers::{
    Acknowledgement, CURSOR as REGISTERS_CURSOR, Counts, Found as FoundViolation, Gap, Registered, TransferFilter,
    TransferRow, Violation, ViolationFilter,
};
pub use crate::link::Identity;

use self::entry::{Deed, Entry, FactNote, Note};
use self::lanes::Lanes;
use self::queue::{Buffer, Room, Seat};
use self::reader::Query;

/// The role that a gateway acts as in a region's database.
const GATEWAY_ROLE: &str = "domicile_gateway";

/// While there is no connection, whoever has queued is refused this often.
const REFUSAL_PAUSE: Duration = Duration::from_millis(5);

/// What a leaf and its waiting caller weigh, in bytes, when the queue is measured.
const LEAF_BYTES: usize = 1_024;

/// When a read is accountable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuditReads {
    /// Its leaf is durable before it is answered.
    #[default]
    Durable,
    /// Its leaf follows within a second; a crash shows as a gap in the gateway's count.
    Buffered,
}

/// How to open a region.
#[derive(Debug, Clone)]
pub struct RegionSettings {
    /// Which one.
    pub region: Region,
    /// Its jurisdiction.
    pub jurisdiction: Jurisdiction,
    /// Its database.
    pub dsn: SecretString,
    /// The origin of its log (C2SP tlog-checkpoint), e.g. `audit.example.com/domicile/eu-central`.
    pub log_origin: String,
    /// When a read is accountable.
    pub audit_reads: AuditReads,
    /// Whether what decisions state that identifies somebody is kept, sealed, beside the log.
    pub keeps_details: bool,
    /// This boot of this gateway.
    pub gateway: GatewayId,
    /// The keys that digests of newly registered subjects are made with; the directory's.
    pub peppers: Peppers,
    /// Connections that look up; 2 is enough for thousands of callers.
    pub reader_connections: u32,
    /// Connections that commit: one executes while another one flushes.
    pub committer_connections: u32,
    /// Every bound.
    pub limits: Limits,
}

/// A region's store. Cheap to clone; all clones are one store.
#[derive(Clone)]
pub struct RegionStore(Arc<Open>);

/// What the tasks of a region share.
pub(crate) struct Shared {
    pub(crate) region: Region,
    origin: String,
    gateway: GatewayId,
    audit_reads: AuditReads,
    keeps_details: bool,
    peppers: Peppers,
    limits: Limits,
    address: Arc<Address>,
    events: events::Names,
    subjects: subjects::Cache,
    head: head::Pen,
    numbers: numbers::Numbers,
    doubts: doubts::Doubts,
    /// What is queued or under way.
    room: Arc<Room>,
    /// The leaves of buffered reads that are still to be written.
    buffer: Buffer,
    /// The size of the log after the last commit that this process made or saw.
    committed: watch::Sender<u64>,
    /// Whether no more deeds are taken.
    closing: watch::Sender<bool>,
}

struct Open {
    shared: Arc<Shared>,
    queries: Lanes,
    /// Entries that come together travel together: waking the committer once is cheaper than once for each.
    entries: mpsc::UnboundedSender<Vec<Entry>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    log: Log,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.closing.send_replace(true);
    }
}

impl RegionStore {
    /// Opens a region. Its tasks connect by themselves, and again whenever a connection is lost, so this
    /// does not fail because the server is down; [`health`](Self::health) tells.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn open(settings: RegionSettings) -> Self {
        let RegionSettings { region, jurisdiction, dsn, log_origin, limits, .. } = settings;
        let expected = Expected { region: region.clone(), jurisdiction, origin: log_origin.clone() };
        let address = Address::new(&dsn, GATEWAY_ROLE, Some(expected), limits.clone());
        let shared = Arc::new(Shared {
            events: events::Names::of(&region),
            subjects: subjects::Cache::new(limits.subjects_cached_max),
            head: head::Pen::new(),
            numbers: numbers::Numbers::new(),
            doubts: doubts::Doubts::default(),
            room: Room::new(limits.queue_deeds_max, limits.queue_bytes_max),
            buffer: Buffer::new(limits.buffered_leaves_max, limits.buffered_age_max),
            committed: watch::Sender::new(0),
            closing: watch::Sender::new(false),
            region,
            origin: log_origin,
            gateway: settings.gateway,
            audit_reads: settings.audit_reads,
            keeps_details: settings.keeps_details,
            peppers: settings.peppers,
            limits,
            address,
        });
        let readers = settings.reader_connections.max(1);
        let (queries, line, previews) = Lanes::new(readers);
        let (entries, entries_in) = mpsc::unbounded_channel();
        let log = Log::new(&shared);
        let mut tasks = reader::spawn(&shared, line, &entries, readers);
        tasks.push(previews::spawn(&shared, previews, &entries));
        tasks.extend(committer::spawn(&shared, entries_in, settings.committer_connections.max(1)));
        tasks.push(index::spawn(&shared, log.index_wanted()));
        Self(Arc::new(Open { shared, queries, entries, tasks: Mutex::new(tasks), log }))
    }

    /// Which region it is.
    #[must_use]
    pub fn region(&self) -> &Region {
        &self.0.shared.region
    }

    /// Whether its database can be used.
    #[must_use]
    pub fn health(&self) -> Health {
        self.0.shared.address.health.get()
    }

    /// Asks the database who it is, on a connection of its own.
    ///
    /// # Errors
    /// [`Error::Misplaced`] when it is another one, [`Error::Unavailable`] when it does not answer.
    pub async fn verify(&self) -> Result<Identity, Error> {
        let shared = &self.0.shared;
        let mut link = Link::new(Arc::clone(&shared.address), Work::Occasional);
        let patience = shared.address.patience();
        let outcome = match link.connection().await {
            Ok(connection) => within(patience, identify(connection)).await,
            Err(trouble) => Err(trouble),
        };
        outcome.map_err(|trouble| trouble.into_error(Some(&shared.region)))
    }

    /// Asks the database now whether this program may use it, and how far its schema is.
    ///
    /// # Errors
    /// [`Error::Misplaced`] when it is another one or too new, [`Error::Unavailable`] when it does not answer.
    pub async fn schema_level(&self) -> Result<SchemaLevel, Error> {
        let shared = &self.0.shared;
        ask(&shared.address, Set::Region).await.map_err(|trouble| trouble.into_error(Some(&shared.region)))
    }

    /// Looks something up about the permit's subject.
    ///
    /// With durable audit the answer waits for its leaf; with buffered audit it does not, and reads are
    /// refused once too many leaves wait or the oldest is a second old.
    ///
    /// # Errors
    /// [`Error::Moved`] and [`Error::NotAtHome`] when the region knows better than the directory;
    /// [`Error::Overloaded`], [`Error::Unavailable`], [`Error::Misplaced`]: nothing was disclosed.
    pub async fn read(&self, permitted: Permitted<Read, Lookup>) -> Result<Answer<Found>, Error> {
        let (permit, lookup) = permitted.into_parts();
        self.check_region(permit.region())?;
        let seat = self.seat(LEAF_BYTES)?;
        let buffered = match self.0.shared.audit_reads {
            AuditReads::Durable => None,
            AuditReads::Buffered => Some(self.0.shared.buffer.enter().ok_or_else(|| self.overloaded())?),
        };
        let Limits { answer_timeout, erasure_timeout, .. } = self.0.shared.limits;
        let preview = matches!(lookup, Lookup::Extent);
        let patience = if preview { answer_timeout.max(erasure_timeout) } else { answer_timeout };
        let (reply, answer) = oneshot::channel();
        if !self.0.queries.put(Query { permit, lookup, reply, seat, buffered }) {
            return Err(self.unavailable("the store is closed"));
        }
        self.answered(patience, answer, || self.unavailable("the answer took too long")).await
    }

    /// Changes something about the permit's subject. What is returned is committed: the change, its event
    /// and its leaf together. The events that come of it carry `traceparent` (W3C Trace Context, at most
    /// 55 characters), unless an application's event has its own.
    ///
    /// # Errors
    /// [`Error::OutcomeUnknown`] when the connection broke during the commit and what became of it could not
    /// be found out, and [`Error::Internal`] when the answer was lost to a bug: the log says what was done. After any other
    /// error nothing has changed; those that come from the content or the
    /// state of the subject ([`Error::PreconditionFailed`], [`Error::NotFound`], [`Error::Moved`],
    /// [`Error::NotAtHome`], [`Error::IdempotencyReused`], [`Error::RefusedByDatabase`], [`Error::GrownTooLarge`]) have left
    /// a leaf.
    pub async fn commit(
        &self,
        permitted: Permitted<Write, Change>,
        traceparent: Option<String>,
    ) -> Result<Answer<Effect>, Error> {
        let (permit, change) = permitted.into_parts();
        self.check_region(permit.region())?;
        let bytes = entry::weight(&change);
        let max_bytes = self.0.shared.limits.batch_bytes_max;
        if bytes > max_bytes {
            return Err(Error::TooLarge { max_bytes });
        }
        let seat = self.seat(bytes)?;
        let (reply, answer) = oneshot::channel();
        self.send(Entry::Deed(Box::new(Deed { permit, change, traceparent, reply, seat, refused: None })))?;
        let region = || self.0.shared.region.clone();
        self.answered(self.0.shared.limits.answer_timeout, answer, || Error::OutcomeUnknown { region: region() }).await
    }

    /// Writes the leaf of a denial into this region's log.
    ///
    /// # Errors
    /// [`Error::Overloaded`], [`Error::Unavailable`], [`Error::Misplaced`]: there is no leaf.
    /// [`Error::OutcomeUnknown`]: there may be one.
    pub async fn note(&self, denial: Denial) -> Result<LogPosition, Error> {
        let seat = self.seat(LEAF_BYTES)?;
        let (reply, answer) = oneshot::channel();
        self.send(Entry::Note(Box::new(Note::of_denial(denial, reply, seat))))?;
        let region = || self.0.shared.region.clone();
        self.answered(self.0.shared.limits.answer_timeout, answer, || Error::OutcomeUnknown { region: region() }).await
    }

    /// Writes a leaf about no decision into this region's log.
    ///
    /// # Errors
    /// As for [`note`](Self::note).
    pub async fn record(&self, fact: Fact) -> Result<LogPosition, Error> {
        let seat = self.seat(LEAF_BYTES)?;
        let (reply, answer) = oneshot::channel();
        self.send(Entry::Fact(Box::new(FactNote { fact, reply, seat })))?;
        let region = || self.0.shared.region.clone();
        self.answered(self.0.shared.limits.answer_timeout, answer, || Error::OutcomeUnknown { region: region() }).await
    }

    /// The region log, to be read.
    #[must_use]
    pub fn log(&self) -> Log {
        self.0.log.clone()
    }

    /// Takes no more deeds, finishes those that are queued, and ends the tasks; bounded by `shutdown_timeout`.
    pub async fn shutdown(&self) {
        let shared = &self.0.shared;
        shared.closing.send_replace(true);
        let tasks = std::mem::take(&mut *self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let mut finished = Box::pin(futures::future::join_all(tasks));
        if timeout(shared.limits.shutdown_timeout, &mut finished).await.is_err() {
            warn!(region = %shared.region, "The region's tasks did not finish in time");
        }
    }

    fn check_region(&self, permitted: &Region) -> Result<(), Error> {
        if *permitted == self.0.shared.region {
            Ok(())
        } else {
            // A permit for another region never gets this far unless rooms are wired wrongly.
            Err(Error::Internal(Cause::new("the permit is for another region")))
        }
    }

    fn seat(&self, bytes: usize) -> Result<Seat, Error> {
        if *self.0.shared.closing.borrow() {
            return Err(self.unavailable("the store is closing"));
        }
        if let Health::Misplaced { reason } = self.health() {
            return Err(Error::Misplaced { region: self.region().clone(), reason });
        }
        self.0.shared.room.enter(bytes).ok_or_else(|| self.overloaded())
    }

    fn send(&self, entry: Entry) -> Result<(), Error> {
        self.0.entries.send(vec![entry]).map_err(|_| self.unavailable("the store is closed"))
    }

    async fn answered<T>(
        &self,
        patience: Duration,
        answer: oneshot::Receiver<Result<T, Error>>,
        too_late: impl FnOnce() -> Error,
    ) -> Result<T, Error> {
        let shared = &self.0.shared;
        answers::wait(&shared.region, &shared.closing, patience, answer, too_late).await
    }

    fn overloaded(&self) -> Error {
        Error::Overloaded { region: self.region().clone() }
    }

    fn unavailable(&self, why: &'static str) -> Error {
        answers::unavailable(self.region(), why)
    }
}
