//! The world itself: its regions, its gateways, its keys; gone when dropped.

use crate::broker::{Broker, Message};
use crate::builder::Builder;
use crate::client::Client;
use crate::cluster::Cluster;
use crate::config::{DIRECTORY_DATABASE, Keys, PEPPER, PEPPER_KEY_ID, REGION_DATABASE, RegionPlan};
use crate::found;
use crate::gateway::Gateway;
use crate::layout::Layout;
use crate::nursery::Nursery;
use crate::snowflake::Snowflake;
use anyhow::Result;
use forwarder::Row;
use futures::future::{join_all, try_join_all};
use std::path::Path;
use std::sync::Arc;
use storage::{Pepper, Peppers};

/// One region of a world.
pub struct RegionWorld {
    pub(crate) plan: RegionPlan,
    /// Its PostgreSQL.
    pub cluster: Cluster,
    /// Its broker.
    pub broker: Option<Broker>,
    /// Its Snowflake.
    pub snowflake: Option<Snowflake>,
}

impl RegionWorld {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.plan.name
    }

    /// Its jurisdiction.
    #[must_use]
    pub fn jurisdiction(&self) -> &'static str {
        self.plan.jurisdiction
    }

    /// A residence that the policy places here, e.g. `DE`.
    #[must_use]
    pub fn residence(&self) -> &'static str {
        self.plan.residence
    }

    /// The superuser's connection string of the region's database.
    #[must_use]
    pub fn superuser_dsn(&self) -> String {
        self.cluster.superuser_dsn(REGION_DATABASE)
    }

    /// Runs SQL in the region's database as the superuser, see [`Cluster::sql`].
    ///
    /// # Errors
    /// What PostgreSQL says against it.
    pub async fn sql(&self, sql: &str) -> Result<Vec<String>> {
        self.cluster.sql(REGION_DATABASE, sql).await
    }

    /// The topics its broker has, in order; none without a broker.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn topics(&self) -> Result<Vec<String>> {
        match &self.broker {
            Some(broker) => broker.topics().await,
            None => Ok(Vec::new()),
        }
    }

    /// The messages of one topic from its beginning, ordered by partition and offset, at most `limit`.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn messages(&self, topic: &str, limit: usize) -> Result<Vec<Message>> {
        let Some(broker) = &self.broker else { return Ok(Vec::new()) };
        let mut messages = broker.messages(&[topic.to_owned()]).await?;
        messages.truncate(limit);
        Ok(messages)
    }

    /// The rows that were forwarded to its Snowflake, tombstones included; none without one.
    ///
    /// # Errors
    /// When the Snowflake does not answer.
    pub async fn forwarded_rows(&self) -> Result<Vec<Row>> {
        match &self.snowflake {
            Some(snowflake) => snowflake.rows().await,
            None => Ok(Vec::new()),
        }
    }

    /// The same, each row as a line of text.
    ///
    /// # Errors
    /// When the Snowflake does not answer.
    pub async fn forwarded(&self) -> Result<Vec<String>> {
        let in_words = |row: Row| {
            let (value, consents) = (row.value.unwrap_or_default(), row.consents.unwrap_or_default());
            format!("{} {} {} {} {value} {consents}", row.seq, row.region, row.subject_digest, row.attribute)
        };
        Ok(self.forwarded_rows().await?.into_iter().map(in_words).collect())
    }
}

/// A running world.
pub struct World {
    // Dropped in this order: gateways before what they need, the folder last.
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) regions: Vec<RegionWorld>,
    pub(crate) directory: Cluster,
    pub(crate) keys: Keys,
    pub(crate) nursery: Arc<Nursery>,
    pub(crate) layout: Layout,
}

