//! `ops backup check`: whether every place of backups can be used, and which region served has none.

use std::process::ExitCode;

use anyhow::anyhow;
use ops::backup::{check, fix};
use serde_json::json;

use super::backup::Worst;
use super::sources::sources;
use crate::commands::{Failure, load};
use crate::{cli, print};

/// Tries each, and says how it went.
pub(super) async fn run(args: &cli::BackupList) -> Result<ExitCode, Failure> {
    let config = load(&args.which.config)?;
    let named = |name: &str| args.which.regions.is_empty() || args.which.regions.iter().any(|one| one == name);
    let without: Vec<&str> = config
        .served
        .iter()
        .filter(|(region, served)| served.backup.is_none() && named(region.as_str()))
        .map(|(region, _)| region.as_str())
        .collect();
    let any = config.directory.backup.is_some() || config.served.values().any(|served| served.backup.is_some());
    let sources = if any { sources(&config, &args.which.regions)? } else { Vec::new() };
    let (mut worst, mut rows, mut objects) = (Worst::Nothing, Vec::new(), Vec::new());
    for source in &sources {
        let name = source.database.to_string();
        let place = format!("{} in {}", source.target.describe(), source.place.location());
        match check(source).await {
            Ok(()) => {
                objects.push(json!({ "region": name, "place": place }));
                rows.push(vec![name, place, "written, read and removed".to_owned()]);
            }
            Err(error) => {
                worst = worst.max(Worst::Refused);
                let fix = fix(&error);
                let why = format!("{:#}", anyhow!(error));
                print::note(format!("{name}: {place}: {why}. To mend it: {fix}"));
                objects.push(json!({ "region": name, "place": place, "error": why, "fix": fix }));
                rows.push(vec![name, place, format!("NO: {why}")]);
            }
        }
    }
    for region in &without {
        print::note(format!("{region} has no place for backups, so none is made: write [regions.{region}.backup]"));
        rows.push(vec![(*region).to_owned(), "none".into(), "NO BACKUP is made".into()]);
    }
    if args.which.json {
        print::json(&json!({ "places": objects, "without": without }))?;
    } else {
        print::line(print::table(&["database", "place", "tried"], rows));
    }
    Ok(worst.code())
}
