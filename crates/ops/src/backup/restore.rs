//! Restoring: into a new database, beside whatever serves, closed until what happened since the backup was taken has
//! been replayed.
//!
//! [`restore`] makes the database and proves it equal to the backup. [`open`] is the gate: erasures and moves that the
//! directory knows of are replayed, the region log is reconciled with what was signed and seen, and only then gateways
//! are let in. Both have a plan that changes nothing.

use secrecy::SecretString;
use storage::Peppers;
use storage::admin::{self, LogRecovery, LoginName, Opened, Options, Replayed, Scratch, Set, Snapshot, with_database};
use time::OffsetDateTime;

use super::stream::pour;
use super::{BackupId, Catalog, Error, Identities, Manifest, Progress, Refusal, Source, Step};
use crate::deployment::DatabaseName;

/// Entries that gateways may have written after the last checkpoint was signed, which is at most a second before: more
/// than any measured rate. Nobody has seen a position behind this margin.
pub const UNSIGNED_MARGIN: u64 = 1 << 18;

/// What a restore would do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The backup.
    pub id: BackupId,
    /// Its manifest.
    pub manifest: Manifest,
    /// The new database.
    pub database: String,
}

/// Says what would be restored, and whether it may be. Changes nothing.
///
/// # Errors
/// [`Error`].
pub async fn plan(source: &Source, id: Option<&BackupId>, to: Option<&str>) -> Result<Plan, Error> {
    source.check_place()?;
    let catalog = Catalog::read(source).await?;
    let (id, manifest) = catalog.choose(id)?;
    source.programs.check_server(&manifest.server.version)?;
    let database = to.map_or_else(|| source.scratch_name(id, "scratch"), str::to_owned);
    let plain = |name: &str| {
        name.len() <= 63
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    if !plain(&database) {
        return Err(Refusal::DatabaseName { database }.into());
    }
    let hall = with_database(&source.owner_dsn, "postgres")?;
    let (cluster, _) = admin::whereabouts(&hall).await?;
    let (_, live) = admin::whereabouts(&source.owner_dsn).await.unwrap_or_default();
    let taken_from = cluster.to_string() == manifest.server.system_identifier && database == manifest.server.database;
    if taken_from || database == live {
        return Err(Refusal::TargetIsSource { database }.into());
    }
    Ok(Plan { id: id.clone(), manifest: manifest.clone(), database })
}

/// Restores into the new database of the plan and proves it equal to the backup; there is no such database after an
/// error. A region's database is closed: see [`open`].
///
/// # Errors
/// [`Error`].
pub async fn restore(
    source: &Source,
    plan: &Plan,
    identities: &Identities,
    progress: Progress<'_>,
) -> Result<(), Error> {
    let limit = source.bounds.run_max;
    let told = |step: Step| progress(&source.database, step);
    let work = async {
        admin::ensure_groups(&with_database(&source.owner_dsn, "postgres")?).await?;
        let scratch = Scratch::create(&source.owner_dsn, &plan.database).await?;
        let done = fill(source, plan, identities, &told).await;
        match done {
            Ok(()) => {
                scratch.keep().await?;
                Ok(())
            }
            Err(error) => {
                scratch.drop().await?;
                Err(error)
            }
        }
    };
    tokio::time::timeout(limit, Box::pin(work)).await.unwrap_or(Err(Error::TooLong { limit }))
}

async fn fill(
    source: &Source,
    plan: &Plan,
    identities: &Identities,
    told: &(dyn Fn(Step) + Send + Sync),
) -> Result<(), Error> {
    let restore = source.programs.restore(&source.owner_dsn, &plan.database, false)?;
    pour(source, &plan.id, &plan.manifest, identities, restore, told).await?;
    told(Step::Comparing);
    let mut snapshot = Snapshot::take(&source.owner_dsn, Some(&plan.database), source.set()).await?;
    let sums = snapshot.sums(&|_| ()).await;
    snapshot.close().await;
    plan.manifest.compare(&sums?)?;
    let dsn = with_database(&source.owner_dsn, &plan.database)?;
    admin::migrate(&dsn, source.set(), &Options::default(), &|_| ()).await?;
    if source.set() == Set::Region {
        admin::close_restored(&dsn, plan.id.as_str()).await?;
    }
    Ok(())
}

/// What opening is told.
pub struct Opening<'a> {
    /// The restored database.
    pub database: &'a str,
    /// The directory, as its owner reaches it.
    pub directory_dsn: &'a SecretString,
    /// The keys of its digests.
    pub peppers: &'a Peppers,
    /// What the signer signed last, from its own memory: size and root.
    pub signed: Option<(u64, [u8; 32])>,
    /// The highest position that anybody has seen, as well as the operator knows.
    pub seen: Option<u64>,
    /// How far the relay had come, if the topics were asked.
    pub relayed: Option<u64>,
    /// Entries that gateways may have written and answered after the last signature: see [`UNSIGNED_MARGIN`].
    pub unsigned_margin: u64,
    /// The log's new name, in case it lost entries.
    pub log_origin: Option<&'a str>,
    /// The login that gateways use, to be let in.
    pub login: Option<&'a LoginName>,
    /// Who does it.
    pub actor: &'a str,
}

