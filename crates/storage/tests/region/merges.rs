//! What merging does to a record, and how large one may become by it.

use futures::future::join_all;
use serde_json::json;
use storage::{Effect, Error, Limits, Precondition, RegionStore};

use crate::scene::{Scene, commit, done, patch, put, record, subject};
use crate::support::patient;

#[tokio::test]
async fn a_merge_changes_no_number_that_it_does_not_name() {
    let scene = Scene::new().await;
    let (store, anna) = (scene.open(), subject("anna"));
    let far = format!("1{}", "0".repeat(400));
    let body = format!(r#"{{"account":12345678901234567890123,"deep":{{"rate":0.10,"y":1}},"far":{far},"x":1}}"#);
    done(&store, &anna, put("a", &body, Precondition::None)).await;
    done(&store, &anna, patch("a", json!({"deep": {"y": null}, "x": 2}), Precondition::None)).await;
    let found = record(&store, &anna, "a").await.unwrap().body.get().replace(' ', "");
    for part in
        [r#""account":12345678901234567890123"#, r#""deep":{"rate":0.10}"#, &format!(r#""far":{far}"#), r#""x":2"#]
    {
        assert!(found.contains(part), "{part} in {found}");
    }
}

#[tokio::test]
async fn no_record_grows_by_merging_above_what_can_be_put() {
    let scene = Scene::new().await;
    let mut settings = scene.settings(1);
    settings.limits = Limits { record_bytes_max: 100, ..patient() };
    let (store, anna) = (RegionStore::open(settings), subject("anna"));
    done(&store, &anna, put("a", r#"{"a":"x","b":[1,2,3]}"#, Precondition::None)).await;
    done(&store, &anna, patch("a", json!({"c": "x".repeat(50)}), Precondition::None)).await;
    let outcome = commit(&store, &anna, patch("a", json!({"d": "x".repeat(50)}), Precondition::None)).await;
    assert_eq!(outcome.unwrap_err(), Error::GrownTooLarge { max_bytes: 100 });
    let refused = "SELECT count(*) FROM domicile.leaves WHERE line LIKE '%content_refused%'";
    assert_eq!(scene.number(refused).await, 1, "it was decided, and so it is in the log");
    assert_eq!(record(&store, &anna, "a").await.unwrap().version, 2);
    // One that was put under another bound may shrink, if not grow.
    done(&store, &anna, put("b", &format!(r#"{{"a":"{}"}}"#, "x".repeat(200)), Precondition::None)).await;
    done(&store, &anna, patch("b", json!({"a": "x".repeat(150)}), Precondition::None)).await;
    assert!(commit(&store, &anna, patch("b", json!({"b": 1}), Precondition::None)).await.is_err());
}

#[tokio::test]
async fn merges_into_more_than_a_batch_may_hold_are_done_in_parts() {
    let scene = Scene::new().await;
    let mut settings = scene.settings(1);
    settings.limits = Limits { record_bytes_max: 5_000, batch_bytes_max: 10_000, ..patient() };
    settings.committer_connections = 1;
    let (store, anna) = (RegionStore::open(settings), subject("anna"));
    let body = format!(r#"{{"a":"{}"}}"#, "x".repeat(4_000));
    for n in 0..12 {
        done(&store, &anna, put(&format!("k{n}"), &body, Precondition::None)).await;
    }
    let merges =
        (0..12).map(|n| commit(&store, &anna, patch(&format!("k{}", n % 6), json!({"b": n}), Precondition::None)));
    let merged: Vec<_> = join_all(merges).await.into_iter().map(|outcome| outcome.unwrap().value).collect();
    for (n, effect) in merged.into_iter().enumerate() {
        assert_eq!(effect, Effect::Replaced { version: if n < 6 { 2 } else { 3 } });
    }
}
