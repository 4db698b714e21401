//! Bytes on their way: counted, hashed, and poured from an encrypted file into a restore.

use std::io::{self, Read};

use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::manifest::{File, Manifest};
use super::run::Running;
use super::target::{Download, PIECE_BYTES};
use super::{BackupId, Error, Identities, Refusal, Source, Step};

/// Pieces that may wait between two stages.
const PIECES_WAITING_MAX: usize = 8;

/// Counts and hashes what passes.
#[derive(Default)]
pub(super) struct Tally {
    hash: Sha256,
    bytes: u64,
}

impl Tally {
    pub(super) fn add(&mut self, piece: &[u8]) {
        self.hash.update(piece);
        self.bytes += piece.len() as u64;
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn file(self, name: &str) -> File {
        File { bytes: self.bytes, name: name.to_owned(), sha256: hex::encode(self.hash.finalize()) }
    }
}

/// Reads an object to its end and compares it with what was signed.
pub(super) async fn check_cipher(source: &Source, id: &BackupId, wanted: &File) -> Result<(), Error> {
    let mut download = source.target.open(&source.object(id, &wanted.name)).await?;
    let mut tally = Tally::default();
    loop {
        let piece = download.read().await?;
        if piece.is_empty() {
            break;
        }
        tally.add(&piece);
    }
    Ok(compare(&tally.file(""), wanted, Refusal::CipherHash)?)
}

fn compare(found: &File, wanted: &File, differs: Refusal) -> Result<(), Refusal> {
    if found.bytes != wanted.bytes {
        Err(Refusal::Size { found: found.bytes, wanted: wanted.bytes })
    } else if found.sha256 != wanted.sha256 {
        Err(differs)
    } else {
        Ok(())
    }
}

/// Where decrypted bytes go.
pub(super) trait Sink: Send {
    /// Takes a piece.
    fn take(&mut self, piece: &[u8]) -> impl Future<Output = Result<(), Error>> + Send;

    /// The end: nothing more comes, and all of it was right.
    fn end(self) -> impl Future<Output = Result<(), Error>> + Send;
}

impl Sink for Running {
    async fn take(&mut self, piece: &[u8]) -> Result<(), Error> {
        self.feed(piece).await
    }

    async fn end(self) -> Result<(), Error> {
        self.finish().await
    }
}

/// Decrypts a backup into a sink and holds every byte against the manifest. The sink has received part of it by the
/// time anything is found wrong, so that what it fed must be thrown away on any error.
pub(super) async fn pour(
    source: &Source,
    id: &BackupId,
    manifest: &Manifest,
    identities: &Identities,
    sink: impl Sink,
    told: &(dyn Fn(Step) + Send + Sync),
) -> Result<(), Error> {
    let download = source.target.open(&source.object(id, &manifest.cipher.name)).await?;
    let (cipher_in, cipher_out) = mpsc::channel(PIECES_WAITING_MAX);
    let (plain_in, plain_out) = mpsc::channel(PIECES_WAITING_MAX);
    let identities = identities.clone();
    let opening = tokio::task::spawn_blocking(move || open(&identities, cipher_out, &plain_in));
    let (cipher, fed) =
        tokio::join!(download_into(download, cipher_in), feed(plain_out, manifest.plain.bytes, sink, told));
    let opened = opening.await.unwrap_or(Err(Refusal::DoesNotDecrypt));
    // The most telling reason first: a damaged file also fails to decrypt, or to know its reader, and then to restore.
    compare(&cipher?, &manifest.cipher, Refusal::CipherHash)?;
    opened?;
    compare(&fed?, &manifest.plain, Refusal::PlainHash)?;
    Ok(())
}

async fn download_into(mut download: Box<dyn Download>, into: mpsc::Sender<Vec<u8>>) -> Result<File, Error> {
    let mut tally = Tally::default();
    loop {
        let piece = download.read().await?;
        if piece.is_empty() {
            return Ok(tally.file(""));
        }
        tally.add(&piece);
        // Whoever decrypts may have given up; the hash is still wanted.
        drop(into.send(piece).await);
    }
}

fn open(
    identities: &Identities,
    cipher: mpsc::Receiver<Vec<u8>>,
    plain: &mpsc::Sender<Vec<u8>>,
) -> Result<(), Refusal> {
    let mut reader = identities.open(Pieces { from: cipher, piece: Vec::new(), at: 0 })?;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match reader.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(read) => {
                if plain.blocking_send(piece[..read].to_vec()).is_err() {
                    return Ok(()); // the restore has failed, and says why
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(Refusal::DoesNotDecrypt),
        }
    }
}

async fn feed(
    mut plain: mpsc::Receiver<Vec<u8>>,
    of: u64,
    mut sink: impl Sink,
    told: &(dyn Fn(Step) + Send + Sync),
) -> Result<File, Error> {
    let mut tally = Tally::default();
    while let Some(piece) = plain.recv().await {
        tally.add(&piece);
        sink.take(&piece).await?;
        told(Step::Passed { plain_bytes: tally.bytes(), of: Some(of) });
    }
    sink.end().await?;
    Ok(tally.file(""))
}

/// Pieces as one stream.
struct Pieces {
    from: mpsc::Receiver<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            self.piece = self.from.blocking_recv().unwrap_or_default();
            self.at = 0;
        }
        let left = &self.piece[self.at..];
        let count = left.len().min(into.len());
        into[..count].copy_from_slice(&left[..count]);
        self.at += count;
        Ok(count)
    }
}
