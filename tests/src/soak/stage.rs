//! Where the soaks of relay and forwarder play: one region, a gateway that only serves, and the carrier of its log as a
//! process of its own, so that either falls without the other.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use world::{Broker, Builder, Gateway, RegionWorld, Snowflake, World};

use crate::until;

/// The one region.
pub(super) const REGION: &str = "eu-central";
/// The gateway that serves.
pub(super) const API: &str = "api";
/// How long a carrier may need to see through what was done to it.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);

/// Who carries the region's log away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carrier {
    Relay,
    Forwarder,
}

impl Carrier {
    /// Its role, its cursor and the name of its process.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Forwarder => "forwarder",
        }
    }

    /// A world with this carrier and with what it carries to, and without the other.
    pub(super) fn world(self) -> Builder {
        let builder = World::with_regions([REGION])
            .gateway(API, [REGION])
            .role(API, "gateway")
            .gateway(self.name(), [REGION])
            .role(self.name(), self.name());
        match self {
            Self::Relay => builder.without_snowflakes(),
            Self::Forwarder => builder.without_brokers(),
        }
    }

    /// Its process.
    pub(super) fn of(self, world: &World) -> &Gateway {
        world.gateway(self.name())
    }

    /// How many events of the log it is behind.
    pub(super) async fn behind(self, region: &RegionWorld) -> Result<u64> {
        let sql = format!(
            "SELECT count(*)::text FROM domicile.outbox \
             WHERE seq > (SELECT coalesce(max(c.seq), 0) FROM domicile.cursors AS c WHERE c.name = '{}')",
            self.name()
        );
        Ok(region.sql(&sql).await?.first().context("a count")?.parse()?)
    }

    /// Waits until it has carried everything.
    pub(super) async fn caught_up(self, region: &RegionWorld) -> Result<()> {
        until(&format!("The {} to carry everything", self.name()), PATIENCE, || async {
            self.behind(region).await.is_ok_and(|behind| behind == 0)
        })
        .await
    }
}

/// The region's broker: one that can be killed.
pub(super) fn broker(region: &RegionWorld) -> Result<&Broker> {
    let broker = region.broker.as_ref().context("the region has a broker")?;
    ensure!(
        broker.mock().is_none(),
        "this soak kills a broker, and the one inside this process cannot be killed: run `cargo xtask tools`"
    );
    Ok(broker)
}

/// The region's Snowflake: one that speaks its protocol.
pub(super) fn snowflake(region: &RegionWorld) -> Result<&Snowflake> {
    let snowflake = region.snowflake.as_ref().context("the region has a Snowflake")?;
    ensure!(snowflake.folder().is_none(), "this soak needs the Snowflake stand-in fakesnow: run `cargo xtask tools`");
    Ok(snowflake)
}
