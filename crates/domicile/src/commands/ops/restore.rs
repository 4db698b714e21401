//! `domicile ops backup restore`: says what it would do, and with `--yes` does it.

use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use ops::DatabaseName;
use ops::backup::restore::{self, Findings, Opening, Plan};
use ops::backup::{BackupId, Error, Source};
use secrecy::ExposeSecret as _;
use serde_json::json;
use storage::admin::LoginName;

use super::backup::{Watch, Worst, words};
use super::reopen;
use super::sources::{clock, identities, one_source};
use crate::commands::{Failure, load};
use crate::config::{Config, Dsn, Postgres};
use crate::{cli, print, rooms};

/// Runs it.
pub(super) async fn run(args: &cli::BackupRestore) -> Result<ExitCode, Failure> {
    let config = load(&args.which.config)?;
    let source = one_source(&config, args.which.region.as_ref())?;
    let done = match &args.open {
        Some(database) => match source.database {
            DatabaseName::Directory => reopen::run(&config, &source, database, args).await,
            DatabaseName::Region(_) => open(&config, &source, database, args).await,
        },
        None => restore_one(&source, args).await,
    };
    match done {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => match error.downcast_ref::<Error>() {
            Some(cause) => {
                print::note(format!("error: {error:#}"));
                print::note("Data: unchanged but for what is said above. Serving now: what served before.");
                Ok(Worst::of(cause).code())
            }
            None => Err(error.into()),
        },
    }
}

async fn restore_one(source: &Source, args: &cli::BackupRestore) -> anyhow::Result<()> {
    let id = args.id.as_ref().map(|id| id.parse::<BackupId>()).transpose().context("--id names no backup")?;
    let reference = args.identity.as_ref().context("name the private key with --identity")?;
    let identities = identities(reference)?;
    if args.to.is_none() && !args.to_scratch {
        return Err(anyhow!("say where to: --to DATABASE, or --to-scratch"));
    }
    let plan = restore::plan(source, id.as_ref(), args.to.as_deref()).await?;
    // A scratch copy is closed and beside everything: nothing needs to be thought over but that somebody drops it.
    let done = args.yes || args.to_scratch;
    if done {
        let watch = Watch::new();
        let restored = restore::restore(source, &plan, &identities, &|name, step| watch.step(name, &step)).await;
        watch.clear();
        restored?;
    }
    if args.which.json {
        print::json(
            &json!({ "region": source.database.to_string(), "id": plan.id.to_string(), "database": plan.database,
            "rows": plan.manifest.rows(), "restored": done }),
        )?;
    } else {
        say(source, &plan, done, args.to_scratch);
    }
    Ok(())
}

fn say(source: &Source, plan: &Plan, done: bool, scratch: bool) {
    let Plan { id, manifest, database } = plan;
    let verb = if done { "Restored" } else { "Would restore" };
    let age = id.taken_at().map_or_else(|| "of unknown age".into(), |at| format!("{} old", words(clock() - at)));
    print::line(format!(
        "{verb} the backup {id} of {} ({age}, {} rows in {} tables) into the new database {database}{}.",
        source.database,
        manifest.rows(),
        manifest.tables.len(),
        if done { "; every count and sum is the same" } else { "" },
    ));
    if done && scratch {
        print::line(format!(
            "It is closed, holds personal data, and stays until it is dropped: DROP DATABASE {database} on the region's server."
        ));
        return;
    }
    match (done, &source.database) {
        (false, _) => print::line("Nothing was done: add --yes."),
        (true, DatabaseName::Region(region)) => print::line(format!(
            "It is closed: gateways refuse it. Next: domicile ops backup restore --region {region} --open {database}"
        )),
        (true, DatabaseName::Directory) => print::line(format!(
            "It is closed: gateways refuse it. Next: domicile ops backup restore --region directory --open {database}"
        )),
    }
}

