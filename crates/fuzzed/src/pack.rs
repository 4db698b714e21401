//! Packs: the bytes of a file, and the files within one that is otherwise good, so that damage gets past the zip's own
//! checksums to the readers behind them.

use std::collections::BTreeMap;
use std::io::{Cursor, Seek, SeekFrom, Write};
use std::num::NonZeroUsize;

use audit::pack::Pack;
use audit::verify::{Expected, Pace, verify};
use serde_json::json;
use sha2::{Digest, Sha256};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::seeds::{checkpoint, lines, tiles};
use crate::{ORIGIN, log_key, witness_key};

/// A pack as a stranger made it.
pub fn pack(data: &[u8]) {
    let Ok(mut file) = tempfile::tempfile() else { return };
    if file.write_all(data).is_err() || file.seek(SeekFrom::Start(0)).is_err() {
        return;
    }
    let Ok(pack) = Pack::of(file) else { return };
    let expected = Expected {
        witnesses: vec![witness_key().public().clone()],
        since: Some(checkpoint(&lines()[..40])),
        ..Expected::of_key(log_key().public().clone())
    };
    let report = verify(&pack, &expected, Pace { threads: NonZeroUsize::MIN, progress: &|_, _| {} });
    drop(report.map(|report| report.exit_code()));
}

/// A good pack, one file of which is replaced or changed: the first byte says which, the second and third where.
///
/// # Panics
/// When a pack whose entries or tiles were altered is said to hold.
pub fn pack_files(data: &[u8]) {
    let mut files = Files::good();
    let [which, rest @ ..] = data else { return pack(&files.zip()) };
    let count = files.0.len();
    let Some(content) = files.0.values_mut().nth(usize::from(which % 127) % count) else { return };
    // The high bit says whether the bytes take the file's place, or are laid over a part of it.
    if *which < 128 {
        *content = rest.to_vec();
    } else if let [high, low, over @ ..] = rest {
        let at = usize::from(u16::from_be_bytes([*high, *low])) % content.len().max(1);
        for (byte, new) in content.iter_mut().skip(at).zip(over) {
            *byte = *new;
        }
    }
    pack(&files.zip());
}

/// The files of a pack, but for its manifest.
pub(crate) struct Files(BTreeMap<String, Vec<u8>>);

impl Files {
    /// A pack that holds.
    pub(crate) fn good() -> Self {
        let lines = lines();
        let mut files = BTreeMap::from([("checkpoint".to_owned(), checkpoint(&lines).into_bytes())]);
        for (tile, hashes) in tiles(&lines) {
            files.insert(tile.to_string(), hashes.concat());
        }
        for (index, chunk) in lines.chunks(256).enumerate() {
            let path = if chunk.len() == 256 {
                format!("tile/entries/{index:03}")
            } else {
                format!("tile/entries/{index:03}.p/{}", chunk.len())
            };
            files.insert(path, audit::bundle(chunk.iter().map(String::as_bytes)));
        }
        for list in ["denials.jsonl", "transfers.jsonl", "violations.jsonl"] {
            files.insert(list.to_owned(), Vec::new());
        }
        Self(files)
    }

    /// With a manifest that fits.
    pub(crate) fn zip(&self) -> Vec<u8> {
        let hashes: BTreeMap<_, _> =
            self.0.iter().map(|(name, content)| (name.as_str(), hex::encode(Sha256::digest(content)))).collect();
        let manifest = json!({
            "format": "domicile-evidence-pack/1", "origin": ORIGIN, "size": 301, "from": 0, "to": 301, "policies": [],
            "files": hashes,
        });
        let manifest = manifest.to_string().into_bytes();
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        for (name, content) in
            self.0.iter().map(|(name, content)| (name.as_str(), content)).chain([("manifest.json", &manifest)])
        {
            let written = zip.start_file(name, options).is_ok() && zip.write_all(content).is_ok();
            debug_assert!(written, "memory takes everything");
        }
        zip.finish().map(Cursor::into_inner).unwrap_or_default()
    }
}
