//! `domicile ops`: what deploy.sh calls. The work is the crate `ops`; here are its arguments, its words, and the two
//! small commands that run beside the databases (`lease`, `mark`).

mod backup;
mod cell;
mod contract;
mod drill;
mod lease;
mod look;
mod mark;
mod places;
mod reopen;
mod restore;
mod sources;

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use ops::deploy::{Event, Kind, Lock, Plan, Recovered, ReleaseId, Settings, Teller};
use ops::{Exit, Failure as Failed, Trouble};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use self::cell::Opened;
use super::{FAILED, Failure};
use crate::{cli, print};

/// A backup or residency check failed.
pub(crate) const REFUSED: u8 = Exit::Unproven.code();

/// Runs one of them.
pub(crate) async fn run(command: cli::Ops) -> Result<ExitCode, Failure> {
    match command {
        cli::Ops::Backup(command) => Box::pin(backup::run(command)).await,
        cli::Ops::Drill(command) if !command.is_of_a_cell() => Box::pin(drill::run(command)).await,
        cli::Ops::Lease(args) => lease::run(&args).await,
        cli::Ops::Mark(args) => mark::run(&args).await,
        command => {
            let interrupted = Arc::new(AtomicBool::new(false));
            let mut ends = [SignalKind::interrupt(), SignalKind::terminate()]
                .map(|kind| signal(kind).context("signals cannot be received"));
            let asked = Arc::clone(&interrupted);
            tokio::spawn(async move {
                let [Ok(interrupt), Ok(terminate)] = &mut ends else { return };
                for again in [false, true] {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    if again {
                        std::process::exit(130);
                    }
                    asked.store(true, Ordering::Relaxed);
                    print::note(
                        "Stopping after this step and putting it back. Once more: stop at once, and resume later.",
                    );
                }
            });
            let done = tokio::task::spawn_blocking(move || blocking(&command, &interrupted)).await;
            Ok(done.context("the deployer panicked; deploy.sh status, then resume or abort")?)
        }
    }
}

fn blocking(command: &cli::Ops, interrupted: &AtomicBool) -> ExitCode {
    let cell = match command {
        cli::Ops::Deploy(args) | cli::Ops::Plan(args) => &args.cell,
        cli::Ops::Rollback(args) => &args.cell,
        cli::Ops::Logs(args) => &args.cell,
        cli::Ops::Migrate(cli::OpsMigrate::Contract(args)) => &args.cell,
        cli::Ops::Lock(cli::OpsLock::Status(cell) | cli::OpsLock::Release(cell))
        | cli::Ops::Status(cell)
        | cli::Ops::History(cell)
        | cli::Ops::Doctor(cell)
        | cli::Ops::Resume(cell)
        | cli::Ops::Abort(cell)
        | cli::Ops::Reconcile(cell) => cell,
        cli::Ops::Drill(cli::Drill::Rollback(args)) => &args.cell,
        cli::Ops::Drill(cli::Drill::Crash(args)) => &args.cell,
        cli::Ops::Backup(_) | cli::Ops::Drill(_) | cli::Ops::Lease(_) | cli::Ops::Mark(_) => {
            return ExitCode::from(FAILED);
        } // not of a cell
    };
    let looks = matches!(command, cli::Ops::Status(_) | cli::Ops::History(_) | cli::Ops::Doctor(_));
    let exit = in_each(&cell::env_files(cell), looks, |env_file| in_cell(command, cell, env_file, interrupted));
    ExitCode::from(exit.code())
}

/// One cell after the other, to the worst that any of them came to. The first that fails ends it, so that a bad release
/// reaches one cell only; who just looks, looks at all of them.
fn in_each(env_files: &[PathBuf], looks: bool, mut deed: impl FnMut(&Path) -> Exit) -> Exit {
    let mut worst = Exit::Done;
    for env_file in env_files {
        let exit = deed(env_file);
        worst = worst.or_worse(exit);
        if !looks && !matches!(exit, Exit::Done | Exit::Changes | Exit::Findings) {
            return exit;
        }
    }
    worst
}

