//! The drill of restoring: the newest encrypted backup, as an emergency would find it.

use std::time::{Duration, Instant};

use time::OffsetDateTime;

use super::{Kind, Measured, Report, Targets};
use crate::backup::{Catalog, Error, Identities, Progress, Source, verify};

/// Restores the newest backup into a scratch database, compares every table, and measures: how long it took, and how
/// old what was restored is. The verdict about the backup is kept beside it, too.
///
/// # Errors
/// When nothing could be tried: the target or the scratch server do not answer. A backup that is refused is no error but
/// a report that fails.
pub async fn restore(
    source: &Source,
    identities: &Identities,
    targets: Targets,
    actor: &str,
    progress: Progress<'_>,
) -> Result<Report, Error> {
    let begun_at = (source.clock)();
    let region = source.database.to_string();
    let broken = "the database is taken for lost; only its newest encrypted backup is at hand";
    let mut report = Report::begin(Kind::Restore, &region, actor, broken, targets, begun_at);
    let begun = Instant::now();
    let elapsed = || u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let catalog = Catalog::read(source).await?;
    let age_of = |at: OffsetDateTime| u64::try_from((begun_at - at).whole_milliseconds()).unwrap_or(0);
    match verify(source, None, identities, progress).await {
        Ok(verified) => {
            report.note(elapsed(), format!("the backup {} was decrypted, restored and compared", verified.id));
            let taken = catalog.backups.iter().find(|one| one.id == verified.id).and_then(|one| one.taken_at());
            report.measured = Measured {
                rto_ms: Some(verified.verdict.took_ms),
                rpo_ms: taken.map(age_of),
                rows: Some(verified.verdict.rows),
                ..Measured::default()
            };
            if let Some(refusal) = verified.refusal {
                report.fail(format!("the backup {} must not be believed: {refusal}", verified.id));
            }
        }
        Err(error) if error.is_refusal() => report.fail(error.to_string()),
        Err(error @ Error::NoBackup) => report.fail(error.to_string()),
        Err(error) => return Err(error),
    }
    report.judge();
    Ok(report)
}

/// A target that suits a restore: the owner's own is better.
#[must_use]
pub const fn usual_targets() -> (Duration, Duration) {
    (Duration::from_secs(3_600), Duration::from_secs(24 * 3_600))
}
