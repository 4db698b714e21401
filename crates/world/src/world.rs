//! The world itself: built from a few wishes, started all at once, gone when dropped.

use crate::broker::{Broker, Message};
use crate::client::Client;
use crate::cluster::{self, Cluster};
use crate::config::{self, Around, DIRECTORY_DATABASE, GatewayPlan, Keys, REGION_DATABASE, RegionPlan};
use crate::found;
use crate::gateway::{Gateway, Parts};
use crate::layout::Layout;
use crate::nursery::Nursery;
use crate::ports::free_port;
use crate::progress::Progress;
use crate::snowflake::Snowflake;
use crate::tools::{self, Postgres};
use anyhow::{Context, Result, ensure};
use forwarder::Row;
use futures::future::{join_all, try_join_all};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a world is to be. Begin with [`World::with_regions`].
pub struct Builder {
    regions: Vec<String>,
    gateways: Vec<(String, Vec<String>)>,
    folder: Option<PathBuf>,
    brokers: Choice,
    snowflakes: Choice,
    settings: Vec<(String, toml::Value)>,
    env: Vec<(String, String)>,
    progress: Progress,
    start_gateways: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Choice {
    BestInstalled,
    Simplest,
    Absent,
}

impl Builder {
    /// A gateway that serves these regions. Without one, `gateway-1` serves all.
    #[must_use]
    pub fn gateway<'a>(mut self, name: &str, serves: impl IntoIterator<Item = &'a str>) -> Self {
        self.gateways.push((name.to_owned(), serves.into_iter().map(str::to_owned).collect()));
        self
    }

    /// Keeps everything in this folder, and leaves it there. Without it a temporary folder is used and removed.
    #[must_use]
    pub fn data_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// The in-process broker even where `nisshi` is installed.
    #[must_use]
    pub fn in_process_brokers(mut self) -> Self {
        self.brokers = Choice::Simplest;
        self
    }

    /// No brokers: events wait in the region log.
    #[must_use]
    pub fn without_brokers(mut self) -> Self {
        self.brokers = Choice::Absent;
        self
    }

    /// Folders rather than `fakesnow`, even where it is installed.
    #[must_use]
    pub fn snowflake_folders(mut self) -> Self {
        self.snowflakes = Choice::Simplest;
        self
    }

    /// No Snowflake: zero-party data waits in the region log.
    #[must_use]
    pub fn without_snowflakes(mut self) -> Self {
        self.snowflakes = Choice::Absent;
        self
    }

    /// Sets a key of every gateway's configuration, e.g. `gateway.limits.request_ms_max`.
    #[must_use]
    pub fn setting(mut self, path: &str, value: impl Into<toml::Value>) -> Self {
        self.settings.push((path.to_owned(), value.into()));
        self
    }

    /// Sets an environment variable of every gateway.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Does everything but start the gateways: [`Gateway::start_again`] does.
    #[must_use]
    pub fn gateways_not_started(mut self) -> Self {
        self.start_gateways = false;
        self
    }

    /// Who is told of the steps.
    #[must_use]
    pub fn progress(mut self, progress: Progress) -> Self {
        self.progress = progress;
        self
    }

    /// Starts everything, the independent things at once.
    ///
    /// # Errors
    /// When something is not installed or does not start; what had been started is ended.
    pub async fn start(self) -> Result<World> {
        let progress = self.progress.clone();
        let plans = self.regions.iter().map(|name| RegionPlan::named(name)).collect::<Result<Vec<_>>>()?;
        ensure!(!plans.is_empty(), "A world needs at least one region");
        let distinct: BTreeSet<&str> = plans.iter().map(|plan| plan.name).collect();
        ensure!(distinct.len() == plans.len(), "A region was named twice");
        if self.start_gateways {
            tools::domicile()?; // better said now than after all the rest
        }
        let postgres = Postgres::find()?;
        let layout = Layout::open(self.folder.as_deref())?;
        let nursery = Arc::new(Nursery::open()?);

        let template = cluster::template(&nursery, &postgres, &layout.folder("postgres", "template")?).await?;
        let founded = Founding { nursery: &nursery, postgres: &postgres, layout: &layout, template: &template };
        let directory = async {
            let cluster = founded.cluster("directory", &progress).await?;
            let work = async { found::directory(&cluster).await.map(|()| ((), "migrated".into())) };
            progress.step("The directory's schema", work).await?;
            Ok::<_, anyhow::Error>(cluster)
        };
        let (brokers, snowflakes) = (self.brokers, self.snowflakes);
        let regions = try_join_all(plans.iter().map(|plan| {
            let (founded, progress) = (&founded, &progress);
            async move {
                let (cluster, broker, snowflake) = tokio::try_join!(
                    founded.region(*plan, progress),
                    founded.broker(plan.name, brokers, progress),
                    founded.snowflake(plan.name, snowflakes, progress),
                )?;
                Ok::<_, anyhow::Error>(RegionWorld { plan: *plan, cluster, broker, snowflake })
            }
        }));
        let (directory, regions) = tokio::try_join!(directory, regions)?;
        let keys = found::keys(&layout, &directory).await.context("The API keys could not be made")?;

        let gateways = self.gateways(&nursery, &layout, &directory, &regions)?;
        let world = World { gateways, regions, directory, keys, nursery, layout };
        if self.start_gateways {
            try_join_all(world.gateways.iter().map(|gateway| {
                let work = async { gateway.start_again().await.map(|()| ((), gateway.url().to_owned())) };
                progress.step(format!("The gateway {}", gateway.name()), work)
            }))
            .await?;
        }
        try_join_all(world.regions.iter().filter_map(|region| region.snowflake.as_ref()).map(Snowflake::ready)).await?;
        Ok(world)
    }

