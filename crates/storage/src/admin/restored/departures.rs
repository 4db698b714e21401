//! What the directory knows of a restored region's subjects: who was erased since the backup, and who moved away.

use residency::{Region, SubjectId};
use secrecy::SecretString;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Row};

use super::BATCH_MAX;
use crate::admin::{Error, connect, refused};
use crate::digest::{Peppers, SubjectDigest};
use crate::region::origins;

/// What the directory knows that the backup did not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Subjects in the backup.
    pub subjects: u64,
    /// Of these, erased since: taken out.
    pub erased: u64,
    /// Of these, at home elsewhere since: taken out.
    pub moved: u64,
    /// Of these, unknown to the directory, which is older: pinned again.
    pub pinned: u64,
    /// Tombstones that the region remembers from now on.
    pub tombstones: u64,
}

/// Replays erasures and moves: what the directory knows of each subject holds. With `dry_run` only counts.
///
/// # Errors
/// When one of the databases refuses. What was taken out until then stays out; doing it again does the rest.
pub async fn replay_departures(
    region_dsn: &SecretString,
    directory_dsn: &SecretString,
    region: &Region,
    peppers: &Peppers,
    dry_run: bool,
) -> Result<Replayed, Error> {
    let mut here = connect(region_dsn).await?;
    let mut directory = connect(directory_dsn).await?;
    let origins = origins(&mut here).await?;
    let mut replayed = Replayed::default();
    let mut after = String::new();
    loop {
        let batch = subjects_after(&mut here, &after, peppers).await?;
        let Some(last) = batch.last() else { break };
        after.clone_from(&last.subject);
        let pins = pins_of(&mut directory, &batch).await?;
        let mut absent: Vec<&Subject> = Vec::new();
        for (subject, pin) in batch.iter().zip(&pins) {
            replayed.subjects += 1;
            match pin {
                None => absent.push(subject),
                Some(pin) if pin.erased_at.is_some() => {
                    replayed.erased += 1;
                    if !dry_run {
                        erase(&mut here, subject, pin, &origins).await?;
                    }
                }
                Some(pin) if pin.region != region.as_str() => {
                    replayed.moved += 1;
                    if !dry_run {
                        depart(&mut here, subject, pin).await?;
                    }
                }
                Some(_) => {}
            }
        }
        replayed.pinned += absent.len() as u64;
        if !dry_run && !absent.is_empty() {
            pin(&mut directory, &absent, region).await?;
        }
    }
    replayed.tombstones = bury(&mut here, &mut directory, region, dry_run).await?;
    drop(here.close().await);
    drop(directory.close().await);
    Ok(replayed)
}

/// A subject that a region has at home.
pub(super) struct Subject {
    pub(super) subject: String,
    pub(super) digest: SubjectDigest,
    /// Under every pepper in use, the current one first.
    pub(super) digests: Vec<SubjectDigest>,
    pub(super) epoch: i64,
    secret: leaf::SubjectSecret,
}

/// What the directory says of it.
pub(super) struct Pin {
    pub(super) region: String,
    pub(super) epoch: i64,
    pub(super) erased_at: Option<time::OffsetDateTime>,
}

/// The next subjects of a region in the order of their names, at most [`BATCH_MAX`].
pub(super) async fn subjects_after(
    here: &mut PgConnection,
    after: &str,
    peppers: &Peppers,
) -> Result<Vec<Subject>, Error> {
    let read = || refused("list its subjects");
    let rows = sqlx::query(
        "SELECT s.subject, s.digest, s.key_id, s.epoch, s.secret FROM domicile.subjects AS s \
         WHERE s.subject > $1 AND s.state IN ('active', 'departing', 'arriving') ORDER BY s.subject LIMIT $2",
    )
    .bind(after)
    .bind(BATCH_MAX)
    .fetch_all(here)
    .await
    .map_err(read())?;
    let mut subjects = Vec::with_capacity(rows.len());
    for row in rows {
        let subject: String = row.try_get(0).map_err(read())?;
        let key_id = u16::try_from(row.try_get::<i16, _>(2).map_err(read())?).unwrap_or_default();
        let digest = SubjectDigest { key_id, bytes: row.try_get(1).map_err(read())? };
        let secret = leaf::SubjectSecret::new(row.try_get(4).map_err(read())?);
        let mut digests = match SubjectId::new(&subject) {
            Ok(id) => peppers.digests(&id).collect(),
            Err(_) => Vec::new(),
        };
        if !digests.contains(&digest) {
            digests.push(digest);
        }
        subjects.push(Subject { subject, digest, digests, epoch: row.try_get(3).map_err(read())?, secret });
    }
    Ok(subjects)
}

