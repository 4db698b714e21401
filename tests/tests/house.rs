//! The walls of the house: who may depend on whom, held by a file that a reader can look at.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// The floors of ARCHITECTURE.md, from the ground up. Crates on one line do not know each other,
/// unless `SAME_FLOOR` says so.
const FLOORS: [&[&str]; 7] = [
    &["residency", "leaf", "geoip", "tlog", "api", "sheet"],
    &["storage"],
    &["audit", "follow"],
    &["routing", "relay", "forwarder", "ops"],
    &["gateway", "console"],
    &["world"],
    &["domicile", "xtask", "system-tests", "benches", "example-consumer", "fuzzed"],
];

/// Arrows within a floor.
const SAME_FLOOR: [(&str, &str); 5] = [
    ("leaf", "residency"),
    ("geoip", "residency"),
    ("gateway", "console"),
    ("benches", "system-tests"),
    ("system-tests", "example-consumer"),
];

/// One room per outside world: the only crates that may name these.
const ROOMS: [(&str, &[&str]); 5] = [
    ("sqlx", &["storage", "system-tests", "benches"]),
    ("rdkafka", &["relay", "system-tests", "benches", "example-consumer"]),
    ("snowflake-api", &["forwarder"]),
    ("parquet", &["sheet"]),
    ("maxminddb", &["geoip", "benches"]),
];

#[test]
fn the_crate_graph_is_the_checked_in_one() {
    let drawn: String = arrows().into_iter().map(|(from, to)| format!("{from} -> {to}\n")).collect();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("crate-graph.txt");
    if std::env::var_os("DOMICILE_DRAW_CRATE_GRAPH").is_some() {
        std::fs::write(&file, &drawn).expect("the graph can be written");
    }
    let kept = std::fs::read_to_string(&file).expect("tests/crate-graph.txt is there");
    assert_eq!(
        kept, drawn,
        "an arrow was added or removed; if that is meant, run this test with DOMICILE_DRAW_CRATE_GRAPH=1 and review the file"
    );
}

#[test]
fn arrows_point_down() {
    let floor_of: BTreeMap<&str, usize> =
        FLOORS.iter().enumerate().flat_map(|(floor, crates)| crates.iter().map(move |name| (*name, floor))).collect();
    for (from, to) in arrows() {
        let (Some(above), Some(below)) = (floor_of.get(from.as_str()), floor_of.get(to.as_str())) else {
            panic!("{from} -> {to}: a crate without a floor; give it one in ARCHITECTURE.md and here");
        };
        let allowed = above > below || SAME_FLOOR.contains(&(from.as_str(), to.as_str()));
        assert!(allowed, "{from} -> {to} points up or sideways");
    }
}

#[test]
fn one_room_per_outside_world() {
    for (package, dependencies) in dependencies() {
        for (outside, rooms) in ROOMS {
            if dependencies.contains(outside) {
                assert!(rooms.contains(&package.as_str()), "{package} may not name {outside}; only {rooms:?} may");
            }
        }
    }
}

#[test]
fn every_metric_that_an_alert_names_is_one_that_is_written() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let written: String = ["relay/src/status.rs", "forwarder/src/status.rs", "ops/src/drill/proofs.rs"]
        .iter()
        .map(|path| std::fs::read_to_string(root.join("crates").join(path)).expect("the metrics"))
        .collect();
    let rules: String = ["streams", "backups"]
        .iter()
        .map(|name| std::fs::read_to_string(root.join(format!("config/alerts/{name}.yml"))).expect("the alerts"))
        .collect();
    let named: BTreeSet<&str> = rules
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("domicile_") && !["domicile_reason", "domicile_seq"].contains(word))
        .collect();
    assert!(named.len() >= 5, "{named:?}");
    for metric in named {
        assert!(written.contains(&format!("\"{metric}\"")), "nobody writes {metric}");
    }
}

fn arrows() -> Vec<(String, String)> {
    let all = dependencies();
    let ours: BTreeSet<String> = all.keys().cloned().collect();
    let mut arrows = Vec::new();
    for (from, dependencies) in &all {
        arrows.extend(dependencies.intersection(&ours).map(|to| (from.clone(), to.clone())));
    }
    arrows
}

/// Every workspace member with what it depends on when it is built for use (not for its own tests).
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata runs");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().into_iter().flatten();
            let names = dependencies
                .filter(|dependency| dependency["kind"].is_null())
                .filter_map(|dependency| dependency["name"].as_str().map(str::to_owned))
                .collect();
            (package["name"].as_str().unwrap_or_default().to_owned(), names)
        })
        .collect()
}
