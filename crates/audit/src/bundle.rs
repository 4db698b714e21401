//! Entry bundles (C2SP tlog-tiles): the entries beneath a tile of level 0, each behind its length.

use tlog::TILE_WIDTH;

/// The most bytes of a bundle: 256 entries of the longest kind, each behind its length.
pub const BUNDLE_BYTES_MAX: usize = TILE_WIDTH as usize * (2 + u16::MAX as usize);

/// Writes entries one after another, each behind its length in two bytes, big-endian. An entry longer than
/// 65,535 bytes, which no leaf is, is cut there.
pub fn bundle<'a>(entries: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        let length = u16::try_from(entry.len()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&entry[..usize::from(length)]);
    }
    bytes
}

/// The bytes are not a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a bundle holds at most 256 entries, each behind its length in two bytes")]
pub struct NotABundle;

/// Reads what [`bundle`] wrote.
///
/// # Errors
/// [`NotABundle`] when an entry is cut off, or there are more than 256.
pub fn read_bundle(mut bytes: &[u8]) -> Result<Vec<&[u8]>, NotABundle> {
    let mut entries = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length));
        if entries.len() == usize::from(TILE_WIDTH) || rest.len() < length {
            return Err(NotABundle);
        }
        let (entry, behind) = rest.split_at(length);
        entries.push(entry);
        bytes = behind;
    }
    if bytes.is_empty() { Ok(entries) } else { Err(NotABundle) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_back_and_a_cut_bundle_is_refused() {
        let entries: [&[u8]; 3] = [b"{}", b"", &[7; 300]];
        let bytes = bundle(entries);
        assert_eq!(read_bundle(&bytes).as_deref(), Ok(&entries[..]));
        for end in 1..bytes.len() {
            let read = read_bundle(&bytes[..end]);
            // Only where an entry ends does the shorter text hold fewer entries instead of half of one.
            assert!(read.is_err() || [4, 6].contains(&end), "{end}");
        }
        assert!(read_bundle(&bundle([&b""[..]; 257])).is_err());
    }
}
