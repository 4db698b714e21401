//! `domicile keys`: the API keys of callers, in the directory.

use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use api::Scope;
use residency::Tenant;
use secrecy::ExposeSecret as _;
use serde_json::json;
use storage::{ApiKeys, Directory};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Failure, load};
use crate::config::{Config, nearest};
use crate::{cli, print, rooms};

/// Runs one of them.
pub(crate) async fn run(command: &cli::Keys) -> Result<ExitCode, Failure> {
    match command {
        cli::Keys::Create(args) => create(args).await,
        cli::Keys::List(args) => list(args).await,
        cli::Keys::Revoke(args) => revoke(args).await,
    }
}

async fn create(args: &cli::KeysCreate) -> Result<ExitCode, Failure> {
    let config = load(&args.config)?;
    let scopes = scopes(&args.scopes)?;
    let tenant = args.tenant.as_deref().map(Tenant::new).transpose().map_err(anyhow::Error::from)?;
    let key = owned(&config)?.create(&args.name, &scopes, tenant.as_ref()).await.context("no key was created")?;
    let token = key.token.expose_secret();
    if args.json {
        print::json(&json!({ "id": key.id, "name": args.name, "scopes": scopes, "token": token }))?;
    } else {
        print::note(format!("Key {} of {} ({}).", key.id, args.name, scopes.join(", ")));
        print::note("Its token is shown this once and kept nowhere:");
        print::line(token);
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(args: &cli::KeysList) -> Result<ExitCode, Failure> {
    let keys = owned(&load(&args.config)?)?.list().await.context("the keys cannot be listed")?;
    let tenant = |key: &storage::ApiKey| key.tenant.as_ref().map(ToString::to_string);
    if args.json {
        let rows = keys.iter().map(|key| {
            json!({
                "id": key.id, "name": key.name, "scopes": key.scopes, "tenant": tenant(key),
                "created_at": instant(key.created_at_us), "revoked_at": key.revoked_at_us.map(instant),
            })
        });
        print::json(&rows.collect::<Vec<_>>())?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = keys.iter().map(|key| {
        let state = key.revoked_at_us.map_or_else(|| "live".to_owned(), |at| format!("revoked {}", instant(at)));
        let tenant = tenant(key).unwrap_or_else(|| "-".into());
        vec![key.id.clone(), key.name.clone(), key.scopes.join(" "), tenant, instant(key.created_at_us), state]
    });
    print::line(print::table(&["id", "name", "scopes", "tenant", "created", "state"], rows));
    Ok(ExitCode::SUCCESS)
}

async fn revoke(args: &cli::KeysRevoke) -> Result<ExitCode, Failure> {
    let keys = owned(&load(&args.config)?)?;
    let now = keys.revoke(&args.id).await.with_context(|| format!("key {} was not revoked", args.id))?;
    print::line(match now {
        true => format!("Key {} is revoked; every gateway refuses it within two seconds.", args.id),
        false => format!("Key {} was revoked before.", args.id),
    });
    Ok(ExitCode::SUCCESS)
}

/// The keys of the directory, by the owner's login: a gateway's own cannot make keys.
pub(super) fn owned(config: &Config) -> anyhow::Result<ApiKeys> {
    let mut settings = rooms::directory(config)?;
    settings.dsn = config.directory.postgres.owner_dsn.clone();
    Ok(Directory::open(settings).keys())
}

/// The names of scopes, each of which must exist.
fn scopes(names: &[String]) -> anyhow::Result<Vec<&str>> {
    let known = || Scope::ALL.iter().map(|scope| scope.name());
    names
        .iter()
        .map(|name| {
            known().find(|known| known == name).ok_or_else(|| match nearest(name, known()) {
                Some(near) => anyhow!("there is no scope {name}; did you mean {near}?"),
                None => anyhow!("there is no scope {name}; there are {}", known().collect::<Vec<_>>().join(", ")),
            })
        })
        .collect()
}

fn instant(at_us: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp(at_us / 1_000_000).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    at.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_that_does_not_exist_is_refused_with_the_one_that_was_meant() {
        assert_eq!(scopes(&["records:read".into()]).expect("known"), ["records:read"]);
        let refusal = scopes(&["record:read".into()]).expect_err("unknown").to_string();
        assert!(refusal.contains("records:read"), "{refusal}");
    }

    #[test]
    fn an_instant_is_written_as_people_and_programs_read_it() {
        assert_eq!(instant(1_795_478_400_000_000), "2026-11-24T00:00:00Z");
    }
}