    fn gateways(
        &self,
        nursery: &Arc<Nursery>,
        layout: &Layout,
        directory: &Cluster,
        regions: &[RegionWorld],
    ) -> Result<Vec<Gateway>> {
        let wishes = match self.gateways.as_slice() {
            [] => vec![("gateway-1".to_owned(), self.regions.clone())],
            wishes => wishes.to_vec(),
        };
        let mut plans = Vec::new();
        for (name, serves) in wishes {
            let known = serves.iter().all(|region| self.regions.contains(region));
            ensure!(known, "The gateway {name} is to serve a region that this world does not have");
            plans.push(GatewayPlan { name, serves, port: free_port()?, admin_port: free_port()? });
        }
        // A region of the policy that this world does not have is one that is served elsewhere.
        let around: Vec<_> = RegionPlan::ALL
            .into_iter()
            .map(|plan| match regions.iter().find(|region| region.plan == plan) {
                Some(region) => (plan, Some(&region.cluster), region.broker.as_ref(), region.snowflake.as_ref()),
                None => (plan, None, None, None),
            })
            .collect();
        let around = Around { directory, regions: &around, gateways: &plans, settings: &self.settings };
        for plan in &plans {
            config::write(layout, plan, &around)?;
        }
        let gateways = plans.iter().map(|plan| {
            Gateway::new(Parts {
                name: plan.name.clone(),
                serves: plan.serves.clone(),
                port: plan.port,
                admin_port: plan.admin_port,
                config: layout.config(&plan.name),
                log: layout.log(&plan.name),
                env: self.env.clone(),
                nursery: Arc::clone(nursery),
            })
        });
        gateways.collect()
    }
}

/// What every piece is started with.
struct Founding<'a> {
    nursery: &'a Arc<Nursery>,
    postgres: &'a Postgres,
    layout: &'a Layout,
    template: &'a Path,
}

impl Founding<'_> {
    async fn cluster(&self, name: &str, progress: &Progress) -> Result<Cluster> {
        let (home, log) = (self.layout.folder("postgres", name)?, self.layout.log(&format!("postgres-{name}")));
        let work = async {
            let cluster = Cluster::start(self.nursery, self.postgres, name, &home, &log, self.template).await?;
            let note = format!("PostgreSQL {}, socket {}", self.postgres.version_major(), cluster.number());
            Ok((cluster, note))
        };
        progress.step(format!("The cluster of {name}"), work).await
    }

    async fn region(&self, plan: RegionPlan, progress: &Progress) -> Result<Cluster> {
        let cluster = self.cluster(plan.name, progress).await?;
        let work = async { found::region(&cluster, plan).await.map(|()| ((), "migrated and founded".into())) };
        progress.step(format!("The schema of {}", plan.name), work).await?;
        Ok(cluster)
    }

    async fn broker(&self, name: &str, choice: Choice, progress: &Progress) -> Result<Option<Broker>> {
        let work = async {
            let broker = match choice {
                Choice::Absent => return Ok((None, "none".into())),
                Choice::Simplest => Broker::in_process(name)?,
                Choice::BestInstalled => {
                    let log = self.layout.log(&format!("broker-{name}"));
                    Broker::start(self.nursery, name, &self.layout.folder("brokers", name)?, &log).await?
                }
            };
            let note = format!("{}, {}", broker.addresses(), broker.in_words());
            Ok((Some(broker), note))
        };
        progress.step(format!("The broker of {name}"), work).await
    }

    async fn snowflake(&self, name: &str, choice: Choice, progress: &Progress) -> Result<Option<Snowflake>> {
        let folder = self.layout.folder("snowflake", name)?;
        let work = async {
            let snowflake = match choice {
                Choice::Absent => return Ok((None, "none".into())),
                Choice::Simplest => Snowflake::in_folder(name, &folder),
                Choice::BestInstalled => {
                    let log = self.layout.log(&format!("snowflake-{name}"));
                    Snowflake::start(self.nursery, name, &folder, &log).await?
                }
            };
            snowflake.ready().await?;
            let note = format!("{}, {}", snowflake.url(), snowflake.in_words());
            Ok((Some(snowflake), note))
        };
        progress.step(format!("The Snowflake of {name}"), work).await
    }
}

/// One region of a world.
pub struct RegionWorld {
    plan: RegionPlan,
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
    gateways: Vec<Gateway>,
    regions: Vec<RegionWorld>,
    directory: Cluster,
    keys: Keys,
    nursery: Arc<Nursery>,
    layout: Layout,
}

impl World {
    /// A world of these regions of the shipped policy: `eu-central`, `uk-south`, `us-east`.
    pub fn with_regions<'a>(regions: impl IntoIterator<Item = &'a str>) -> Builder {
        Builder {
            regions: regions.into_iter().map(str::to_owned).collect(),
            gateways: Vec::new(),
            folder: None,
            brokers: Choice::BestInstalled,
            snowflakes: Choice::BestInstalled,
            settings: Vec::new(),
            env: Vec::new(),
            progress: Progress::default(),
            start_gateways: true,
        }
    }

    /// Its folder: `logs`, `config`, `secrets` and the stores.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.layout.root()
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

    /// Makes one more key and gives its token.
    ///
    /// # Errors
    /// When the directory refuses.
    pub async fn create_key(&self, name: &str, scopes: &[&str], tenant: Option<&str>) -> Result<String> {
        found::create_key(&found::api_keys(&self.directory)?, name, scopes, tenant).await
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
