//! One region with many rows and the gateways on it, of which at most one runs; and the tables that pgbench writes.

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

/// How many requests the narrow gateway lets in at once.
pub(crate) const NARROW_REQUESTS: u32 = 128;

/// The gateways, by when a read is accountable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    Buffered,
    Durable,
    /// Durable, with few requests at once.
    Narrow,
}

impl Reads {
    const ALL: [Self; 3] = [Self::Buffered, Self::Durable, Self::Narrow];

    /// As the gateway is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Buffered => "buffered",
            Self::Durable => "durable",
            Self::Narrow => "narrow",
        }
    }

    /// The setting.
    fn audit_reads(self) -> &'static str {
        if self == Self::Buffered { "buffered" } else { "durable" }
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
        for reads in Reads::ALL {
            let (gateway, setting) = (reads.name(), "regions.eu-central.audit_reads");
            builder = builder.gateway(gateway, ["eu-central"]);
            builder = builder.gateway_setting(gateway, setting, reads.audit_reads());
        }
        let at_once = "gateway.limits.requests_at_once_max";
        builder = builder.gateway_setting(Reads::Narrow.name(), at_once, i64::from(NARROW_REQUESTS));
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

    /// Demands that what came since `before` is what was acknowledged, once; a figure of anything else is void.
    pub(crate) async fn must_tell(&self, before: &Ledger, deeds: Deeds) -> Result<()> {
        let mut now = self.ledger().await?;
        // A gateway also writes leaves of its own, of its start for one: they have no operation.
        let own = format!(
            "SELECT count(*) FROM domicile.leaves WHERE seq >= {} AND line NOT LIKE '%\"op\":%'",
            before.leaves
        );
        now.leaves -= self.region().sql(&own).await?.concat().parse::<u64>()?;
        let Err(objection) = now.tells(before, deeds) else { return Ok(()) };
        let counted = format!(
            "SELECT line::json->>'op', line::json->>'out', line::json->>'act', count(*) FROM domicile.leaves \
             WHERE seq >= {} GROUP BY 1, 2, 3",
            before.leaves
        );
        bail!("{objection}: the figure is void. The leaves are {:?}", self.region().sql(&counted).await?)
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

/// What was acknowledged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deeds {
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    /// Requests that may have been done although nobody read their answers.
    pub(crate) unread_max: u64,
}

impl Ledger {
    /// Whether what came since `before` is what was acknowledged, and no more than was under way beside it.
    fn tells(&self, before: &Self, deeds: Deeds) -> Result<(), String> {
        let Deeds { reads, writes, unread_max } = deeds;
        let leaves = self.leaves - before.leaves;
        let (events, changes) = (self.events - before.events, self.changes - before.changes);
        let all = reads + writes;
        if !(all..=all + unread_max).contains(&leaves) {
            return Err(format!("{all} answers and {leaves} leaves"));
        }
        let most = writes + if writes > 0 { unread_max } else { 0 };
        if !(writes..=most).contains(&changes) {
            return Err(format!("{writes} acknowledged changes and {changes} made"));
        }
        if changes != events {
            return Err(format!("{changes} changes and {events} events"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(leaves: u64, events: u64, changes: u64) -> Ledger {
        Ledger { leaves, events, changes }
    }

    #[test]
    fn a_lost_or_doubled_deed_voids_the_figure() {
        let reads = Deeds { reads: 100, writes: 0, unread_max: 4 };
        let before = ledger(10, 5, 7);
        assert!(ledger(110, 5, 7).tells(&before, reads).is_ok());
        assert!(ledger(114, 5, 7).tells(&before, reads).is_ok(), "answers that nobody read");
        assert!(ledger(109, 5, 7).tells(&before, reads).is_err(), "a read without its leaf");
        assert!(ledger(115, 5, 7).tells(&before, reads).is_err(), "a leaf without its read");
        assert!(ledger(110, 6, 8).tells(&before, reads).is_err(), "a change among reads");
        let writes = Deeds { reads: 0, writes: 100, unread_max: 0 };
        assert!(ledger(110, 105, 107).tells(&before, writes).is_ok());
        assert!(ledger(110, 104, 107).tells(&before, writes).is_err(), "a change without its event");
        assert!(ledger(110, 106, 108).tells(&before, writes).is_err(), "a change done twice");
        assert!(ledger(110, 104, 106).tells(&before, writes).is_err(), "an acknowledged change that is not there");
    }
}
