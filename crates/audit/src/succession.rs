//! A new key is a new log: a key and an origin belong together for ever (C2SP tlog-checkpoint). The old log ends with a
//! leaf that names its successor's key, and one last checkpoint; the new log's first own leaf names the old key and that
//! checkpoint. Whoever verifies both logs, each with its key, sees that no leaf lies between them.

use leaf::{Fact, FactKind};
use storage::{FactFilter, Log, LogPosition, RegionStore};
use tlog::{Checkpoint, KeyKind, Note, Verified, VerifierKey};

use crate::signer::{NotSigned, Signer, Step};

/// Why a log is not handed over.
#[derive(Debug, thiserror::Error)]
pub enum NotSucceeded {
    /// The new key is a witness's.
    #[error("{0} is a witness's key, and not a log's")]
    NotALogKey(String),
    /// The new key is for the old log.
    #[error(
        "the new key is for {0} again: a key and an origin belong together for ever, so a new key needs a new origin"
    )]
    SameOrigin(String),
    /// The key is not this log's.
    #[error("the key is for {key}, and the log is {origin}")]
    OtherLog {
        /// Whom the key is for.
        key: String,
        /// The log.
        origin: String,
    },
    /// The last checkpoint is not one by that key.
    #[error("the predecessor's last checkpoint is not signed by {0}")]
    NotSigned(String),
    /// The new log has entries of its own already.
    #[error("the new log has {0} entries already: its predecessor stands at its beginning, before any gateway writes")]
    Begun(u64),
    /// Another process signs the old log.
    #[error("another process signs the log: stop it first, so that nothing is signed after the last checkpoint")]
    SignedElsewhere,
    /// The signer refuses.
    #[error("the log could not be signed")]
    Refused(#[from] NotSigned),
    /// The database did not answer.
    #[error("the log could not be read or written")]
    Unread(#[from] storage::Error),
}

/// What would be done about a log that is to end.
///
/// # Errors
/// [`NotSucceeded`] when the two keys do not fit.
pub fn check(key: &VerifierKey, next: &VerifierKey, origin: &str) -> Result<(), NotSucceeded> {
    if next.kind() != KeyKind::Log {
        return Err(NotSucceeded::NotALogKey(next.name().to_owned()));
    }
    if key.name() != origin {
        return Err(NotSucceeded::OtherLog { key: key.name().to_owned(), origin: origin.to_owned() });
    }
    if next.name() == key.name() {
        return Err(NotSucceeded::SameOrigin(key.name().to_owned()));
    }
    Ok(())
}

/// Ends a log: its last leaf names the key of its successor, and its last checkpoint is signed. Nobody else may write or sign any more.
///
/// # Errors
/// [`NotSucceeded`].
pub async fn retire(
    store: &RegionStore,
    signer: &mut Signer,
    key: &VerifierKey,
    next: &VerifierKey,
    now_us: i64,
) -> Result<String, NotSucceeded> {
    let log = store.log();
    check(key, next, log.origin())?;
    // Before the leaf: a log that cannot be signed is not ended.
    if signer.step().await? == Step::NotOurs {
        return Err(NotSucceeded::SignedElsewhere);
    }
    let fact = Fact::key_retire(now_us, &key.to_string(), Some(&next.to_string()));
    let last = store.record(fact).await?;
    if signer.step().await? == Step::NotOurs {
        return Err(NotSucceeded::SignedElsewhere);
    }
    let published = log.checkpoint(false).await?.filter(|checkpoint| checkpoint.size > last.seq);
    published.map(|published| published.note).ok_or(NotSucceeded::SignedElsewhere)
}

/// Whether the log has ended: nobody signs what would be written into it now.
///
/// # Errors
/// When the database does not answer.
pub async fn has_ended(log: &Log) -> Result<bool, storage::Error> {
    let kinds = vec![FactKind::KeyRetire.name().to_owned()];
    let ending = log.facts(FactFilter { kinds, limit: 1, ..FactFilter::default() }).await?;
    Ok(!ending.is_empty())
}

/// Begins a log that succeeds another one: its first own leaf names the key and the last checkpoint of its predecessor.
///
/// # Errors
/// [`NotSucceeded`].
pub async fn succeed(
    store: &RegionStore,
    key: &VerifierKey,
    was: &VerifierKey,
    last_checkpoint: &str,
    now_us: i64,
) -> Result<LogPosition, NotSucceeded> {
    let log = store.log();
    check(key, was, log.origin())?;
    let not_signed = || NotSucceeded::NotSigned(was.name().to_owned());
    let note: Note = last_checkpoint.parse().map_err(|_| not_signed())?;
    let checkpoint: Checkpoint = note.text().parse().map_err(|_| not_signed())?;
    if was.verify(&note) != Ok(Verified::Signed) || checkpoint.origin != was.name() {
        return Err(not_signed());
    }
    let size = log.head().await?.size;
    if size > 1 {
        return Err(NotSucceeded::Begun(size));
    }
    let fact = Fact::key_succeed(now_us, &key.to_string(), &was.to_string(), checkpoint.size, checkpoint.root);
    Ok(store.record(fact).await?)
}
