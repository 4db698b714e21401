//! `ops migrate contract`: migrations that take something away. Never part of a deployment: afterwards releases older
//! than the new floor cannot serve.

use std::io::IsTerminal as _;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ops::deploy::{Lock, ReleaseId};
use ops::{Exit, Failure as Failed, Trouble};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::asked_and_agreed;
use super::cell::Opened;
use crate::{cli, print};

const PATIENCE: Duration = Duration::from_secs(3600);

/// Looks whether anybody could still need what would go, then does it.
pub(super) fn run(opened: &Opened, interrupted: &AtomicBool, args: &cli::OpsContract) -> Result<Exit, Failed> {
    let deployer = opened.deployer(interrupted, "migrate contract");
    let unchanged = |trouble: Trouble| deployer.unchanged(trouble);
    let lock = Lock::take(&opened.store, &deployer.holder).map_err(unchanged)?;
    let outcome = contract(opened, &deployer, args);
    drop(lock);
    outcome.map_err(unchanged)
}

fn contract(opened: &Opened, deployer: &ops::deploy::Deployer<'_>, args: &cli::OpsContract) -> Result<Exit, Trouble> {
    let refuse = |what: String| Trouble::of(Exit::Unchanged, what);
    let state = opened.store.state()?;
    let Some(serving) = &state.serving else { return Err(refuse("nothing serves here yet".into())) };
    let runtime = opened.runtime();
    let told = runtime.run(&serving.tag, &["migrate", "--dry-run", "--json"], PATIENCE)?;
    let told: Value = serde_json::from_str(&told.stdout)?;
    let databases = told["databases"].as_array().cloned().unwrap_or_default();
    let held: usize = databases.iter().map(|one| one["held_back"].as_array().map_or(0, Vec::len)).sum();
    if held == 0 {
        print::line("No migration of the serving release takes anything away.");
        return Ok(Exit::Done);
    }
    let since = opened.store.history()?.into_iter().rev().find(|deed| deed.outcome == "committed").map(|deed| deed.at);
    let parse = |at: &str| OffsetDateTime::parse(at, &Rfc3339).ok();
    let now = parse(&deployer.pace.wall());
    let days = now.zip(since.as_deref().and_then(parse)).map(|(now, since)| (now - since).whole_days());
    if days.is_none_or(|days| days < i64::from(args.soak_days)) {
        let served = days.unwrap_or(0);
        return Err(refuse(format!(
            "{} has served for {served} days and is to have served for {}: nobody knows yet whether it is to stay",
            serving.release, args.soak_days
        )));
    }
    // Every release that could come back knows less than the serving one at most; ask for each by name.
    let abandoned: Vec<ReleaseId> = args.abandon.iter().filter_map(|name| name.parse().ok()).collect();
    let lost: Vec<String> = deployer
        .targets(&state)?
        .into_iter()
        .filter(|release| !abandoned.contains(&release.release))
        .filter(|release| {
            let own = opened.store.release(serving.release).ok().flatten();
            own.is_none_or(|own| {
                release.abilities.levels.iter().any(|(set, level)| own.abilities.levels.get(set) > Some(level))
            })
        })
        .map(|release| release.release.to_string())
        .collect();
    if !lost.is_empty() {
        let flags: Vec<String> = lost.iter().map(|name| format!("--abandon-rollback-to {name}")).collect();
        return Err(refuse(format!(
            "{} could not serve afterwards. If that is meant: deploy.sh migrate contract {}",
            lost.join(", "),
            flags.join(" ")
        )));
    }
    if !args.yes {
        if !std::io::stdin().is_terminal() {
            return Err(Trouble::of(Exit::Usage, "this cannot be undone; off a terminal it needs --yes"));
        }
        print::note(format!("{held} migrations take something away. This cannot be undone."));
        if !asked_and_agreed() {
            return Err(Trouble::of(Exit::Aborted, "You did not agree, so nothing was done."));
        }
    }
    let release = serving.release.to_string();
    let backup = ["ops", "backup", "create", "--kind", "pre-contract", "--release", &release, "--json"];
    let ran = runtime.run(&serving.tag, &backup, PATIENCE)?;
    if ran.code != 0 {
        return Err(Trouble::of(Exit::Unproven, format!("no proven backup:\n{}", ran.last_words())));
    }
    let lease = runtime.hold_lease(&serving.tag, &format!("{} migrate contract", deployer.holder.by()))?;
    let token = lease.token().map(|token| token.to_string());
    let mut migrate = vec!["migrate", "--json", "--contract"];
    if let Some(token) = &token {
        migrate.extend(["--lease-token", token]);
    }
    let ran = runtime.run(&serving.tag, &migrate, PATIENCE)?;
    match ran.code {
        0 => {
            print::line(format!("{held} migrations were applied; releases below the new floor cannot serve any more."));
            Ok(Exit::Done)
        }
        _ => Err(Trouble::of(Exit::NeedsHuman, format!("a migration failed:\n{}", ran.last_words()))),
    }
}
