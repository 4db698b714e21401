//! The databases of a deployment, as their owner reaches them.

use std::fmt;

use residency::{Jurisdiction, Region};
use secrecy::SecretString;
use storage::admin::Set;

/// All databases that one deployment is responsible for. Regions that other gateways serve are not among
/// them: their databases are in other hands, and often out of reach.
#[derive(Debug)]
pub struct Deployment {
    databases: Vec<Database>,
}

impl Deployment {
    /// A deployment with a directory and no region yet.
    #[must_use]
    pub fn new(directory_owner_dsn: SecretString) -> Self {
        Self { databases: vec![Database { name: DatabaseName::Directory, owner_dsn: directory_owner_dsn, home: None }] }
    }

    /// Adds a region. `log_origin` is the name of its log, which it keeps for ever.
    #[must_use]
    pub fn with_region(
        mut self,
        region: Region,
        jurisdiction: Jurisdiction,
        log_origin: &str,
        owner_dsn: SecretString,
    ) -> Self {
        let home = Home { region: region.clone(), jurisdiction, log_origin: log_origin.to_owned() };
        self.databases.push(Database { name: DatabaseName::Region(region), owner_dsn, home: Some(home) });
        self
    }

    /// Its databases: the directory first, then the regions in the order in which they were added.
    #[must_use]
    pub fn databases(&self) -> &[Database] {
        &self.databases
    }
}

/// One database of a deployment.
#[derive(Debug)]
pub struct Database {
    pub(crate) name: DatabaseName,
    pub(crate) owner_dsn: SecretString,
    pub(crate) home: Option<Home>,
}

/// What a region's database is founded as.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) region: Region,
    pub(crate) jurisdiction: Jurisdiction,
    pub(crate) log_origin: String,
}

impl Database {
    /// How the deployment calls it.
    #[must_use]
    pub fn name(&self) -> &DatabaseName {
        &self.name
    }

    /// How its owner reaches it.
    #[must_use]
    pub fn owner_dsn(&self) -> &SecretString {
        &self.owner_dsn
    }

    /// The migrations that belong in it.
    #[must_use]
    pub fn set(&self) -> Set {
        if self.home.is_some() { Set::Region } else { Set::Directory }
    }
}

/// How a deployment calls a database: `directory`, or its region's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DatabaseName {
    /// The directory of pins.
    Directory,
    /// A region's own.
    Region(Region),
}

impl fmt::Display for DatabaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory => f.write_str("directory"),
            Self::Region(region) => region.fmt(f),
        }
    }
}
