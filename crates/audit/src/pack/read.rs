//! Reading a pack that a stranger may have made.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tlog::{Hash, NOTE_BYTES_MAX, TILE_WIDTH, Tile};
use zip::ZipArchive;

use super::seal::{self, Hashed, Identities};
use super::write::entries_path;
use super::{FORMAT, Manifest, policy_files};
use crate::bundle::BUNDLE_BYTES_MAX;
use crate::verify::{PolicyText, Source, Unread};

/// The most bytes of a manifest: of one that names [`ENTRIES_MAX`](super::ENTRIES_MAX) entries, and some more.
const MANIFEST_BYTES_MAX: usize = 64 << 20;
/// What a manifest says of one file, at most: four blanks, a path (`tile/entries/x004/x294/x967/295`), a hash, and their marks.
const MANIFEST_LINE_BYTES_MAX: u64 = 120;
const _: () = assert!(
    super::ENTRIES_MAX / (TILE_WIDTH as u64) * 2 * MANIFEST_LINE_BYTES_MAX < MANIFEST_BYTES_MAX as u64,
    "a manifest names two files for every tile"
);
/// The most bytes of a policy's text.
const POLICY_BYTES_MAX: usize = 4 << 20;
/// The most policies that are read out of a pack.
const POLICIES_MAX: usize = 4_096;

/// A pack, opened for verifying.
pub struct Pack {
    archive: ZipArchive<Window>,
    manifest: Manifest,
}

impl Pack {
    /// Opens a pack and reads its manifest.
    ///
    /// # Errors
    /// [`Unread`] when it is no pack.
    pub fn open(path: &Path) -> Result<Self, Unread> {
        Self::open_with(path, &Identities::default())
    }

    /// Opens a pack that may be encrypted, by the first of these keys that fits. It is decrypted into a file without a name, which
    /// is gone with this process.
    ///
    /// # Errors
    /// [`Unread`] when it is no pack, or none of the keys opens it.
    pub fn open_with(path: &Path, identities: &Identities) -> Result<Self, Unread> {
        let no_pack = |why: String| Unread::Unreachable(format!("{} is no evidence pack: {why}", path.display()));
        let file = seal::open(path, identities).map_err(|error| no_pack(error.to_string()))?;
        Self::of(file).map_err(|why| no_pack(why.to_string()))
    }

    /// A pack out of a file that is open and not encrypted.
    ///
    /// # Errors
    /// [`Unread`] when it is no pack.
    pub fn of(file: File) -> Result<Self, Unread> {
        let no_pack = Unread::Unreachable;
        let length = file.metadata().map_err(|error| no_pack(error.to_string()))?.len();
        let archive = ZipArchive::new(Window { file: Arc::new(file), at: 0, length });
        let mut archive = archive.map_err(|error| no_pack(error.to_string()))?;
        let text =
            read(&mut archive, "manifest.json", MANIFEST_BYTES_MAX).map_err(|error| no_pack(error.to_string()))?;
        let manifest: Manifest = serde_json::from_slice(&text).map_err(|error| no_pack(error.to_string()))?;
        if manifest.format != FORMAT {
            return Err(no_pack(format!("its format is not {FORMAT}")));
        }
        Ok(Self { archive, manifest })
    }

    /// Reads a file that is what the manifest says it is.
    fn file(&self, path: &str, bytes_max: usize) -> Result<Vec<u8>, Unread> {
        let content = read(&mut self.archive.clone(), path, bytes_max)?;
        match self.manifest.files.get(path) {
            Some(said) if *said == hex::encode(Sha256::digest(&content)) => Ok(content),
            _ => Err(Self::unknown(path)),
        }
    }

    fn unknown(path: &str) -> Unread {
        Unread::Missing(format!("{path} as the pack's manifest knows it"))
    }

    fn text(&self, path: &str, bytes_max: usize) -> Result<String, Unread> {
        let content = self.file(path, bytes_max)?;
        String::from_utf8(content).map_err(|_| Unread::Missing(format!("{path} as a text")))
    }
}

impl Source for Pack {
    fn checkpoint(&self) -> Result<String, Unread> {
        self.text("checkpoint", NOTE_BYTES_MAX)
    }

    fn tile(&self, tile: Tile) -> Result<Vec<u8>, Unread> {
        self.file(&tile.to_string(), 32 * usize::from(TILE_WIDTH))
    }

    fn entries(&self, tile: Tile) -> Result<Vec<u8>, Unread> {
        self.file(&entries_path(tile), BUNDLE_BYTES_MAX)
    }

    fn policies(&self) -> Result<Vec<PolicyText>, Unread> {
        let named = self.manifest.policies.iter().take(POLICIES_MAX);
        named
            .map(|sha256| {
                let [text, jurisdictions, locations] = policy_files(sha256);
                Ok(PolicyText {
                    said_sha256: Some(sha256.clone()),
                    text: self.text(&text, POLICY_BYTES_MAX)?,
                    jurisdictions: self.text(&jurisdictions, POLICY_BYTES_MAX)?,
                    locations: self.text(&locations, POLICY_BYTES_MAX)?,
                })
            })
            .collect()
    }

    fn list(&self, name: &str, bytes: u64) -> Result<Option<Hash>, Unread> {
        let gone = |_: io::Error| Unread::Missing(name.to_owned());
        let mut archive = self.archive.clone();
        let file = archive.by_name(name).map_err(|error| gone(error.into()))?;
        let mut hashed = Hashed::new(io::sink());
        io::copy(&mut file.take(bytes.saturating_add(1)), &mut hashed).map_err(gone)?;
        let (read, hash) = hashed.finish();
        // A longer one was not read to its end, so the manifest's hash says nothing about what was.
        if read <= bytes && self.manifest.files.get(name) != Some(&hex::encode(hash)) {
            return Err(Self::unknown(name));
        }
        Ok(Some(hash))
    }

    fn range(&self, _: u64) -> Range<u64> {
        self.manifest.from..self.manifest.to.max(self.manifest.from)
    }
}

/// What a zip file says of a file's size is not believed.
fn read(archive: &mut ZipArchive<Window>, path: &str, bytes_max: usize) -> Result<Vec<u8>, Unread> {
    let gone = |_| Unread::Missing(path.to_owned());
    let file = archive.by_name(path).map_err(|error| gone(error.to_string()))?;
    let mut content = Vec::new();
    file.take(bytes_max as u64 + 1).read_to_end(&mut content).map_err(|error| gone(error.to_string()))?;
    if content.len() > bytes_max { Err(gone(String::new())) } else { Ok(content) }
}

/// A view of a file with a place of its own, so that several threads can read at once.
#[derive(Clone)]
struct Window {
    file: Arc<File>,
    at: u64,
    length: u64,
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = target.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}
