//! Encrypting a backup anew, to other recipients: after a key was lost or somebody left. The new file is written
//! beside the old one; the manifest that names it replaces the old manifest at once; only then the old file goes.

use storage::admin::BackupLock;

use super::create::{instant, publish};
use super::crypt::Encryption;
use super::manifest::{Manifest, Rekeyed};
use super::stream::{Sink, Tally, check_cipher, pour};
use super::target::Upload;
use super::{BackupId, Catalog, Error, Identities, Progress, Recipients, Source, Step};

/// Encrypts one backup to the source's recipients. Verdicts about the old file do not carry over.
///
/// # Errors
/// [`Error`]; then the backup is as it was.
pub async fn rekey(
    source: &Source,
    id: &BackupId,
    identities: &Identities,
    progress: Progress<'_>,
) -> Result<Manifest, Error> {
    let limit = source.bounds.run_max;
    let work = async {
        source.check_place()?;
        let lock = BackupLock::take(&source.owner_dsn).await?.ok_or(Error::Busy)?;
        let done = rekey_alone(source, id, identities, progress).await;
        lock.release().await;
        done
    };
    tokio::time::timeout(limit, Box::pin(work)).await.unwrap_or(Err(Error::TooLong { limit }))
}

async fn rekey_alone(
    source: &Source,
    id: &BackupId,
    identities: &Identities,
    progress: Progress<'_>,
) -> Result<Manifest, Error> {
    let told = |step: Step| progress(&source.database, step);
    let catalog = Catalog::read(source).await?;
    let (id, old) = catalog.choose(Some(id))?;
    let now = (source.clock)();
    let name = format!("dump-{}.age", BackupId::new(now).in_database_name());
    let upload = source.target.begin(&source.object(id, &name)).await?;
    let sealed = Sealed::new(&source.recipients, upload)?;
    let tally = sealed.tally.clone();
    pour(source, id, old, identities, sealed, &told).await?;
    let cipher = std::mem::take(&mut *tally.lock().await).file(&name);
    told(Step::ReadingBack);
    let new = Manifest {
        cipher,
        recipients: source.recipients.as_texts().to_vec(),
        rekeyed: Some(Rekeyed { at: instant(now), from_sha256: old.cipher.sha256.clone() }),
        ..old.clone()
    };
    check_cipher(source, id, &new.cipher).await?;
    publish(source, id, &new).await?;
    source.target.remove(&source.object(id, &old.cipher.name)).await?;
    told(Step::Published(id.clone()));
    Ok(new)
}

/// Takes plain bytes and stores them encrypted.
struct Sealed {
    encryption: Encryption,
    upload: Box<dyn Upload>,
    tally: std::sync::Arc<tokio::sync::Mutex<Tally>>,
}

impl Sealed {
    fn new(recipients: &Recipients, upload: Box<dyn Upload>) -> Result<Self, Error> {
        Ok(Self { encryption: Encryption::to(recipients)?, upload, tally: std::sync::Arc::default() })
    }

    async fn store(&mut self, sealed: &[u8]) -> Result<(), Error> {
        self.tally.lock().await.add(sealed);
        Ok(self.upload.write(sealed).await?)
    }
}

impl Sink for Sealed {
    async fn take(&mut self, piece: &[u8]) -> Result<(), Error> {
        let sealed = self.encryption.push(piece)?;
        self.store(&sealed).await
    }

    async fn end(self) -> Result<(), Error> {
        let Self { encryption, mut upload, tally } = self;
        let sealed = encryption.finish()?;
        tally.lock().await.add(&sealed);
        upload.write(&sealed).await?;
        Ok(upload.finish().await?)
    }
}
