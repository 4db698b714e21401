//! The drill that must see red: copies of the newest backup are damaged in several ways, and each has to be refused for
//! the right reason. The backup itself is not touched.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::{Kind, Measured, Report, Targets};
use crate::backup::target::{Folder, Target};
use crate::backup::{BackupId, Catalog, Error, Identities, Source, verify};

/// What is done to a copy, and the refusals that answer it rightly.
const DAMAGES: [(&str, &[&str]); 5] = [
    ("a byte of the header was flipped", &["cipher_hash"]),
    ("a byte in the middle was flipped", &["cipher_hash"]),
    ("the last byte was cut off", &["size"]),
    ("a byte was added", &["size"]),
    ("a digit of the manifest was changed", &["changed"]),
];

/// Damages copies of the newest backup below `workshop`, an empty folder inside the same jurisdiction, and verifies each.
///
/// # Errors
/// When there is no backup to copy, or the target or the workshop cannot be used.
pub async fn tamper(
    source: &Source,
    identities: &Identities,
    workshop: &Path,
    targets: Targets,
    actor: &str,
) -> Result<Report, Error> {
    let region = source.database.to_string();
    let broken = "copies of the newest backup were damaged";
    let mut report = Report::begin(Kind::Tamper, &region, actor, broken, targets, (source.clock)());
    let begun = Instant::now();
    let elapsed = || u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let catalog = Catalog::read(source).await?;
    let (id, manifest) = catalog.choose(None)?;
    report.measured = Measured { rows: Some(manifest.rows()), ..Measured::default() };
    let copy = Folder::at(workshop);
    let copied = Source { target: Arc::new(copy.clone()), ..source.clone() };
    let (dump, note) = (format!("{region}/{id}/{}", manifest.cipher.name), format!("{region}/{id}/manifest.note"));
    let signed = source.target.get(&note).await?;
    copy_object(source, &copy, &dump).await?;
    let path = workshop.join(&dump);
    // Whole, it has to be believed: a check that refuses everything proves nothing.
    copy.put(&note, &signed).await?;
    match outcome(&copied, id, identities).await? {
        None => report.note(elapsed(), "the whole copy was believed"),
        Some(check) => report.fail(format!("the whole copy was refused: {check}")),
    }
    for (nth, (damage, right)) in DAMAGES.into_iter().enumerate() {
        copy_object(source, &copy, &dump).await?;
        copy.put(&note, &signed).await?;
        let failed = |source: io::Error| Error::Run { program: "the workshop", source };
        match nth {
            0 => flip(&path, 30).map_err(failed)?,
            1 => flip(&path, manifest.cipher.bytes / 2).map_err(failed)?,
            2 => resize(&path, manifest.cipher.bytes.saturating_sub(1)).map_err(failed)?,
            3 => resize(&path, manifest.cipher.bytes + 1).map_err(failed)?,
            _ => copy.put(&note, &forged(&signed)).await?,
        }
        match outcome(&copied, id, identities).await? {
            Some(check) if right.contains(&check) => report.note(elapsed(), format!("{damage}: refused ({check})")),
            Some(check) => report.fail(format!("{damage}: refused for another reason ({check})")),
            None => report.fail(format!("{damage}, and the copy was believed")),
        }
    }
    report.judge();
    Ok(report)
}

/// The name of the refusal; `None` when the copy was believed.
async fn outcome(copied: &Source, id: &BackupId, identities: &Identities) -> Result<Option<&'static str>, Error> {
    match verify(copied, Some(id), identities, &|_, _| ()).await {
        Ok(verified) => Ok(verified.refusal.map(|refusal| refusal.name())),
        Err(Error::Refused(refusal)) => Ok(Some(refusal.name())),
        Err(error) => Err(error),
    }
}

async fn copy_object(source: &Source, to: &Folder, name: &str) -> Result<(), Error> {
    let mut download = source.target.open(name).await?;
    let mut upload = to.begin(name).await?;
    loop {
        let piece = download.read().await?;
        if piece.is_empty() {
            return Ok(upload.finish().await?);
        }
        upload.write(&piece).await?;
    }
}

fn flip(path: &Path, at: u64) -> io::Result<()> {
    use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
    let mut file = std::fs::OpenOptions::new().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut byte)?;
    file.seek(SeekFrom::Start(at))?;
    file.write_all(&[byte[0] ^ 1])
}

fn resize(path: &Path, bytes: u64) -> io::Result<()> {
    std::fs::OpenOptions::new().write(true).open(path)?.set_len(bytes)
}

/// The manifest with one digit of its text changed.
fn forged(signed: &[u8]) -> Vec<u8> {
    let mut forged = signed.to_vec();
    if let Some(digit) = forged.iter_mut().find(|byte| byte.is_ascii_digit()) {
        *digit = if *digit == b'9' { b'0' } else { *digit + 1 };
    }
    forged
}
