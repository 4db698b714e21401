//! The gate of a restored directory.

use residency::Region;
use secrecy::SecretString;
use storage::Peppers;
use storage::admin::{self, LoginName, Repinned, with_database};

use super::super::{Error, Refusal, Source};
use crate::deployment::DatabaseName;

/// What opening is told.
pub struct Reopening<'a> {
    /// The restored database.
    pub database: &'a str,
    /// The regions that can be reached from here, as their owners reach them.
    pub regions: &'a [(Region, SecretString)],
    /// All regions that are known here. Each has to be heard, where it can be reached, and so has each that has pins.
    pub known: &'a [Region],
    /// Regions that are given up: nobody will hear them, and nobody is at home there.
    pub without: &'a [Region],
    /// The keys of its digests.
    pub peppers: &'a Peppers,
    /// The login that gateways use, to be let in.
    pub login: Option<&'a LoginName>,
}

/// What one region said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Which.
    pub region: Region,
    /// Who is at home there, and who was erased.
    pub repinned: Repinned,
}

/// What opening found, and would do or did.
#[derive(Debug, Clone)]
pub struct Reopened {
    /// The backup it was restored from.
    pub backup: String,
    /// What each region that can be reached from here said.
    pub heard: Vec<Heard>,
    /// The regions that have not been heard yet: it stays closed until they are.
    pub missing: Vec<String>,
    /// API keys that are live in it, those among them that were revoked after the backup; `None` while it is closed.
    pub live_keys: Option<u64>,
}

/// Has a restored directory hear the regions, and opens it for traffic once all of them are heard; with `dry_run` only
/// says what they say. It may be called in one cell after the other, each with the regions that it can reach.
///
/// # Errors
/// [`Refusal::NotRestored`], [`Refusal::Contradicted`] and what the databases say. It stays closed; what was pinned stays
/// pinned, and doing it again does the rest.
pub async fn open_directory(source: &Source, opening: &Reopening<'_>, dry_run: bool) -> Result<Reopened, Error> {
    if source.database != DatabaseName::Directory {
        return Err(Refusal::NotRestored { database: opening.database.to_owned() }.into());
    }
    let dsn = with_database(&source.owner_dsn, opening.database)?;
    let backup = admin::directory_restored_from(&dsn).await?;
    let backup = backup.ok_or_else(|| Refusal::NotRestored { database: opening.database.to_owned() })?;
    let mut heard = Vec::new();
    for (region, region_dsn) in opening.regions {
        let repinned = admin::repin(&dsn, region_dsn, region, opening.peppers, dry_run).await?;
        if repinned.contradicted > 0 && !dry_run {
            return Err(Refusal::Contradicted { region: region.to_string(), subjects: repinned.contradicted }.into());
        }
        heard.push(Heard { region: region.clone(), repinned });
    }
    let mut missing = admin::unreconciled(&dsn, opening.known).await?;
    let given_up = |name: &String| opening.without.iter().any(|region| region.as_str() == name);
    // A plan notes nothing, so whoever was heard just now is no more missing than it would be.
    let just_heard = |name: &String| dry_run && heard.iter().any(|one: &Heard| one.region.as_str() == name);
    missing.retain(|name| !given_up(name) && !just_heard(name));
    let live_keys = match dry_run || !missing.is_empty() {
        true => None,
        false => {
            // First: an open one is no restored one any more that this could be done to again.
            if let Some(login) = opening.login {
                admin::let_in(&dsn, login).await?;
            }
            Some(admin::open_directory(&dsn).await?)
        }
    };
    Ok(Reopened { backup, heard, missing, live_keys })
}
