//! The directory, restored from a backup: closed until every region has said who is at home there and who was erased.
//!
//! A pin that the backup does not know yet would be made anew by whoever asks next, perhaps for another region; an erasure
//! it does not know would let somebody back in. Both are known to the regions: each has its subjects, and remembers the
//! digests of those it erased. The directory opens when none is missing.

use residency::Region;
use secrecy::SecretString;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor, Row};

use super::BATCH_MAX;
use super::departures::{Pin, Subject, pin, pins_of, subjects_after};
use crate::admin::level::CLOSED;
use crate::admin::{Error, connect, refused};
use crate::digest::Peppers;

/// What a region knows that the directory's backup did not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Repinned {
    /// Subjects at home in the region.
    pub subjects: u64,
    /// Of these, unknown to the directory: pinned.
    pub pinned: u64,
    /// Of these, pinned elsewhere by an older epoch: they have moved here since, and are pinned here.
    pub moved: u64,
    /// Of these, pinned elsewhere by the same epoch or a later one: nobody can say by this who is right.
    pub contradicted: u64,
    /// Erasures that the region remembers and the directory did not: tombstones now.
    pub erased: u64,
}

/// Closes a directory that has just been restored: every gateway refuses it, of older releases too, since its schema's
/// floor is above every level.
///
/// # Errors
/// When the database refuses.
pub async fn close_directory(dsn: &SecretString, backup: &str) -> Result<(), Error> {
    let closed = || refused("be closed");
    let mut connection = connect(dsn).await?;
    let mut transaction = connection.begin().await.map_err(closed())?;
    sqlx::query(
        "INSERT INTO domicile.restoring (backup, floor) \
         SELECT $1, l.floor FROM domicile.schema_level AS l WHERE l.migrations = 'directory'",
    )
    .bind(backup)
    .execute(&mut *transaction)
    .await
    .map_err(closed())?;
    sqlx::query("UPDATE domicile.schema_level SET level = $1, floor = $1 WHERE migrations = 'directory'")
        .bind(CLOSED)
        .execute(&mut *transaction)
        .await
        .map_err(closed())?;
    transaction.commit().await.map_err(closed())?;
    drop(connection.close().await);
    Ok(())
}

/// The backup that a directory was restored from, while it is not open.
///
/// # Errors
/// When the database cannot be read.
pub async fn directory_restored_from(dsn: &SecretString) -> Result<Option<String>, Error> {
    let mut connection = connect(dsn).await?;
    let backup = sqlx::query_scalar("SELECT backup FROM domicile.restoring")
        .fetch_optional(&mut connection)
        .await
        .map_err(refused("tell what it was restored from"))?;
    drop(connection.close().await);
    Ok(backup)
}

/// Has a closed directory learn what a region knows: who is at home there, and who was erased. Unless somebody is
/// contradicted, the region counts as heard from then on. With `dry_run` only counts.
///
/// # Errors
/// When one of the databases refuses. What was pinned until then stays pinned; doing it again does the rest.
pub async fn repin(
    directory_dsn: &SecretString,
    region_dsn: &SecretString,
    region: &Region,
    peppers: &Peppers,
    dry_run: bool,
) -> Result<Repinned, Error> {
    let mut there = connect(region_dsn).await?;
    let mut directory = connect(directory_dsn).await?;
    // First of all, so that nobody who was erased is pinned as if nothing had happened.
    let mut repinned =
        Repinned { erased: entomb(&mut directory, &mut there, region, dry_run).await?, ..Repinned::default() };
    let mut after = String::new();
    loop {
        let batch = subjects_after(&mut there, &after, peppers).await?;
        let Some(last) = batch.last() else { break };
        after.clone_from(&last.subject);
        let pins = pins_of(&mut directory, &batch).await?;
        repinned.subjects += batch.len() as u64;
        let (mut absent, mut arrived) = (Vec::new(), Vec::new());
        for (subject, known) in batch.iter().zip(&pins) {
            match standing(subject, known.as_ref(), region) {
                Standing::Known => {}
                Standing::Absent => absent.push(subject),
                Standing::Arrived => arrived.push(subject),
                Standing::Contradicted => repinned.contradicted += 1,
            }
        }
        repinned.pinned += absent.len() as u64;
        repinned.moved += arrived.len() as u64;
        if !dry_run {
            pin(&mut directory, &absent, region).await?;
            arrive(&mut directory, &arrived, region).await?;
        }
    }
    if !dry_run && repinned.contradicted == 0 {
        sqlx::query("INSERT INTO domicile.restoring_heard (region) VALUES ($1) ON CONFLICT DO NOTHING")
            .bind(region.as_str())
            .execute(&mut directory)
            .await
            .map_err(refused("note that the region was heard"))?;
    }
    drop(there.close().await);
    drop(directory.close().await);
    Ok(repinned)
}

/// How a region's word about a subject stands to the directory's.
enum Standing {
    Known,
    Absent,
    Arrived,
    Contradicted,
}

fn standing(subject: &Subject, known: Option<&Pin>, region: &Region) -> Standing {
    match known {
        None => Standing::Absent,
        // Erased is for ever. The region is told by whoever erases, and refuses nothing that it does not know.
        Some(pin) if pin.erased_at.is_some() => Standing::Known,
        Some(pin) if pin.region == region.as_str() => Standing::Known,
        Some(pin) if pin.epoch < subject.epoch => Standing::Arrived,
        Some(_) => Standing::Contradicted,
    }
}

