//! What is created and deleted in one batch.

use sqlx::Executor;
use storage::{Change, Effect, Precondition, RegionStore};

use crate::scene::{Scene, attribute, commit, declare, delete, done, eventually, put, subject, up};

#[tokio::test]
async fn what_is_created_and_deleted_in_one_batch_is_not_done_over_what_another_gateway_has_created() {
    let scene = Scene::new().await;
    let (store, other, anna) = (scene.open(), RegionStore::open(scene.settings(2)), subject("anna"));
    done(&store, &anna, put("busy", "1", Precondition::None)).await;
    up(&other).await;
    let hold = async |rows: &'static str| {
        let mut holder = scene.outside().await;
        holder.execute("BEGIN").await.unwrap();
        holder.execute(rows).await.unwrap();
        holder
    };
    let waiting = async || {
        scene
            .strings(
                "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
            )
            .await
    };
    let withdraw = || Change::DeleteAttribute { attribute: attribute("colour"), when: Precondition::None };
    let create = || put("k", "1", Precondition::None);
    for (create, again, delete, created) in [
        (create(), create(), delete("k", Precondition::None), "records WHERE key = 'k'"),
        (declare("colour", "1"), declare("colour", "2"), withdraw(), "zero_party"),
    ] {
        // While her first deed waits, the next two gather.
        let record = hold("SELECT FROM domicile.records FOR UPDATE").await;
        let spawn = |change: Change| {
            let (store, anna) = (store.clone(), anna.clone());
            tokio::spawn(async move { commit(&store, &anna, change).await })
        };
        let busy = spawn(put("busy", "2", Precondition::None));
        eventually("she is busy", async || scene.waiting_for_locks().await == 1).await;
        let both = [spawn(create), spawn(delete)];
        // Behind what they have read, and before what they write.
        let subject = hold("SELECT FROM domicile.subjects FOR UPDATE").await;
        drop(record);
        busy.await.unwrap().unwrap();
        eventually("they are under way", async || waiting().await.iter().any(|sql| sql.contains("version_floor")))
            .await;
        let between = done(&other, &anna, again).await.value;
        assert!(matches!(between, Effect::Created { .. }), "{between:?}");
        drop(subject);
        for outcome in both {
            let outcome = outcome.await.unwrap();
            assert!(outcome.is_ok(), "{outcome:?}");
        }
        let left = scene.strings_of(&format!("SELECT version::text FROM domicile.{created}")).await;
        assert!(left.is_empty(), "the last that the log says is that it was deleted: {left:?}");
    }
}
