//! A synchronous standby: what is acknowledged is there, too.

use std::time::Duration;

use storage::{Effect, Precondition};

use crate::scene::{Scene, commit, done, eventually, put, subject};

#[tokio::test]
async fn a_commit_that_no_synchronous_standby_has_is_not_acknowledged_when_its_connection_breaks() {
    let scene = Scene::apart().await;
    let (store, anna) = (scene.open(), subject("anna"));
    done(&store, &anna, put("a", "1", Precondition::None)).await;
    let standby = |name: &str| {
        scene.cluster.sql("postgres", &format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'"));
        scene.cluster.sql("postgres", "SELECT pg_reload_conf()");
    };
    standby("nobody");
    eventually("it is in force", async || scene.strings("SHOW synchronous_standby_names").await == ["nobody"]).await;
    let writing = tokio::spawn({
        let (store, anna) = (store.clone(), anna.clone());
        async move { commit(&store, &anna, put("a", "2", Precondition::None)).await }
    });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    eventually("it waits for the standby", async || scene.number(waits).await > 0).await;
    scene.number("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'").await;
    // The page is there for everybody to see, and nowhere else.
    eventually("it is committed here", async || scene.number("SELECT max(version) FROM domicile.records").await == 2)
        .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!writing.is_finished(), "{:?}", writing.await);
    standby("");
    assert_eq!(writing.await.unwrap().unwrap().value, Effect::Replaced { version: 2 });
}
