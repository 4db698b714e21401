//! Restoring: into a new database, beside whatever serves, closed until what happened since the backup was taken has
//! been replayed.
//!
//! [`restore`] makes the database and proves it equal to the backup. What follows is the gate. [`open`] is a region's:
//! erasures and moves that the directory knows of are replayed, the region log is reconciled with what was signed and
//! seen, and only then gateways are let in. [`open_directory`] is the directory's: every region says who is at home there
//! and who was erased. All have a plan that changes nothing.

mod directory;
mod region;

use storage::admin::{self, Options, Scratch, Set, Snapshot, with_database};

use super::stream::pour;
use super::{BackupId, Catalog, Error, Identities, Manifest, Progress, Refusal, Source, Step};

pub use directory::{Heard, Reopened, Reopening, open_directory};
pub use region::{Findings, Opening, UNSIGNED_MARGIN, open};

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
/// error. It is closed: see [`open`] and [`open_directory`].
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
    match source.set() {
        Set::Region => admin::close_restored(&dsn, plan.id.as_str()).await?,
        Set::Directory => admin::close_directory(&dsn, plan.id.as_str()).await?,
    }
    Ok(())
}
