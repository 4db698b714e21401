//! Tile paths are those of C2SP tlog-tiles, one name for each tile and no other.

use proptest::prelude::*;
use tlog::{SIZE_MAX, TILE_WIDTH, Tile};

fn tile(level: u8, index: u64, width: u16) -> Tile {
    Tile::new(level, index, width).expect("a tile")
}

#[test]
fn paths_are_written_as_in_the_specification() {
    for (tile, path) in [
        (tile(0, 0, 256), "tile/0/000"),
        (tile(1, 273, 112), "tile/1/273.p/112"),
        (tile(0, 999, 256), "tile/0/999"),
        (tile(0, 1_000, 256), "tile/0/x001/000"),
        (tile(0, 1_234_067, 256), "tile/0/x001/x234/067"),
        (tile(0, 1_234_067, 5), "tile/0/x001/x234/067.p/5"),
    ] {
        assert_eq!(tile.to_string(), path);
        assert_eq!(path.parse(), Ok(tile));
    }
}

#[test]
fn the_example_of_70_000_leaves_has_the_widths_of_the_specification() {
    let edge: Vec<_> = Tile::edge(70_000).map(|tile| (tile.level(), tile.index(), tile.width())).collect();
    assert_eq!(edge, [(0, 273, 112), (1, 1, 17), (2, 0, 1)]);
    assert_eq!(Tile::within(70_000, 0, 272), Tile::new(0, 272, 256));
    assert_eq!(Tile::within(70_000, 0, 274), None);
    assert_eq!(Tile::within(70_000, 1, 0), Tile::new(1, 0, 256));
}

#[test]
fn a_tile_that_ends_where_the_tree_ends_is_full() {
    for (size, edge) in [
        (0, vec![]),
        (255, vec![(0, 0, 255)]),
        (256, vec![(1, 0, 1)]),
        (257, vec![(0, 1, 1), (1, 0, 1)]),
        (65_535, vec![(0, 255, 255), (1, 0, 255)]),
        (65_536, vec![(2, 0, 1)]),
        (65_537, vec![(0, 256, 1), (2, 0, 1)]),
    ] {
        let found: Vec<_> = Tile::edge(size).map(|tile| (tile.level(), tile.index(), tile.width())).collect();
        assert_eq!(found, edge, "{size} leaves");
    }
}

#[test]
fn a_second_name_for_a_tile_is_refused() {
    for path in [
        "",
        "tile",
        "tile/",
        "tile/0",
        "tile/0/",
        "tile/0/67",
        "tile/0/0067",
        "tile/00/067",
        "tile/6/000",
        "tile/-1/000",
        "tile/+1/000",
        "tile/0/x067",
        "tile/0/x000/067",
        "tile/0/001/067",
        "tile/0/x001/",
        "tile/0/x001/x067",
        "tile/0/x1/067",
        "tile/0/067.p",
        "tile/0/067.p/",
        "tile/0/067.p/0",
        "tile/0/067.p/05",
        "tile/0/067.p/256",
        "tile/0/067.p/+5",
        "tile/0/067.p/5/",
        "tile/0/067.p/5.p/5",
        "/tile/0/067",
        "tile/0/067/",
        "tile/0/०६७",
        "tile/entries/067",
        "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
        "tile/0/../067",
    ] {
        assert!(path.parse::<Tile>().is_err(), "{path}");
    }
}

#[test]
fn no_tile_lies_outside_the_largest_tree() {
    assert_eq!(Tile::new(0, u64::MAX, 1), None);
    assert_eq!(Tile::new(0, 0, 0), None);
    assert_eq!(Tile::new(0, 0, TILE_WIDTH + 1), None);
    assert_eq!(Tile::new(255, 0, 1), None);
    assert_eq!(Tile::within(u64::MAX, 0, 0), None);
    assert!(Tile::within(SIZE_MAX, 0, SIZE_MAX >> 8).is_some());
    assert_eq!(Tile::within(SIZE_MAX, 0, (SIZE_MAX >> 8) + 1), None);
}

proptest! {
    #[test]
    fn every_tile_finds_back_from_its_path(level in 0_u8..=5, index in 0_u64..1 << 46, width in 1_u16..=256) {
        if let Some(tile) = Tile::new(level, index >> (8 * level), width) {
            prop_assert_eq!(tile.to_string().parse(), Ok(tile));
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "(tile/)?[0-9]?/?[x0-9/.p]{0,40}") {
        if let Ok(tile) = text.parse::<Tile>() {
            prop_assert_eq!(tile.to_string(), text);
        }
    }
}
