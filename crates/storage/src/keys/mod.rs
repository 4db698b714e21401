//! API keys: who may call. They live beside the pins, hashed; every gateway answers from memory.
//!
//! A gateway's memory is at most [`KEYS_REFRESH_INTERVAL`] and a query old while the directory is up, so a revoked key
//! is refused within two seconds. While the directory is down, keys go on being accepted as they were
//! last known, for at most [`KEYS_STALE_MAX`]; after that nobody is let in until it is back.

mod manage;
mod snapshot;
mod token;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use residency::Tenant;
use secrecy::SecretString;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::warn;

use crate::directory::unavailable;
use crate::error::Error;
use crate::link::{Address, Link, Work};
use snapshot::{Snapshot, Standing};
use token::Token;

pub use manage::{ApiKey, KeysError, NewKey};

/// How often the keys are read anew.
pub const KEYS_REFRESH_INTERVAL: Duration = Duration::from_millis(1_500);

/// How long the last known keys are used while the directory is down.
pub const KEYS_STALE_MAX: Duration = Duration::from_secs(60);

/// Live keys that a directory may hold; all of them are in every gateway's memory.
pub const KEYS_MAX: usize = 10_000;

/// The shortest time between two reads of the keys: what unknown tokens can cost the database at most.
const REFRESH_SPACING: Duration = Duration::from_secs(1);

/// Callers with unknown keys that may wait for the next read at a time; others are refused at once.
const UNKNOWN_WAITING_MAX: usize = 64;

/// How long one of them waits at most.
const UNKNOWN_WAIT_MAX: Duration = Duration::from_secs(3);

/// Whom a key stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The key's id: not secret.
    pub id: String,
    /// The key's name.
    pub name: String,
    /// What it may be used for, sorted.
    pub scopes: Vec<String>,
    /// The tenant whose people its calls are about, if it is bound to one.
    pub tenant: Option<Tenant>,
}

/// The API keys of a directory. Cheap to clone.
#[derive(Clone)]
pub struct ApiKeys(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    /// Acts as `domicile_keys`, if the login may.
    management: Arc<Address>,
    unknown_waiting: Semaphore,
    reader: AbortHandle,
}

/// What callers and the reading task share.
struct Shared {
    snapshot: ArcSwapOption<Snapshot>,
    wanted: Notify,
    /// Reads begun, and reads ended, whether they succeeded or not.
    begun: AtomicU64,
    ended: watch::Sender<u64>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKeys").finish_non_exhaustive()
    }
}

impl ApiKeys {
    /// Starts reading the keys in the background. Must be called within a tokio runtime.
    pub(crate) fn open(dsn: &SecretString, directory: Arc<Address>) -> Self {
        let management = Address::new(dsn, "domicile_keys", None, directory.limits.clone());
        let shared = Arc::new(Shared::new());
        let reader = tokio::spawn(Arc::clone(&shared).read_for_ever(directory)).abort_handle();
        Self(Arc::new(Inner { shared, management, unknown_waiting: Semaphore::new(UNKNOWN_WAITING_MAX), reader }))
    }

    /// Whom a token stands for; `None` for one that is malformed, unknown, revoked or has the wrong secret.
    ///
    /// Known keys are found in memory. An unknown one makes the keys be read anew, at most once a second
    /// whatever arrives, so that a key which was just created is accepted without delay.
    ///
    /// # Errors
    /// [`Error::Unavailable`] without a region when it cannot be said, because the directory is down and what is
    /// remembered is older than [`KEYS_STALE_MAX`] or does not hold the key.
    pub async fn find(&self, token: &str) -> Result<Option<Arc<Caller>>, Error> {
        let Some(token) = Token::parse(token) else { return Ok(None) };
        let shared = &self.0.shared;
        match shared.standing(&token)? {
            Standing::Caller(caller) => return Ok(Some(caller)),
            Standing::WrongSecret => return Ok(None),
            Standing::Unknown => {}
        }
        let asked = Instant::now();
        if let Ok(_place) = self.0.unknown_waiting.try_acquire() {
            shared.next_read().await;
        }
        match shared.standing(&token)? {
            Standing::Caller(caller) => Ok(Some(caller)),
            Standing::WrongSecret => Ok(None),
            // It is unknown for sure only to a memory that is fresh.
            Standing::Unknown if shared.is_fresh(asked) => Ok(None),
            Standing::Unknown => Err(unavailable("it cannot be asked about this key")),
        }
    }
}

