//! Tiles that have been shown to be those of the signed tree: from the root down, each by the one above it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tlog::{
    Checkpoint, Hash, TILE_WIDTH, Tile, TileSet, TreeError, root_of, tiles_for_consistency, tiles_for_root,
    verify_consistency,
};

use super::hashes;
use super::report::{Check, Finding};
use super::source::{Source, Unread};

/// A source, and what of it has been shown to belong to a checkpoint.
pub(super) struct Authentic<'a> {
    pub(super) source: &'a dyn Source,
    checkpoint: &'a Checkpoint,
    /// Tiles that were shown to belong to the tree: those at its edge and those above the lowest level.
    shown: Mutex<HashMap<Tile, Arc<[Hash]>>>,
}

impl<'a> Authentic<'a> {
    pub(super) fn new(source: &'a dyn Source, checkpoint: &'a Checkpoint) -> Self {
        Self { source, checkpoint, shown: Mutex::default() }
    }

    /// Shows that the tiles at the edge come to the signed root.
    pub(super) fn establish(&self) -> Result<(), Halt> {
        let size = self.checkpoint.size;
        let needed = tiles_for_root(size).map_err(|error| contradiction(error.to_string()))?;
        let mut set = TileSet::new(size);
        let mut edge = HashMap::new();
        for tile in needed {
            let hashes = self.fetch(tile)?;
            set.insert(tile, hashes.clone());
            edge.insert(tile, hashes.into());
        }
        if set.root() != Ok(self.checkpoint.root) {
            return Err(contradiction(format!("the tiles of {size} leaves do not come to the signed root")));
        }
        *self.shown() = edge;
        Ok(())
    }

    /// Whether the tree begins with an older one.
    pub(super) fn continues(&self, older: &Checkpoint) -> Result<bool, Halt> {
        let size = self.checkpoint.size;
        let needed = tiles_for_consistency(size, older.size).map_err(|error| contradiction(error.to_string()))?;
        let mut set = TileSet::new(size);
        for tile in needed {
            set.insert(tile, self.fetch(tile)?);
        }
        let proof = set.consistency(older.size).map_err(|error: TreeError| contradiction(error.to_string()))?;
        Ok(verify_consistency(older.size, size, &proof, &older.root, &self.checkpoint.root).is_ok())
    }

    /// A tile of the tree, shown to be so.
    pub(super) fn tile(&self, tile: Tile) -> Result<Arc<[Hash]>, Halt> {
        if let Some(shown) = self.shown().get(&tile) {
            return Ok(Arc::clone(shown));
        }
        let hashes: Arc<[Hash]> = self.fetch(tile)?.into();
        // Only full tiles get here: the partial ones are at the edge. The one above holds this one's root.
        let width = u64::from(TILE_WIDTH);
        let above = Tile::within(self.checkpoint.size, tile.level() + 1, tile.index() / width);
        let above = above.filter(|_| !tile.is_partial()).ok_or_else(|| contradiction(format!("there is no {tile}")))?;
        let at = usize::try_from(tile.index() % width).unwrap_or(usize::MAX);
        if self.tile(above)?.get(at) != Some(&root_of(&hashes)) {
            let first = tile.index() << (8 * (u32::from(tile.level()) + 1));
            let sentence = format!("{tile} is not the tile that the signed tree has there");
            return Err(Finding::of_leaf(Check::WellFormed, "tile_differs_from_tree", first, sentence).into());
        }
        if tile.level() > 0 {
            self.shown().insert(tile, Arc::clone(&hashes));
        }
        Ok(hashes)
    }

    fn fetch(&self, tile: Tile) -> Result<Vec<Hash>, Halt> {
        let bytes = self.source.tile(tile)?;
        hashes(&bytes, tile).ok_or_else(|| contradiction(format!("{tile} does not hold {} hashes", tile.width())))
    }

    fn shown(&self) -> std::sync::MutexGuard<'_, HashMap<Tile, Arc<[Hash]>>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why something could not be shown.
pub(super) enum Halt {
    /// It is not so.
    Found(Finding),
    /// The source does not answer, and nothing can be said.
    Unread(Unread),
}

impl From<Finding> for Halt {
    fn from(finding: Finding) -> Self {
        Self::Found(finding)
    }
}

impl From<Unread> for Halt {
    /// A part that cannot be had is a hole in the log, whoever is to blame.
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Missing(_) => Self::Found(Finding::of_log(Check::WellFormed, "missing", unread.to_string())),
            Unread::Unreachable(_) => Self::Unread(unread),
        }
    }
}

fn contradiction(sentence: String) -> Halt {
    Finding::of_log(Check::WellFormed, "tree_differs_from_checkpoint", sentence).into()
}