fn in_cell(command: &cli::Ops, cell: &cli::Cell, env_file: &Path, interrupted: &AtomicBool) -> Exit {
    let founded =
        if matches!(command, cli::Ops::Deploy(args) if !args.how.dry_run) { cell::found(cell) } else { Ok(()) };
    let opened = match founded.and_then(|()| Opened::open(cell, env_file)) {
        Ok(opened) => opened,
        Err(trouble) => {
            let failed = Failed {
                exit: if trouble.exit == Exit::Failed { Exit::Unchanged } else { trouble.exit },
                what: trouble.what,
                serving: "not known".into(),
                data: "unchanged".into(),
                next: "mend the cause, then try again".into(),
            };
            return tell_failure(&failed, cell.json);
        }
    };
    let outcome = match command {
        cli::Ops::Deploy(args) => operate(&opened, interrupted, &args.how, |deployer, how| {
            let settings = settings(how, deployer, args.skip_backup.clone());
            deployer.plan_deploy(&args.image, &settings)
        }),
        cli::Ops::Plan(args) => {
            let how = cli::How { dry_run: true, ..args.how.clone() };
            operate(&opened, interrupted, &how, |deployer, how| {
                let settings = settings(how, deployer, args.skip_backup.clone());
                deployer.plan_deploy(&args.image, &settings)
            })
        }
        cli::Ops::Rollback(args) => operate(&opened, interrupted, &args.how, |deployer, how| {
            let to = args.to.as_deref().map(str::parse::<ReleaseId>).transpose();
            let to = to.map_err(|what| Trouble::of(Exit::Usage, what))?;
            deployer.plan_rollback(to, &settings(how, deployer, None))
        }),
        cli::Ops::Resume(_) => recover(&opened, interrupted, true),
        cli::Ops::Abort(_) => recover(&opened, interrupted, false),
        cli::Ops::Reconcile(_) => reconcile(&opened, interrupted),
        cli::Ops::Status(_) => look::status(&opened, interrupted),
        cli::Ops::History(_) => look::history(&opened, interrupted),
        cli::Ops::Doctor(_) => look::doctor(&opened, interrupted),
        cli::Ops::Logs(args) => look::logs(&opened, &args.service, args.tail),
        cli::Ops::Lock(cli::OpsLock::Status(_)) => look::lock(&opened, false),
        cli::Ops::Lock(cli::OpsLock::Release(_)) => look::lock(&opened, true),
        cli::Ops::Migrate(cli::OpsMigrate::Contract(args)) => contract::run(&opened, interrupted, args),
        cli::Ops::Drill(cli::Drill::Rollback(args)) => drill::cell::rollback(&opened, interrupted, args),
        cli::Ops::Drill(cli::Drill::Crash(args)) => drill::cell::crash(&opened, interrupted, args),
        cli::Ops::Backup(_) | cli::Ops::Drill(_) | cli::Ops::Lease(_) | cli::Ops::Mark(_) => Ok(Exit::Usage),
    };
    outcome.unwrap_or_else(|failed| tell_failure(&failed, cell.json))
}

fn tell_failure(failed: &Failed, as_json: bool) -> Exit {
    if as_json {
        print::line(
            json!({
                "event": "failed", "exit": failed.exit.code(), "what": failed.what, "serving": failed.serving,
                "data": failed.data, "next": failed.next,
            })
            .to_string(),
        );
    } else {
        print::note(failed.to_string());
    }
    failed.exit
}

