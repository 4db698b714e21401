//! One region with many rows and two gateways on it, one for each way of auditing reads, of which at most one runs;
//! and the tables that pgbench writes.

use anyhow::{Context, Result, bail, ensure};
use world::{Cluster, Gateway, RegionWorld, World};

use crate::pgbench;
use crate::plan::Plan;
use crate::population;
use crate::progress::Progress;

/// What every PostgreSQL of a bench is told: room for pgbench's clients and for the data in memory. Both sides of a
/// comparison run on the same server.
pub(crate) const POSTGRES: [(&str, &str); 4] =
    [("max_connections", "400"), ("shared_buffers", "512MB"), ("max_wal_size", "8GB"), ("checkpoint_timeout", "1h")];

/// A world to measure.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) subjects: u64,
    pub(crate) keys: u64,
}

/// When a read is accountable: which of the two gateways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    Buffered,
    Durable,
}

impl Reads {
    /// As the setting and the gateway are called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Buffered => "buffered",
            Self::Durable => "durable",
        }
    }
}

impl Scene {
    /// Starts the servers and loads the rows; no gateway runs yet.
    pub(crate) async fn set(plan: &Plan, progress: &Progress) -> Result<Self> {
        progress.now("starting a region, a directory, their PostgreSQL servers");
        let mut builder = World::with_regions(["eu-central"])
            .without_brokers()
            .without_snowflakes()
            .setting("gateway.limits.caller_requests_per_s_max", 0)
            .setting("telemetry.filter", "warn")
            .gateways_not_started();
        for reads in [Reads::Buffered, Reads::Durable] {
            builder = builder.gateway(reads.name(), ["eu-central"]).gateway_setting(
                reads.name(),
                "regions.eu-central.audit_reads",
                reads.name(),
            );
        }
        for (name, value) in POSTGRES {
            builder = builder.postgres_setting(name, value);
        }
        let world = builder.start().await?;
        progress.now(format!("loading {} rows of {} subjects", plan.rows, plan.subjects));
        population::settle(&world, 1..=plan.subjects).await?;
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
        for statement in pgbench::TABLES.iter().chain(&["VACUUM ANALYZE", "CHECKPOINT"]) {
            region.sql(statement).await.context("the tables for pgbench could not be made")?;
        }
        Ok(Self { world, subjects: plan.subjects, keys })
    }

    pub(crate) fn region(&self) -> &RegionWorld {
        self.world.region("eu-central")
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.region().cluster
    }

    pub(crate) fn gateway(&self, reads: Reads) -> &Gateway {
        self.world.gateway(reads.name())
    }

    pub(crate) fn token(&self) -> &str {
        &self.world.keys().service
    }

    /// What pgbench's scripts draw from.
    pub(crate) fn variables(&self) -> [(&'static str, u64); 2] {
        [("subjects", self.subjects), ("keys", self.keys)]
    }

    /// Writes a checkpoint, so that no load pays for the one before.
    pub(crate) async fn checkpoint(&self) -> Result<()> {
        self.region().sql("CHECKPOINT").await.map(drop)
    }

    /// The region log and what stands beside it. Exact while no gateway runs: one that ends writes its buffers.
    pub(crate) async fn ledger(&self) -> Result<Ledger> {
        let rows = self
            .region()
            .sql(
                "SELECT (SELECT size FROM domicile.head), (SELECT count(*) FROM domicile.leaves), \
                 (SELECT count(*) FROM domicile.outbox), \
                 (SELECT coalesce(sum(version), 0) FROM domicile.records WHERE key LIKE 'w%')",
            )
            .await?;
        let numbers: Vec<u64> = rows.concat().split('|').map(str::parse).collect::<Result<_, _>>()?;
        let [size, leaves, events, changes] = numbers[..] else { bail!("the ledger says {rows:?}") };
        ensure!(size == leaves, "the log says {size} leaves and holds {leaves}");
        Ok(Ledger { leaves, events, changes })
    }
}

/// How much there is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ledger {
    /// Leaves in the log, each at a position of its own.
    pub(crate) leaves: u64,
    /// Events in the outbox.
    pub(crate) events: u64,
    /// Changes of records that the bench writes: the sum of their versions, so that a change done twice shows.
    pub(crate) changes: u64,
}

impl Ledger {
    /// Demands that what came since `before` is what was acknowledged: `answers` of requests on connections of which
    /// each may have had one more under way when its load ended.
    pub(crate) fn must_tell(&self, before: &Self, deeds: Deeds) -> Result<()> {
        let Deeds { reads, writes, unread_max } = deeds;
        let leaves = self.leaves - before.leaves;
        let (events, changes) = (self.events - before.events, self.changes - before.changes);
        let all = reads + writes;
        ensure!((all..=all + unread_max).contains(&leaves), "{all} answers and {leaves} leaves: the figure is void");
        let most = writes + if writes > 0 { unread_max } else { 0 };
        ensure!(
            (writes..=most).contains(&changes),
            "{writes} acknowledged changes and {changes} made: the figure is void"
        );
        ensure!(changes == events, "{changes} changes and {events} events: the figure is void");
        Ok(())
    }
}

/// What was acknowledged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deeds {
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    /// Requests that may have been done although nobody read their answers.
    pub(crate) unread_max: u64,
}