/// What opening found, and would do or did.
#[derive(Debug, Clone)]
pub struct Findings {
    /// The backup it was restored from.
    pub backup: String,
    /// What the directory knew that the backup did not.
    pub replayed: Replayed,
    /// Entries of the restored log.
    pub restored_size: u64,
    /// The size that was signed last.
    pub signed_size: Option<u64>,
    /// The positions that were lost, if any were.
    pub lost: Option<std::ops::Range<u64>>,
    /// The log's name before and, when it changes, after.
    pub origin: String,
    /// Its new name.
    pub new_origin: Option<String>,
    /// What opening did; `None` in a plan.
    pub opened: Option<Opened>,
}

/// Opens a restored region for traffic; with `dry_run` only says what it would do.
///
/// # Errors
/// [`Refusal::NotRestored`], [`Refusal::UnknownLoss`], [`Refusal::LogLost`] and what the databases say. It stays closed;
/// what was replayed stays replayed, and doing it again does the rest.
pub async fn open(source: &Source, opening: &Opening<'_>, dry_run: bool) -> Result<Findings, Error> {
    let DatabaseName::Region(region) = &source.database else { return Err(Refusal::NotARegion.into()) };
    let dsn = with_database(&source.owner_dsn, opening.database)?;
    let not_restored = || Refusal::NotRestored { database: opening.database.to_owned() };
    let backup = admin::restored_from(&dsn).await?.ok_or_else(not_restored)?;
    let snapshot = Snapshot::take(&dsn, None, Set::Region).await?;
    let state = snapshot.state().clone();
    snapshot.close().await;
    source.check_identity(&state)?;
    let log = state.region.as_ref().ok_or_else(not_restored)?;
    let (size, origin) = (log.log_size, log.origin.clone());
    let lost = lost(&dsn, size, opening).await?;
    if let Some(lost) = &lost
        && (opening.log_origin.is_none() || opening.log_origin == Some(origin.as_str()))
    {
        let signed = opening.signed.map_or(0, |(size, _)| size);
        if !dry_run {
            return Err(Refusal::LogLost { restored: size, seen: lost.end, signed, origin }.into());
        }
    }
    let directory = opening.directory_dsn;
    let replayed = admin::replay_departures(&dsn, directory, region, opening.peppers, dry_run).await?;
    let opened = match dry_run {
        true => None,
        false => {
            let recovery = match (&lost, opening.log_origin) {
                (Some(lost), Some(new)) => Some(LogRecovery {
                    origin: new.to_owned(),
                    signed: opening.signed,
                    behind: lost.end - 1,
                    actor: opening.actor.to_owned(),
                    at_us: microseconds((source.clock)()),
                }),
                _ => None,
            };
            let opened = admin::open_restored(&dsn, recovery.as_ref(), opening.relayed).await?;
            if let Some(login) = opening.login {
                admin::let_in(&dsn, login).await?;
            }
            Some(opened)
        }
    };
    let new_origin = lost.is_some().then(|| opening.log_origin.map(str::to_owned)).flatten();
    let signed_size = opening.signed.map(|(size, _)| size);
    Ok(Findings { backup, replayed, restored_size: size, signed_size, lost, origin, new_origin, opened })
}

/// The positions of the log that others have seen, or may have, and the restored database does not have.
async fn lost(dsn: &SecretString, size: u64, opening: &Opening<'_>) -> Result<Option<std::ops::Range<u64>>, Error> {
    let seen_end = opening.seen.map(|seq| seq.saturating_add(1));
    let Some((signed, root)) = opening.signed else {
        // Nothing was ever signed, so nobody but the operator can say how long the log was.
        let end = seen_end.ok_or(Refusal::UnknownLoss)?;
        return Ok((end > size).then_some(size..end));
    };
    if signed <= size {
        let continues = admin::log_root_at(dsn, signed).await? == Some(root);
        // As long as it was signed, and nobody saw more: nothing is lost but what nobody knows of.
        return match (continues, seen_end.unwrap_or(0) > size) {
            (true, false) => Ok(None),
            (true, true) => Ok(Some(size..seen_end.unwrap_or(size + 1))),
            (false, _) => Err(Refusal::LogRewritten { size: signed }.into()),
        };
    }
    // Between the last signature and the end a gateway may have answered more.
    let end = seen_end.unwrap_or(0).max(signed.saturating_add(opening.unsigned_margin));
    Ok(Some(size..end))
}

fn microseconds(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000).unwrap_or_default()
}
