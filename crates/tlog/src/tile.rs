//! Tiles: how a log's tree is cut into files (C2SP tlog-tiles). A tile holds up to 256 hashes of every
//! eighth level of the tree; where the tree's edge cuts it, the tile is partial.

use std::fmt;
use std::str::FromStr;

use crate::hash::SIZE_MAX;

/// The most hashes in a tile.
pub const TILE_WIDTH: u16 = 256;

/// How many of a tree's levels one tile spans.
const TILE_HEIGHT: u32 = 8;

/// The address of one tile.
///
/// `Display` writes its C2SP path, e.g. `tile/0/x001/x234/067.p/5`, and `FromStr` reads exactly what `Display` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    level: u8,
    index: u64,
    width: u16,
}

impl Tile {
    /// The highest level a tile path may name; 256^6 leaves lie beneath it.
    pub const LEVEL_MAX: u8 = 5;

    /// The tile with this address; `None` unless `level` is at most 5, `width` is 1 to 256, and a
    /// tree of at most [`SIZE_MAX`] leaves can contain it.
    #[must_use]
    pub fn new(level: u8, index: u64, width: u16) -> Option<Self> {
        let fits = level <= Self::LEVEL_MAX
            && (1..=TILE_WIDTH).contains(&width)
            && index
                .checked_mul(u64::from(TILE_WIDTH))
                .and_then(|first| first.checked_add(u64::from(width)))
                .is_some_and(|end| end <= SIZE_MAX >> (TILE_HEIGHT * u32::from(level)));
        fits.then_some(Self { level, index, width })
    }

    /// The level: 0 for leaf hashes, 1 for the roots of full level-0 tiles, and so on.
    #[must_use]
    pub fn level(self) -> u8 {
        self.level
    }

    /// The position within its level, from 0.
    #[must_use]
    pub fn index(self) -> u64 {
        self.index
    }

    /// How many hashes it holds: 1 to 256.
    #[must_use]
    pub fn width(self) -> u16 {
        self.width
    }

    /// Whether the tree's edge cuts it.
    #[must_use]
    pub fn is_partial(self) -> bool {
        self.width < TILE_WIDTH
    }

    /// The tile at this place in a tree of `size` leaves, as wide as that tree makes it; `None` when the tree does
    /// not reach it.
    #[must_use]
    pub fn within(size: u64, level: u8, index: u64) -> Option<Self> {
        if level > Self::LEVEL_MAX || size > SIZE_MAX {
            return None;
        }
        let hashes = size >> (TILE_HEIGHT * u32::from(level));
        let before = index.checked_mul(u64::from(TILE_WIDTH))?;
        let width = hashes.checked_sub(before)?.min(u64::from(TILE_WIDTH));
        Self::new(level, index, u16::try_from(width).ok()?)
    }

    /// The partial tiles at the edge of a tree of `size` leaves, lowest level first.
    pub fn edge(size: u64) -> impl Iterator<Item = Self> {
        (0..=Self::LEVEL_MAX).filter_map(move |level| {
            let hashes = size >> (TILE_HEIGHT * u32::from(level));
            Self::within(size, level, hashes / u64::from(TILE_WIDTH))
        })
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tile/{}/", self.level)?;
        // Groups of three digits, so that no folder holds more than a thousand names; all but the last wear an x.
        let mut divisor = 1;
        while self.index / divisor >= 1000 {
            divisor *= 1000;
        }
        while divisor > 1 {
            write!(f, "x{:03}/", self.index / divisor % 1000)?;
            divisor /= 1000;
        }
        write!(f, "{:03}", self.index % 1000)?;
        if self.is_partial() { write!(f, ".p/{}", self.width) } else { Ok(()) }
    }
}

/// The text is not the path of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a tile's path looks like `tile/0/x001/x234/067` or `tile/0/x001/x234/067.p/5`")]
pub struct TilePathError;

impl FromStr for Tile {
    type Err = TilePathError;

    fn from_str(path: &str) -> Result<Self, TilePathError> {
        read_path(path).ok_or(TilePathError)
    }
}

fn read_path(path: &str) -> Option<Tile> {
    let (level, rest) = path.strip_prefix("tile/")?.split_once('/')?;
    let level = number(level, 1)?;
    let (groups, width) = match rest.split_once(".p/") {
        Some((groups, width)) => (groups, number(width, 3).filter(|width| *width < u64::from(TILE_WIDTH))?),
        None => (rest, u64::from(TILE_WIDTH)),
    };
    let mut index: u64 = 0;
    let mut groups = groups.split('/').peekable();
    let mut leading = true;
    while let Some(group) = groups.next() {
        let digits = if groups.peek().is_some() { group.strip_prefix('x')? } else { group };
        if digits.len() != 3 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let value: u64 = digits.parse().ok()?;
        if leading && value == 0 && groups.peek().is_some() {
            return None; // x000/… would be a second name for the same tile
        }
        leading = false;
        index = index.checked_mul(1000)?.checked_add(value)?;
    }
    Tile::new(u8::try_from(level).ok()?, index, u16::try_from(width).ok()?)
}

/// A decimal number without sign or leading zeros, of at most `digits_max` digits.
fn number(text: &str, digits_max: usize) -> Option<u64> {
    let plain = (1..=digits_max).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_digit())
        && (text.len() == 1 || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}
