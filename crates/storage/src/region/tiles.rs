//! The table `tiles`: the full tiles of the log's Merkle tree (C2SP tlog-tiles), written in the very statement that
//! appends the leaves that fill them. Partial tiles are not stored: their hashes are those of the leaves, and the
//! roots of the tiles below.
//!
//! Whoever holds the pen knows the leaf hashes of the unfinished tile, so that filling one needs no look into
//! the database; only where a tile above is filled, too, once in 65,536 leaves, are 255 roots read.

use std::sync::Arc;

use sqlx::Row;
use sqlx::postgres::PgConnection;
use tlog::{Hash, TILE_WIDTH, Tile, root_of};
use tracing::debug;

use super::records::{column, version};
use crate::error::Trouble;

const WIDTH: usize = TILE_WIDTH as usize;

/// The most missing tiles that one step of mending makes.
const MEND_TILES_MAX: i64 = 64;

/// The leaf hashes of the tile that the end of the log is in; fewer than 256. `None` where they were not looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Edge(Option<Arc<[Hash]>>);

/// Full tiles, ready to be written: a column each.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Filled {
    pub(super) level: Vec<i16>,
    pub(super) n: Vec<i64>,
    pub(super) hashes: Vec<Vec<u8>>,
    pub(super) root: Vec<[u8; 32]>,
}

impl Filled {
    pub(super) fn is_empty(&self) -> bool {
        self.level.is_empty()
    }

    /// Takes a full tile and returns its root.
    fn take(&mut self, level: u8, n: u64, hashes: &[Hash]) -> Hash {
        let root = root_of(hashes);
        self.level.push(i16::from(level));
        self.n.push(column(n));
        self.hashes.push(hashes.concat());
        self.root.push(root);
        root
    }
}

/// The tiles that these leaves fill, and the edge behind them. Reads the database only where the log was taken
/// over from somebody else, or where a tile above is filled.
pub(super) async fn grow(
    connection: &mut PgConnection,
    size: u64,
    edge: &Edge,
    leaves: &[Hash],
) -> Result<(Filled, Edge), Trouble> {
    let begun = usize::try_from(size % u64::from(TILE_WIDTH)).unwrap_or(0);
    let mut filled = Filled::default();
    if begun + leaves.len() < WIDTH && edge.0.is_none() {
        return Ok((filled, Edge(None)));
    }
    let mut hashes: Vec<Hash> = Vec::with_capacity(begun + leaves.len());
    match &edge.0 {
        Some(known) => hashes.extend_from_slice(known),
        None => hashes.extend(read_leaves(connection, size - begun as u64, begun).await?),
    }
    if hashes.len() != begun {
        // The log does not hold what its head says; it is not for the committer to judge, and mending will tell.
        debug!(size, "The leaves of the unfinished tile are not all there");
        return Ok((filled, Edge(None)));
    }
    hashes.extend_from_slice(leaves);
    let first = size / u64::from(TILE_WIDTH);
    let (full, rest) = hashes.as_chunks::<WIDTH>();
    for (n, tile) in (first..).zip(full) {
        let root = filled.take(0, n, tile);
        above(connection, &mut filled, 0, n, root).await?;
    }
    Ok((filled, Edge(Some(rest.into()))))
}

/// Fills the tile above, if this was the last one beneath it.
async fn above(
    connection: &mut PgConnection,
    filled: &mut Filled,
    mut level: u8,
    mut n: u64,
    mut root: Hash,
) -> Result<(), Trouble> {
    let width = u64::from(TILE_WIDTH);
    while n % width == width - 1 && level < Tile::LEVEL_MAX {
        let mut roots = read_roots(connection, level, n + 1 - width, WIDTH - 1).await?;
        // Those of this very page are not in the table yet.
        let ours = filled.level.iter().zip(&filled.n).zip(&filled.root);
        let ours = ours.filter(|((l, at), _)| **l == i16::from(level) && **at < column(n));
        let before = (WIDTH - 1).saturating_sub(roots.len());
        let ours: Vec<Hash> = ours.map(|(_, root)| *root).collect();
        roots.extend_from_slice(&ours[ours.len().saturating_sub(before)..]);
        if roots.len() != WIDTH - 1 {
            debug!(level, n, "A tile beneath a full one is not there yet");
            return Ok(());
        }
        roots.push(root);
        level += 1;
        n /= width;
        root = filled.take(level, n, &roots);
    }
    Ok(())
}

async fn read_leaves(connection: &mut PgConnection, from: u64, count: usize) -> Result<Vec<Hash>, Trouble> {
    let found = sqlx::query_scalar("SELECT hash FROM domicile.leaves WHERE seq >= $1 AND seq < $2 ORDER BY seq")
        .bind(column(from))
        .bind(column(from + count as u64))
        .fetch_all(connection)
        .await?;
    Ok(found)
}

