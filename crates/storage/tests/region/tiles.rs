//! The tiles of a region log: written as the log grows, and those of its leaves whatever happens.

use std::time::Duration;

use futures::future::join_all;
use storage::{Log, Precondition, RegionStore};
use tlog::{Hash, TILE_WIDTH, Tile, TileSet, root_of, tiles_for_root};

use crate::scene::{Scene, commit, denial, eventually, put, subject};

/// How many full tiles of each level are stored.
async fn stored(scene: &Scene) -> Vec<(i64, i64)> {
    let levels = scene.number("SELECT coalesce(max(level), -1)::bigint FROM domicile.tiles").await;
    let mut counts = Vec::new();
    for level in 0..=levels {
        let count = match level {
            0 => scene.number("SELECT count(*) FROM domicile.tiles WHERE level = 0").await,
            _ => scene.number("SELECT count(*) FROM domicile.tiles WHERE level = 1").await,
        };
        counts.push((level, count));
    }
    counts
}

/// Reads every tile and compares it with what the leaves come to; then the root out of the few tiles at the edge.
async fn tiles_are_those_of_the_leaves(log: &Log) {
    let head = log.head().await.unwrap();
    let mut hashes: Vec<Hash> = Vec::new();
    while (hashes.len() as u64) < head.size {
        hashes.extend(log.leaves(hashes.len() as u64, 10_000).await.unwrap().iter().map(|leaf| leaf.leaf_hash));
    }
    assert_eq!(root_of(&hashes), head.root);
    let mut edge = TileSet::new(head.size);
    for tile in tiles_for_root(head.size).unwrap() {
        assert!(edge.insert(tile, log.tile(tile).await.unwrap().expect("a tile of the log")), "{tile}");
    }
    assert_eq!(edge.root(), Ok(head.root), "the root out of the tiles");
    for level in 0.. {
        for (index, expected) in hashes.chunks(usize::from(TILE_WIDTH)).enumerate() {
            let tile = Tile::within(head.size, level, index as u64).unwrap();
            assert_eq!(log.tile(tile).await.unwrap().as_deref(), Some(expected), "{tile}");
        }
        assert_eq!(log.tile(Tile::new(level, hashes.len() as u64 / 256 + 1, 1).unwrap()).await.unwrap(), None);
        hashes = hashes.chunks_exact(usize::from(TILE_WIDTH)).map(root_of).collect();
        if hashes.is_empty() {
            break;
        }
    }
}

async fn denials(store: &RegionStore, count: usize) {
    for outcome in join_all((0..count).map(|_| store.note(denial()))).await {
        outcome.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_tiles_are_written_with_the_leaves_that_fill_them() {
    let scene = Scene::new().await;
    let store = scene.open();
    // The log's own first leaf, and 254 more: not yet a tile.
    denials(&store, 254).await;
    assert_eq!(stored(&scene).await, []);
    tiles_are_those_of_the_leaves(&store.log()).await;
    // With it, in a page of leaves alone, and then in pages with events, many tiles at once.
    denials(&store, 1).await;
    assert_eq!(stored(&scene).await, [(0, 1)]);
    tiles_are_those_of_the_leaves(&store.log()).await;
    let anna = subject("anna");
    let writes = (0..1_000).map(|n| commit(&store, &anna, put(&format!("k{n}"), "{}", Precondition::None)));
    for outcome in join_all(writes).await {
        outcome.unwrap();
    }
    assert_eq!(stored(&scene).await, [(0, 1_257 / 256)]);
    tiles_are_those_of_the_leaves(&store.log()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tiles_are_complete_whoever_writes_the_log_and_after_every_restart() {
    let scene = Scene::new().await;
    let stores: Vec<_> = (0..2).map(|gateway| RegionStore::open(scene.settings(gateway))).collect();
    for round in 0..12 {
        let both = (0..120).map(|n| stores[(n + round) % 2].note(denial()));
        for outcome in join_all(both).await {
            outcome.unwrap();
        }
    }
    let log = stores[0].log();
    tiles_are_those_of_the_leaves(&log).await;
    assert_eq!(stored(&scene).await, [(0, 1_441 / 256)]);
    for store in &stores {
        store.shutdown().await;
    }
    let later = scene.open();
    denials(&later, 100).await;
    assert_eq!(stored(&scene).await, [(0, 1_541 / 256)]);
    tiles_are_those_of_the_leaves(&later.log()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tile_of_tiles_is_written_when_its_last_leaf_is() {
    let scene = Scene::new().await;
    // 65,000 leaves, as a gateway older than tiles would have left them.
    let line = |n: u64| format!("{{\"k\":\"test\",\"n\":{n}}}");
    let hashes: Vec<Hash> = (0..65_000).map(|n| tlog::leaf_hash(line(n).as_bytes())).collect();
    let lines: Vec<String> = (0..65_000).map(line).collect();
    let mut frontier = tlog::Frontier::new();
    frontier.extend(hashes.iter().copied());
    let mut outside = scene.outside().await;
    sqlx::query("INSERT INTO domicile.leaves (seq, hash, line) SELECT o - 1, h, l FROM unnest($1::bytea[], $2::text[]) WITH ORDINALITY AS x(h, l, o)")
        .bind(&hashes)
        .bind(&lines)
        .execute(&mut outside)
        .await
        .unwrap();
    sqlx::query("UPDATE domicile.head SET size = 65000, frontier = $1")
        .bind(frontier.to_bytes())
        .execute(&mut outside)
        .await
        .unwrap();
    let store = scene.open();
    eventually("the tiles that were left out are made", async || {
        scene.number("SELECT count(*) FROM domicile.tiles").await == 65_000 / 256
    })
    .await;
    denials(&store, 535).await;
    assert_eq!(stored(&scene).await, [(0, 255)]);
    denials(&store, 1).await;
    assert_eq!(stored(&scene).await, [(0, 256), (1, 1)]);
    denials(&store, 1).await;
    tiles_are_those_of_the_leaves(&store.log()).await;
    // A tile of any level that is missing is made from those beneath it, and until then it is read from them.
    sqlx::query("DELETE FROM domicile.tiles WHERE level = 1 OR n IN (7, 255)").execute(&mut outside).await.unwrap();
    let again = RegionStore::open(scene.settings(2));
    eventually("the gaps are mended", async || stored(&scene).await == [(0, 256), (1, 1)]).await;
    tiles_are_those_of_the_leaves(&again.log()).await;
    tokio::time::timeout(Duration::from_secs(120), again.shutdown()).await.unwrap();
}
