//! The directory: the index of pins, subject -> home region. A hint, and a fast one: the region is the
//! authority, and checks every deed against its own `subjects`. A stale answer from here costs a retry.
//!
//! Pins that are served from memory cost no round trip; all others travel together, as many as are
//! waiting, in one statement. Nothing negative is remembered: a subject that is unknown now may be
//! pinned by another gateway a moment later.
//!
//! **Rotating the pepper.** A subject has one row for each pepper in use, and a claim takes all of them or
//! none, so gateways that know `{old}`, `{old, new}` and `{new, old}` agree on one pin as long as any
//! two of them share a pepper. A lookup that finds a pin under one pepper writes the rows it misses under the
//! others. The steps of a rotation are told at [`retire_key`](crate::admin::retire_key).

mod cache;
mod pins;
mod post;

use std::fmt;
use std::sync::Arc;

use futures::future::join_all;
use metrics::{Counter, counter};
use residency::{Pin, Region, SubjectId};
use secrecy::SecretString;

use crate::admin::{SchemaLevel, Set};
use crate::deeds::Erasure;
use crate::digest::{Peppers, SubjectDigest};
use crate::error::Error;
use crate::health::Health;
use crate::keys::ApiKeys;
use crate::limits::Limits;
use crate::link::{Address, Link, Work, ask, within};
use cache::Cache;
use pins::{Bid, Pinned};
use post::{Claims, Lookups, Office};

pub(crate) use post::unavailable;

/// The group whose rights the connections take on: to find, claim and move pins, and to look up keys.
const ROLE: &str = "domicile_directory";

/// Subjects that one [`Directory::rekey`] has under way at a time.
const REKEY_SUBJECTS_MAX: usize = 1_024;

/// Tombstones in one answer.
const ERASURES_MAX: i64 = 1_000;

/// Where the directory is and how pins are made.
#[derive(Debug, Clone)]
pub struct DirectorySettings {
    /// Its database. The login must be a member of `domicile_directory`.
    pub dsn: SecretString,
    /// The keys of the digests.
    pub peppers: Peppers,
    /// Pins that are remembered in memory, about 60 bytes each.
    pub cache_pins_max: u64,
    /// How much may be queued, and how long anything may take.
    pub limits: Limits,
}

/// What a claim came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Where the subject is at home now: not necessarily where this claim wanted it.
    pub pin: Pin,
    /// Whether this claim made the pin. After a lost connection, `false` may mean that it did so all the same.
    pub fresh: bool,
}

/// What came of [`Directory::rekey`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rekeyed {
    /// Subjects whose pin now has a row under every pepper of this directory.
    pub complete: u64,
    /// How many of them lacked one before.
    pub filled: u64,
    /// Subjects without any pin. A region should have none of them.
    pub unpinned: u64,
}

/// The directory of pins. Cheap to clone.
#[derive(Clone)]
pub struct Directory(Arc<Inner>);

struct Inner {
    peppers: Peppers,
    cache: Cache,
    lookups: Office<Lookups>,
    claims: Office<Claims>,
    address: Arc<Address>,
    keys: ApiKeys,
    /// Homes that were told from memory, and such that the database was asked for.
    from_memory: Counter,
    from_database: Counter,
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").field("health", &self.health()).finish_non_exhaustive()
    }
}

impl Directory {
    /// Opens the directory: its tasks connect in the background and for ever, so this succeeds whether or
    /// not the server is up. Must be called within a tokio runtime; the tasks end with the last clone.
    #[must_use]
    pub fn open(settings: DirectorySettings) -> Self {
        let DirectorySettings { dsn, peppers, cache_pins_max, limits } = settings;
        let address = Address::new(&dsn, ROLE, None, limits);
        Self(Arc::new(Inner {
            peppers,
            cache: Cache::new(cache_pins_max),
            lookups: Office::open(Lookups, Arc::clone(&address)),
            claims: Office::open(Claims, Arc::clone(&address)),
            keys: ApiKeys::open(&dsn, Arc::clone(&address)),
            address,
            from_memory: counter!("domicile_directory_homes_total", "from" => "memory"),
            from_database: counter!("domicile_directory_homes_total", "from" => "database"),
        }))
    }

    /// Where a subject is at home, if it is known at all.
    ///
    /// # Errors
    /// [`Error::Unavailable`] without a region when the directory cannot be reached or its queue is full;
    /// [`Error::Internal`] when its rows contradict each other.
    pub async fn home_of(&self, subject: &SubjectId) -> Result<Option<Pin>, Error> {
        let digest = self.0.peppers.digest(subject);
        if let Some(pin) = self.0.cache.get(&digest) {
            self.0.from_memory.increment(1);
            return Ok(Some(pin));
        }
        self.0.from_database.increment(1);
        let ticket = self.0.cache.ticket();
        let Some(pinned) = self.look_up(subject).await? else { return Ok(None) };
        self.0.cache.put(&digest, &pinned.pin, ticket);
        if let Some(backfill) = pinned.backfill {
            // Nobody waits for it; if there is no room, the next lookup does it.
            self.0.claims.post(pins::Entry::Backfill(backfill));
        }
        Ok(Some(pinned.pin))
    }