impl Shared {
    fn new() -> Self {
        Self {
            snapshot: ArcSwapOption::empty(),
            wanted: Notify::new(),
            begun: AtomicU64::new(0),
            ended: watch::Sender::new(0),
        }
    }

    fn standing(&self, token: &Token) -> Result<Standing, Error> {
        self.standing_at(Instant::now(), token)
    }

    fn standing_at(&self, now: Instant, token: &Token) -> Result<Standing, Error> {
        match &*self.snapshot.load() {
            None => Ok(Standing::Unknown),
            Some(snapshot) if snapshot.age(now) > KEYS_STALE_MAX => {
                // There is no caller whom a memory this old could vouch for, nor one to refuse.
                Err(unavailable("the API keys were last read too long ago"))
            }
            Some(snapshot) => Ok(snapshot.standing(token)),
        }
    }

    /// Whether the memory is of a time not much before `asked`.
    fn is_fresh(&self, asked: Instant) -> bool {
        self.snapshot.load().as_ref().is_some_and(|snapshot| snapshot.age(asked) <= KEYS_REFRESH_INTERVAL * 2)
    }

    /// Waits for the end of a read that begins from now on, or of the first one.
    async fn next_read(&self) {
        let next = self.begun.load(Ordering::SeqCst) + u64::from(self.snapshot.load().is_some());
        let mut ended = self.ended.subscribe();
        self.wanted.notify_one();
        // Time-out or not: the caller looks again and judges by the age of what it finds.
        drop(timeout(UNKNOWN_WAIT_MAX, ended.wait_for(|ended| *ended >= next.max(1))).await);
    }

    async fn read_for_ever(self: Arc<Self>, directory: Arc<Address>) {
        let mut link = Link::new(Arc::clone(&directory), Work::Occasional);
        let patience = directory.patience();
        let mut failing = false;
        loop {
            let begun_at = Instant::now();
            let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
            match Snapshot::read(&mut link, patience, begun_at).await {
                Ok(snapshot) => {
                    failing = false;
                    self.snapshot.store(Some(Arc::new(snapshot)));
                }
                Err(trouble) => {
                    if !failing {
                        let reason = trouble.cause();
                        warn!(%reason, "The API keys cannot be read; those last known are used for a while");
                    }
                    failing = true;
                }
            }
            self.ended.send_replace(number);
            sleep_until(begun_at + REFRESH_SPACING).await;
            tokio::select! {
                () = sleep_until(begun_at + KEYS_REFRESH_INTERVAL) => {}
                () = self.wanted.notified() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn what_was_read_a_minute_ago_lets_nobody_in() {
        let (made, text) = Token::generate();
        let token = Token::parse(text.expose_secret()).expect("a token");
        let shared = Shared::new();
        for (age_s, accepted) in [(0, true), (59, true), (61, false)] {
            let read_at = Instant::now();
            shared.snapshot.store(Some(Arc::new(Snapshot::of_one(&made, read_at))));
            match shared.standing_at(read_at + Duration::from_secs(age_s), &token) {
                Ok(Standing::Caller(_)) => assert!(accepted, "accepted after {age_s} s"),
                Err(Error::Unavailable { region: None, .. }) => assert!(!accepted, "refused after {age_s} s"),
                _ => panic!("neither accepted nor refused after {age_s} s"),
            }
        }
    }
}
