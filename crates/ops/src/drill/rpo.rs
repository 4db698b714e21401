//! The drill of restoring under writes: a probe writes through the API while a backup is made; then the database is taken
//! for lost, and the restored copy shows which of the acknowledged writes it has.

use std::collections::BTreeSet;
use std::time::Duration;

use super::probe::{Probe, Trace, Writer};
use super::{Kind, Measured, PROBE_EVERY, Report, Targets};
use crate::backup::{self, Error, Identities, Order, Progress, Sought, Source, create, verify_seeking};

/// Acknowledgements before the backup is begun.
const STEADY: usize = 50;
/// How long the probe waits for them: a gateway learns of a new key within two seconds.
const STEADY_MAX: Duration = Duration::from_secs(60);
/// How often it is looked whether they have come.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Makes a backup under writes, restores it into a scratch database from its encrypted file, and holds what is there
/// against the book of the probe. A write that was acknowledged before the backup was begun, and so before its snapshot,
/// has to be there; one that was acknowledged later and is not is what this loss would have cost, and as old as the
/// measured recovery point. The writer's entry `n` is the record `<prefix>n` of what is `sought`.
///
/// Also gives what the probe saw, so that its records can be removed.
///
/// # Errors
/// When nothing could be tried: no backup could be made, or the target or the scratch server do not answer. A backup that
/// is refused, and a service that acknowledges nothing, are no errors but reports that fail.
pub async fn restore_under_writes<W: Writer>(
    source: &Source,
    identities: &Identities,
    targets: Targets,
    actor: &str,
    progress: Progress<'_>,
    (writer, sought): (W, &Sought),
) -> Result<(Report, Trace), Error> {
    let begun_at = (source.clock)();
    let broken = "the database is taken for lost as soon as a backup of it, made under writes, is whole";
    let mut report = Report::begin(Kind::Restore, &source.database.to_string(), actor, broken, targets, begun_at);
    let probe = Probe::begin(writer, PROBE_EVERY);
    if !steady(&probe).await {
        let sentence = format!("fewer than {STEADY} writes were acknowledged within {} s", STEADY_MAX.as_secs());
        report.fail(format!("{sentence}; no backup was made"));
        return Ok((report, probe.stop().await));
    }
    let order = Order { kind: backup::Kind::Drill, release: env!("CARGO_PKG_VERSION").into(), verify_inline: false };
    let before_ms = probe.now_ms();
    report.note(before_ms, "writes are acknowledged; a backup is begun");
    let made = create(source, &order, progress).await;
    let lost_ms = probe.now_ms();
    let created = match made {
        Ok(created) => created,
        Err(error) => {
            drop(probe.stop().await);
            return Err(error);
        }
    };
    report.note(lost_ms, format!("the backup {} is whole; now the database is taken for lost", created.id));
    let trace = probe.stop().await;
    let (verified, found) = match verify_seeking(source, Some(&created.id), identities, sought, progress).await {
        Ok(done) => done,
        Err(error) if error.is_refusal() => {
            report.fail(error.to_string());
            return Ok((report, trace));
        }
        Err(error) => return Err(error),
    };
    let took_ms = verified.verdict.took_ms;
    report.note(lost_ms + took_ms, format!("the backup {} was decrypted, restored and compared", verified.id));
    let found: BTreeSet<String> = found.into_iter().collect();
    let is_there = |seq: u64| found.contains(&format!("{}{seq}", sought.prefix));
    let missing: Vec<u64> = trace.acknowledged.iter().map(|(seq, _)| *seq).filter(|seq| !is_there(*seq)).collect();
    let earlier: Vec<u64> = trace.acknowledged.iter().filter(|(_, at)| *at <= before_ms).map(|(seq, _)| *seq).collect();
    let lost = earlier.iter().filter(|seq| missing.contains(seq)).count();
    let later = missing.len() - lost;
    let age = trace.loss(&missing, lost_ms);
    report.note(
        lost_ms + took_ms,
        format!(
            "of {} writes acknowledged before the snapshot {lost} are missing in the copy, and {later} of the {} after it",
            earlier.len(),
            trace.acknowledged.len() - earlier.len()
        ),
    );
    report.measured = Measured {
        rto_ms: Some(took_ms),
        rpo_ms: Some(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        acknowledged: Some(earlier.len() as u64),
        lost: Some(lost as u64),
        rows: Some(verified.verdict.rows),
        ..Measured::default()
    };
    if let Some(refusal) = verified.refusal {
        report.fail(format!("the backup {} must not be believed: {refusal}", verified.id));
    }
    report.judge();
    Ok((report, trace))
}

/// Waits for the first acknowledgements; whether they came.
async fn steady<W: Writer>(probe: &Probe<W>) -> bool {
    let enough = async {
        while probe.acknowledged().0 < STEADY {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(STEADY_MAX, enough).await.is_ok()
}
