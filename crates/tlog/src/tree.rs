//! Proofs out of tiles: which tiles a root or a proof of a large tree needs, and what it comes to. A proof
//! touches a handful of tiles however large the log is.

use std::collections::{BTreeMap, BTreeSet};

use crate::hash::{Hash, SIZE_MAX, empty_root, node_hash};
use crate::proof::root_of;
use crate::tile::{TILE_WIDTH, Tile};

/// Some tiles of a tree of one size.
#[derive(Debug, Clone)]
pub struct TileSet {
    size: u64,
    held: BTreeMap<Tile, Vec<Hash>>,
}

/// A tile is needed that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The tree has no such leaf, or no such beginning.
    #[error("the tree of {size} leaves does not reach {index}")]
    OutOfTree {
        /// The leaf's index, or the older tree's size.
        index: u64,
        /// The tree's size.
        size: u64,
    },
    /// This tile would be needed.
    #[error("{0} is needed and not at hand")]
    Missing(Tile),
    /// The tree is larger than tiles can hold.
    #[error("a tree of more than 2^48 leaves cannot be cut into tiles")]
    TooLarge,
}

impl TileSet {
    /// No tiles yet, of a tree of `size` leaves.
    #[must_use]
    pub fn new(size: u64) -> Self {
        Self { size, held: BTreeMap::new() }
    }

    /// The tree's size.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Takes a tile, if it is one of this tree and has as many hashes as it says. Whether it was taken.
    pub fn insert(&mut self, tile: Tile, hashes: Vec<Hash>) -> bool {
        let fits = Tile::within(self.size, tile.level(), tile.index()) == Some(tile)
            && hashes.len() == usize::from(tile.width());
        if fits {
            self.held.insert(tile, hashes);
        }
        fits
    }

    /// The root of the tree.
    ///
    /// # Errors
    /// [`TreeError::Missing`] when a tile of [`tiles_for_root`] is not there.
    pub fn root(&self) -> Result<Hash, TreeError> {
        if self.size == 0 { Ok(empty_root()) } else { self.range(0, self.size) }
    }

    /// The proof that leaf `index` is in the tree.
    ///
    /// # Errors
    /// [`TreeError`] when there is no such leaf, or a tile of [`tiles_for_inclusion`] is not there.
    pub fn inclusion(&self, index: u64) -> Result<Vec<Hash>, TreeError> {
        let ranges = inclusion_ranges(self.size, index)?;
        ranges.into_iter().map(|(from, to)| self.range(from, to)).collect()
    }

    /// The proof that the tree continues its own first `older` leaves.
    ///
    /// # Errors
    /// [`TreeError`] when it has fewer, or a tile of [`tiles_for_consistency`] is not there.
    pub fn consistency(&self, older: u64) -> Result<Vec<Hash>, TreeError> {
        let ranges = consistency_ranges(self.size, older)?;
        ranges.into_iter().map(|(from, to)| self.range(from, to)).collect()
    }

    /// The root of the subtree over the leaves `from..to`.
    fn range(&self, from: u64, to: u64) -> Result<Hash, TreeError> {
        let count = to - from;
        if count.is_power_of_two() {
            return self.node(count.trailing_zeros(), from / count);
        }
        let middle = from + split(count);
        Ok(node_hash(&self.range(from, middle)?, &self.range(middle, to)?))
    }

    /// The root of the complete subtree number `index` of this height.
    fn node(&self, height: u32, index: u64) -> Result<Hash, TreeError> {
        let (tile, first, count) = place(self.size, height, index)?;
        let hashes = self.held.get(&tile).and_then(|hashes| hashes.get(first..first + count));
        hashes.map(root_of).ok_or(TreeError::Missing(tile))
    }
}

/// The tiles that the root of a tree of `size` leaves is made of; at most 6, lowest level first.
///
/// # Errors
/// [`TreeError::TooLarge`].
pub fn tiles_for_root(size: u64) -> Result<BTreeSet<Tile>, TreeError> {
    if size == 0 { Ok(BTreeSet::new()) } else { tiles(size, vec![(0, size)]) }
}

/// The tiles that an inclusion proof needs.
///
/// # Errors
/// [`TreeError`] when there is no such leaf.
pub fn tiles_for_inclusion(size: u64, index: u64) -> Result<BTreeSet<Tile>, TreeError> {
    tiles(size, inclusion_ranges(size, index)?)
}

/// The tiles that a consistency proof needs.
///
/// # Errors
/// [`TreeError`] when the older tree is larger.
pub fn tiles_for_consistency(size: u64, older: u64) -> Result<BTreeSet<Tile>, TreeError> {
    tiles(size, consistency_ranges(size, older)?)
}

/// The tile that holds the complete subtree number `index` of this height, and where in it: its root is the
/// root over so many hashes from there.
fn place(size: u64, height: u32, index: u64) -> Result<(Tile, usize, usize), TreeError> {
    let width = u64::from(TILE_WIDTH);
    let (level, inner) = (height / 8, height % 8);
    let first = index << inner;
    let level = u8::try_from(level).map_err(|_| TreeError::TooLarge)?;
    let tile = Tile::within(size, level, first / width).ok_or(TreeError::TooLarge)?;
    Ok((tile, usize::try_from(first % width).unwrap_or(usize::MAX), 1 << inner))
}

type Range = (u64, u64);

fn tiles(size: u64, mut ranges: Vec<Range>) -> Result<BTreeSet<Tile>, TreeError> {
    let mut found = BTreeSet::new();
    while let Some((from, to)) = ranges.pop() {
        let count = to - from;
        if count.is_power_of_two() {
            found.insert(place(size, count.trailing_zeros(), from / count)?.0);
        } else {
            let middle = from + split(count);
            ranges.extend([(from, middle), (middle, to)]);
        }
    }
    Ok(found)
}

/// RFC 9162, 2.1.3.1: the subtrees of an inclusion proof, from the leaf's sibling up.
fn inclusion_ranges(size: u64, index: u64) -> Result<Vec<Range>, TreeError> {
    if index >= size || size > SIZE_MAX {
        return Err(TreeError::OutOfTree { index, size });
    }
    let (mut from, mut to) = (0, size);
    let mut ranges = Vec::new();
    while to - from > 1 {
        let middle = from + split(to - from);
        if index < middle {
            ranges.push((middle, to));
            to = middle;
        } else {
            ranges.push((from, middle));
            from = middle;
        }
    }
    ranges.reverse();
    Ok(ranges)
}

/// RFC 9162, 2.1.4.1: the subtrees of a consistency proof.
fn consistency_ranges(size: u64, older: u64) -> Result<Vec<Range>, TreeError> {
    if older > size || size > SIZE_MAX {
        return Err(TreeError::OutOfTree { index: older, size });
    }
    let mut ranges = Vec::new();
    if older == 0 {
        return Ok(ranges);
    }
    let (mut from, mut to) = (0, size);
    while older != to {
        let middle = from + split(to - from);
        if older <= middle {
            ranges.push((middle, to));
            to = middle;
        } else {
            ranges.push((from, middle));
            from = middle;
        }
    }
    // Where the older tree is itself a subtree of the newer, the verifier holds its root already.
    if from > 0 {
        ranges.push((from, to));
    }
    ranges.reverse();
    Ok(ranges)
}

/// The largest power of two smaller than `count`, which is at least 2.
fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}
