//! `domicile migrate`: brings the directory's and each served region's database up to date.

use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use residency::{Jurisdiction, Region};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use storage::admin::{self, LoginName, Membership, MigrationState, Set};

use super::{FAILED, Failure, load};
use crate::config::{Config, Dsn, Postgres};
use crate::{cli, print};

/// One database and what belongs in it.
struct Database<'a> {
    name: String,
    postgres: &'a Postgres,
    region: Option<(&'a Region, &'a Jurisdiction, &'a str)>,
}

impl Database<'_> {
    fn set(&self) -> Set {
        if self.region.is_some() { Set::Region } else { Set::Directory }
    }

    fn membership(&self) -> Membership {
        if self.region.is_some() { Membership::Gateway } else { Membership::Directory }
    }
}

/// Migrates one database after the other; a failure does not keep the next one waiting.
pub(crate) async fn run(args: &cli::Migrate) -> Result<ExitCode, Failure> {
    let config = load(&args.config)?;
    let mut outcomes = Vec::new();
    for database in databases(&config) {
        let outcome = if args.dry_run { pending(&database).await } else { migrate(&database, args.create).await };
        if let Err(error) = &outcome {
            let sentence = format!("{error:#}");
            let missing = !args.create && sentence.contains("does not exist");
            let hint = if missing { " (`domicile migrate --create` creates databases and logins)" } else { "" };
            print::note(format!("{}: {sentence}{hint}", database.name));
        }
        outcomes.push((database.name, outcome));
    }
    let failed = outcomes.iter().filter(|(_, outcome)| outcome.is_err()).count();
    if args.json {
        let rows = outcomes.iter().map(|(name, outcome)| match outcome {
            Ok(done) => json!({ "database": name, "ok": true, "migrations": done.migrations, "held": done.held }),
            Err(error) => json!({ "database": name, "ok": false, "error": format!("{error:#}") }),
        });
        print::json(&json!({ "dry_run": args.dry_run, "databases": rows.collect::<Vec<_>>() }))?;
    } else {
        let rows = outcomes.iter().map(|(name, outcome)| match outcome {
            Ok(done) => vec![name.clone(), done.in_words(args.dry_run)],
            Err(_) => vec![name.clone(), "failed, see above".into()],
        });
        print::line(print::table(&["database", "migrations"], rows));
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn databases(config: &Config) -> Vec<Database<'_>> {
    let directory = Database { name: "directory".into(), postgres: &config.directory.postgres, region: None };
    let regions = config.served.iter().map(|(region, served)| Database {
        name: region.to_string(),
        postgres: &served.postgres,
        region: Some((region, &served.jurisdiction, served.log_origin.as_str())),
    });
    std::iter::once(directory).chain(regions).collect()
}

/// What was done, or would be.
struct Done {
    /// Numbers of the files applied, or pending.
    migrations: Vec<i64>,
    /// Numbers of files that take something away and wait for a release in which nobody needs it.
    held: Vec<i64>,
}

impl Done {
    fn in_words(&self, dry_run: bool) -> String {
        let held = if self.held.is_empty() { String::new() } else { format!(", {} held back", self.held.len()) };
        match (self.migrations.len(), dry_run) {
            (0, _) => format!("up to date{held}"),
            (count, true) => format!("{count} pending{held}"),
            (count, false) => format!("{count} applied{held}"),
        }
    }
}

async fn pending(database: &Database<'_>) -> anyhow::Result<Done> {
    let states = admin::status(&database.postgres.owner_dsn, database.set()).await?;
    let newer = states.iter().filter(|state| !state.known).count();
    if newer > 0 {
        let name = &database.name;
        print::note(format!("{name}: {newer} migration(s) come from a newer version; they are left as they are"));
    }
    let waiting = || states.iter().filter(|state| state.known && !state.applied);
    for MigrationState { version, description, expand_only, .. } in waiting() {
        let kind = if *expand_only { "would apply" } else { "would hold back" };
        print::note(format!("{}: {kind} {version} {description}", database.name));
    }
    let numbers = |expand: bool| waiting().filter(|s| s.expand_only == expand).map(|s| s.version).collect();
    Ok(Done { migrations: numbers(true), held: numbers(false) })
}

async fn migrate(database: &Database<'_>, create: bool) -> anyhow::Result<Done> {
    let owner = &database.postgres.owner_dsn;
    if create {
        create_database(&database.name, owner).await?;
    }
    let progress = |step: admin::Step| print::note(format!("{}: {step}", database.name));
    let migrated = match database.region {
        None => admin::migrate_directory(owner, &progress).await?,
        Some((region, jurisdiction, origin)) => {
            admin::migrate_region(owner, region, jurisdiction, origin, &progress).await?
        }
    };
    if create {
        create_login(database).await?;
    }
    Ok(Done { migrations: migrated.applied, held: migrated.held })
}

/// Creates the database that the owner's URL names, by way of the server's own database `postgres`.
async fn create_database(name: &str, owner: &SecretString) -> anyhow::Result<()> {
    let dsn = Dsn::parse(owner.expose_secret()).context("the owner's URL names no database")?;
    let server = Dsn::with_database(owner.expose_secret(), "postgres").context("the owner's URL cannot be changed")?;
    if admin::create_database_if_absent(&server.into(), &dsn.database).await? {
        print::note(format!("{name}: created database {}", dsn.database));
    }
    Ok(())
}

/// Creates the login that the service's URL names, when it is another one than the owner's.
async fn create_login(database: &Database<'_>) -> anyhow::Result<()> {
    let dsn = |url: &SecretString| Dsn::parse(url.expose_secret()).context("a URL cannot be read");
    let (service, owner) = (dsn(&database.postgres.dsn)?, dsn(&database.postgres.owner_dsn)?);
    let Some(user) = service.user.filter(|user| owner.user.as_ref() != Some(user)) else { return Ok(()) };
    if service.server != owner.server {
        bail!("the service's URL and the owner's name different servers, so the login was not created");
    }
    let name = LoginName::new(&user).ok_or_else(|| anyhow!("the login's name needs quoting; use a-z, 0-9 and _"))?;
    let password = service.password.map(SecretString::from);
    let owner = &database.postgres.owner_dsn;
    admin::create_login_role(owner, &name, password.as_ref(), &[database.membership()]).await?;
    print::note(format!("{}: login {} may act for a gateway", database.name, name.as_str()));
    Ok(())
}
