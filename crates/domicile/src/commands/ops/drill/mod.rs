//! `domicile ops drill`: what it asks, prints and keeps. What is rehearsed is in the crate `ops`.

pub(super) mod cell;
mod disturb;
mod rehearsal;
mod under_writes;
mod writer;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use ops::drill::proofs::Proofs;
use ops::drill::{self, Kind, Report, Reports, Targets, Verdict};
use serde_json::json;

use super::backup::{Watch, Worst, words};
use super::sources::{clock, identities, sources};
use crate::commands::{FAILED, Failure, load};
use crate::config::Config;
use crate::{cli, print};

/// The state folder when the configuration names none.
const STATE_FOLDER: &str = ".domicile";
/// Nothing was changed.
const REFUSED_BEFORE: u8 = 4;

/// Runs one of them.
pub(super) async fn run(command: cli::Drill) -> Result<ExitCode, Failure> {
    match command {
        cli::Drill::Restore(args) => of_backups(Kind::Restore, &args.backups, args.probe.as_deref()).await,
        cli::Drill::Tamper(args) => of_backups(Kind::Tamper, &args, None).await,
        cli::Drill::Crash(args) => Box::pin(disturb::run(&args)).await,
        cli::Drill::Rollback(_) => Ok(ExitCode::from(crate::commands::MISUSED)), // of a cell: see `cell`
        cli::Drill::History(args) => history(&args),
        cli::Drill::Report(args) => report(&args),
        cli::Drill::Keep(args) => {
            let report: Report = serde_json::from_str(&args.report).context("--report holds no report")?;
            keep(&load(&args.config)?, &report)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Where reports and proofs are kept.
pub(super) fn state_folder(config: &Config) -> PathBuf {
    config.backup.state_folder.clone().unwrap_or_else(|| PathBuf::from(STATE_FOLDER))
}

fn targets(args: &cli::DrillTargets, usual: (Duration, Duration)) -> Targets {
    let seconds = |given: Option<u64>, usual| given.map_or(usual, Duration::from_secs);
    Targets::new(seconds(args.rto, usual.0), seconds(args.rpo, usual.1))
}

async fn of_backups(kind: Kind, args: &cli::DrillBackups, probe: Option<&str>) -> Result<ExitCode, Failure> {
    let config = load(&args.which.config)?;
    let sources = sources(&config, &args.which.regions)?;
    let identities = identities(&args.identity)?;
    let targets = targets(&args.targets, drill::usual_targets());
    let watch = Watch::new();
    let (mut worst, mut reports) = (Worst::Nothing, Vec::new());
    let databases: Vec<String> = sources.iter().map(|source| source.database.to_string()).collect();
    note_due(&config, kind, &databases)?;
    for source in &sources {
        let done = match kind {
            Kind::Tamper => {
                // Beside the backups: a copy of personal data leaves their place as little as they do.
                let folder =
                    backup_folder(&config, &source.database).context("the database has no folder for backups")?;
                let workshop = tempfile::Builder::new().prefix(".drill-").tempdir_in(folder);
                let workshop = workshop.context("no folder for the copies")?;
                drill::tamper(source, &identities, workshop.path(), targets, &args.targets.actor).await
            }
            _ => {
                let told = |name: &ops::DatabaseName, step| watch.step(name, &step);
                let actor = &args.targets.actor;
                match probe.and_then(|url| Some((url, under_writes::region(&config, source)?))) {
                    Some((url, region)) => {
                        let probed = under_writes::Probed { config: &config, source, url, region };
                        probed.restore(&identities, targets, actor, &told).await?
                    }
                    None => drill::restore(source, &identities, targets, actor, &told).await,
                }
            }
        };
        watch.clear();
        match done {
            Ok(report) => {
                keep(&config, &report)?;
                reports.push(report);
            }
            Err(error) => {
                worst = Worst::Failed;
                print::note(format!("{}: {:#}", source.database, anyhow::Error::from(error)));
            }
        }
    }
    finish(&reports, args.which.json)?;
    Ok(if worst == Worst::Nothing { code(&reports) } else { worst.code() })
}

/// Notes of each database when this drill last passed, before anything can go wrong: one that never passed is one that an
/// alert has to see.
fn note_due(config: &Config, kind: Kind, databases: &[String]) -> anyhow::Result<()> {
    let state = state_folder(config);
    let reports = Reports::below(&state).read().context("the reports cannot be read")?;
    let noted = Proofs::change(&state, |proofs| {
        for database in databases {
            let of_it = |report: &&Report| {
                report.region == *database && report.kind == kind.name() && report.verdict == Verdict::Pass
            };
            let passed = reports.iter().filter(of_it).filter_map(Report::taken_at).max();
            proofs.note_drill_due(database, kind.name(), passed.map(time::OffsetDateTime::unix_timestamp));
        }
    });
    noted.context("what was proven cannot be noted")?.into_iter().for_each(print::note);
    Ok(())
}

/// The folder of a database's backups.
fn backup_folder<'a>(config: &'a Config, database: &ops::DatabaseName) -> Option<&'a Path> {
    let backup = match database {
        ops::DatabaseName::Directory => config.directory.backup.as_deref(),
        ops::DatabaseName::Region(region) => config.served.get(region).and_then(|served| served.backup.as_deref()),
    };
    backup.map(|backup| backup.folder.as_path())
}

/// Keeps a report, and the proof if it passed.
fn keep(config: &Config, report: &Report) -> anyhow::Result<()> {
    let state = state_folder(config);
    let path = Reports::below(&state).keep(report).context("the report cannot be kept")?;
    if report.verdict == Verdict::Pass {
        let at_s = report.taken_at().map_or(0, time::OffsetDateTime::unix_timestamp);
        let noted = Proofs::change(&state, |proofs| proofs.note_drill(&report.region, &report.kind, at_s));
        noted.context("what was proven cannot be noted")?.into_iter().for_each(print::note);
    }
    print::note(format!("The report is {}", path.display()));
    Ok(())
}

fn finish(reports: &[Report], as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return print::json(&json!({ "drills": reports }));
    }
    for report in reports {
        print::line(report.markdown());
    }
    Ok(())
}

