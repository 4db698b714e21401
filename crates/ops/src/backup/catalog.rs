//! What backups there are, how old they are, and what was ever proven about each.

use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::create::MANIFEST;
use super::manifest::{Manifest, Verdict};
use super::target::Object;
use super::{BackupId, Error, Refusal, Source};

/// How far the clocks of those who take backups may be apart.
const AHEAD_MAX: Duration = Duration::minutes(5);

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
    /// When it was looked at.
    pub seen_at: OffsetDateTime,
}

/// What is known of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It must not be believed: its manifest, its file or its last verification says so.
    Refused,
    /// It says that it was taken later than now: a clock went wrong, and nobody knows how old it is. It proves nothing and
    /// is chosen by name only, and hides no other one.
    Ahead,
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
            Self::Ahead => "ahead",
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
            Some(verdict) if !verdict.is_good() => Standing::Refused,
            _ if self.is_ahead() => Standing::Ahead,
            None => Standing::Unverified,
            Some(_) => Standing::Verified,
        }
    }

    fn is_ahead(&self) -> bool {
        let latest = self.seen_at + AHEAD_MAX;
        self.taken_at().or_else(|| self.id.taken_at()).is_some_and(|at| at > latest)
    }

    /// When its snapshot was taken.
    #[must_use]
    pub fn taken_at(&self) -> Option<OffsetDateTime> {
        read_instant(&self.manifest.as_ref().ok()?.snapshot_at)
    }

    /// When it was last proven, by a clock that was not ahead.
    #[must_use]
    pub fn verified_at(&self) -> Option<OffsetDateTime> {
        if self.is_ahead() {
            return None;
        }
        let good = self.verdicts.iter().filter(|verdict| verdict.is_good());
        good.filter_map(|verdict| read_instant(&verdict.at)).filter(|at| *at <= self.seen_at + AHEAD_MAX).max()
    }

    /// Whether it is one to choose where none is named.
    fn is_a_choice(&self) -> bool {
        matches!(self.standing(), Standing::Unverified | Standing::Verified)
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
        let seen_at = (source.clock)();
        let mut backups = Vec::new();
        for id in ids(&objects, &source.prefix()) {
            let manifest = read_manifest(source, &id).await?;
            let cipher = manifest.as_ref().ok().map(|manifest| source.object(&id, &manifest.cipher.name));
            let size = |name: &String| objects.iter().find(|object| object.name == *name).map(|object| object.bytes);
            let verdicts = read_verdicts(source, &id, manifest.as_ref().ok(), &objects).await?;
            backups.push(Backup { cipher_bytes: cipher.as_ref().and_then(size), id, manifest, verdicts, seen_at });
        }
        Ok(Self { backups })
    }

    /// The one of this name, or the newest that is not refused and not of a later time than now.
    ///
    /// # Errors
    /// [`Error::NoSuchBackup`], [`Error::NoBackup`]; [`Error::Refused`] when the named one's manifest is not believed.
    pub fn choose(&self, id: Option<&BackupId>) -> Result<(&BackupId, &Manifest), Error> {
        let backup = match id {
            Some(id) => self.backups.iter().find(|one| one.id == *id).ok_or_else(|| Error::NoSuchBackup(id.clone()))?,
            None => {
                let newest = self.backups.iter().rfind(|one| one.is_a_choice());
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

    /// When the newest was taken that is not refused and not of a later time than now.
    #[must_use]
    pub fn taken_at(&self) -> Option<OffsetDateTime> {
        self.backups.iter().filter(|one| one.is_a_choice()).filter_map(Backup::taken_at).max()
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