impl World {
    /// A world of these regions of the shipped policy: `eu-central`, `uk-south`, `us-east`.
    pub fn with_regions<'a>(regions: impl IntoIterator<Item = &'a str>) -> Builder {
        Builder::new(regions.into_iter().map(str::to_owned).collect())
    }

    /// Its folder: `logs`, `config`, `secrets` and the stores.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.layout.root()
    }

    /// The public key of a region's log, as an auditor pins it.
    ///
    /// # Errors
    /// When the world has no such key.
    pub fn log_key(&self, region: &str) -> Result<String> {
        Ok(found::log_key(&self.layout, region)?.public().to_string())
    }

    /// Whether the folder goes away with the world.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        self.layout.is_temporary()
    }

    /// Its regions, in the order they were wished for.
    #[must_use]
    pub fn regions(&self) -> &[RegionWorld] {
        &self.regions
    }

    /// One region.
    ///
    /// # Panics
    /// When this world does not have it.
    #[must_use]
    pub fn region(&self, name: &str) -> &RegionWorld {
        let found = self.regions.iter().find(|region| region.name() == name);
        found.unwrap_or_else(|| panic!("This world has no region {name}"))
    }

    /// The directory's cluster.
    #[must_use]
    pub fn directory(&self) -> &Cluster {
        &self.directory
    }

    /// The superuser's connection string of the directory's database.
    #[must_use]
    pub fn directory_dsn(&self) -> String {
        self.directory.superuser_dsn(DIRECTORY_DATABASE)
    }

    /// The gateways, in the order they were wished for.
    #[must_use]
    pub fn gateways(&self) -> &[Gateway] {
        &self.gateways
    }

    /// One gateway.
    ///
    /// # Panics
    /// When this world does not have it.
    #[must_use]
    pub fn gateway(&self, name: &str) -> &Gateway {
        let found = self.gateways.iter().find(|gateway| gateway.name() == name);
        found.unwrap_or_else(|| panic!("This world has no gateway {name}"))
    }

    /// The keys of its callers.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The keys that the directory's digests of this world are made with.
    ///
    /// # Errors
    /// When the secret is gone.
    pub fn peppers(&self) -> Result<Peppers> {
        let secret = std::fs::read(self.layout.secret(PEPPER))?;
        let pepper = Pepper::new(PEPPER_KEY_ID, &secret).map_err(anyhow::Error::msg)?;
        Ok(Peppers::new(pepper, Vec::new()))
    }

    /// An application service at the first gateway.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn client(&self) -> Result<Client> {
        self.client_of(&self.gateways[0])
    }

    /// An application service at a gateway.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn client_of(&self, gateway: &Gateway) -> Result<Client> {
        Client::new(gateway.url(), &self.keys.service)
    }

    /// Makes one more key and gives its token, as soon as every gateway that runs lets it in.
    ///
    /// # Errors
    /// When the directory refuses, or a gateway does not know the key after two minutes.
    pub async fn create_key(&self, name: &str, scopes: &[&str], tenant: Option<&str>) -> Result<String> {
        let token = found::create_key(&found::api_keys(&self.directory)?, name, scopes, tenant).await?;
        try_join_all(self.gateways.iter().map(|gateway| gateway.knows(&token))).await?;
        Ok(token)
    }

    /// Ends everything in good order and removes the folder if it is temporary. Dropping does the same, less gently.
    pub async fn shutdown(self) {
        join_all(self.gateways.iter().map(Gateway::terminate)).await;
        let clusters = self.regions.iter().map(|region| &region.cluster).chain([&self.directory]);
        join_all(clusters.map(Cluster::stop)).await;
        drop(self);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Every child is told before any is waited for; then the fields go, in their order.
        self.nursery.dismiss_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_world_is_founded_with_its_regions_apart_and_is_taken_up_again_as_it_was() {
        let parent = tempfile::tempdir().expect("a folder");
        let folder = parent.path().join("world");
        let builder = || {
            let builder = World::with_regions(["eu-central", "us-east"]).data_dir(&folder).gateways_not_started();
            builder.in_process_brokers().snowflake_folders()
        };
        let world = builder().start().await.expect("it starts");
        let identity = "SELECT region || ' ' || jurisdiction FROM domicile.region_identity";
        assert_eq!(world.region("eu-central").sql(identity).await.expect("a row"), ["eu-central eu"]);
        let stray = "INSERT INTO domicile.records (region, subject, collection, key, version, body, updated_at) \
                     VALUES ('us-east', 's', 'c', 'k', 1, '{}', now())";
        let refusal = world.region("eu-central").sql(stray).await.expect_err("Postgres refuses it").to_string();
        assert!(refusal.contains("no partition"), "{refusal}");
        let description = world.write_description().await.expect("written");
        let described: serde_json::Value =
            serde_json::from_slice(&std::fs::read(description).expect("there")).expect("JSON");
        assert_eq!(described["regions"]["us-east"]["jurisdiction"], "us");
        let keys = world.keys().clone();
        assert!(builder().start().await.is_err(), "somebody has it");
        world.shutdown().await;

        let again = builder().start().await.expect("it starts again");
        assert!(*again.keys() == keys, "the keys of the first start go on working");
        assert_eq!(again.region("us-east").sql(identity).await.expect("a row"), ["us-east us"]);
    }

    #[tokio::test]
    async fn a_world_of_an_unknown_region_is_refused() {
        assert!(World::with_regions(["atlantis"]).gateways_not_started().start().await.is_err());
    }
}
