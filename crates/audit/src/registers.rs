//! Reading the registers of the regions served here: each region is asked by itself, and what they answer is merged,
//! newest first. Says of each how many entries of its log are not in its registers yet.

use std::collections::VecDeque;
use std::future::Future;

use futures::future::join_all;
use leaf::Fact;
use metrics::counter;
use residency::Region;
use sha2::{Digest, Sha256};
use storage::{
    Acknowledgement, FoundViolation, Log, REGISTERS_CURSOR, RegionStore, TransferFilter, TransferRow, Violation,
    ViolationFilter,
};

use crate::registrar::Rule;
use crate::search::{Cursor, PAGE_ROWS_MAX};

/// The most characters of a reason.
pub const REASON_CHARS_MAX: usize = 500;

/// One region's part in an answer.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The region.
    pub region: Region,
    /// How many entries of its log are not in its registers yet, or why it did not answer.
    pub behind: Result<u64, storage::Error>,
}

/// A page of a register, newest first.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// What was found, and in whose register.
    pub items: Vec<(Region, T)>,
    /// Every region that was asked.
    pub regions: Vec<Asked>,
    /// Where the next page begins; `None` behind the last.
    pub next: Option<Cursor>,
}

/// Violations. `filter.limit` is the length of the page, at most [`PAGE_ROWS_MAX`]; where it begins is taken from the cursor.
pub async fn violations(stores: &[RegionStore], filter: &ViolationFilter, cursor: &Cursor) -> Page<Violation> {
    let ask = |log: Log, before: Option<u64>, limit: u16| {
        let filter = ViolationFilter { before_id: before, limit, ..filter.clone() };
        async move { log.violations(&filter).await }
    };
    page(stores, filter.limit, cursor, ask, |one| (one.at_us, one.id)).await
}

/// Transfers across a border. `filter.limit` is the length of the page, at most [`PAGE_ROWS_MAX`]; where it begins is taken from
/// the cursor.
pub async fn transfers(stores: &[RegionStore], filter: &TransferFilter, cursor: &Cursor) -> Page<TransferRow> {
    let ask = |log: Log, before: Option<u64>, limit: u16| {
        let filter = TransferFilter { before_seq: before, limit, ..filter.clone() };
        async move { log.transfers(&filter).await }
    };
    page(stores, filter.limit, cursor, ask, |one| (one.at_us, one.seq)).await
}

/// How an acknowledgement went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acknowledged {
    /// It stands in the register and in the log.
    Now(Box<Violation>),
    /// Somebody had acknowledged it before; that stays.
    Before(Box<Violation>),
    /// There is no such violation.
    Unknown,
}

/// Why an acknowledgement did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum NotAcknowledged {
    /// The register could not be read; nothing was written.
    #[error("the register could not be read")]
    Unread(#[source] storage::Error),
    /// The leaf was not written, or whether it was is not known if that is what the region says. The register is as it was.
    #[error("the acknowledgement could not be written into the log")]
    Unlogged(#[source] storage::Error),
    /// The leaf stands, and whether the register says so is not known. Said again, it leaves another leaf.
    #[error("the acknowledgement is in the log, and the register may not say so")]
    Unregistered(#[source] storage::Error),
}

/// Acknowledges a violation: first the leaf, then the register, so that nothing stands in the register that the log does
/// not know. The leaf holds the reason's hash only, with a salt that the register keeps: a reason may name somebody.
///
/// # Errors
/// [`NotAcknowledged`].
pub async fn acknowledge(
    store: &RegionStore,
    id: u64,
    by: &str,
    reason: &str,
    salt: [u8; 16],
    now_us: i64,
) -> Result<Acknowledged, NotAcknowledged> {
    let log = store.log();
    let found = log.violation(id).await.map_err(NotAcknowledged::Unread)?;
    let Some(violation) = found else { return Ok(Acknowledged::Unknown) };
    if violation.acknowledged.is_some() {
        return Ok(Acknowledged::Before(Box::new(violation)));
    }
    let reason: String = reason.chars().take(REASON_CHARS_MAX).collect();
    let said = Acknowledgement { by: by.to_owned(), at_us: now_us, reason, salt };
    let hash = reason_hash(&said);
    let fact = Fact::violation_acknowledge(said.at_us, by, id, &violation.rule, violation.seq, hash);
    store.record(fact).await.map_err(NotAcknowledged::Unlogged)?;
    let mine = log.acknowledge(id, &said).await.map_err(NotAcknowledged::Unregistered)?;
    let stands = log.violation(id).await.map_err(NotAcknowledged::Unregistered)?.unwrap_or(violation);
    Ok(if mine { Acknowledged::Now(Box::new(stands)) } else { Acknowledged::Before(Box::new(stands)) })
}

/// Puts violations of one rule into the register that were not found in a leaf, and counts those that are new.
pub(crate) async fn open(log: &Log, rule: Rule, found: &[FoundViolation]) -> Result<(), storage::Error> {
    let new = log.open_violations(found).await?;
    counter!("domicile_violations_total", "region" => log.region().to_string(), "rule" => rule.name()).increment(new);
    Ok(())
}

/// What the leaf of an acknowledgement holds of its reason.
#[must_use]
pub fn reason_hash(said: &Acknowledgement) -> [u8; 32] {
    Sha256::new().chain_update(said.salt).chain_update(&said.reason).finalize().into()
}

/// How many entries of a log are not in its registers yet.
///
/// # Errors
/// When the database does not answer.
pub async fn behind(log: &Log) -> Result<u64, storage::Error> {
    let cursors = log.cursors().await?;
    let seq = cursors.iter().find(|cursor| cursor.name == REGISTERS_CURSOR).map_or(0, |cursor| cursor.seq);
    Ok(log.head().await?.size.saturating_sub(seq + 1))
}

async fn page<T, F: Future<Output = Result<Vec<T>, storage::Error>>>(
    stores: &[RegionStore],
    limit: u16,
    cursor: &Cursor,
    ask: impl Fn(Log, Option<u64>, u16) -> F,
    place: impl Fn(&T) -> (i64, u64),
) -> Page<T> {
    let rows_max = limit.clamp(1, PAGE_ROWS_MAX);
    let answers = stores.iter().map(|store| {
        let (region, log) = (store.region().clone(), store.log());
        let rows = ask(log.clone(), cursor.before(&region), rows_max);
        // First how far the registers are, so that nothing that is said to be in them can be missing.
        async move {
            let answer = match behind(&log).await {
                Ok(behind) => rows.await.map(|rows| (behind, rows)),
                Err(error) => Err(error),
            };
            (region, answer)
        }
    });
    let (mut regions, mut queues, mut more) = (Vec::new(), Vec::new(), false);
    for (region, answer) in join_all(answers).await {
        let behind = answer.map(|(behind, rows)| {
            more |= rows.len() >= usize::from(rows_max);
            queues.push((region.clone(), VecDeque::from(rows)));
            behind
        });
        regions.push(Asked { region, behind });
    }
    let (mut items, mut next) = (Vec::new(), cursor.clone());
    while items.len() < usize::from(rows_max) {
        let newest = queues.iter_mut().max_by_key(|(_, queue)| queue.front().map(|row| place(row).0));
        let Some((region, row)) = newest.and_then(|(region, queue)| Some((region.clone(), queue.pop_front()?))) else {
            break;
        };
        next.stands_at(region.clone(), place(&row).1);
        items.push((region, row));
    }
    more |= queues.iter().any(|(_, queue)| !queue.is_empty());
    Page { next: (more && !items.is_empty()).then_some(next), items, regions }
}
