//! Making a backup: one snapshot, one stream, no moment at which half of one could be taken for a whole.
//!
//! `pg_dump` under an exported snapshot -> SHA-256 -> age -> SHA-256 -> the target, while the tables are counted and
//! summed under the same snapshot and, when it is to be verified inline, the same plain bytes run into a scratch
//! database. Then what was stored is read back, and only then the manifest appears.

use std::time::Instant;

use storage::admin::{self, BackupLock, Scratch, Set, Snapshot, TableSum};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::crypt::Encryption;
use super::manifest::{Cursor, File, LogLine, Manifest, Mode, Outcome, TableLine, VERSION, Verdict};
use super::run::Running;
use super::stream::{Tally, check_cipher};
use super::target::{PIECE_BYTES, Upload};
use super::{BackupId, Error, Progress, Source, Step};

/// The encrypted dump's name beside its manifest.
pub(super) const DUMP: &str = "dump.age";
/// The manifest's name: what makes a backup one.
pub(super) const MANIFEST: &str = "manifest.note";

/// Why a backup is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Somebody asked for it.
    Manual,
    /// The clock did.
    Scheduled,
    /// A deployment is about to begin.
    PreDeploy,
    /// A migration that takes something away is about to run.
    PreContract,
    /// A drill is to restore it.
    Drill,
}

impl Kind {
    /// Its word in a manifest.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Scheduled => "scheduled",
            Self::PreDeploy => "pre-deploy",
            Self::PreContract => "pre-contract",
            Self::Drill => "drill",
        }
    }
}

/// What kind of backup is wanted.
#[derive(Debug, Clone)]
pub struct Order {
    /// Why.
    pub kind: Kind,
    /// The release in force, or this program's version.
    pub release: String,
    /// Whether it is restored into a scratch database while it is made.
    pub verify_inline: bool,
}

/// A backup that was made.
#[derive(Debug, Clone)]
pub struct Created {
    /// Its name.
    pub id: BackupId,
    /// Its manifest.
    pub manifest: Manifest,
    /// What verifying it came to, if it was verified.
    pub verdict: Option<Verdict>,
}

/// Makes one. After an error there is none: what was written has been removed, or is when the next one is made.
///
/// # Errors
/// [`Error`].
pub async fn create(source: &Source, order: &Order, progress: Progress<'_>) -> Result<Created, Error> {
    let limit = source.bounds.run_max;
    let work = async {
        source.check_place()?;
        let lock = BackupLock::take(&source.owner_dsn).await?.ok_or(Error::Busy)?;
        let made = create_alone(source, order, progress).await;
        lock.release().await;
        made
    };
    tokio::time::timeout(limit, Box::pin(work)).await.unwrap_or(Err(Error::TooLong { limit }))
}

async fn create_alone(source: &Source, order: &Order, progress: Progress<'_>) -> Result<Created, Error> {
    let told = |step: Step| progress(&source.database, step);
    let cleaned = clean(source).await?;
    if cleaned > 0 {
        told(Step::Cleaned(cleaned));
    }
    let id = BackupId::new((source.clock)());
    let made = write(source, order, &id, &told).await;
    if made.is_err() {
        // Best effort: without a manifest it is no backup, and the next run removes what is left of it.
        drop(source.target.remove(&source.object(&id, MANIFEST)).await);
        drop(source.target.remove(&source.object(&id, DUMP)).await);
    }
    made
}

/// Removes what runs that were cut short have left. Nobody else is at it: the lock is held. What stands beside a
/// manifest that is not believed is left for a person to look at.
async fn clean(source: &Source) -> Result<usize, Error> {
    let mut cleaned = source.target.sweep(&source.prefix()).await?;
    let objects = source.target.list(&source.prefix()).await?;
    for object in &objects {
        let Some((folder, name)) = object.name.rsplit_once('/') else { continue };
        let manifest = format!("{folder}/{MANIFEST}");
        let left_over = if objects.iter().any(|other| other.name == manifest) {
            let known = name == MANIFEST || name.starts_with("verdict-");
            let note = if known { None } else { Some(source.target.get(&manifest).await?) };
            let believed = note.and_then(|note| Manifest::read(&note, source.key.public()).ok());
            believed.is_some_and(|manifest| manifest.cipher.name != name)
        } else {
            true
        };
        if left_over {
            source.target.remove(&object.name).await?;
            cleaned += 1;
        }
    }
    cleaned += admin::drop_leftovers(&source.scratch_dsn).await?.len();
    Ok(cleaned)
}

