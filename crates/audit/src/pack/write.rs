//! Making a pack out of a region's log.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, Seek as _, Write};
use std::ops::Range;

use sha2::{Digest, Sha256};
use storage::{Log, ViolationFilter};
use tlog::{Checkpoint, Note, TILE_WIDTH, Tile, TreeError, tiles_for_consistency, tiles_for_root};
use zip::ZipWriter;
use zip::write::{SimpleFileOptions, StreamWriter};

use super::lists::{self, DENIALS, TRANSFERS, VIOLATIONS};
use super::seal::{Hashed, Recipient, Seal};
use super::{ENTRIES_MAX, FORMAT, Manifest, VERIFY_PY, VERIFY_TXT, policy_files};
use crate::bundle::bundle;

/// Violations that are read at once.
const VIOLATIONS_AT_ONCE: u16 = 1_000;

/// What is to be in a pack.
#[derive(Clone, Default)]
pub struct Wanted {
    /// Which entries; widened to whole tiles, and cut at the newest checkpoint.
    pub range: Range<u64>,
    /// The size of an older checkpoint that the auditor holds, so that the pack shows that it is continued.
    pub since: Option<u64>,
    /// To whom it is encrypted; to nobody when there are none.
    pub recipients: Vec<Recipient>,
}

/// What a pack came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// The log.
    pub origin: String,
    /// The size that its checkpoint speaks of.
    pub size: u64,
    /// The entries in it.
    pub range: Range<u64>,
    /// How many of them are denials.
    pub denials: u64,
    /// How many of them speak of a transfer across a border.
    pub transfers: u64,
    /// How many violations the register has about them.
    pub violations: u64,
    /// The file's length.
    pub bytes: u64,
    /// The file's SHA-256.
    pub sha256: [u8; 32],
}

