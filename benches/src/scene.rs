//! One region with many rows, two gateways on it (durable and buffered reads), and the tables that pgbench writes.

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use world::{RegionWorld, World};

use crate::Plan;

/// How many subjects are pinned at once.
const PINS_AT_ONCE_MAX: usize = 128;

/// A world to measure.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) subjects: u64,
    pub(crate) keys: u64,
}

impl Scene {
    /// Starts it with one way of auditing reads, and loads the rows.
    pub(crate) async fn set(plan: &Plan, audit_reads: &str) -> Result<Self> {
        let world = World::with_regions(["eu-central"])
            .without_brokers()
            .without_snowflakes()
            .setting("regions.eu-central.audit_reads", audit_reads)
            .setting("gateway.limits.caller_requests_per_s_max", 0)
            .setting("telemetry.filter", "warn")
            .start()
            .await?;
        let client = world.client()?.residing_in("DE");
        stream::iter(1..=plan.subjects)
            .map(|n| {
                let client = client.clone();
                async move { client.pin(&format!("bench-{n}")).await?.expect_success().map(drop) }
            })
            .buffer_unordered(PINS_AT_ONCE_MAX)
            .try_collect::<()>()
            .await
            .context("the subjects could not be pinned")?;
        let keys = plan.rows / plan.subjects;
        let region = world.region("eu-central");
        region
            .sql(&format!(
                "INSERT INTO domicile.records (region, subject, collection, key, version, body, updated_at) \
                 SELECT 'eu-central', 'bench-' || s, 'profile', 'k' || k, 1, jsonb_build_object('n', k, 'note', \
                 'about a hundred bytes of somebody''s data, as records are in practice'), now() \
                 FROM generate_series(1, {}) s, generate_series(0, {}) k",
                plan.subjects,
                keys - 1
            ))
            .await?;
        for statement in [
            "CREATE SCHEMA bench",
            "CREATE TABLE bench.records (LIKE domicile.records INCLUDING ALL)",
            "CREATE TABLE bench.outbox (seq bigserial PRIMARY KEY, topic text, key bytea, data bytea)",
            "CREATE TABLE bench.leaves (seq bigserial PRIMARY KEY, hash bytea, line text)",
            "VACUUM ANALYZE",
            "CHECKPOINT",
        ] {
            region.sql(statement).await?;
        }
        Ok(Self { world, subjects: plan.subjects, keys })
    }

    pub(crate) fn region(&self) -> &RegionWorld {
        self.world.region("eu-central")
    }

    /// How many leaves the log has, once everything buffered is written.
    pub(crate) async fn leaves(&self) -> Result<u64> {
        tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
        let rows = self.region().sql("SELECT size::text FROM domicile.head").await?;
        ensure!(rows.len() == 1, "no head");
        Ok(rows[0].parse()?)
    }
}
