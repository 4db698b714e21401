//! A database restored from a backup: closed until what happened since has been replayed, then opened.
//!
//! What the backup cannot know, the directory does: who was erased since, and who moved away. What the region's log
//! lost, others have seen: it goes on under another name, behind every position that anybody knows.

use residency::{Region, SubjectId};
use secrecy::SecretString;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor, Row};

use super::databases::run;
use super::{Error, LoginName, Membership, connect, refused};
use crate::digest::{Peppers, SubjectDigest};
use crate::region::recovery;

/// Subjects or tombstones in one statement.
const BATCH_MAX: i64 = 4_096;

/// Makes the groups that a dump's grants name, where they are missing: on a new server they are.
///
/// # Errors
/// When the server refuses.
pub async fn ensure_groups(dsn: &SecretString) -> Result<(), Error> {
    let mut connection = connect(dsn).await?;
    for group in [Membership::Gateway, Membership::Directory, Membership::Keys] {
        match run(&mut connection, "CREATE ROLE %I NOLOGIN", &[group.role()]).await {
            Ok(()) => {}
            Err(sqlx::Error::Database(e)) if matches!(e.code().as_deref(), Some("42710" | "23505")) => {}
            Err(source) => return Err(Error::Refused { what: "make the groups of its logins", source }),
        }
    }
    drop(connection.close().await);
    Ok(())
}

/// Closes a region's database that has just been restored: every gateway refuses it.
///
/// # Errors
/// When the database refuses.
pub async fn close_restored(dsn: &SecretString, backup: &str) -> Result<(), Error> {
    let mut connection = connect(dsn).await?;
    sqlx::query("UPDATE domicile.region_identity SET restoring = $1, system_identifier = 0")
        .bind(backup)
        .execute(&mut connection)
        .await
        .map_err(refused("be closed"))?;
    drop(connection.close().await);
    Ok(())
}

/// The backup that a region's database was restored from, while it is not open.
///
/// # Errors
/// When the database cannot be read.
pub async fn restored_from(dsn: &SecretString) -> Result<Option<String>, Error> {
    let mut connection = connect(dsn).await?;
    let backup = sqlx::query_scalar("SELECT restoring FROM domicile.region_identity")
        .fetch_one(&mut connection)
        .await
        .map_err(refused("tell what it was restored from"))?;
    drop(connection.close().await);
    Ok(backup)
}

/// The cluster and the database behind a connection string.
///
/// # Errors
/// When it cannot be reached.
pub async fn whereabouts(dsn: &SecretString) -> Result<(i64, String), Error> {
    let mut connection = connect(dsn).await?;
    let row = sqlx::query("SELECT system_identifier, current_database()::text FROM pg_control_system()")
        .fetch_one(&mut connection)
        .await
        .map_err(refused("tell which cluster it is on"))?;
    drop(connection.close().await);
    Ok((row.get(0), row.get(1)))
}

/// Lets a service's login connect again: grants on a database are not in its dump.
///
/// # Errors
/// When the server refuses.
pub async fn let_in(dsn: &SecretString, login: &LoginName) -> Result<(), Error> {
    let mut connection = connect(dsn).await?;
    let database: String = sqlx::query_scalar("SELECT current_database()::text")
        .fetch_one(&mut connection)
        .await
        .map_err(refused("tell its database"))?;
    run(&mut connection, "GRANT CONNECT ON DATABASE %I TO %I", &[&database, login.as_str()])
        .await
        .map_err(refused("let the login connect"))?;
    drop(connection.close().await);
    Ok(())
}

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
                        erase(&mut here, subject, pin).await?;
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

/// A subject of the backup.
struct Subject {
    subject: String,
    digest: SubjectDigest,
    /// Under every pepper in use, the current one first.
    digests: Vec<SubjectDigest>,
    epoch: i64,
    tag: String,
}

/// What the directory says of it.
struct Pin {
    region: String,
    epoch: i64,
    erased_at: Option<time::OffsetDateTime>,
}

async fn subjects_after(here: &mut PgConnection, after: &str, peppers: &Peppers) -> Result<Vec<Subject>, Error> {
    let read = || refused("list its subjects");
    let rows = sqlx::query(
        "SELECT s.subject, s.digest, s.key_id, s.epoch, s.secret, i.origin \
         FROM domicile.subjects AS s, domicile.region_identity AS i \
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
        let origin: String = row.try_get(5).map_err(read())?;
        let mut digests = match SubjectId::new(&subject) {
            Ok(id) => peppers.digests(&id).collect(),
            Err(_) => Vec::new(),
        };
        if !digests.contains(&digest) {
            digests.push(digest);
        }
        let tag = leaf::tag(&secret, &origin).to_string();
        subjects.push(Subject { subject, digest, digests, epoch: row.try_get(3).map_err(read())?, tag });
    }
    Ok(subjects)
}