async fn write(
    source: &Source,
    order: &Order,
    id: &BackupId,
    told: &(dyn Fn(Step) + Send + Sync),
) -> Result<Created, Error> {
    let mut snapshot = Snapshot::take(&source.owner_dsn, None, source.set()).await?;
    let snapshot_at = (source.clock)();
    let state = snapshot.state().clone();
    source.check_identity(&state)?;
    source.programs.check_server(&state.server_version)?;

    let proof = match order.verify_inline {
        true => Some(Proof::begin(source, id).await?),
        false => None,
    };
    let name = snapshot.name().to_owned();
    let dump = source.programs.dump(&source.owner_dsn, &name)?;
    let upload = source.target.begin(&source.object(id, DUMP)).await?;
    let counted = |table: &TableSum| told(Step::Counted { table: table.name.clone(), rows: table.rows });
    let streaming = stream(source, dump, upload, proof, told);
    let (streamed, sums) = tokio::join!(streaming, snapshot.sums(&counted));
    let (plain, cipher, proof) = match (streamed, sums.as_ref()) {
        (Ok(done), Ok(_)) => done,
        (Err(error), _) => return Err(error),
        (Ok((_, _, proof)), Err(_)) => {
            if let Some(proof) = proof {
                proof.give_up().await;
            }
            return Err(sums.err().map_or(Error::Busy, Error::Database));
        }
    };
    snapshot.close().await;
    let sums = sums?;
    let region = state.region.as_ref();
    let manifest = Manifest {
        cipher,
        client_version: source.programs.major(),
        cursors: region.map(|region| region.cursors.as_slice()).unwrap_or_default().iter().map(cursor).collect(),
        database: source.database.to_string(),
        finished_at: instant((source.clock)()),
        id: id.to_string(),
        jurisdiction: source.jurisdiction.to_string(),
        kind: order.kind.name().to_owned(),
        locations: std::iter::once(source.place.location().to_owned())
            .chain(source.place.replicas().iter().cloned())
            .collect(),
        log: region.map(|region| LogLine {
            epoch: region.log_epoch,
            origin: region.origin.clone(),
            root: hex::encode(region.log_root),
            size: region.log_size,
        }),
        migrations: state.migrations.clone(),
        plain,
        recipients: source.recipients.as_texts().to_vec(),
        release: order.release.clone(),
        rekeyed: None,
        server: Manifest::server_of(&state),
        snapshot_at: instant(snapshot_at),
        tables: sums.iter().map(TableLine::from).collect(),
        v: VERSION,
    };
    let verdict = match proof {
        Some(proof) => {
            told(Step::Comparing);
            Some(proof.compare(source, &manifest).await?)
        }
        None => None,
    };
    told(Step::ReadingBack);
    check_cipher(source, id, &manifest.cipher).await?;
    publish(source, id, &manifest).await?;
    if let Some(verdict) = &verdict {
        put_verdict(source, id, verdict).await?;
    }
    told(Step::Published(id.clone()));
    Ok(Created { id: id.clone(), manifest, verdict })
}

/// Runs the dump to its end. Both programs' exit statuses have been seen when this returns well.
async fn stream(
    source: &Source,
    mut dump: Running,
    mut upload: Box<dyn Upload>,
    mut proof: Option<Proof>,
    told: &(dyn Fn(Step) + Send + Sync),
) -> Result<(File, File, Option<Proof>), Error> {
    let work = async {
        let mut encryption = Encryption::to(&source.recipients)?;
        let (mut plain, mut cipher) = (Tally::default(), Tally::default());
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let read = dump.read(&mut piece).await?;
            if read == 0 {
                break;
            }
            plain.add(&piece[..read]);
            let sealed = encryption.push(&piece[..read])?;
            cipher.add(&sealed);
            upload.write(&sealed).await?;
            if let Some(running) = proof.as_mut().and_then(|proof| proof.running.as_mut()) {
                running.feed(&piece[..read]).await?;
            }
            told(Step::Passed { plain_bytes: plain.bytes(), of: None });
        }
        dump.finish().await?;
        if let Some(running) = proof.as_mut().and_then(|proof| proof.running.take()) {
            running.finish().await?;
        }
        let sealed = encryption.finish()?;
        cipher.add(&sealed);
        upload.write(&sealed).await?;
        upload.finish().await?;
        Ok((plain.file(""), cipher.file(DUMP)))
    };
    match work.await {
        Ok((plain, cipher)) => Ok((plain, cipher, proof)),
        Err(error) => {
            if let Some(proof) = proof {
                proof.give_up().await;
            }
            Err(error)
        }
    }
}

