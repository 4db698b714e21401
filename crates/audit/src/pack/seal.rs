//! Packs for certain eyes only: encrypted to the auditor's age key (age-encryption.org/v1), so that whoever carries the
//! file learns nothing.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::str::FromStr;

use age::x25519;
use sha2::{Digest, Sha256};

/// How an encrypted file begins.
const MAGIC: &[u8] = b"age-encryption.org/v1";
/// The most recipients of a pack.
pub const RECIPIENTS_MAX: usize = 20;
/// The most bytes of a file of identities.
const IDENTITIES_BYTES_MAX: u64 = 64 << 10;

/// Somebody who can open a pack: an age public key, `age1…`.
#[derive(Clone)]
pub struct Recipient(x25519::Recipient);

impl std::fmt::Debug for Recipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.to_string())
    }
}

/// The text is no age public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not an age public key (age1…)")]
pub struct NotARecipient(String);

impl FromStr for Recipient {
    type Err = NotARecipient;

    fn from_str(text: &str) -> Result<Self, NotARecipient> {
        text.parse().map(Self).map_err(|_| NotARecipient(text.chars().take(80).collect()))
    }
}

/// What opens a pack: age secret keys, `AGE-SECRET-KEY-1…`.
#[derive(Clone, Default)]
pub struct Identities(Vec<x25519::Identity>);

/// The file is no file of age secret keys.
#[derive(Debug, thiserror::Error)]
pub enum NotIdentities {
    /// It cannot be read.
    #[error("it cannot be read")]
    Unread(#[from] io::Error),
    /// It holds something else.
    #[error("line {0} is neither a comment nor an age secret key (AGE-SECRET-KEY-1…)")]
    Line(usize),
    /// It holds none.
    #[error("it holds no age secret key (AGE-SECRET-KEY-1…)")]
    None,
}

impl Identities {
    /// Reads a file as `age-keygen` writes it.
    ///
    /// # Errors
    /// [`NotIdentities`].
    pub fn read(path: &Path) -> Result<Self, NotIdentities> {
        let mut text = String::new();
        File::open(path)?.take(IDENTITIES_BYTES_MAX).read_to_string(&mut text)?;
        let mut identities = Vec::new();
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
        {
            identities.push(line.trim().parse().map_err(|_| NotIdentities::Line(at + 1))?);
        }
        if identities.is_empty() { Err(NotIdentities::None) } else { Ok(Self(identities)) }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Opens a file, decrypting it when it is encrypted: into a file without a name, which is gone when it is closed.
pub(super) fn open(path: &Path, identities: &Identities) -> io::Result<File> {
    let mut file = File::open(path)?;
    let mut begin = [0; MAGIC.len()];
    let count = file.read(&mut begin)?;
    file.seek(SeekFrom::Start(0))?;
    if begin[..count] != *MAGIC {
        return Ok(file);
    }
    if identities.is_empty() {
        return Err(io::Error::other(
            "it is encrypted: give the age secret key that it was made for (--identity FILE)",
        ));
    }
    let decryptor = age::Decryptor::new_buffered(BufReader::new(file)).map_err(io::Error::other)?;
    let identities = identities.0.iter().map(|identity| identity as &dyn age::Identity);
    let mut plain = decryptor.decrypt(identities).map_err(io::Error::other)?;
    let mut opened = tempfile::tempfile()?;
    io::copy(&mut plain, &mut opened)?;
    opened.seek(SeekFrom::Start(0))?;
    Ok(opened)
}

/// Where a pack is written: encrypted when it has recipients, and hashed as it lies on disk.
pub(super) enum Seal<W: Write> {
    Open(Hashed<W>),
    Sealed(age::stream::StreamWriter<Hashed<W>>),
}

impl<W: Write> Seal<W> {
    pub(super) fn new(out: W, recipients: &[Recipient]) -> io::Result<Self> {
        let out = Hashed::new(out);
        if recipients.is_empty() {
            return Ok(Self::Open(out));
        }
        let to = recipients.iter().map(|recipient| &recipient.0 as &dyn age::Recipient);
        let sealed = age::Encryptor::with_recipients(to).map_err(io::Error::other)?.wrap_output(out)?;
        Ok(Self::Sealed(sealed))
    }

    /// Ends the file: its length and its SHA-256.
    pub(super) fn close(self) -> io::Result<(u64, [u8; 32])> {
        let mut out = match self {
            Self::Open(out) => out,
            Self::Sealed(sealed) => sealed.finish()?,
        };
        out.flush()?;
        Ok(out.finish())
    }
}

impl<W: Write> Write for Seal<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Open(out) => out.write(bytes),
            Self::Sealed(sealed) => sealed.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Open(out) => out.flush(),
            Self::Sealed(sealed) => sealed.flush(),
        }
    }
}

/// What goes through is hashed and counted.
pub(super) struct Hashed<W> {
    out: W,
    hasher: Sha256,
    bytes: u64,
}

impl<W> Hashed<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, hasher: Sha256::new(), bytes: 0 }
    }

    /// How many bytes there were, and their SHA-256.
    pub(super) fn finish(self) -> (u64, [u8; 32]) {
        (self.bytes, self.hasher.finalize().into())
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