/// The pins of these, in their order. Erased under one pepper is erased.
async fn pins_of(directory: &mut PgConnection, subjects: &[Subject]) -> Result<Vec<Option<Pin>>, Error> {
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

/// Erases by the very function that a gateway erases with.
async fn erase(here: &mut PgConnection, subject: &Subject, pin: &Pin) -> Result<(), Error> {
    sqlx::query("SELECT domicile.erase_subject($1, $2, $3, $4, $5, $6, $7, 0)")
        .bind(&subject.subject)
        .bind(&subject.tag)
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

/// Takes out what rests of a subject that is at home elsewhere.
async fn depart(here: &mut PgConnection, subject: &Subject, pin: &Pin) -> Result<(), Error> {
    let told = || refused("replay a move to another region");
    let mut transaction = here.begin().await.map_err(told())?;
    for statement in [
        "DELETE FROM domicile.records WHERE subject = $1",
        "DELETE FROM domicile.zero_party WHERE subject = $1",
        "DELETE FROM domicile.idempotency WHERE subject = $1",
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
async fn pin(directory: &mut PgConnection, subjects: &[&Subject], region: &Region) -> Result<(), Error> {
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

/// What others have seen of a log that lost its end, and how it goes on.
#[derive(Debug, Clone)]
pub struct LogRecovery {
    /// The new name of the log. The key of the old one must not sign two histories.
    pub origin: String,
    /// The size that was signed last, and the root at it.
    pub signed: Option<(u64, [u8; 32])>,
    /// The log goes on behind this position, which nobody has seen.
    pub behind: u64,
    /// Who does it.
    pub actor: String,
    /// Now, microseconds since 1970-01-01 UTC.
    pub at_us: i64,
}

/// How a region's database was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Entries of the log when it was restored.
    pub restored: u64,
    /// Entries now. The difference stands for those that were lost.
    pub size: u64,
}

/// Opens a restored database: its log is made to go on, cursors are set, and gateways are let in; all of it or nothing.
/// `relayed` is how far the relay had come, if that is known.
///
/// # Errors
/// When the database refuses, or [`Error::BrokenHead`]; it stays closed.
pub async fn open_restored(
    dsn: &SecretString,
    recovery: Option<&LogRecovery>,
    relayed: Option<u64>,
) -> Result<Opened, Error> {
    let open = || refused("be opened");
    let mut connection = connect(dsn).await?;
    connection.execute("SET statement_timeout = 0; SET search_path = 'pg_catalog'").await.map_err(open())?;
    let mut transaction = connection.begin().await.map_err(open())?;
    let restored = recovery::head_size(&mut transaction).await.map_err(|_| Error::BrokenHead)?;
    let size = match recovery {
        None => restored,
        Some(recovery) => recovery::go_on(&mut transaction, recovery).await.map_err(|_| Error::BrokenHead)?,
    };
    if let Some(relayed) = relayed {
        // Behind the end of what was restored there is nothing to be sent.
        sqlx::query("UPDATE domicile.cursors SET seq = greatest(seq, $1) WHERE name = 'relay'")
            .bind(i64::try_from(relayed.min(restored.saturating_sub(1))).unwrap_or(i64::MAX))
            .execute(&mut *transaction)
            .await
            .map_err(open())?;
    }
    for statement in [
        // Whoever held a lease before is gone; and whoever still runs is fenced.
        "UPDATE domicile.cursors SET owner = NULL, lease_until = NULL, token = token + 1",
        "UPDATE domicile.head SET epoch = epoch + 1, fence = fence + 1",
        "UPDATE domicile.region_identity SET restoring = NULL, \
             system_identifier = (SELECT c.system_identifier FROM pg_control_system() AS c)",
        "ANALYZE",
    ] {
        transaction.execute(statement).await.map_err(open())?;
    }
    if let Some(recovery) = recovery {
        sqlx::query("UPDATE domicile.region_identity SET origin = $1")
            .bind(&recovery.origin)
            .execute(&mut *transaction)
            .await
            .map_err(open())?;
        // They are the old key's; who holds them keeps them.
        transaction.execute("DELETE FROM domicile.checkpoints").await.map_err(open())?;
        transaction.execute("SELECT domicile.extend_log()").await.map_err(open())?;
    }
    transaction.commit().await.map_err(open())?;
    drop(connection.close().await);
    Ok(Opened { restored, size })
}

/// The root of a log at a size that it has passed; `None` when it is shorter, or does not hold the tiles that show it.
///
/// # Errors
/// When the log cannot be read.
pub async fn log_root_at(dsn: &SecretString, size: u64) -> Result<Option<[u8; 32]>, Error> {
    let mut connection = connect(dsn).await?;
    let root = recovery::root_at(&mut connection, size).await.map_err(|_| Error::BrokenHead)?;
    drop(connection.close().await);
    Ok(root)
}