/// A restore that runs beside the dump.
struct Proof {
    scratch: Scratch,
    running: Option<Running>,
    begun: Instant,
}

impl Proof {
    async fn begin(source: &Source, id: &BackupId) -> Result<Self, Error> {
        let begun = Instant::now();
        let scratch = Scratch::create(&source.scratch_dsn, &source.scratch_name(id, "verify")).await?;
        match source.programs.restore(&source.scratch_dsn, scratch.name(), true) {
            Ok(running) => Ok(Self { scratch, running: Some(running), begun }),
            Err(error) => {
                drop(scratch.drop().await);
                Err(error)
            }
        }
    }

    async fn give_up(self) {
        drop(self.running);
        drop(self.scratch.drop().await);
    }

    async fn compare(self, source: &Source, manifest: &Manifest) -> Result<Verdict, Error> {
        let compared = sums_of(source, self.scratch.name()).await.and_then(|sums| Ok(manifest.compare(&sums)?));
        self.scratch.drop().await?;
        compared?;
        Ok(verdict(source, manifest, Mode::Inline, Outcome::Verified, self.begun))
    }
}

/// Counts and sums every table of a restored copy.
pub(super) async fn sums_of(source: &Source, database: &str) -> Result<Vec<TableSum>, Error> {
    let set: Set = source.set();
    let mut snapshot = Snapshot::take(&source.scratch_dsn, Some(database), set).await?;
    let sums = snapshot.sums(&|_| ()).await;
    snapshot.close().await;
    Ok(sums?)
}

/// A verdict about the backup of this manifest.
pub(super) fn verdict(source: &Source, manifest: &Manifest, mode: Mode, outcome: Outcome, begun: Instant) -> Verdict {
    Verdict {
        at: instant((source.clock)()),
        cipher_sha256: manifest.cipher.sha256.clone(),
        database: manifest.database.clone(),
        id: manifest.id.clone(),
        mode,
        outcome,
        rows: manifest.rows(),
        tables: manifest.tables.len() as u64,
        took_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}

/// Writes the manifest, reads it back and compares it: from here on the backup exists.
pub(super) async fn publish(source: &Source, id: &BackupId, manifest: &Manifest) -> Result<(), Error> {
    let name = source.object(id, MANIFEST);
    let note = manifest.sign(&source.key)?;
    source.target.put(&name, &note).await?;
    let stored = Manifest::read(&source.target.get(&name).await?, source.key.public());
    match stored {
        Ok(stored) if stored == *manifest => Ok(()),
        outcome => Err(outcome.err().unwrap_or(super::Refusal::Changed { what: "manifest" }).into()),
    }
}

/// Writes a verdict beside the manifest. Each has a name of its own: a later one does not replace an earlier one.
pub(super) async fn put_verdict(source: &Source, id: &BackupId, verdict: &Verdict) -> Result<(), Error> {
    let at: String = verdict.at.chars().filter(char::is_ascii_alphanumeric).collect();
    let name = source.object(id, &format!("verdict-{at}.note"));
    source.target.put(&name, &verdict.sign(&source.key)?).await?;
    Ok(())
}

fn cursor((name, seq): &(String, u64)) -> Cursor {
    Cursor { name: name.clone(), seq: *seq }
}

pub(super) fn instant(at: OffsetDateTime) -> String {
    at.replace_nanosecond(at.nanosecond() / 1_000 * 1_000).unwrap_or(at).format(&Rfc3339).unwrap_or_default()
}
