//! Proving a backup from its encrypted file, as an emergency would need it: decrypted, restored into a scratch
//! database, compared table by table. The verdict is signed and kept beside the backup.

use std::time::Instant;

use storage::admin::{self, Scratch};

use super::create::{put_verdict, sums_of, verdict};
use super::manifest::{Mode, Outcome, Verdict};
use super::stream::pour;
use super::{BackupId, Catalog, Error, Identities, Manifest, Progress, Refusal, Source, Step};

/// What a verification came to.
#[derive(Debug, Clone)]
pub struct Verified {
    /// The backup.
    pub id: BackupId,
    /// The verdict, as it was kept.
    pub verdict: Verdict,
    /// The refusal, if it must not be believed.
    pub refusal: Option<Refusal>,
}

/// Records of one subject that are looked for in a restored copy of a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sought {
    /// Whose.
    pub subject: String,
    /// In which collection.
    pub collection: String,
    /// How their keys begin.
    pub prefix: String,
}

/// The most records that are looked for.
const SOUGHT_MAX: i64 = 100_000;

/// Verifies one backup, or the newest.
///
/// # Errors
/// [`Error`] when nothing could be found out; also when the manifest itself is not believed, since then there is nothing
/// to hold the file against. A backup that was found bad is no error: see [`Verified::refusal`].
pub async fn verify(
    source: &Source,
    id: Option<&BackupId>,
    identities: &Identities,
    progress: Progress<'_>,
) -> Result<Verified, Error> {
    Ok(verify_and_look(source, id, identities, None, progress).await?.0)
}

/// The same, and looks for records in the restored copy before that goes: the keys that are there, none when the backup
/// was refused.
///
/// # Errors
/// As [`verify`].
pub async fn verify_seeking(
    source: &Source,
    id: Option<&BackupId>,
    identities: &Identities,
    sought: &Sought,
    progress: Progress<'_>,
) -> Result<(Verified, Vec<String>), Error> {
    verify_and_look(source, id, identities, Some(sought), progress).await
}

async fn verify_and_look(
    source: &Source,
    id: Option<&BackupId>,
    identities: &Identities,
    sought: Option<&Sought>,
    progress: Progress<'_>,
) -> Result<(Verified, Vec<String>), Error> {
    let limit = source.bounds.run_max;
    let work = async {
        source.check_place()?;
        let catalog = Catalog::read(source).await?;
        let (id, manifest) = catalog.choose(id)?;
        check_recipients(source, manifest)?;
        let begun = Instant::now();
        let proven = prove(source, id, manifest, identities, sought, progress).await;
        let (refusal, found) = match proven {
            Ok(found) => (None, found),
            // The key at hand says nothing about the backup.
            Err(Error::Refused(refusal)) if refusal != Refusal::NotForThisIdentity => (Some(refusal), Vec::new()),
            Err(error) => return Err(error),
        };
        let outcome = match &refusal {
            None => Outcome::Verified,
            Some(refusal) => Outcome::Refused { check: refusal.name().to_owned(), sentence: refusal.to_string() },
        };
        let verdict = verdict(source, manifest, Mode::FromCipher, outcome, begun);
        put_verdict(source, id, &verdict).await?;
        Ok((Verified { id: id.clone(), verdict, refusal }, found))
    };
    tokio::time::timeout(limit, Box::pin(work)).await.unwrap_or(Err(Error::TooLong { limit }))
}

/// Whether everybody can open it who should be able to.
fn check_recipients(source: &Source, manifest: &Manifest) -> Result<(), Refusal> {
    match source.recipients.as_texts().iter().find(|wanted| !manifest.recipients.contains(wanted)) {
        None => Ok(()),
        Some(missing) => Err(Refusal::MissingRecipient { recipient: missing.clone() }),
    }
}

async fn prove(
    source: &Source,
    id: &BackupId,
    manifest: &Manifest,
    identities: &Identities,
    sought: Option<&Sought>,
    progress: Progress<'_>,
) -> Result<Vec<String>, Error> {
    let told = |step: Step| progress(&source.database, step);
    source.programs.check_server(&manifest.server.version)?;
    let scratch = Scratch::create(&source.scratch_dsn, &source.scratch_name(id, "verify")).await?;
    let work = async {
        let restore = source.programs.restore(&source.scratch_dsn, scratch.name(), true)?;
        pour(source, id, manifest, identities, restore, &told).await?;
        told(Step::Comparing);
        let sums = sums_of(source, scratch.name()).await?;
        manifest.compare(&sums)?;
        let Some(Sought { subject, collection, prefix }) = sought else { return Ok(Vec::new()) };
        let (dsn, database) = (&source.scratch_dsn, scratch.name());
        Ok(admin::record_keys(dsn, database, (subject, collection, prefix), SOUGHT_MAX).await?)
    };
    let proven = work.await;
    scratch.drop().await?;
    proven
}
