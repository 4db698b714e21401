//! `domicile audit verify`.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use audit::pack::{Identities, Pack};
use audit::verify::{Expected, Outcome, Pace, PolicyText, Report, Source, Unread, balance, verify};
use residency::presets;
use serde_json::json;
use tlog::{KeyKind, VerifierKey};

use super::http::Remote;
use super::{bar, read};
use crate::commands::{FAILED, Failure, MISUSED};
use crate::config::secret_by_reference;
use crate::{cli, print};

/// The most findings that are printed for people; JSON has more.
const SHOWN_MAX: usize = 20;

/// Verifies and says how it came out.
pub(super) async fn run(args: cli::AuditVerify) -> Result<ExitCode, Failure> {
    let expected = expected(&args)?;
    let threads = args.threads.or(std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
    let source = open(&args.source, &args)?;
    if args.others.len() != args.other_keys.len() {
        let (sources, keys) = (args.others.len(), args.other_keys.len());
        print::note(format!("error: each --other needs its --other-key: {sources} and {keys} are given"));
        return Ok(ExitCode::from(MISUSED));
    }
    let others = args
        .others
        .iter()
        .zip(&args.other_keys)
        .map(|(source, key)| Ok((open(source, &args)?, Expected::of_key(key_of(key, KeyKind::Log)?))))
        .collect::<anyhow::Result<Vec<_>>>()?;
    // A thread of its own: it hashes for long, and waits for answers.
    let (verified, checkpoint) = tokio::task::spawn_blocking(move || {
        let bar = bar("verified");
        let progress = |done, of| {
            bar.set_length(of);
            bar.set_position(done);
        };
        let pace = Pace { threads, progress: &progress };
        let report = verify(&*source, &expected, pace).and_then(|report| {
            let mut reports = vec![report];
            for (source, expected) in &others {
                reports.push(verify(&**source, expected, pace)?);
            }
            if reports.len() > 1 {
                balance(&mut reports);
            }
            Ok(reports)
        });
        bar.finish_and_clear();
        let checkpoint = source.checkpoint();
        (report, checkpoint)
    })
    .await
    .context("the verification ended early")?;
    let reports = match verified {
        Ok(reports) => reports,
        Err(unread) => {
            print::note(format!("error: the log could not be read: {unread}"));
            return Ok(ExitCode::from(FAILED));
        }
    };
    if args.json {
        let mut said = as_json(&reports[0]);
        if reports.len() > 1 {
            said["others"] = reports[1..].iter().map(as_json).collect();
        }
        print::json(&said)?;
    } else {
        reports.iter().for_each(tell);
    }
    if let (Some(save), None) = (&args.save, reports[0].failed()) {
        keep(save, checkpoint, reports[0].size, &args.key)?;
    }
    // The first log's own verdict comes first, then whatever is wrong with another one.
    let failed = reports.iter().map(Report::exit_code).find(|code| *code != 0);
    Ok(ExitCode::from(failed.unwrap_or(0)))
}

/// Keeps the verified checkpoint, unless the log has grown meanwhile and another one is served by now.
fn keep(save: &Path, checkpoint: Result<String, Unread>, size: u64, key: &str) -> anyhow::Result<()> {
    let text = checkpoint.map_err(anyhow::Error::from)?;
    let served = text.parse::<tlog::Note>().ok().and_then(|note| {
        key.parse::<VerifierKey>().ok()?.verify(&note).ok()?;
        note.text().parse::<tlog::Checkpoint>().ok()
    });
    if served.is_none_or(|served| served.size != size) {
        print::note("The log has grown meanwhile, so the checkpoint was not kept: verify once more.");
        return Ok(());
    }
    std::fs::write(save, text).with_context(|| format!("{} cannot be written", save.display()))?;
    print::note(format!("The checkpoint of {size} leaves is kept in {}.", save.display()));
    Ok(())
}

fn expected(args: &cli::AuditVerify) -> anyhow::Result<Expected> {
    let witnesses =
        args.witnesses.iter().map(|text| key_of(text, KeyKind::Witness)).collect::<anyhow::Result<Vec<_>>>()?;
    let table = |path: &Option<std::path::PathBuf>, shipped: &str| match path {
        Some(path) => read(path),
        None => Ok(shipped.to_owned()),
    };
    let jurisdictions = table(&args.jurisdictions, presets::JURISDICTIONS)?;
    let locations = table(&args.locations, presets::LOCATIONS)?;
    let policy = |path: &std::path::PathBuf| -> anyhow::Result<PolicyText> {
        let (jurisdictions, locations) = (jurisdictions.clone(), locations.clone());
        Ok(PolicyText { said_sha256: None, text: read(path)?, jurisdictions, locations })
    };
    Ok(Expected {
        key: key_of(&args.key, KeyKind::Log)?,
        since: args.since.as_deref().map(read).transpose()?,
        quorum: args.quorum.unwrap_or(witnesses.len()),
        witnesses,
        policies: args.policies.iter().map(policy).collect::<anyhow::Result<_>>()?,
    })
}

fn key_of(text: &str, kind: KeyKind) -> anyhow::Result<VerifierKey> {
    let key: VerifierKey = text.parse().with_context(|| format!("{text} is no public key"))?;
    if key.kind() == kind { Ok(key) } else { Err(anyhow!("{} is not the kind of key that is needed here", key.name())) }
}

fn open(source: &str, args: &cli::AuditVerify) -> anyhow::Result<Box<dyn Source + Send>> {
    if source.starts_with("http://") || source.starts_with("https://") {
        // Whoever stands in front of the gateway may let auditors in by other means than a token.
        let token = match secret_by_reference(&args.token) {
            Ok(token) => Some(token),
            Err(why) if args.token != "env:DOMICILE_TOKEN" => return Err(anyhow!("the token: {why}")),
            Err(_) => None,
        };
        Ok(Box::new(Remote::new(source, token, !args.witnesses.is_empty())?))
    } else {
        let identities = match &args.identity {
            Some(path) => Identities::read(path).with_context(|| format!("{} holds no identity", path.display()))?,
            None => Identities::default(),
        };
        Ok(Box::new(Pack::open_with(Path::new(source), &identities)?))
    }
}

fn tell(report: &Report) {
    let size = report.size;
    print::line(format!("{}, {size} leaves, of which {} were read", report.origin, report.leaves));
    let rows = report.verdicts.iter().map(|verdict| {
        let findings = if verdict.findings > 0 { format!("{} findings", verdict.findings) } else { String::new() };
        vec![verdict.check.name().to_owned(), verdict.outcome.name().to_owned(), verdict.sentence.clone(), findings]
    });
    print::line(print::table(&["check", "verdict", "looked at", ""], rows));
    for finding in report.findings.iter().take(SHOWN_MAX) {
        let at = finding.seq.map_or_else(String::new, |seq| format!(" at {seq}"));
        print::line(format!("{} {}{at}: {}", finding.check, finding.rule, finding.sentence));
    }
    if report.findings.len() > SHOWN_MAX {
        print::line(format!("… and {} more; --json lists them", report.findings.len() - SHOWN_MAX));
    }
    let unchecked = report.verdicts.iter().filter(|verdict| verdict.outcome == Outcome::Unchecked).count();
    match report.failed() {
        Some(check) => print::line(format!("The log FAILS: {check}.")),
        None => print::line(format!("Nothing failed. {unchecked} checks were not made, see above.")),
    }
}

fn as_json(report: &Report) -> serde_json::Value {
    let verdicts: BTreeMap<_, _> = report
        .verdicts
        .iter()
        .map(|verdict| {
            let said = json!({
                "outcome": match verdict.outcome {
                    Outcome::Holds => "holds",
                    Outcome::Fails => "fails",
                    Outcome::Unchecked => "unchecked",
                },
                "findings": verdict.findings, "looked_at": verdict.sentence,
            });
            (verdict.check.name(), said)
        })
        .collect();
    let findings: Vec<_> = report
        .findings
        .iter()
        .map(|finding| {
            json!({ "check": finding.check.name(), "rule": finding.rule, "seq": finding.seq, "says": finding.sentence })
        })
        .collect();
    json!({
        "origin": report.origin, "size": report.size, "from": report.range.start, "to": report.range.end,
        "leaves": report.leaves, "verdicts": verdicts, "findings": findings,
        "silent": report.silent.iter().map(|gone| json!({
            "gateway": gone.gateway, "last_seq": gone.seq, "last_at_us": gone.at_us, "came_back": gone.came_back,
        })).collect::<Vec<_>>(),
        "transfers": report.transfers.len(),
        "failed": report.failed().map(|check| check.name()),
    })
}
