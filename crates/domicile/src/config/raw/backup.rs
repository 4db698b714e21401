//! `[backup]`, `[directory.backup]` and `[regions.*.backup]` as they are written.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What holds for all backups: for how long they are kept, and when somebody should worry.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Backups {
    /// The folder of PostgreSQL's client programs. Default: `PG_BIN`, `PATH`, the usual places.
    pub pg_bin: Option<PathBuf>,
    /// The newest so many are kept.
    #[schemars(range(min = 0, max = 1000))]
    pub keep_last: u32,
    /// The newest of each of so many days is kept.
    #[schemars(range(min = 0, max = 1000))]
    pub keep_daily: u32,
    /// The newest of each of so many weeks is kept.
    #[schemars(range(min = 0, max = 1000))]
    pub keep_weekly: u32,
    /// The newest of each of so many months is kept.
    #[schemars(range(min = 0, max = 1000))]
    pub keep_monthly: u32,
    /// Nothing older is kept, in days, but the two newest that were proven.
    #[schemars(range(min = 1, max = 3650))]
    pub age_days_max: u32,
    /// How long one backup, verification or restore may take, in minutes.
    #[schemars(range(min = 1, max = 10_080))]
    pub run_minutes_max: u32,
    /// `ops backup list` and `ops drill crash --url` complain when the last proven backup of a database is older, in hours.
    #[schemars(range(min = 1, max = 8760))]
    pub verified_age_hours_max: u32,
    /// `ops drill history` complains when the last passed drill of restoring is older, in hours.
    #[schemars(range(min = 1, max = 8760))]
    pub drill_age_hours_max: u32,
    /// Where reports of drills are kept, and what was proven last, which a process that serves shows as metrics. Default:
    /// `.domicile`, and no metrics.
    pub state_folder: Option<PathBuf>,
}

impl Default for Backups {
    fn default() -> Self {
        Self {
            pg_bin: None,
            keep_last: 7,
            keep_daily: 14,
            keep_weekly: 8,
            keep_monthly: 6,
            age_days_max: 180,
            run_minutes_max: 360,
            verified_age_hours_max: 48,
            drill_age_hours_max: 192,
            state_folder: None,
        }
    }
}

/// The backups of one database.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Backup {
    /// The folder they are kept in: a disk or a mounted file system at `location`.
    pub folder: Option<PathBuf>,
    /// Where that is, as `cloud/location` of the locations preset: inside the jurisdiction.
    pub location: Option<String>,
    /// Where its provider copies to by itself, each as `cloud/location`: inside the jurisdiction, too.
    pub replicated_to: Vec<String>,
    /// The jurisdiction, of the directory's backups only; a region's is known.
    pub jurisdiction: Option<String>,
    /// Who can open them: at least two age recipients, `age1…`, or `file:…` with a line each. Keep the private keys
    /// elsewhere, and apart.
    pub recipients: Vec<String>,
    /// The key that signs them, as `file:…` or `env:…`: what `domicile audit key generate` wrote.
    pub key: Option<String>,
    /// The server where backups are restored to be proven, inside the jurisdiction: `file:…`, `env:…` or a URL without
    /// a password. Default: the database's own.
    pub scratch_postgres: Option<String>,
}
