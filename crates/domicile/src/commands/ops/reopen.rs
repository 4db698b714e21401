//! `domicile ops backup restore --region directory --open`: the gate of a restored directory.

use anyhow::Context as _;
use ops::backup::Source;
use ops::backup::restore::{Reopened, Reopening, open_directory};
use residency::Region;
use serde_json::json;

use super::restore::login;
use crate::config::Config;
use crate::{cli, print, rooms};

/// Runs it.
pub(super) async fn run(
    config: &Config,
    source: &Source,
    database: &str,
    args: &cli::BackupRestore,
) -> anyhow::Result<()> {
    let owned =
        |(region, served): (&Region, &crate::config::Served)| (region.clone(), served.postgres.owner_dsn.clone());
    let regions: Vec<_> = config.served.iter().map(owned).collect();
    // Those served elsewhere have a home_url here.
    let known: Vec<Region> = config.served.keys().chain(config.home_urls.keys()).cloned().collect();
    let without = args.without.iter().map(|name| Region::new(name)).collect::<Result<Vec<_>, _>>();
    let without = without.context("--without names no region")?;
    let peppers = rooms::peppers(&config.directory)?;
    let login = login(&config.directory.postgres);
    let opening = Reopening {
        database,
        regions: &regions,
        known: &known,
        without: &without,
        peppers: &peppers,
        login: login.as_ref(),
    };
    let found = open_directory(source, &opening, !args.yes).await?;
    if args.which.json {
        let heard = found.heard.iter().map(|one| {
            json!({
                "region": one.region.to_string(), "subjects": one.repinned.subjects, "pinned": one.repinned.pinned,
                "moved": one.repinned.moved, "contradicted": one.repinned.contradicted, "erased": one.repinned.erased,
            })
        });
        print::json(&json!({
            "region": "directory", "database": database, "backup": found.backup, "opened": found.live_keys.is_some(),
            "heard": heard.collect::<Vec<_>>(), "missing": found.missing, "live_keys": found.live_keys,
        }))?;
    } else {
        say(&found, database, args.yes);
    }
    Ok(())
}

fn say(found: &Reopened, database: &str, done: bool) {
    print::line(format!("{database}, from the backup {}. What the regions know that it did not:", found.backup));
    for one in &found.heard {
        let said = &one.repinned;
        print::line(format!(
            "  {}: {} subjects, {} of them not pinned, {} pinned where they lived before, {} pinned elsewhere; {} erasures",
            one.region, said.subjects, said.pinned, said.moved, said.contradicted, said.erased,
        ));
    }
    match found.live_keys {
        Some(keys) => {
            print::line(format!(
                "{database} is open. {keys} API keys are live in it, those included that were revoked after the backup: \
                 `domicile keys list` once it is in use."
            ));
            print::line(format!("Next: name {database} in directory.postgres and start the gateways."));
        }
        None if found.missing.is_empty() => print::line("Nothing was done: add --yes."),
        None => {
            let (done, missing) =
                (if done { "It stays closed" } else { "It would stay closed" }, found.missing.join(", "));
            print::line(format!(
                "{done}: not heard yet: {missing}. Say the same in the cell that reaches them; a region that exists no more: --without."
            ));
        }
    }
}
