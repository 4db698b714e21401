//! A rehearsal: something is broken under writes and mended, and what it cost is counted.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::{Context as _, bail};
use ops::drill::probe::Probe;
use ops::drill::{Measured, PROBE_EVERY, Report};
use tokio::time::{sleep, timeout};

use super::writer::ApiWriter;
use crate::print;

/// Acknowledgements before anything is broken, and after it was mended.
const STEADY: usize = 50;
/// How long the probe waits for the first, and for the service to come back.
const PATIENCE: Duration = Duration::from_secs(300);
/// What a crash and a rollback should come to: outage, loss.
pub(super) const USUAL: (Duration, Duration) = (Duration::from_secs(60), Duration::ZERO);

/// What breaks it and what mends it.
pub(super) trait Disaster {
    /// Breaks it. What is said goes into the report.
    async fn strike(&mut self) -> anyhow::Result<String>;

    /// Mends it, whatever came of [`strike`](Self::strike).
    async fn mend(&mut self) -> anyhow::Result<String>;

    /// Whether it serves in between, so that writes are waited for before it is mended, and none may fail.
    fn serves_on(&self) -> bool;
}

/// Breaks it under writes, mends it, and counts.
pub(super) async fn rehearse(
    mut report: Report,
    writer: ApiWriter,
    mut disaster: impl Disaster,
) -> anyhow::Result<Report> {
    let probe = Probe::begin(writer.clone(), PROBE_EVERY);
    if timeout(PATIENCE, more(&probe, STEADY)).await.is_err() {
        report.fail("the service acknowledged nothing before anything was broken; nothing was broken");
        drop(probe.end(Duration::ZERO).await);
        return Ok(report);
    }
    let broken_ms = probe.now_ms();
    report.note(broken_ms, "writes are acknowledged; now it is broken");
    match disaster.strike().await {
        Ok(done) => report.note(probe.now_ms(), done),
        Err(error) => report.fail(format!("it could not be broken: {error:#}")),
    }
    if disaster.serves_on() {
        acknowledged_again(&mut report, &probe).await;
    }
    // It is mended whatever else went wrong.
    match disaster.mend().await {
        Ok(done) => report.note(probe.now_ms(), done),
        Err(error) => report.fail(format!("it could not be mended: {error:#}")),
    }
    acknowledged_again(&mut report, &probe).await;
    let (trace, missing) = probe.end(PATIENCE).await;
    let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    report.measured = Measured {
        rto_ms: trace.outage(broken_ms).map(ms),
        rpo_ms: Some(ms(trace.loss(&missing, broken_ms))),
        acknowledged: Some(trace.acknowledged.len() as u64),
        lost: Some(missing.len() as u64),
        refused: Some(trace.refused_since(broken_ms)),
        ..Measured::default()
    };
    if let Some(refused) = report.measured.refused.filter(|refused| *refused > 0 && disaster.serves_on()) {
        report.miss(format!("{refused} writes were not acknowledged, and it should have served all the while"));
    }
    writer.tidy(trace.acknowledged.iter().map(|(seq, _)| *seq)).await;
    report.judge();
    Ok(report)
}

async fn acknowledged_again(report: &mut Report, probe: &Probe<ApiWriter>) {
    match timeout(PATIENCE, more(probe, STEADY)).await {
        Ok(()) => report.note(probe.now_ms(), format!("{STEADY} more writes are acknowledged")),
        Err(_) => report.fail(format!("writes were not acknowledged within {} s after", PATIENCE.as_secs())),
    }
}

/// Waits for so many more acknowledgements than there are now.
async fn more(probe: &Probe<ApiWriter>, count: usize) {
    let (now, _) = probe.acknowledged();
    while probe.acknowledged().0 < now + count {
        sleep(Duration::from_millis(10)).await;
    }
}

/// Who breaks what serves people says so twice, and has a proven backup. `aborts` is how it is stopped and mended, and
/// `proven_age` how old the last proven backup of the region is, seconds, as far as is known.
pub(super) fn guard(
    region: &str,
    production: bool,
    confirm: Option<&str>,
    aborts: &str,
    proven_age: anyhow::Result<Option<i64>>,
    age_max: Duration,
) -> anyhow::Result<()> {
    print::note(format!("To stop this drill at any time and mend what it broke: {aborts}"));
    if !production {
        bail!("what is to be broken may serve people: say --production if that is meant");
    }
    match proven_age.with_context(|| format!("nobody can tell whether a backup of {region} was proven"))? {
        Some(age) if age <= i64::try_from(age_max.as_secs()).unwrap_or(i64::MAX) => {}
        Some(age) => bail!("the last proven backup of {region} is {} hours old: make one first", age / 3_600),
        None => bail!("no backup of {region} was ever proven: `domicile ops backup create` first"),
    }
    let typed = match confirm {
        Some(typed) => typed.to_owned(),
        None if std::io::stdin().is_terminal() => ask(&format!("Type the region's name to break it ({region}): "))?,
        None => bail!("nobody can be asked: give --confirm {region}"),
    };
    if typed.trim() == region { Ok(()) } else { bail!("what was typed is not {region}") }
}

fn ask(question: &str) -> anyhow::Result<String> {
    let mut err = std::io::stderr();
    err.write_all(question.as_bytes()).and_then(|()| err.flush()).context("nobody can be asked")?;
    let mut typed = String::new();
    std::io::stdin().read_line(&mut typed).context("nobody answered")?;
    Ok(typed)
}