/// The pins of these, in their order. Erased under one pepper is erased.
pub(super) async fn pins_of(directory: &mut PgConnection, subjects: &[Subject]) -> Result<Vec<Option<Pin>>, Error> {
    let read = || refused("be asked for pins");
    let (mut places, mut digests) = (Vec::new(), Vec::new());
    for (place, subject) in (0_i64..).zip(subjects) {
        for digest in &subject.digests {
            places.push(place);
            digests.push(digest.bytes);
        }
    }
    let rows = sqlx::query(
        "SELECT DISTINCT ON (asked.place) asked.place, pin.region, pin.epoch, \
                CASE WHEN pin.state = 'erased' THEN coalesce(pin.erased_at, now()) END \
         FROM unnest($1::bigint[], $2::bytea[]) AS asked(place, digest) \
         JOIN domicile.pins AS pin ON pin.subject_digest = asked.digest \
         ORDER BY asked.place, pin.state = 'erased' DESC, pin.epoch DESC",
    )
    .bind(&places)
    .bind(&digests)
    .fetch_all(directory)
    .await
    .map_err(read())?;
    let mut pins: Vec<Option<Pin>> = subjects.iter().map(|_| None).collect();
    for row in rows {
        let place = usize::try_from(row.try_get::<i64, _>(0).map_err(read())?).unwrap_or(usize::MAX);
        if let Some(slot) = pins.get_mut(place) {
            *slot = Some(Pin {
                region: row.try_get(1).map_err(read())?,
                epoch: row.try_get(2).map_err(read())?,
                erased_at: row.try_get(3).map_err(read())?,
            });
        }
    }
    Ok(pins)
}

/// The name of the log that was restored, and those that it had before.
async fn origins(here: &mut PgConnection) -> Result<(String, Vec<String>), Error> {
    let read = || refused("tell what its log is called");
    let origin = sqlx::query_scalar("SELECT i.origin FROM domicile.region_identity AS i");
    let origin = origin.fetch_one(&mut *here).await.map_err(read())?;
    Ok((origin, origins::former(here).await.map_err(read())?))
}

/// Erases by the very function that a gateway erases with, and that takes everything.
async fn erase(
    here: &mut PgConnection,
    subject: &Subject,
    pin: &Pin,
    (origin, former): &(String, Vec<String>),
) -> Result<(), Error> {
    let tags = origins::tags(&subject.secret, origin, former);
    sqlx::query("SELECT domicile.erase_subject($1, $2, $3, $4, $5, $6, $7, 0)")
        .bind(&subject.subject)
        .bind(tags.iter().map(ToString::to_string).collect::<Vec<_>>())
        .bind(subject.digests.iter().map(|digest| digest.bytes).collect::<Vec<_>>())
        .bind(subject.digests.iter().map(|digest| digest.key_id.cast_signed()).collect::<Vec<_>>())
        .bind(subject.digest.bytes)
        .bind(pin.epoch.max(subject.epoch))
        .bind(pin.erased_at)
        .execute(here)
        .await
        .map_err(refused("replay an erasure"))?;
    Ok(())
}

