//! The commands that change nothing: status, history, doctor, logs, lock.

use std::fs;
use std::sync::atomic::AtomicBool;

use comfy_table::Cell;
use ops::deploy::{Holder, Lock, Says, exit_of};
use ops::runtime::compose;
use ops::{Exit, Failure as Failed, Trouble};
use serde_json::json;

use super::cell::Opened;
use crate::print::{self, Tone};

/// `status`: exit code 10 when reality is not what was written down.
pub(super) fn status(opened: &Opened, interrupted: &AtomicBool) -> Result<Exit, Failed> {
    let deployer = opened.deployer(interrupted, "status");
    let report = deployer.status().map_err(|trouble| deployer.unchanged(trouble))?;
    let good = report.drift.is_empty() && report.unfinished.is_none();
    if opened.json {
        print::line(json!({ "event": "status", "project": opened.project, "status": report }).to_string());
    } else {
        let name = |release: Option<_>| {
            release.map_or_else(|| "nothing".to_owned(), |one: ops::deploy::ReleaseId| one.to_string())
        };
        print::line(format!("{}: {} serves, {} is warm", opened.project, name(report.serving), name(report.warm)));
        report.instances.iter().for_each(|instance| print::line(format!("  {instance}")));
        if let Some(op) = &report.unfinished {
            print::line(format!("  NOT ENDED: {op}: deploy.sh resume, or deploy.sh abort"));
        }
        if let Some(holder) = &report.holder {
            print::line(format!("  at work: {holder}"));
        }
        report.drift.iter().for_each(|drift| print::line(format!("  DRIFT: {drift}")));
    }
    Ok(if good { Exit::Done } else { Exit::Findings })
}

/// `history`: what was done, and which releases can come back.
pub(super) fn history(opened: &Opened, interrupted: &AtomicBool) -> Result<Exit, Failed> {
    let deployer = opened.deployer(interrupted, "history");
    let unchanged = |trouble: Trouble| deployer.unchanged(trouble);
    let deeds = opened.store.history().map_err(unchanged)?;
    let state = opened.store.state().map_err(unchanged)?;
    let mut targets = deployer.targets(&state).map_err(unchanged)?;
    targets.retain(|release| !matches!(deployer.lacks_image(release), Ok(Some(_))));
    if opened.json {
        print::line(json!({ "event": "history", "deeds": deeds, "targets": targets }).to_string());
        return Ok(Exit::Done);
    }
    let rows = deeds.iter().rev().map(|deed| {
        let from = deed.from.map_or_else(|| "-".to_owned(), |from| from.to_string());
        let why = deed.why.as_deref().and_then(|why| why.lines().next()).unwrap_or_default().to_owned();
        vec![
            deed.at.clone(),
            deed.kind.clone(),
            from,
            deed.release.to_string(),
            deed.outcome.clone(),
            deed.by.clone(),
            why,
        ]
    });
    print::line(print::table(&["at", "what", "from", "to", "outcome", "by", "why"], rows));
    let names: Vec<String> = targets.iter().map(|release| release.release.to_string()).collect();
    print::line(match names.is_empty() {
        true => "No release can come back.".to_owned(),
        false => format!("Can come back: {}", names.join(", ")),
    });
    Ok(Exit::Done)
}

/// `doctor`: exit code 10 when something is not as it should be, 8 when nobody could be asked.
pub(super) fn doctor(opened: &Opened, interrupted: &AtomicBool) -> Result<Exit, Failed> {
    let deployer = opened.deployer(interrupted, "doctor");
    let findings = deployer.doctor().map_err(|trouble| deployer.unchanged(trouble))?;
    if opened.json {
        print::line(json!({ "event": "doctor", "project": opened.project, "findings": findings }).to_string());
    } else {
        let rows = findings.iter().map(|finding| {
            let tone = match finding.says {
                Says::Yes => Tone::Good,
                Says::No => Tone::Bad,
                Says::CannotTell | Says::NotKnownHere => Tone::Unsure,
            };
            vec![Cell::new(finding.question), print::toned(finding.says.in_words(), tone), Cell::new(&finding.answer)]
        });
        print::line(print::table(&["question", "", "answer"], rows));
    }
    Ok(exit_of(&findings))
}

/// `logs`.
pub(super) fn logs(opened: &Opened, service: &str, lines: u32) -> Result<Exit, Failed> {
    let told = match &opened.compose {
        Some(compose) => compose::logs(compose, service, lines),
        None => process_logs(opened, service, lines),
    };
    match told {
        Ok(text) => {
            print::line(text.trim_end());
            Ok(Exit::Done)
        }
        Err(trouble) => {
            let interrupted = AtomicBool::new(false);
            Err(opened.deployer(&interrupted, "logs").unchanged(trouble))
        }
    }
}

fn process_logs(opened: &Opened, service: &str, lines: u32) -> Result<String, Trouble> {
    let folder = opened.store.root().join("logs");
    let mut told = String::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if name == service || name.starts_with(&format!("{service}-")) {
            let text = fs::read_to_string(&path)?;
            let all: Vec<&str> = text.lines().collect();
            let from = all.len().saturating_sub(lines as usize);
            all[from..].iter().for_each(|line| told.push_str(&format!("{name} | {line}\n")));
        }
    }
    Ok(told)
}

/// `lock status` and `lock release`. The lock itself goes with its process; only a note can be left behind.
pub(super) fn lock(opened: &Opened, release: bool) -> Result<Exit, Failed> {
    if let Some(Holder { pid, command, since, .. }) = Lock::status(&opened.store) {
        print::line(format!("process {pid} is at work since {since}: {command}"));
        if release {
            print::note(
                "It lives, so its lock is not taken away. End it: kill -TERM that process; it puts back what it did.",
            );
            return Ok(Exit::Locked);
        }
        return Ok(Exit::Done);
    }
    if release {
        let _ = fs::remove_file(opened.store.root().join("lock.json"));
    }
    print::line("nobody is at work here");
    Ok(Exit::Done)
}
