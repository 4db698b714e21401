//! The databases that have backups, with the keys that only these commands read.

use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use ops::DatabaseName;
use ops::backup::target::Folder;
use ops::backup::{Bounds, Identities, Programs, Source};
use secrecy::SecretString;
use time::OffsetDateTime;

use crate::config::{Backup, Config, Postgres, secret_beside, secret_by_reference};

/// Those that are named, or all that the configuration gives a place for backups: regions first, then the directory.
pub(super) fn sources(config: &Config, named: &[String]) -> anyhow::Result<Vec<Source>> {
    let region = |(region, served): (&residency::Region, &'_ crate::config::Served)| {
        served
            .backup
            .as_deref()
            .map(|backup| (DatabaseName::Region(region.clone()), served.postgres.clone(), backup.clone()))
    };
    let directory = config.directory.backup.as_deref();
    let directory =
        directory.map(|backup| (DatabaseName::Directory, config.directory.postgres.clone(), backup.clone()));
    let all: Vec<_> = config.served.iter().filter_map(region).chain(directory).collect();
    let known = || all.iter().map(|(name, _, _)| name.to_string()).collect::<Vec<_>>().join(", ");
    if all.is_empty() {
        bail!("no database has a place for its backups: write [regions.<name>.backup] and [directory.backup]");
    }
    for name in named {
        if all.iter().all(|(known, _, _)| known.to_string() != *name) {
            bail!("{name} has no place for its backups; these have: {}", known());
        }
    }
    let wanted = all.into_iter().filter(|(name, _, _)| named.is_empty() || named.contains(&name.to_string()));
    let programs = Programs::find(config.backup.pg_bin.as_deref())?;
    wanted.map(|(name, postgres, backup)| source(config, &programs, name, &postgres, &backup)).collect()
}

/// The one that is named, or the only one.
pub(super) fn one_source(config: &Config, named: Option<&String>) -> anyhow::Result<Source> {
    let named: Vec<String> = named.cloned().into_iter().collect();
    let mut sources = sources(config, &named)?;
    match (sources.pop(), sources.is_empty()) {
        (Some(only), true) => Ok(only),
        _ => bail!("name the database with --region: a region, or `directory`"),
    }
}

fn source(
    config: &Config,
    programs: &Programs,
    database: DatabaseName,
    postgres: &Postgres,
    backup: &Backup,
) -> anyhow::Result<Source> {
    let secret =
        |reference: &str| secret_beside(&backup.settings_folder, reference).map_err(|sentence| anyhow!(sentence));
    let key =
        secret(&backup.key).with_context(|| format!("the key that signs the backups of {database} cannot be read"))?;
    let key = key.parse().map_err(|error| anyhow!("the key that signs the backups of {database} is none: {error}"))?;
    let scratch_dsn: SecretString = match &backup.scratch_postgres {
        None => postgres.owner_dsn.clone(),
        Some(written) if written.starts_with("file:") || written.starts_with("env:") => secret(written)?.into(),
        Some(written) => written.clone().into(),
    };
    Ok(Source {
        database,
        jurisdiction: backup.jurisdiction.clone(),
        owner_dsn: postgres.owner_dsn.clone(),
        scratch_dsn,
        target: Arc::new(Folder::at(&backup.folder)),
        place: backup.place.clone(),
        recipients: backup.recipients.clone(),
        key,
        programs: programs.clone(),
        bounds: Bounds { run_max: config.backup.run_max },
        clock,
    })
}

/// The private keys that a command line names.
pub(super) fn identities(reference: &str) -> anyhow::Result<Identities> {
    let text = secret_by_reference(reference).map_err(|sentence| anyhow!(sentence))?;
    Ok(Identities::parse(&text.into())?)
}

/// The machine's clock.
#[expect(clippy::disallowed_methods, reason = "the binary is the front door of time")]
pub(super) fn clock() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}
