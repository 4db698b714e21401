//! A region that is down is told so, while it is down, and nobody else notices.

use serde_json::json;
use system_tests::{PATIENCE, person, until};
use world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_is_down_answers_503_and_the_others_go_on() {
    let regions = ["eu-central", "us-east"];
    let world = World::with_regions(regions).without_brokers().without_snowflakes().start().await.unwrap();
    let client = world.client().unwrap();
    let (anna, ben) = (person("outage-eu"), person("outage-us"));
    let (european, american) = (client.residing_in("DE"), client.residing_in("US"));
    european.put_record(&anna, "profile", "x", &json!({"n": 1})).await.unwrap().expect(201).unwrap();
    american.put_record(&ben, "profile", "x", &json!({"n": 1})).await.unwrap().expect(201).unwrap();

    world.region("eu-central").cluster.kill().await.unwrap();
    for attempt in 0..5 {
        // A request that nobody answered in its time would be a 504.
        let answer = european.put_record(&anna, "profile", "x", &json!({"n": 2})).await.unwrap().expect(503).unwrap();
        assert!(answer.header("retry-after").is_some(), "{}", answer.text());
        let read = european.get_record(&anna, "profile", "x").await.unwrap().expect(503).unwrap();
        assert_ne!(read.region(), Some("us-east"), "no other region is tried");
        american.put_record(&ben, "profile", "x", &json!({"n": attempt})).await.unwrap().expect(200).unwrap();
        american.get_record(&ben, "profile", "x").await.unwrap().expect(200).unwrap();
    }

    world.region("eu-central").cluster.start_again().await.unwrap();
    until("Service of the region that came back", PATIENCE, || async {
        european.put_record(&anna, "profile", "x", &json!({"n": 3})).await.is_ok_and(|answer| answer.status == 200)
            && european.get_record(&anna, "profile", "x").await.is_ok_and(|answer| answer.status == 200)
    })
    .await
    .unwrap();
    let read = european.get_record(&anna, "profile", "x").await.unwrap().expect(200).unwrap();
    assert!(read.text().contains('3'));
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_directory_nobody_new_is_placed() {
    let world = World::with_regions(["eu-central"]).without_brokers().without_snowflakes().start().await.unwrap();
    let client = world.client().unwrap().residing_in("DE");
    let anna = person("known");
    client.put_record(&anna, "profile", "x", &json!({})).await.unwrap().expect(201).unwrap();
    world.directory().kill().await.unwrap();
    let answer = client.put_record(&person("new"), "profile", "x", &json!({})).await.unwrap().expect(503).unwrap();
    assert_eq!(answer.code().as_deref(), Some("directory_unavailable"));
    client.get_record(&anna, "profile", "x").await.unwrap().expect(200).unwrap();
    world.directory().start_again().await.unwrap();
    until("Placement after the directory came back", PATIENCE, || async {
        client.put_record(&person("new"), "profile", "x", &json!({})).await.is_ok_and(|answer| answer.status == 201)
    })
    .await
    .unwrap();
    world.shutdown().await;
}