    /// Makes a region the subject's home, unless it has one: the first claim wins, whichever gateway made it.
    ///
    /// # Errors
    /// As [`home_of`](Self::home_of). Claiming again is harmless, so an unavailable directory may simply be asked again.
    pub async fn claim(&self, subject: &SubjectId, region: &Region) -> Result<Claim, Error> {
        let digests: Vec<_> = self.0.peppers.digests(subject).collect();
        let digest = digests[0];
        if let Some(pin) = self.0.cache.get(&digest) {
            return Ok(Claim { pin, fresh: false });
        }
        let ticket = self.0.cache.ticket();
        let claim = self.0.claims.ask(pins::Entry::Bid(Bid { digests, region: region.clone() })).await?;
        let Some(claim) = claim else { return Err(pins::misunderstood("a claim was answered with nothing")) };
        self.0.cache.put(&digest, &claim.pin, ticket);
        Ok(claim)
    }

    /// Forgets what is remembered of a subject: its region says that it has moved.
    pub fn forget(&self, subject: &SubjectId) {
        self.0.cache.forget(&self.0.peppers.digest(subject));
    }

    /// Keeps the tombstones of subjects that their region has erased: nobody is at home there any more, and nobody with
    /// these digests ever will be. Harmless when repeated.
    ///
    /// # Errors
    /// As [`home_of`](Self::home_of).
    pub async fn bury(&self, region: &Region, erasures: &[Erasure]) -> Result<(), Error> {
        let letters = erasures.iter().map(|erasure| {
            self.0.cache.forget(&erasure.digest);
            let tombstone = pins::Tombstone { region: region.clone(), erasure: *erasure };
            self.0.claims.ask(pins::Entry::Tombstone(tombstone))
        });
        for outcome in join_all(letters).await {
            outcome?;
        }
        Ok(())
    }

    /// Up to 1,000 tombstones of a region since a time, microseconds since 1970-01-01 UTC, in the order of time and
    /// digest; the next ones come behind the last of these. They outlive the region's database: whoever restores it
    /// from before an erasure erases again by them.
    ///
    /// # Errors
    /// As [`home_of`](Self::home_of).
    pub async fn erasures(
        &self,
        region: &Region,
        since_us: i64,
        after: Option<&Erasure>,
    ) -> Result<Vec<Erasure>, Error> {
        let mut link = Link::new(Arc::clone(&self.0.address), Work::Occasional);
        let patience = self.0.address.patience();
        let outcome = match link.connection().await {
            Ok(connection) => {
                within(patience, pins::tombstones(connection, region, since_us, after, ERASURES_MAX)).await
            }
            Err(trouble) => Err(trouble),
        };
        outcome.map_err(|trouble| trouble.into_error(None))
    }

    /// The subject's digests under every pepper, the current one first.
    #[must_use]
    pub fn digests(&self, subject: &SubjectId) -> Vec<SubjectDigest> {
        self.0.peppers.digests(subject).collect()
    }

    /// The subject's digest under the current pepper.
    #[must_use]
    pub fn digest(&self, subject: &SubjectId) -> SubjectDigest {
        self.0.peppers.digest(subject)
    }

    /// Whether the directory answers.
    #[must_use]
    pub fn health(&self) -> Health {
        self.0.address.health.get()
    }

    /// Asks the database now whether this program may use it, and how far its schema is.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it does not answer, [`Error::Internal`] when its schema is too new.
    pub async fn schema_level(&self) -> Result<SchemaLevel, Error> {
        ask(&self.0.address, Set::Directory).await.map_err(|trouble| trouble.into_error(None))
    }

    /// The API keys, which live in the same database.
    #[must_use]
    pub fn keys(&self) -> ApiKeys {
        self.0.keys.clone()
    }

    /// How many pins are remembered at present, for metrics. Never more than `cache_pins_max` once settled.
    #[must_use]
    pub fn cached_pins(&self) -> u64 {
        self.0.cache.len()
    }

    /// Gives the pins of these subjects a row under every pepper of this directory: the step of a pepper's
    /// rotation that needs to know all subjects, as only the regions do. Works through them in bounded batches.
    ///
    /// # Errors
    /// As [`home_of`](Self::home_of); what was done until then stays done, and doing it again is harmless.
    pub async fn rekey(&self, subjects: &[SubjectId]) -> Result<Rekeyed, Error> {
        let mut rekeyed = Rekeyed::default();
        for batch in subjects.chunks(REKEY_SUBJECTS_MAX) {
            for outcome in join_all(batch.iter().map(|subject| self.rekey_one(subject))).await {
                match outcome? {
                    None => rekeyed.unpinned += 1,
                    Some(filled) => {
                        rekeyed.complete += 1;
                        rekeyed.filled += u64::from(filled);
                    }
                }
            }
        }
        Ok(rekeyed)
    }

    /// Whether rows were missing, or `None` when there is no pin.
    async fn rekey_one(&self, subject: &SubjectId) -> Result<Option<bool>, Error> {
        let Some(pinned) = self.look_up(subject).await? else { return Ok(None) };
        let Some(backfill) = pinned.backfill else { return Ok(Some(false)) };
        self.0.claims.ask(pins::Entry::Backfill(backfill)).await?;
        Ok(Some(true))
    }

    async fn look_up(&self, subject: &SubjectId) -> Result<Option<Pinned>, Error> {
        self.0.lookups.ask(self.0.peppers.digests(subject).collect()).await
    }
}
