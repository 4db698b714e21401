//! The table `subjects`: who is at home here. The region is the authority on that, and this file is where
//! it says so.

use std::collections::HashMap;
use std::sync::Arc;

use leaf::{DetailKey, SubjectSecret, SubjectTag, tag};
use quick_cache::sync::Cache as Bounded;
use rand::RngCore;
use residency::{Epoch, PinState, SubjectId};
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};
use time::OffsetDateTime;

use super::Shared;
use super::details::Sealer;
use super::events::microseconds;
use crate::deeds::{SubjectState, SubjectStatus};
use crate::digest::SubjectDigest;
use crate::error::{Cause, Error, Trouble};

/// What is known of a subject. The secret itself is not kept, only the tag it makes in this log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) state: SubjectState,
    pub(super) tag: SubjectTag,
    /// What seals its details, where details are kept.
    pub(super) sealer: Option<Sealer>,
}

impl Known {
    /// Whether a write meant for this home may be done.
    pub(super) fn admits_write(&self, epoch: Epoch) -> Result<(), Error> {
        match self.state.status {
            SubjectStatus::Active => self.same_home(epoch),
            _ => Err(self.not_at_home(epoch)),
        }
    }

    /// Whether a read meant for this home may be done: who is leaving is still read here.
    pub(super) fn admits_read(&self, epoch: Epoch) -> Result<(), Error> {
        match self.state.status {
            SubjectStatus::Active | SubjectStatus::Departing => self.same_home(epoch),
            _ => Err(self.not_at_home(epoch)),
        }
    }

    fn same_home(&self, epoch: Epoch) -> Result<(), Error> {
        if self.state.epoch == epoch { Ok(()) } else { Err(Error::Moved) }
    }

    fn not_at_home(&self, epoch: Epoch) -> Error {
        match self.state.status.pin_state() {
            Some(state) if self.state.epoch == epoch => Error::NotAtHome { state },
            // Erased is erased, whichever home was meant.
            Some(PinState::Erased) => Error::NotAtHome { state: PinState::Erased },
            _ => Error::Moved,
        }
    }
}

/// The stable code of such a refusal in a leaf.
pub(super) fn why(error: &Error) -> &'static str {
    match error {
        Error::Moved => "subject_moved",
        Error::NotAtHome { state: PinState::Erased } => "subject_erased",
        Error::NotAtHome { .. } => "subject_moving",
        Error::PreconditionFailed { .. } => "precondition_failed",
        Error::NotFound => "not_found",
        Error::IdempotencyReused => "idempotency_key_reused",
        Error::RefusedByDatabase { .. } | Error::GrownTooLarge { .. } => "content_refused",
        // The only one of its kind that gets as far as a leaf: nobody waited when its turn came.
        Error::Unavailable { .. } => "abandoned",
        _ => "internal",
    }
}

/// The subjects that were met lately, each valid for the fence it was read under. Absence is not kept, so
/// a registration need not move the fence.
#[derive(Debug)]
pub(super) struct Cache(Bounded<SubjectId, (u64, Arc<Known>)>);

impl Cache {
    pub(super) fn new(subjects_max: u64) -> Self {
        Self(Bounded::new(usize::try_from(subjects_max).unwrap_or(usize::MAX)))
    }

    pub(super) fn get(&self, subject: &SubjectId, fence: u64) -> Option<Arc<Known>> {
        self.0.get(subject).filter(|(seen, _)| *seen == fence).map(|(_, known)| known)
    }

    pub(super) fn insert(&self, subject: SubjectId, fence: u64, known: Arc<Known>) {
        self.0.insert(subject, (fence, known));
    }

    /// Forgets everybody: behind a new connection may be another server, whose fences mean something else.
    pub(super) fn forget_all(&self) {
        self.0.clear();
    }
}

/// A subject to be registered, with the secret that will make its tags.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) known: Arc<Known>,
    secret: SubjectSecret,
}

impl Fresh {
    pub(super) fn draw(shared: &Shared, subject: &SubjectId, registered_at_us: i64) -> Self {
        let (digest, origin) = (shared.peppers.digest(subject), &*shared.origin);
        let mut bytes = [0; 32];
        rand::rng().fill_bytes(&mut bytes);
        let secret = SubjectSecret::new(bytes);
        let state = SubjectState { digest, epoch: Epoch::FIRST, status: SubjectStatus::Active, registered_at_us };
        let sealer = sealer(shared, subject.expose(), &secret);
        Self { known: Arc::new(Known { state, tag: tag(&secret, origin), sealer }), secret }
    }
}

/// Reads what is known of subjects; those that are not registered are missing from the result.
pub(super) async fn load(
    connection: &mut PgConnection,
    subjects: &[&str],
    shared: &Shared,
) -> Result<HashMap<Box<str>, Known>, Trouble> {
    let rows = sqlx::query(
        "SELECT s.state, s.epoch, s.secret, s.digest, s.key_id, s.registered_at, s.subject \
         FROM unnest($1::text[]) AS k(subject) LEFT JOIN domicile.subjects AS s ON s.subject = k.subject",
    )
    .bind(subjects)
    .fetch_all(connection)
    .await?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in &rows {
        if let Some(subject) = row.try_get::<Option<&str>, _>(6)? {
            found.insert(subject.into(), known(row, shared, subject)?);
        }
    }
    Ok(found)
}