/// The roots of consecutive tiles of a level, as many as there are without a gap.
async fn read_roots(connection: &mut PgConnection, level: u8, from: u64, count: usize) -> Result<Vec<Hash>, Trouble> {
    let rows = sqlx::query(
        "SELECT n, root FROM domicile.tiles WHERE level = $1 AND n >= $2 AND n < $3 AND root IS NOT NULL ORDER BY n",
    )
    .bind(i16::from(level))
    .bind(column(from))
    .bind(column(from + count as u64))
    .fetch_all(connection)
    .await?;
    let mut roots = Vec::with_capacity(rows.len());
    for (expected, row) in (from..).zip(&rows) {
        if version(row.try_get(0)?)? != expected {
            break;
        }
        roots.push(row.try_get(1)?);
    }
    Ok(roots)
}

/// The hashes of a tile of the committed log, full or partial; `None` when the log does not reach it. A partial tile is
/// the beginning of the full one that grew from it, where that is stored: it is there also when the lines that it was
/// made of have been let go.
pub(super) async fn read(connection: &mut PgConnection, tile: Tile) -> Result<Option<Vec<Hash>>, Trouble> {
    let width = usize::from(tile.width());
    let stored: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT substring(hashes FROM 1 FOR $3) FROM domicile.tiles WHERE level = $1 AND n = $2")
            .bind(i16::from(tile.level()))
            .bind(column(tile.index()))
            .bind(i32::from(tile.width()) * 32)
            .fetch_optional(&mut *connection)
            .await?;
    let stored = stored.map(|bytes| bytes.as_chunks::<32>().0.to_vec());
    if stored.as_ref().is_some_and(|hashes| hashes.len() == width) {
        return Ok(stored);
    }
    let from = tile.index() * u64::from(TILE_WIDTH);
    let hashes = match tile.level().checked_sub(1) {
        None => read_leaves(connection, from, width).await?,
        Some(below) => read_roots(connection, below, from, width).await?,
    };
    Ok((hashes.len() == width).then_some(hashes))
}

/// Makes tiles that are missing, because a gateway older than tiles wrote their leaves: a few of one level, looking
/// from tile `from` of the lowest level on. Returns up to which of these there is no gap, and whether to go on.
pub(super) async fn mend(connection: &mut PgConnection, size: u64, from: u64) -> Result<(u64, bool), Trouble> {
    for level in 0..=Tile::LEVEL_MAX {
        let full = size >> (8 * (u32::from(level) + 1));
        let gaps = gaps(connection, level, from >> (8 * u32::from(level)), full).await?;
        let mut filled = Filled::default();
        for n in &gaps {
            let first = n * u64::from(TILE_WIDTH);
            let hashes = match level.checked_sub(1) {
                None => read_leaves(connection, first, WIDTH).await?,
                Some(below) => read_roots(connection, below, first, WIDTH).await?,
            };
            if hashes.len() != WIDTH {
                // Nothing can be made of what is gone; whoever verifies the log will say so.
                debug!(level, n, "What a full tile is made of is not there");
                return Ok((from, false));
            }
            filled.take(level, *n, &hashes);
        }
        if !filled.is_empty() {
            write(connection, &filled).await?;
            return Ok((from, true));
        }
    }
    Ok(((size / u64::from(TILE_WIDTH)).max(from), false))
}

/// The first few tiles of a level that are missing in `from..full`. They are looked for only if their number says so.
async fn gaps(connection: &mut PgConnection, level: u8, from: u64, full: u64) -> Result<Vec<u64>, Trouble> {
    let there: i64 = sqlx::query_scalar("SELECT count(*) FROM domicile.tiles WHERE level = $1 AND n >= $2 AND n < $3")
        .bind(i16::from(level))
        .bind(column(from))
        .bind(column(full))
        .fetch_one(&mut *connection)
        .await?;
    if version(there)? >= full.saturating_sub(from) {
        return Ok(Vec::new());
    }
    let gaps: Vec<i64> = sqlx::query_scalar(
        "SELECT g.n FROM generate_series($2::bigint, $3::bigint - 1) AS g(n) \
         WHERE NOT EXISTS (SELECT FROM domicile.tiles AS t WHERE t.level = $1 AND t.n = g.n) ORDER BY g.n LIMIT $4",
    )
    .bind(i16::from(level))
    .bind(column(from))
    .bind(column(full))
    .bind(MEND_TILES_MAX)
    .fetch_all(connection)
    .await?;
    gaps.into_iter().map(version).collect()
}

pub(super) async fn write(connection: &mut PgConnection, filled: &Filled) -> Result<(), Trouble> {
    sqlx::query(
        "INSERT INTO domicile.tiles (level, n, hashes, root) \
         SELECT t.level, t.n, t.hashes, t.root \
         FROM unnest($1::smallint[], $2::bigint[], $3::bytea[], $4::bytea[]) AS t(level, n, hashes, root) \
         ON CONFLICT (level, n) DO NOTHING",
    )
    .bind(&filled.level)
    .bind(&filled.n)
    .bind(&filled.hashes)
    .bind(&filled.root)
    .execute(connection)
    .await?;
    Ok(())
}
