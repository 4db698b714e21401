//! `domicile migrate`: brings the directory's and each served region's database up to date. The work itself is
//! [`ops::migrate`]; here are its configuration, what goes before and after on a first day, and its words.

use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use ops::{DatabaseName, Deployment};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use storage::admin::{self, LoginName, Membership};

use super::{FAILED, Failure, load};
use crate::config::{Config, Dsn, Postgres};
use crate::{cli, print};

/// What was done to one database, or would be.
#[derive(Default)]
struct Done {
    /// Numbers of the files applied, or pending.
    migrations: Vec<i64>,
    /// Numbers of files that take something away and wait for a release in which nobody needs it.
    held: Vec<i64>,
    /// In a dry run, what is known beyond the numbers: for the deployer's plan.
    details: serde_json::Map<String, Value>,
}

type Outcome = (DatabaseName, anyhow::Result<Done>);

/// Migrates one database after the other; a failure does not keep the next one waiting.
pub(crate) async fn run(args: &cli::Migrate) -> Result<ExitCode, Failure> {
    let config = load(&args.config)?;
    let options =
        admin::Options { lease_token: args.lease_token, contract: args.contract, ..admin::Options::default() };
    let outcomes = if args.dry_run { plan(&config).await } else { migrate(&config, args.create, &options).await };
    for (name, outcome) in &outcomes {
        if let Err(error) = outcome {
            let sentence = format!("{error:#}");
            let missing = !args.create && sentence.contains("does not exist");
            let hint = if missing { " (`domicile migrate --create` creates databases and logins)" } else { "" };
            print::note(format!("{name}: {sentence}{hint}"));
        }
    }
    let failed = outcomes.iter().any(|(_, outcome)| outcome.is_err());
    if args.json {
        let rows = outcomes.iter().map(|(name, outcome)| match outcome {
            Ok(done) => {
                let mut row = done.details.clone();
                row.insert("database".into(), name.to_string().into());
                row.insert("ok".into(), true.into());
                row.insert("migrations".into(), json!(done.migrations));
                row.insert("held".into(), json!(done.held));
                Value::Object(row)
            }
            Err(error) => json!({ "database": name.to_string(), "ok": false, "error": format!("{error:#}") }),
        });
        print::json(&json!({ "dry_run": args.dry_run, "databases": rows.collect::<Vec<_>>() }))?;
    } else {
        let rows = outcomes.iter().map(|(name, outcome)| match outcome {
            Ok(done) => vec![name.to_string(), done.in_words(args.dry_run)],
            Err(_) => vec![name.to_string(), "failed, see above".into()],
        });
        print::line(print::table(&["database", "migrations"], rows));
    }
    Ok(if failed { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
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

/// The databases, as their owner reaches them.
pub(super) fn deployment(config: &Config) -> Deployment {
    let directory = Deployment::new(config.directory.postgres.owner_dsn.clone());
    config.served.iter().fold(directory, |deployment, (region, served)| {
        let owner = served.postgres.owner_dsn.clone();
        deployment.with_region(region.clone(), served.jurisdiction.clone(), &served.log_origin, owner)
    })
}

/// What would be done.
async fn plan(config: &Config) -> Vec<Outcome> {
    let plan = ops::migrate::plan(&deployment(config)).await;
    let told = plan.into_iter().map(|planned| {
        if planned.migrations.is_ok() && !planned.is_up_to_date() {
            planned.to_string().lines().for_each(print::note);
        }
        let migrations = planned.pending().map(|migration| migration.version).collect();
        let held = planned.held().map(|migration| migration.version).collect();
        let details = details(&planned);
        let outcome = planned.migrations.map(|_| Done { migrations, held, details });
        (planned.database, outcome.map_err(anyhow::Error::from))
    });
    told.collect()
}

/// What the deployer's plan tells of a database.
fn details(planned: &ops::migrate::Planned) -> serde_json::Map<String, Value> {
    let told = |migration: &admin::MigrationState| {
        let locks = migration.locks.tables.iter();
        let locks =
            locks.map(|(table, mode)| json!({ "table": table, "mode": mode.name(), "keeps_out": mode.keeps_out() }));
        json!({
            "version": migration.version, "description": migration.description, "assured": migration.assured,
            "locks": locks.collect::<Vec<_>>(), "locks_more": migration.locks.more,
        })
    };
    let pending: Vec<Value> = planned.pending().map(told).collect();
    let held_back: Vec<Value> = planned.held().map(told).collect();
    [
        ("pending", json!(pending)),
        ("held_back", json!(held_back)),
        ("level", json!(planned.schema.level)),
        ("floor", json!(planned.schema.floor)),
        ("lock_wait_ms_max", json!(admin::Options::default().lock_timeout.as_millis())),
        ("lock_attempts_max", json!(admin::ATTEMPTS_MAX)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into_iter()
    .collect()
}

/// Does it; with `create`, makes databases before and logins after.
async fn migrate(config: &Config, create: bool, options: &admin::Options) -> Vec<Outcome> {
    if create {
        for (name, postgres) in databases(config) {
            if let Err(error) = create_database(&name, &postgres.owner_dsn).await {
                print::note(format!("{name}: {error:#}"));
            }
        }
    }
    let progress = |name: &DatabaseName, step: admin::Step| print::note(format!("{name}: {step}"));
    let migrated = ops::migrate::run(&deployment(config), options, &progress).await;
    let mut outcomes = Vec::with_capacity(migrated.len());
    for (one, (name, postgres)) in migrated.into_iter().zip(databases(config)) {
        let mut outcome = one.migrated.map_err(anyhow::Error::from);
        if create && outcome.is_ok() {
            outcome = create_login(&name, postgres).await.and(outcome);
        }
        outcomes
            .push((name, outcome.map(|done| Done { migrations: done.applied, held: done.held, ..Done::default() })));
    }
    outcomes
}

/// Every database with its connections, in the order of the deployment.
fn databases(config: &Config) -> impl Iterator<Item = (DatabaseName, &Postgres)> {
    let regions = config.served.iter().map(|(region, served)| (DatabaseName::Region(region.clone()), &served.postgres));
    std::iter::once((DatabaseName::Directory, &config.directory.postgres)).chain(regions)
}

/// Creates the database that the owner's URL names, by way of the server's own database `postgres`.
async fn create_database(name: &DatabaseName, owner: &SecretString) -> anyhow::Result<()> {
    let dsn = Dsn::parse(owner.expose_secret()).context("the owner's URL names no database")?;
    let server = Dsn::with_database(owner.expose_secret(), "postgres").context("the owner's URL cannot be changed")?;
    if admin::create_database_if_absent(&server.into(), &dsn.database).await? {
        print::note(format!("{name}: created database {}", dsn.database));
    }
    Ok(())
}

/// Creates the login that the service's URL names, when it is another one than the owner's.
async fn create_login(database: &DatabaseName, postgres: &Postgres) -> anyhow::Result<()> {
    let dsn = |url: &SecretString| Dsn::parse(url.expose_secret()).context("a URL cannot be read");
    let (service, owner) = (dsn(&postgres.dsn)?, dsn(&postgres.owner_dsn)?);
    let Some(user) = service.user.filter(|user| owner.user.as_ref() != Some(user)) else { return Ok(()) };
    if service.server != owner.server {
        bail!("the service's URL and the owner's name different servers, so the login was not created");
    }
    let name = LoginName::new(&user).ok_or_else(|| anyhow!("the login's name needs quoting; use a-z, 0-9 and _"))?;
    let password = service.password.map(SecretString::from);
    let membership = match database {
        DatabaseName::Directory => Membership::Directory,
        DatabaseName::Region(_) => Membership::Gateway,
    };
    admin::create_login_role(&postgres.owner_dsn, &name, password.as_ref(), &[membership]).await?;
    print::note(format!("{database}: login {} may act for a gateway", name.as_str()));
    Ok(())
}