/// Reads a subject from the first six columns of a row: state, epoch, secret, digest, key_id, registered_at.
pub(super) fn known(row: &PgRow, shared: &Shared, subject: &str) -> Result<Known, Trouble> {
    let broken = || Trouble::Internal(Cause::new("a row of subjects holds what it cannot hold"));
    let status = SubjectStatus::from_name(row.try_get(0)?).ok_or_else(broken)?;
    let epoch = Epoch(u64::try_from(row.try_get::<i64, _>(1)?).map_err(|_| broken())?);
    let secret = SubjectSecret::new(row.try_get(2)?);
    let key_id = u16::try_from(row.try_get::<i16, _>(4)?).map_err(|_| broken())?;
    let digest = SubjectDigest { key_id, bytes: row.try_get(3)? };
    let registered_at_us = microseconds(row.try_get(5)?);
    let state = SubjectState { digest, epoch, status, registered_at_us };
    Ok(Known { state, tag: tag(&secret, &shared.origin), sealer: sealer(shared, subject, &secret) })
}

fn sealer(shared: &Shared, subject: &str, secret: &SubjectSecret) -> Option<Sealer> {
    shared.keeps_details.then(|| Sealer { subject: subject.into(), key: DetailKey::of(secret, &shared.origin) })
}

/// Registers subjects, in the order of their names. How many were: a missing one was registered by
/// somebody else meanwhile.
pub(super) async fn register(connection: &mut PgConnection, fresh: &[(&SubjectId, &Fresh)]) -> Result<u64, Trouble> {
    let column = |of: fn(&Fresh) -> &[u8]| fresh.iter().map(move |(_, fresh)| of(fresh)).collect::<Vec<_>>();
    let subjects: Vec<&str> = fresh.iter().map(|(subject, _)| subject.expose()).collect();
    let key_ids: Vec<i16> =
        fresh.iter().map(|(_, fresh)| i16::try_from(fresh.known.state.digest.key_id).unwrap_or(i16::MAX)).collect();
    let registered_at: Vec<OffsetDateTime> =
        fresh.iter().map(|(_, fresh)| super::events::instant(fresh.known.state.registered_at_us)).collect();
    let done = sqlx::query(
        "INSERT INTO domicile.subjects (subject, digest, key_id, state, epoch, secret, registered_at) \
         SELECT s.subject, s.digest, s.key_id, 'active', 1, s.secret, s.registered_at \
         FROM unnest($1::text[], $2::bytea[], $3::smallint[], $4::bytea[], $5::timestamptz[]) \
              AS s(subject, digest, key_id, secret, registered_at) \
         ON CONFLICT DO NOTHING",
    )
    .bind(subjects)
    .bind(column(|fresh| &fresh.known.state.digest.bytes))
    .bind(key_ids)
    .bind(column(|fresh| fresh.secret.expose()))
    .bind(registered_at)
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Lifts the version above which the subjects' things are created again.
pub(super) async fn lift_floors(connection: &mut PgConnection, floors: &[(&str, u64)]) -> Result<u64, Trouble> {
    let subjects: Vec<&str> = floors.iter().map(|(subject, _)| *subject).collect();
    let versions: Vec<i64> = floors.iter().map(|(_, version)| super::records::column(*version)).collect();
    let done = sqlx::query(
        "UPDATE domicile.subjects AS s SET version_floor = greatest(s.version_floor, f.version) \
         FROM unnest($1::text[], $2::bigint[]) AS f(subject, version) WHERE s.subject = f.subject",
    )
    .bind(subjects)
    .bind(versions)
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_home(status: SubjectStatus, epoch: u64) -> Known {
        let digest = SubjectDigest { key_id: 1, bytes: [0; 32] };
        let state = SubjectState { digest, epoch: Epoch(epoch), status, registered_at_us: 0 };
        Known { state, tag: SubjectTag([0; 32]), sealer: None }
    }

    #[test]
    fn only_who_is_at_home_in_this_very_home_is_written() {
        use SubjectStatus::{Active, Arriving, Departed, Departing, Erased};
        assert_eq!(at_home(Active, 1).admits_write(Epoch(1)), Ok(()));
        assert_eq!(at_home(Active, 3).admits_write(Epoch(1)), Err(Error::Moved));
        assert_eq!(at_home(Departed, 1).admits_write(Epoch(1)), Err(Error::Moved));
        let moving = Err(Error::NotAtHome { state: PinState::Moving });
        assert_eq!(at_home(Departing, 1).admits_write(Epoch(1)), moving);
        assert_eq!(at_home(Arriving, 2).admits_write(Epoch(2)), moving);
        assert_eq!(at_home(Erased, 1).admits_read(Epoch(2)), Err(Error::NotAtHome { state: PinState::Erased }));
        assert_eq!(at_home(Departing, 1).admits_read(Epoch(1)), Ok(()), "who is leaving is still read");
    }
}
