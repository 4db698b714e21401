//! Brings every database of a deployment up to date, the directory first. A database that fails does
//! not keep the others waiting: files only add, so the gateways of the others gain and lose nothing by it.

use std::fmt;

use storage::admin::{self, Error, Migrated, MigrationState, Options, SchemaLevel, Set, Step};

use crate::deployment::{Database, DatabaseName, Deployment};

/// Whoever watches: told which database takes which step.
pub type Progress<'a> = &'a (dyn Fn(&DatabaseName, Step) + Send + Sync);

/// What [`run`] would do to one database.
#[derive(Debug)]
pub struct Planned {
    /// Which database.
    pub database: DatabaseName,
    /// How each migration stands, by number; or why that cannot be said.
    pub migrations: Result<Vec<MigrationState>, Error>,
    /// How far its schema is, and how old a program may be that uses it.
    pub schema: SchemaLevel,
}

impl Planned {
    /// What would be applied now: everything up to the first file that takes something away.
    pub fn pending(&self) -> impl Iterator<Item = &MigrationState> {
        self.waiting().take_while(|migration| migration.expand_only)
    }

    /// What would be left for later: that file, and whatever may build on it.
    pub fn held(&self) -> impl Iterator<Item = &MigrationState> {
        self.waiting().skip_while(|migration| migration.expand_only)
    }

    /// What a newer program applied and this one does not know. It is left as it is.
    pub fn newer(&self) -> impl Iterator<Item = &MigrationState> {
        self.migrations.iter().flatten().filter(|migration| !migration.known)
    }

    /// Whether [`run`] would change nothing.
    #[must_use]
    pub fn is_up_to_date(&self) -> bool {
        self.migrations.is_ok() && self.waiting().next().is_none()
    }

    fn waiting(&self) -> impl Iterator<Item = &MigrationState> {
        self.migrations.iter().flatten().filter(|migration| migration.known && !migration.applied)
    }
}

/// One line for each thing to know about the database.
impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let database = &self.database;
        if let Err(error) = &self.migrations {
            return writeln!(f, "{database}: {error}");
        }
        let mut say =
            |what: &str, one: &MigrationState| writeln!(f, "{database}: {what} {} {}", one.version, one.description);
        self.newer().try_for_each(|migration| say("leaves as it is, from a newer program,", migration))?;
        self.pending().try_for_each(|migration| say("would apply", migration))?;
        self.held().try_for_each(|migration| say("would leave for later", migration))?;
        if self.is_up_to_date() {
            writeln!(f, "{database}: up to date")?;
        }
        Ok(())
    }
}

/// What [`run`] did to one database.
#[derive(Debug)]
pub struct Outcome {
    /// Which database.
    pub database: DatabaseName,
    /// What was applied and what was left for later; or why it failed. What was applied before a failure stays.
    pub migrated: Result<Migrated, Error>,
}

/// Says what [`run`] would do. Changes nothing.
pub async fn plan(deployment: &Deployment) -> Vec<Planned> {
    let mut plan = Vec::with_capacity(deployment.databases().len());
    for database in deployment.databases() {
        let (dsn, set) = (&database.owner_dsn, database.set());
        let mut migrations = admin::status(dsn, set).await;
        let schema = match &migrations {
            Ok(_) => admin::schema_level(dsn, set).await,
            Err(_) => Ok(SchemaLevel::default()),
        };
        let schema = schema.unwrap_or_else(|error| {
            migrations = Err(error);
            SchemaLevel::default()
        });
        plan.push(Planned { database: database.name.clone(), migrations, schema });
    }
    plan
}

/// Migrates one database after the other and founds the regions. Doing it again changes nothing.
pub async fn run(deployment: &Deployment, options: &Options, progress: Progress<'_>) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(deployment.databases().len());
    for database in deployment.databases() {
        let migrated = migrate(database, options, progress).await;
        if let Err(error) = &migrated {
            tracing::error!(database = %database.name, %error, "The database {} was not migrated", database.name);
        }
        outcomes.push(Outcome { database: database.name.clone(), migrated });
    }
    outcomes
}

async fn migrate(database: &Database, options: &Options, progress: Progress<'_>) -> Result<Migrated, Error> {
    let step = |step: Step| progress(&database.name, step);
    match &database.home {
        None => admin::migrate(&database.owner_dsn, Set::Directory, options, &step).await,
        Some(home) => {
            let (region, law, origin) = (&home.region, &home.jurisdiction, home.log_origin.as_str());
            admin::migrate_region_with(&database.owner_dsn, region, law, origin, options, &step).await
        }
    }
}

#[cfg(test)]
mod tests {
    use storage::admin::Locks;

    use super::*;

    fn migration(version: i64, applied: bool, expand_only: bool, known: bool) -> MigrationState {
        let description = format!("number {version}");
        MigrationState {
            version,
            description,
            applied,
            expand_only,
            known,
            assured: Vec::new(),
            locks: Locks::default(),
        }
    }

    #[test]
    fn nothing_overtakes_a_file_that_takes_something_away() {
        let planned = Planned {
            database: DatabaseName::Directory,
            migrations: Ok(vec![
                migration(1, true, true, true),
                migration(2, false, true, true),
                migration(3, false, false, true),
                migration(4, false, true, true),
                migration(9, true, false, false),
            ]),
            schema: SchemaLevel { level: 9, floor: 0 },
        };
        assert_eq!(planned.pending().map(|one| one.version).collect::<Vec<_>>(), [2]);
        assert_eq!(planned.held().map(|one| one.version).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(
            planned.to_string(),
            "directory: leaves as it is, from a newer program, 9 number 9\n\
             directory: would apply 2 number 2\n\
             directory: would leave for later 3 number 3\n\
             directory: would leave for later 4 number 4\n"
        );
    }

    #[test]
    fn a_database_that_cannot_be_read_is_not_up_to_date() {
        let planned =
            Planned { database: DatabaseName::Directory, migrations: Err(Error::Dsn), schema: SchemaLevel::default() };
        assert!(!planned.is_up_to_date());
        assert!(planned.to_string().starts_with("directory: the connection string is not"));
    }
}
