//! What backups there are, how old they are, and what was ever proven about each.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::create::MANIFEST;
use super::manifest::{Manifest, Verdict};
use super::target::Object;
use super::{BackupId, Error, Refusal, Source};

/// A backup as it is listed.
#[derive(Debug, Clone)]
pub struct Backup {
    /// Its name.
    pub id: BackupId,
    /// Its manifest; or why it is not believed.
    pub manifest: Result<Manifest, Refusal>,
    /// What verifications came to, oldest first. Only those that are signed and about this very file.
    pub verdicts: Vec<Verdict>,
    /// The bytes of the encrypted file as they are found.
    pub cipher_bytes: Option<u64>,
}

/// What is known of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It must not be believed: its manifest, its file or its last verification says so.
    Refused,
    /// Nobody has restored it yet.
    Unverified,
    /// It was restored and compared.
    Verified,
}

impl Standing {
    /// Its word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unverified => "unverified",
            Self::Verified => "verified",
        }
    }
}

impl Backup {
    /// What is known of it. The last verification counts.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let Ok(manifest) = &self.manifest else { return Standing::Refused };
        if self.cipher_bytes != Some(manifest.cipher.bytes) {
            return Standing::Refused;
        }
        match self.verdicts.last() {
            None => Standing::Unverified,
            Some(verdict) if verdict.is_good() => Standing::Verified,
            Some(_) => Standing::Refused,
        }
    }

    /// When its snapshot was taken.
    #[must_use]
    pub fn taken_at(&self) -> Option<OffsetDateTime> {
        read_instant(&self.manifest.as_ref().ok()?.snapshot_at)
    }

    /// When it was last proven.
    #[must_use]
    pub fn verified_at(&self) -> Option<OffsetDateTime> {
        let good = self.verdicts.iter().rfind(|verdict| verdict.is_good())?;
        read_instant(&good.at)
    }
}

/// All backups of one database.
#[derive(Debug, Clone)]
pub struct Catalog {
    /// Oldest first.
    pub backups: Vec<Backup>,
}

impl Catalog {
    /// Reads what is at the target.
    ///
    /// # Errors
    /// When the target cannot be read. What is there and not believed is no error: it is listed with the reason.
    pub async fn read(source: &Source) -> Result<Self, Error> {
        let objects = source.target.list(&source.prefix()).await?;
        let mut backups = Vec::new();
        for id in ids(&objects, &source.prefix()) {
            let manifest = read_manifest(source, &id).await?;
            let cipher = manifest.as_ref().ok().map(|manifest| source.object(&id, &manifest.cipher.name));
            let size = |name: &String| objects.iter().find(|object| object.name == *name).map(|object| object.bytes);
            let verdicts = read_verdicts(source, &id, manifest.as_ref().ok(), &objects).await?;
            backups.push(Backup { cipher_bytes: cipher.as_ref().and_then(size), id, manifest, verdicts });
        }
        Ok(Self { backups })
    }

    /// The one of this name, or the newest that is not refused.
    ///
    /// # Errors
    /// [`Error::NoSuchBackup`], [`Error::NoBackup`]; [`Error::Refused`] when the named one's manifest is not believed.
    pub fn choose(&self, id: Option<&BackupId>) -> Result<(&BackupId, &Manifest), Error> {
        let backup = match id {
            Some(id) => self.backups.iter().find(|one| one.id == *id).ok_or_else(|| Error::NoSuchBackup(id.clone()))?,
            None => {
                let newest = self.backups.iter().rfind(|one| one.standing() != Standing::Refused);
                newest.ok_or(Error::NoBackup)?
            }
        };
        match &backup.manifest {
            Ok(manifest) => Ok((&backup.id, manifest)),
            Err(refusal) => Err(refusal.clone().into()),
        }
    }

    /// When one was last proven by a restore.
    #[must_use]
    pub fn verified_at(&self) -> Option<OffsetDateTime> {
        self.backups.iter().filter_map(Backup::verified_at).max()
    }

    /// When the newest was taken that is not refused.
    #[must_use]
    pub fn taken_at(&self) -> Option<OffsetDateTime> {
        self.backups.iter().filter(|one| one.standing() != Standing::Refused).filter_map(Backup::taken_at).max()
    }
}

/// The backups that exist: those with a manifest.
fn ids(objects: &[Object], prefix: &str) -> Vec<BackupId> {
    let of = |object: &Object| {
        let rest = object.name.strip_prefix(prefix)?.strip_prefix('/')?;
        rest.strip_suffix(MANIFEST)?.strip_suffix('/')?.parse().ok()
    };
    let mut ids: Vec<BackupId> = objects.iter().filter_map(of).collect();
    ids.sort();
    ids
}

/// The manifest of a backup: signed by our key, of this database, of this name.
async fn read_manifest(source: &Source, id: &BackupId) -> Result<Result<Manifest, Refusal>, Error> {
    let note = source.target.get(&source.object(id, MANIFEST)).await?;
    Ok(Manifest::read(&note, source.key.public()).and_then(|manifest| {
        let found = format!("backup {} of {} in {}", manifest.id, manifest.database, manifest.jurisdiction);
        let wanted = format!("backup {id} of {} in {}", source.database, source.jurisdiction);
        if found == wanted { Ok(manifest) } else { Err(Refusal::Mistaken { found, wanted }) }
    }))
}

async fn read_verdicts(
    source: &Source,
    id: &BackupId,
    manifest: Option<&Manifest>,
    objects: &[Object],
) -> Result<Vec<Verdict>, Error> {
    let Some(manifest) = manifest else { return Ok(Vec::new()) };
    let prefix = source.object(id, "verdict-");
    let mut verdicts = Vec::new();
    for object in objects.iter().filter(|object| object.name.starts_with(&prefix)) {
        let note = source.target.get(&object.name).await?;
        let about_this = |verdict: &Verdict| {
            verdict.cipher_sha256 == manifest.cipher.sha256
                && verdict.id == manifest.id
                && verdict.database == manifest.database
        };
        // What is not signed, or about the file before it was encrypted anew, proves nothing.
        verdicts.extend(Verdict::read(&note, source.key.public()).ok().filter(about_this));
    }
    verdicts.sort_by_key(|verdict| read_instant(&verdict.at));
    Ok(verdicts)
}

pub(super) fn read_instant(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}
