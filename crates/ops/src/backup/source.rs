//! A database that is backed up: where it is, where its backups go, who can open them, who signs them.

use std::sync::Arc;
use std::time::Duration;

use residency::Jurisdiction;
use secrecy::SecretString;
use storage::admin::{DatabaseState, Set};
use time::OffsetDateTime;
use tlog::SigningKey;

use super::target::Target;
use super::{BackupId, Place, Programs, Recipients, Refusal};
use crate::deployment::DatabaseName;

/// What time it is.
pub type Clock = fn() -> OffsetDateTime;

/// How long things may take.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// A backup, a verification, a restore, each from its beginning to its end.
    pub run_max: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { run_max: Duration::from_secs(6 * 3_600) }
    }
}

/// One database with everything its backups need.
#[derive(Clone)]
pub struct Source {
    /// Which.
    pub database: DatabaseName,
    /// The jurisdiction its backups stay in.
    pub jurisdiction: Jurisdiction,
    /// The owner's way in.
    pub owner_dsn: SecretString,
    /// The server where scratch databases are made: inside the same jurisdiction. Usually the same one.
    pub scratch_dsn: SecretString,
    /// Where its backups go.
    pub target: Arc<dyn Target>,
    /// The proof that they may.
    pub place: Place,
    /// Who can open them.
    pub recipients: Recipients,
    /// Who signs them.
    pub key: SigningKey,
    /// PostgreSQL's programs.
    pub programs: Programs,
    /// How long things may take.
    pub bounds: Bounds,
    /// What time it is.
    pub clock: Clock,
}

impl Source {
    /// The migrations that belong in it.
    #[must_use]
    pub fn set(&self) -> Set {
        match self.database {
            DatabaseName::Directory => Set::Directory,
            DatabaseName::Region(_) => Set::Region,
        }
    }

    /// The name of its folder at the target.
    pub(super) fn prefix(&self) -> String {
        self.database.to_string()
    }

    /// The name of one of a backup's objects at the target.
    pub(super) fn object(&self, id: &BackupId, name: &str) -> String {
        format!("{}/{id}/{name}", self.database)
    }

    /// Whether the proof is about this database's jurisdiction.
    pub(super) fn check_place(&self) -> Result<(), Refusal> {
        if self.place.jurisdiction() == &self.jurisdiction {
            return Ok(());
        }
        Err(Refusal::OutsideJurisdiction {
            location: self.place.location().to_owned(),
            country: self.place.jurisdiction().to_string(),
            jurisdiction: self.jurisdiction.to_string(),
        })
    }

    /// Whether the database that answers is the one that is meant.
    pub(super) fn check_identity(&self, state: &DatabaseState) -> Result<(), Refusal> {
        let DatabaseName::Region(region) = &self.database else { return Ok(()) };
        let found = state.region.as_ref().map(|found| (found.region.as_str(), found.jurisdiction.as_str()));
        if found == Some((region.as_str(), self.jurisdiction.as_str())) {
            return Ok(());
        }
        let in_words = |region: &str, law: &str| format!("that of {region} in {law}");
        Err(Refusal::OtherDatabase {
            found: found.map_or_else(|| "no region's".into(), |(region, law)| in_words(region, law)),
            wanted: in_words(region.as_str(), self.jurisdiction.as_str()),
        })
    }

    /// The name of a scratch database for one of its backups.
    pub(super) fn scratch_name(&self, id: &BackupId, purpose: &str) -> String {
        let stem: String = self.database.to_string().chars().take(24).map(|c| if c == '-' { '_' } else { c }).collect();
        format!("{stem}_{purpose}_{}", id.in_database_name())
    }
}