fn code(reports: &[Report]) -> ExitCode {
    match reports.iter().map(|report| report.verdict).max_by_key(|verdict| *verdict as u8) {
        Some(Verdict::Fail) | None => ExitCode::from(FAILED),
        Some(Verdict::Partial) => ExitCode::from(super::REFUSED),
        Some(Verdict::Pass) => ExitCode::SUCCESS,
    }
}

fn reports_of(config: &cli::ConfigFile, state: Option<&Path>) -> Result<(Vec<Report>, Option<Config>), Failure> {
    let (folder, config) = match state {
        Some(state) => (state.to_owned(), None),
        None => {
            let config = load(config)?;
            (state_folder(&config), Some(config))
        }
    };
    let reports = Reports::below(&folder).read().context("the reports cannot be read")?;
    Ok((reports, config))
}

fn history(args: &cli::DrillHistory) -> Result<ExitCode, Failure> {
    let (reports, config) = reports_of(&args.config, args.state.as_deref())?;
    if args.json {
        print::json(&json!({ "drills": reports }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let shown = |ms: Option<u64>| ms.map_or_else(|| "–".to_owned(), |ms| format!("{:.1} s", ms as f64 / 1_000.0));
    let rows = reports.iter().rev().map(|report| {
        let lost = report.measured.lost.zip(report.measured.acknowledged);
        vec![
            report.at.clone(),
            report.kind.clone(),
            report.region.clone(),
            report.verdict.name().to_owned(),
            shown(report.measured.rto_ms),
            lost.map_or_else(|| "–".into(), |(lost, of)| format!("{lost} of {of}")),
            report.id.clone(),
        ]
    });
    print::line(print::table(&["when", "drill", "region", "verdict", "recovery", "lost", "report"], rows));
    if let Some(config) = config {
        let last = reports.iter().rfind(|report| report.kind == "restore" && report.verdict == Verdict::Pass);
        let age = last.and_then(Report::taken_at).map(|at| clock() - at);
        if age.is_none_or(|age| age > config.backup.drill_age_max) {
            let since = age.map_or_else(|| "never".to_owned(), |age| format!("{} ago", words(age)));
            print::note(format!("Restoring was last proven {since}; `domicile ops drill restore` does it."));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn report(args: &cli::DrillReport) -> Result<ExitCode, Failure> {
    let (reports, _) = reports_of(&args.config, args.state.as_deref())?;
    let found = match &args.id {
        Some(id) => reports.iter().find(|report| report.id == *id),
        None => reports.last(),
    };
    let report = found.context("there is no such report; `domicile ops drill history` lists them")?;
    finish(std::slice::from_ref(report), args.json)?;
    Ok(ExitCode::SUCCESS)
}