/// Takes out what rests of a subject that is at home elsewhere. Its events stay, as its entries do: they were published
/// here while it was at home here, those that were not sent yet are owed to whoever follows, and they leave with the log.
async fn depart(here: &mut PgConnection, subject: &Subject, pin: &Pin) -> Result<(), Error> {
    let told = || refused("replay a move to another region");
    let mut transaction = here.begin().await.map_err(told())?;
    for statement in [
        "DELETE FROM domicile.records WHERE subject = $1",
        "DELETE FROM domicile.zero_party WHERE subject = $1",
        "DELETE FROM domicile.idempotency WHERE subject = $1",
        "DELETE FROM domicile.details WHERE subject = $1",
    ] {
        sqlx::query(statement).bind(&subject.subject).execute(&mut *transaction).await.map_err(told())?;
    }
    sqlx::query("DELETE FROM domicile.zero_party_history WHERE digest = $1")
        .bind(subject.digest.bytes)
        .execute(&mut *transaction)
        .await
        .map_err(told())?;
    sqlx::query("UPDATE domicile.subjects SET state = 'departed', epoch = $2 WHERE subject = $1")
        .bind(&subject.subject)
        .bind(pin.epoch.max(subject.epoch))
        .execute(&mut *transaction)
        .await
        .map_err(told())?;
    transaction.commit().await.map_err(told())
}

/// The region is the authority: a subject that the directory does not know is pinned as the region has it.
pub(super) async fn pin(directory: &mut PgConnection, subjects: &[&Subject], region: &Region) -> Result<(), Error> {
    let first = |subject: &&Subject| subject.digests.first().copied().unwrap_or(subject.digest);
    sqlx::query(
        "INSERT INTO domicile.pins (subject_digest, key_id, region, epoch, state) \
         SELECT s.digest, s.key_id, $4, s.epoch, 'active' \
         FROM unnest($1::bytea[], $2::smallint[], $3::bigint[]) AS s(digest, key_id, epoch) ON CONFLICT DO NOTHING",
    )
    .bind(subjects.iter().map(|subject| first(subject).bytes).collect::<Vec<_>>())
    .bind(subjects.iter().map(|subject| first(subject).key_id.cast_signed()).collect::<Vec<_>>())
    .bind(subjects.iter().map(|subject| subject.epoch).collect::<Vec<_>>())
    .bind(region.as_str())
    .execute(directory)
    .await
    .map_err(refused("pin subjects again"))?;
    Ok(())
}

/// Every tombstone of the directory becomes the region's own memory again, which refuses a later write; and the
/// warehouse is told once more.
async fn bury(
    here: &mut PgConnection,
    directory: &mut PgConnection,
    region: &Region,
    dry_run: bool,
) -> Result<u64, Error> {
    let (mut after, mut buried) = (Vec::<u8>::new(), 0);
    loop {
        let rows = sqlx::query(
            "SELECT subject_digest, key_id, epoch, coalesce(erased_at, now()) FROM domicile.pins \
             WHERE region = $1 AND state = 'erased' AND subject_digest > $2 ORDER BY subject_digest LIMIT $3",
        )
        .bind(region.as_str())
        .bind(&after)
        .bind(BATCH_MAX)
        .fetch_all(&mut *directory)
        .await
        .map_err(refused("list its tombstones"))?;
        let Some(last) = rows.last() else { return Ok(buried) };
        after = last.get(0);
        let digests: Vec<[u8; 32]> = rows.iter().map(|row| row.get(0)).collect();
        let known: i64 = sqlx::query_scalar("SELECT count(*) FROM domicile.erasures WHERE digest = ANY($1)")
            .bind(&digests)
            .fetch_one(&mut *here)
            .await
            .map_err(refused("count its erasures"))?;
        buried += (rows.len() as u64).saturating_sub(u64::try_from(known).unwrap_or(0));
        if dry_run {
            continue;
        }
        sqlx::query(
            "INSERT INTO domicile.erasures (digest, key_id, events_digest, epoch, erased_at, filed_at) \
             SELECT t.digest, t.key_id, t.digest, t.epoch, t.erased_at, now() \
             FROM unnest($1::bytea[], $2::smallint[], $3::bigint[], $4::timestamptz[]) AS t(digest, key_id, epoch, erased_at) \
             ON CONFLICT (digest) DO NOTHING",
        )
        .bind(&digests)
        .bind(rows.iter().map(|row| row.get::<i16, _>(1)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.get::<i64, _>(2)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.get::<time::OffsetDateTime, _>(3)).collect::<Vec<_>>())
        .execute(&mut *here)
        .await
        .map_err(refused("keep tombstones"))?;
    }
}
