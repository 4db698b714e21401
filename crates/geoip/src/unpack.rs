//! Reading a database into memory, packed or not, with a bound on what it may become.

use std::io::{self, Read, Write};

use crate::gate::{Reason, Source};

/// The largest database that is loaded, bytes unpacked. GeoIP2 City has about 120 MB.
pub const DATABASE_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// The first bytes of every `.xz` file.
const XZ_MAGIC: &[u8] = b"\xfd7zXZ\0";

/// The bytes of the database itself; an `.xz` file is recognised by its first bytes and unpacked.
pub(crate) fn bytes(source: &Source) -> Result<Vec<u8>, Reason> {
    let packed = match source {
        Source::Bytes(bytes) => {
            if !bytes.starts_with(XZ_MAGIC) {
                return Ok(bytes.to_vec());
            }
            return unpack(bytes);
        }
        Source::File(path) => {
            let unreadable = |source: io::Error| Reason::Unreadable { path: path.clone(), source };
            let file = std::fs::File::open(path).map_err(unreadable)?;
            let mut bytes = Vec::new();
            let bound = u64::try_from(DATABASE_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
            file.take(bound).read_to_end(&mut bytes).map_err(unreadable)?;
            bytes
        }
    };
    if packed.len() > DATABASE_BYTES_MAX {
        return Err(Reason::TooLarge);
    }
    if packed.starts_with(XZ_MAGIC) { unpack(&packed) } else { Ok(packed) }
}

fn unpack(mut packed: &[u8]) -> Result<Vec<u8>, Reason> {
    let mut unpacked = Bounded(Vec::new());
    match lzma_rs::xz_decompress(&mut packed, &mut unpacked) {
        Ok(()) => Ok(unpacked.0),
        Err(_) if unpacked.0.len() >= DATABASE_BYTES_MAX => Err(Reason::TooLarge),
        Err(error) => Err(Reason::Packing(format!("{error:?}"))),
    }
}

/// A buffer that refuses to outgrow the bound, whatever a packed file promises.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = DATABASE_BYTES_MAX - self.0.len();
        if bytes.len() > room {
            self.0.extend_from_slice(&bytes[..room]);
            return Err(io::Error::other("the unpacked database is too large"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