async fn open(config: &Config, source: &Source, database: &str, args: &cli::BackupRestore) -> anyhow::Result<()> {
    let served = config.served.iter().find(|(region, _)| region.as_str() == source.database.to_string());
    let (_, served) = served.context("only a region's database is opened")?;
    let signed = match &served.signer {
        None => None,
        Some(signer) => audit::Memory::at(&signer.memory_file).recall(signer.key.public())?,
    };
    let login = login(&served.postgres);
    let peppers = rooms::peppers(&config.directory)?;
    let opening = Opening {
        database,
        directory_dsn: &config.directory.postgres.owner_dsn,
        peppers: &peppers,
        signed: signed.map(|checkpoint| (checkpoint.size, checkpoint.root)),
        seen: args.seen,
        relayed: args.relayed,
        unsigned_margin: restore::UNSIGNED_MARGIN,
        log_origin: args.log_origin.as_deref(),
        login: login.as_ref(),
        actor: &args.actor,
    };
    let found = restore::open(source, &opening, !args.yes).await?;
    if args.which.json {
        print::json(&json!({
            "region": source.database.to_string(), "database": database, "backup": found.backup, "opened": found.opened.is_some(),
            "subjects": found.replayed.subjects, "erased": found.replayed.erased, "moved": found.replayed.moved,
            "pinned": found.replayed.pinned, "tombstones": found.replayed.tombstones,
            "log": { "restored": found.restored_size, "signed": found.signed_size, "origin": found.origin,
                "lost": found.lost.as_ref().map(|lost| [lost.start, lost.end]), "new_origin": found.new_origin },
        }))?;
    } else {
        say_opened(&found, database);
    }
    Ok(())
}

/// The login that gateways use, where it is not the owner's.
pub(super) fn login(postgres: &Postgres) -> Option<LoginName> {
    let login = Dsn::parse(postgres.dsn.expose_secret()).and_then(|dsn| dsn.user);
    let owner = Dsn::parse(postgres.owner_dsn.expose_secret()).and_then(|dsn| dsn.user);
    login.filter(|login| Some(login) != owner.as_ref()).and_then(|login| LoginName::new(&login))
}

fn say_opened(found: &Findings, database: &str) {
    let done = found.opened.is_some();
    let would = |past: &str, future: &str| if done { past.to_owned() } else { future.to_owned() };
    let replayed = &found.replayed;
    print::line(format!(
        "{database}, from the backup {}: {} subjects. Since it was taken {} were erased and {} moved to another region: {}.",
        found.backup,
        replayed.subjects,
        replayed.erased,
        replayed.moved,
        would("they were taken out", "they would be taken out"),
    ));
    print::line(format!(
        "{} tombstones {}, {} subjects that the directory does not know {}.",
        replayed.tombstones,
        would("were kept", "would be kept"),
        replayed.pinned,
        would("were pinned again", "would be pinned again"),
    ));
    match (&found.lost, &found.new_origin) {
        (None, _) => {
            print::line(format!(
                "The log of {} continues what was signed, and nobody saw more of it than its {} entries: it goes on behind them.",
                found.origin, found.restored_size
            ));
        }
        (Some(lost), new) => {
            print::line(format!(
                "The log of {} has {} entries, and entries {} to {} were or may have been seen: they are lost. {}",
                found.origin,
                found.restored_size,
                lost.start,
                lost.end - 1,
                match new {
                    Some(new) => format!("It goes on as {new}, behind them."),
                    None => "It must go on under a new name: give it with --log-origin.".to_owned(),
                }
            ));
            if let Some(new) = new {
                print::line(format!(
                    "Next: domicile audit key generate {new}; write log_origin = \"{new}\", the new key and a new memory_file; tell the \
                     auditors the new public key, and the consumers of the topics that domicile_log is {new} from here on."
                ));
            }
        }
    }
    print::line(match done {
        true => format!("{database} is open. Next: name it in the region's postgres and start the gateways."),
        false => "Nothing was done: add --yes.".to_owned(),
    });
}
