//! The database in force. It is replaced as a whole while requests go on, and only by one that passed the gate.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use residency::{Finding, Nothing};
use tracing::info;

use crate::database::Database;
use crate::gate::{GateError, Settings, Source, Summary, load};
use crate::special;

/// Network address -> evidence of a country. Cheap to clone; all clones see a reload.
#[derive(Debug, Clone)]
pub struct GeoIp(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Option<Settings>,
    current: ArcSwapOption<Database>,
    /// The file as it was when last looked at, accepted or not. Held during a reload, so that there is one at a time.
    seen: Mutex<Option<Stamp>>,
}

/// What changes when a file is replaced or rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
    inode: u64,
}

/// What a look at the file came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reload {
    /// Nothing new: the file is the one looked at last time, or there is none to look at.
    Unchanged,
    /// A new database is in force.
    Replaced(Summary),
}

impl GeoIp {
    /// Knows nothing: every public address is [`Nothing::NoDatabase`].
    #[must_use]
    pub fn empty() -> Self {
        Self(Arc::new(Inner { settings: None, current: ArcSwapOption::empty(), seen: Mutex::new(None) }))
    }

    /// Loads a database that passes the gate. Reads the whole file and every record: some seconds for the largest.
    ///
    /// # Errors
    /// Every reason why it was not accepted.
    pub fn load(settings: &Settings, now: SystemTime) -> Result<Self, GateError> {
        let stamp = stamp(settings);
        let database = load(settings, now)?;
        Ok(Self(Arc::new(Inner {
            settings: Some(settings.clone()),
            current: ArcSwapOption::from_pointee(database),
            seen: Mutex::new(stamp),
        })))
    }

    /// Looks whether the file changed, and if so loads it and puts it in force. Blocks: call it off the request path.
    /// A file that was not accepted is not tried again until it changes.
    ///
    /// # Errors
    /// Every reason why the new file was not accepted; the old database stays in force.
    pub fn reload_if_changed(&self, now: SystemTime) -> Result<Reload, GateError> {
        let Some(settings) = &self.0.settings else { return Ok(Reload::Unchanged) };
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken before the file is read: a change during the reading shows as another stamp the next time.
        let stamp = stamp(settings);
        if *seen == stamp {
            return Ok(Reload::Unchanged);
        }
        let loaded = load(settings, now);
        if !loaded.as_ref().is_err_and(GateError::is_unreadable) {
            *seen = stamp;
        }
        let database = loaded?;
        let summary = database.summary().clone();
        self.0.current.store(Some(Arc::new(database)));
        info!(
            database = %summary.database_type,
            built_s = summary.built_s,
            networks = summary.networks,
            "A new GeoIP database is in force"
        );
        Ok(Reload::Replaced(summary))
    }

    /// What an address says: a place, or nothing and why. About 100 ns, no allocation.
    #[must_use]
    pub fn find(&self, ip: IpAddr) -> Finding {
        let ip = ip.to_canonical();
        if special(ip).is_some() {
            return Finding::Nothing(Nothing::SpecialAddress);
        }
        match &*self.0.current.load() {
            Some(database) => database.find(ip).into(),
            None => Finding::Nothing(Nothing::NoDatabase),
        }
    }

    /// When the database in force was built, seconds since 1970-01-01 UTC.
    #[must_use]
    pub fn built_s(&self) -> Option<u64> {
        self.0.current.load().as_ref().map(|database| database.summary().built_s)
    }

    /// What is known of the database in force.
    #[must_use]
    pub fn summary(&self) -> Option<Summary> {
        self.0.current.load().as_ref().map(|database| database.summary().clone())
    }
}

fn stamp(settings: &Settings) -> Option<Stamp> {
    match &settings.source {
        Source::File(path) => stamp_of(path),
        Source::Bytes(_) => None,
    }
}

fn stamp_of(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let inode = 0;
    Some(Stamp { bytes: metadata.len(), modified: metadata.modified().ok(), inode })
}