/// Pins subjects here that had moved to the region after the backup was taken.
async fn arrive(directory: &mut PgConnection, subjects: &[&Subject], region: &Region) -> Result<(), Error> {
    let (mut digests, mut epochs) = (Vec::new(), Vec::new());
    for subject in subjects {
        for digest in &subject.digests {
            digests.push(digest.bytes);
            epochs.push(subject.epoch);
        }
    }
    sqlx::query(
        "UPDATE domicile.pins AS p SET region = $3, epoch = s.epoch, state = 'active' \
         FROM unnest($1::bytea[], $2::bigint[]) AS s(digest, epoch) \
         WHERE p.subject_digest = s.digest AND p.state <> 'erased' AND p.epoch < s.epoch",
    )
    .bind(&digests)
    .bind(&epochs)
    .bind(region.as_str())
    .execute(directory)
    .await
    .map_err(refused("pin subjects that had moved"))?;
    Ok(())
}

/// Every erasure that a region remembers becomes the directory's tombstone. Returns how many were none before.
async fn entomb(
    directory: &mut PgConnection,
    there: &mut PgConnection,
    region: &Region,
    dry_run: bool,
) -> Result<u64, Error> {
    let (mut after, mut entombed) = (Vec::<u8>::new(), 0);
    loop {
        let rows = sqlx::query(
            "SELECT digest, key_id, epoch, erased_at FROM domicile.erasures WHERE digest > $1 ORDER BY digest LIMIT $2",
        )
        .bind(&after)
        .bind(BATCH_MAX)
        .fetch_all(&mut *there)
        .await
        .map_err(refused("list its erasures"))?;
        let Some(last) = rows.last() else { return Ok(entombed) };
        after = last.get(0);
        let digests: Vec<[u8; 32]> = rows.iter().map(|row| row.get(0)).collect();
        let known: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM domicile.pins WHERE subject_digest = ANY($1) AND state = 'erased'",
        )
        .bind(&digests)
        .fetch_one(&mut *directory)
        .await
        .map_err(refused("count its tombstones"))?;
        entombed += (rows.len() as u64).saturating_sub(u64::try_from(known).unwrap_or(0));
        if dry_run {
            continue;
        }
        sqlx::query(
            "INSERT INTO domicile.pins AS p (subject_digest, key_id, region, epoch, state, erased_at) \
             SELECT t.digest, t.key_id, $5, t.epoch, 'erased', t.erased_at \
             FROM unnest($1::bytea[], $2::smallint[], $3::bigint[], $4::timestamptz[]) AS t(digest, key_id, epoch, erased_at) \
             ON CONFLICT (subject_digest) DO UPDATE \
             SET state = 'erased', erased_at = excluded.erased_at, region = excluded.region, \
                 epoch = greatest(p.epoch, excluded.epoch) \
             WHERE p.state <> 'erased'",
        )
        .bind(&digests)
        .bind(rows.iter().map(|row| row.get::<i16, _>(1)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.get::<i64, _>(2)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.get::<time::OffsetDateTime, _>(3)).collect::<Vec<_>>())
        .bind(region.as_str())
        .execute(&mut *directory)
        .await
        .map_err(refused("keep tombstones"))?;
    }
}

/// The regions that a closed directory has not heard yet: of those that are named, and of all that have pins in it.
///
/// # Errors
/// When the database cannot be read.
pub async fn unreconciled(dsn: &SecretString, named: &[Region]) -> Result<Vec<String>, Error> {
    let mut connection = connect(dsn).await?;
    let regions = sqlx::query_scalar(
        "SELECT r.name FROM (SELECT unnest($1::text[]) UNION SELECT DISTINCT p.region FROM domicile.pins AS p) AS r(name) \
         WHERE NOT EXISTS (SELECT FROM domicile.restoring_heard AS h WHERE h.region = r.name) ORDER BY 1",
    )
    .bind(named.iter().map(Region::as_str).collect::<Vec<_>>())
    .fetch_all(&mut connection)
    .await
    .map_err(refused("tell which regions it has heard"))?;
    drop(connection.close().await);
    Ok(regions)
}

/// Opens a directory: gateways find its floor as it was. Returns how many API keys are live in it; one that was revoked
/// after the backup was taken is among them.
///
/// # Errors
/// When the database refuses; it stays closed.
pub async fn open_directory(dsn: &SecretString) -> Result<u64, Error> {
    let open = || refused("be opened");
    let mut connection = connect(dsn).await?;
    let mut transaction = connection.begin().await.map_err(open())?;
    for statement in [
        "UPDATE domicile.schema_level AS l SET floor = r.floor, \
             level = (SELECT max(m.version) FROM domicile.directory_migrations AS m WHERE m.success) \
         FROM domicile.restoring AS r WHERE l.migrations = 'directory'",
        "DELETE FROM domicile.restoring",
        "DELETE FROM domicile.restoring_heard",
        "ANALYZE domicile.pins",
    ] {
        transaction.execute(statement).await.map_err(open())?;
    }
    let keys: i64 = sqlx::query_scalar("SELECT count(*) FROM domicile.api_keys WHERE revoked_at IS NULL")
        .fetch_one(&mut *transaction)
        .await
        .map_err(open())?;
    transaction.commit().await.map_err(open())?;
    drop(connection.close().await);
    Ok(u64::try_from(keys).unwrap_or(0))
}