/// Plans, shows, asks, does.
fn operate(
    opened: &Opened,
    interrupted: &AtomicBool,
    how: &cli::How,
    plan: impl Fn(&ops::deploy::Deployer<'_>, &cli::How) -> Result<Plan, Trouble>,
) -> Result<Exit, Failed> {
    let verb = if how.dry_run { "plan" } else { "deploy or rollback" };
    let deployer = opened.deployer(interrupted, verb);
    let unchanged = |trouble| deployer.unchanged(trouble);
    // A plan alone disturbs nobody, and nobody disturbs it.
    let lock = match how.dry_run {
        true => None,
        false => Some(Lock::take(&opened.store, &deployer.holder).map_err(unchanged)?),
    };
    let planned = plan(&deployer, how).map_err(unchanged)?;
    show_plan(opened, &planned);
    let changes = if how.detailed_exitcode { Exit::Changes } else { Exit::Done };
    let restarts = planned.stale.iter().any(|one| one.by_hand.is_none());
    let Some(lock) = lock else { return Ok(if planned.unchanged && !restarts { Exit::Done } else { changes }) };
    if planned.unchanged {
        // Settings of who looks on are no release: restarting these asks nobody.
        deployer.settings_only(&lock)?;
        return Ok(Exit::Done);
    }
    if !how.yes && !asked_and_agreed() {
        return Err(unchanged(Trouble::of(Exit::Aborted, "You did not agree, so nothing was done.")));
    }
    let release = deployer.execute(&lock, &planned)?;
    done(opened, &deployer, release, planned.kind);
    Ok(Exit::Done)
}

fn show_plan(opened: &Opened, plan: &Plan) {
    match opened.json {
        true => print::line(json!({ "event": "plan", "plan": plan }).to_string()),
        false => print::line(plan.to_string().trim_end()),
    }
}

fn done(opened: &Opened, deployer: &ops::deploy::Deployer<'_>, release: ReleaseId, kind: Kind) {
    let serving = deployer.serving_in_words();
    let undo = if kind == Kind::Deploy { "deploy.sh rollback" } else { "deploy.sh status" };
    print::line(match opened.json {
        true => json!({ "event": "done", "release": release, "serving": serving, "next": undo }).to_string(),
        false => format!("Serving now: {serving}. Data: in place. Next: nothing; to go back: {undo}"),
    });
}

fn recover(opened: &Opened, interrupted: &AtomicBool, forward: bool) -> Result<Exit, Failed> {
    let deployer = opened.deployer(interrupted, if forward { "resume" } else { "abort" });
    let lock = Lock::take(&opened.store, &deployer.holder).map_err(|trouble| deployer.unchanged(trouble))?;
    let recovered = if forward { deployer.resume(&lock)? } else { deployer.abort(&lock)? };
    match recovered {
        Recovered::Nothing => print::line("No operation was under way."),
        Recovered::Finished(release) => done(opened, &deployer, release, Kind::Deploy),
    }
    Ok(Exit::Done)
}

fn reconcile(opened: &Opened, interrupted: &AtomicBool) -> Result<Exit, Failed> {
    let deployer = opened.deployer(interrupted, "reconcile");
    let lock = Lock::take(&opened.store, &deployer.holder).map_err(|trouble| deployer.unchanged(trouble))?;
    match deployer.reconcile(&lock)? {
        Some(release) => print::line(format!("The edge leads to {release} and to nothing else.")),
        None => print::line("Nothing is written down as serving."),
    }
    Ok(Exit::Done)
}

/// Off a terminal nobody can be asked: a deployment undoes itself, so it goes on.
fn asked_and_agreed() -> bool {
    if !std::io::stdin().is_terminal() {
        return true;
    }
    let mut out = std::io::stderr().lock();
    drop(out.write_all(b"Go on? [y/N] ").and_then(|()| out.flush()));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

fn settings(how: &cli::How, deployer: &ops::deploy::Deployer<'_>, skip_backup: Option<String>) -> Settings {
    let serving = deployer.store.state().ok().and_then(|state| state.serving);
    let as_now = serving.and_then(|serving| u32::try_from(serving.instances.len()).ok());
    Settings {
        instances: how.instances.or(as_now).unwrap_or(1).max(1),
        gate_s_max: how.gate_timeout,
        drain_s_max: how.drain,
        bake_s: how.bake,
        shares: how.steps.clone(),
        share_s: how.step_time,
        errors_percent_max: how.max_5xx,
        p99_ratio_max: how.max_p99_ratio,
        keep_warm: how.keep_warm,
        skip_backup,
        ..Settings::default()
    }
}

/// Says events as they come.
pub(super) struct Speaker {
    json: bool,
}

impl Teller for Speaker {
    fn tell(&self, event: Event) {
        match self.json {
            true => print::line(serde_json::to_string(&event).unwrap_or_default()),
            false => print::note(event.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exit code of cells that come to these, and how many of them were gone to.
    fn over(exits: &[Exit], looks: bool) -> (Exit, usize) {
        let files: Vec<PathBuf> = (0..exits.len()).map(|number| number.to_string().into()).collect();
        let mut seen = 0;
        let worst = in_each(&files, looks, |_| {
            seen += 1;
            exits[seen - 1]
        });
        (worst, seen)
    }

    #[test]
    fn what_was_found_in_one_cell_is_not_hidden_by_the_next() {
        assert_eq!(over(&[Exit::Changes, Exit::Done], false), (Exit::Changes, 2));
        assert_eq!(over(&[Exit::Findings, Exit::Done], true), (Exit::Findings, 2));
        assert_eq!(over(&[], true), (Exit::Done, 0));
    }

    #[test]
    fn a_failure_keeps_a_deed_from_the_next_cell_and_nobody_from_looking_at_it() {
        assert_eq!(over(&[Exit::Done, Exit::Undone, Exit::Done], false), (Exit::Undone, 2));
        assert_eq!(over(&[Exit::Unreachable, Exit::Findings, Exit::Done], true), (Exit::Findings, 3));
    }
}
