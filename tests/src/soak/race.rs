//! Two gateways classify the same new subject differently at the same instant: one pin each, no row elsewhere.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, stream};
use serde_json::json;
use tokio::sync::Barrier;
use world::World;

use super::Length;
use crate::person;

/// How many races are run at once.
const RACES_AT_ONCE_MAX: usize = 16;

/// Runs the race; the answer is what held, in words.
///
/// # Errors
/// When a subject has another number of homes than one.
pub async fn race(length: Length) -> Result<String> {
    let races = length.of(200, 1_000);
    let regions = ["eu-central", "us-east"];
    let builder = World::with_regions(regions).gateway("left", regions).gateway("right", regions);
    let world = builder.without_brokers().without_snowflakes().start().await?;
    let left = world.client_of(world.gateway("left"))?.residing_in("DE");
    let right = world.client_of(world.gateway("right"))?.residing_in("US");
    let subjects: Vec<String> = (0..races).map(|_| person("race")).collect();

    let outcomes: Vec<Result<()>> = stream::iter(&subjects)
        .map(|subject| {
            let (left, right, start) = (&left, &right, Arc::new(Barrier::new(2)));
            async move {
                let run = |client: &world::Client| {
                    let (client, start) = (client.clone(), Arc::clone(&start));
                    async move {
                        start.wait().await;
                        client.put_record(subject, "profile", "home", &json!({"from": "race"})).await
                    }
                };
                let (one, other) = tokio::try_join!(run(left), run(right))?;
                let (one, other) = (one.expect_success()?, other.expect_success()?);
                ensure!(one.region().is_some() && one.region() == other.region(), "two homes were told to the callers");
                Ok(())
            }
        })
        .buffer_unordered(RACES_AT_ONCE_MAX)
        .collect()
        .await;
    outcomes.into_iter().collect::<Result<()>>().context("a race was lost by both")?;

    let pins = world.directory().sql("directory", "SELECT count(*)::text FROM domicile.pins").await?;
    ensure!(pins == [races.to_string()], "{races} subjects have {pins:?} pins");
    let mut rows = 0;
    for region in regions {
        let region = world.region(region);
        let count = region.sql("SELECT count(*)::text FROM domicile.records").await?;
        let known = region.sql("SELECT count(*)::text FROM domicile.subjects").await?;
        ensure!(count == known, "{} has {count:?} records of {known:?} subjects", region.name());
        rows += count[0].parse::<usize>()?;
    }
    ensure!(rows == races, "{races} subjects have {rows} rows");
    world.shutdown().await;
    Ok(format!("{races} races between two gateways: {races} pins, {rows} rows, none elsewhere"))
}