/// Why there is no pack.
#[derive(Debug, thiserror::Error)]
pub enum NotPacked {
    /// The log has no signed checkpoint, or none that reaches the range.
    #[error("the log has no signed checkpoint that reaches the range")]
    NotSigned,
    /// The range is too long for one pack.
    #[error("{0} entries are more than a pack holds ({ENTRIES_MAX}): make several, one after the other's range")]
    TooMany(u64),
    /// The log lost a part of itself.
    #[error("the log does not hold what its checkpoint speaks of: {0}")]
    Incomplete(String),
    /// The database did not answer.
    #[error("the log could not be read")]
    Unread(#[from] storage::Error),
    /// The file could not be written.
    #[error("the pack could not be written")]
    Unwritten(#[from] io::Error),
}

impl From<TreeError> for NotPacked {
    fn from(error: TreeError) -> Self {
        Self::Incomplete(error.to_string())
    }
}

impl From<zip::result::ZipError> for NotPacked {
    fn from(error: zip::result::ZipError) -> Self {
        Self::Unwritten(io::Error::other(error))
    }
}

/// Writes a pack. `progress` is told how many entries are in, and of how many.
///
/// # Errors
/// [`NotPacked`]; what was written until then is of no use.
pub async fn write_pack<W: Write + Send>(
    log: &Log,
    wanted: &Wanted,
    out: W,
    progress: impl Fn(u64, u64),
) -> Result<Packed, NotPacked> {
    let published = log.checkpoint(false).await?.filter(|checkpoint| wanted.range.start < checkpoint.size);
    let published = published.ok_or(NotPacked::NotSigned)?;
    let unreadable = || NotPacked::Incomplete("its checkpoint cannot be read".to_owned());
    let note: Note = published.note.parse().map_err(|_| unreadable())?;
    let checkpoint: Checkpoint = note.text().parse().map_err(|_| unreadable())?;
    let (size, width) = (checkpoint.size, u64::from(TILE_WIDTH));
    let from = wanted.range.start / width * width;
    let to = size.min(wanted.range.end.div_ceil(width).saturating_mul(width)).max(from);
    if to - from > ENTRIES_MAX {
        return Err(NotPacked::TooMany(to - from));
    }
    let out = Seal::new(out, &wanted.recipients)?;
    let mut pack = Files { zip: ZipWriter::new_stream(out), files: BTreeMap::new() };
    pack.add("checkpoint", published.note.as_bytes())?;
    for tile in tiles(size, from..to, wanted.since)? {
        let hashes = log.tile(tile).await?.ok_or(TreeError::Missing(tile))?;
        pack.add(&tile.to_string(), &hashes.concat())?;
    }
    let (mut denials, mut transfers) = (Spool::new()?, Spool::new()?);
    for index in from / width..to.div_ceil(width) {
        let Some(tile) = Tile::within(size, 0, index) else { continue };
        let rows = log.leaves(index * width, tile.width().into()).await?;
        let there = rows.iter().zip(index * width..).take_while(|(row, seq)| row.seq == *seq).count();
        if there != usize::from(tile.width()) {
            return Err(NotPacked::Incomplete(format!("entries beneath {tile} are missing")));
        }
        for row in &rows {
            let line = row.line.as_bytes();
            denials.extend(lists::denial(row.seq, line))?;
            transfers.extend(lists::transfer(row.seq, &row.leaf_hash, line))?;
        }
        pack.add(&entries_path(tile), &bundle(rows.iter().map(|row| row.line.as_bytes())))?;
        progress((index * width + u64::from(tile.width())).min(to) - from, to - from);
    }
    let violations = violations(log, from..to).await?;
    let denials = pack.add_list(DENIALS, denials)?;
    let transfers = pack.add_list(TRANSFERS, transfers)?;
    let violations = pack.add_list(VIOLATIONS, violations)?;
    let mut policies = Vec::new();
    for policy in log.policies().await? {
        let sha256 = hex::encode(policy.sha256);
        let texts = [&policy.text, &policy.jurisdictions, &policy.locations];
        for (path, text) in policy_files(&sha256).iter().zip(texts) {
            pack.add(path, text.as_bytes())?;
        }
        policies.push(sha256);
    }
    pack.add("verify.py", VERIFY_PY.as_bytes())?;
    pack.add("VERIFY.txt", VERIFY_TXT.as_bytes())?;
    let origin = checkpoint.origin;
    let (bytes, sha256) = pack.close(|files| Manifest {
        format: FORMAT.to_owned(),
        origin: origin.clone(),
        size,
        from,
        to,
        policies,
        files,
    })?;
    Ok(Packed { origin, size, range: from..to, denials, transfers, violations, bytes, sha256 })
}

/// The register of violations, as far as it is about these entries.
async fn violations(log: &Log, entries: Range<u64>) -> Result<Spool, NotPacked> {
    let mut filter =
        ViolationFilter { entries: Some(entries), limit: VIOLATIONS_AT_ONCE, ..ViolationFilter::default() };
    let mut list = Spool::new()?;
    loop {
        let found = log.violations(&filter).await?;
        list.extend(found.iter().map(lists::violation))?;
        filter.before_id = found.last().map(|violation| violation.id);
        if found.len() < usize::from(VIOLATIONS_AT_ONCE) {
            return Ok(list);
        }
    }
}

/// Where the entries beneath a tile of level 0 lie.
pub(super) fn entries_path(tile: Tile) -> String {
    tile.to_string().replacen("tile/0/", "tile/entries/", 1)
}

/// The tiles that show a range, and what an older checkpoint needs, to be of the signed tree.
fn tiles(size: u64, range: Range<u64>, since: Option<u64>) -> Result<BTreeSet<Tile>, TreeError> {
    let mut tiles = tiles_for_root(size)?;
    let width = u64::from(TILE_WIDTH);
    tiles.extend((range.start / width..range.end.div_ceil(width)).filter_map(|index| Tile::within(size, 0, index)));
    if let Some(since) = since {
        tiles.extend(tiles_for_consistency(size, since)?);
    }
    // Everything above the lowest level is small, and leads to every tile below.
    for level in 1..=Tile::LEVEL_MAX {
        tiles.extend((0..).map_while(|index| Tile::within(size, level, index)));
    }
    Ok(tiles)
}

/// A list that grows beside the pack: in a file without a name, since the pack is written from front to back and a list may
/// be long.
struct Spool {
    file: BufWriter<File>,
    lines: u64,
}

impl Spool {
    fn new() -> io::Result<Self> {
        Ok(Self { file: BufWriter::new(tempfile::tempfile()?), lines: 0 })
    }

    fn extend(&mut self, lines: impl IntoIterator<Item = String>) -> io::Result<()> {
        for line in lines {
            writeln!(self.file, "{line}")?;
            self.lines += 1;
        }
        Ok(())
    }

    /// Its content from the beginning, and how many lines that is.
    fn read(self) -> io::Result<(File, u64)> {
        let mut file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        Ok((file, self.lines))
    }
}

struct Files<W: Write> {
    zip: ZipWriter<StreamWriter<Seal<W>>>,
    files: BTreeMap<String, String>,
}

impl<W: Write> Files<W> {
    fn add(&mut self, path: &str, content: &[u8]) -> Result<(), NotPacked> {
        if self.files.contains_key(path) {
            return Ok(());
        }
        // Random bytes do not get smaller.
        let hashes = path.starts_with("tile/") && !path.starts_with("tile/entries/");
        let method = if hashes { zip::CompressionMethod::Stored } else { zip::CompressionMethod::Deflated };
        self.zip.start_file(path, SimpleFileOptions::default().compression_method(method))?;
        self.zip.write_all(content)?;
        self.files.insert(path.to_owned(), hex::encode(Sha256::digest(content)));
        Ok(())
    }

    /// Adds a list; how many lines it has.
    fn add_list(&mut self, path: &str, list: Spool) -> Result<u64, NotPacked> {
        let (mut content, lines) = list.read()?;
        let huge = content.metadata()?.len() > u64::from(u32::MAX);
        let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        self.zip.start_file(path, options.large_file(huge))?;
        let mut hashed = Hashed::new(&mut self.zip);
        io::copy(&mut content, &mut hashed)?;
        let (_, hash) = hashed.finish();
        self.files.insert(path.to_owned(), hex::encode(hash));
        Ok(lines)
    }

    fn close(
        mut self,
        manifest: impl FnOnce(BTreeMap<String, String>) -> Manifest,
    ) -> Result<(u64, [u8; 32]), NotPacked> {
        let manifest = manifest(std::mem::take(&mut self.files));
        let text = serde_json::to_vec_pretty(&manifest).map_err(io::Error::other)?;
        self.add("manifest.json", &text)?;
        Ok(self.zip.finish()?.into_inner().close()?)
    }
}
