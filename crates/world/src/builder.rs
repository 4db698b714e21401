//! What a world is to be, and how it is started: everything that can be at once.

use crate::broker::{Broker, Storage};
use crate::cluster::{self, Cluster};
use crate::config::{self, Around, GatewayPlan, REGION_DATABASE, RegionPlan};
use crate::found;
use crate::gateway::{Gateway, Parts};
use crate::layout::Layout;
use crate::nursery::Nursery;
use crate::ports::free_port;
use crate::progress::Progress;
use crate::snowflake::Snowflake;
use crate::tools::{self, Postgres};
use crate::world::{RegionWorld, World};
use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a world is to be. Begin with [`World::with_regions`].
pub struct Builder {
    regions: Vec<String>,
    plans: Vec<RegionPlan>,
    one_cluster: bool,
    gateways: Vec<(String, Vec<String>)>,
    roles: BTreeMap<String, String>,
    folder: Option<PathBuf>,
    brokers: Choice,
    snowflakes: Choice,
    settings: Vec<(String, toml::Value)>,
    gateway_settings: Vec<(String, String, toml::Value)>,
    postgres_settings: Vec<(String, String)>,
    env: Vec<(String, String)>,
    progress: Progress,
    start_gateways: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Choice {
    BestInstalled,
    Simplest,
    InMemory,
    Absent,
}

impl Builder {
    pub(crate) fn new(regions: Vec<String>) -> Self {
        Self {
            regions,
            plans: RegionPlan::ALL.to_vec(),
            one_cluster: false,
            gateways: Vec::new(),
            roles: BTreeMap::new(),
            folder: None,
            brokers: Choice::BestInstalled,
            snowflakes: Choice::BestInstalled,
            settings: Vec::new(),
            gateway_settings: Vec::new(),
            postgres_settings: Vec::new(),
            env: Vec::new(),
            progress: Progress::default(),
            start_gateways: true,
        }
    }

    /// A gateway that serves these regions. Without one, `gateway-1` serves all.
    #[must_use]
    pub fn gateway<'a>(mut self, name: &str, serves: impl IntoIterator<Item = &'a str>) -> Self {
        self.gateways.push((name.to_owned(), serves.into_iter().map(str::to_owned).collect()));
        self
    }

    /// The gateway of this name does only this, e.g. `relay` or `gateway,forwarder`. Without it, a gateway does
    /// everything.
    #[must_use]
    pub fn role(mut self, name: &str, roles: &str) -> Self {
        self.roles.insert(name.to_owned(), roles.to_owned());
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

    /// Brokers that keep messages in memory: for measuring what stands before them.
    #[must_use]
    pub fn brokers_in_memory(mut self) -> Self {
        self.brokers = Choice::InMemory;
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

    /// Sets a key of one gateway's configuration, over what [`Builder::setting`] says.
    #[must_use]
    pub fn gateway_setting(mut self, gateway: &str, path: &str, value: impl Into<toml::Value>) -> Self {
        self.gateway_settings.push((gateway.to_owned(), path.to_owned(), value.into()));
        self
    }

    /// Sets a parameter of every PostgreSQL server, e.g. `max_connections`.
    #[must_use]
    pub fn postgres_setting(mut self, name: &str, value: &str) -> Self {
        self.postgres_settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The regions of another policy than the shipped one, which the setting `policy.file` names. All of them are in
    /// this world.
    #[must_use]
    pub fn policy_regions(mut self, plans: impl IntoIterator<Item = RegionPlan>) -> Self {
        self.plans = plans.into_iter().collect();
        self.regions = self.plans.iter().map(|plan| plan.name.to_owned()).collect();
        self
    }

    /// All regions as databases of one cluster, to have many of them: nothing that a real region may be.
    #[must_use]
    pub fn one_cluster(mut self) -> Self {
        self.one_cluster = true;
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
        let named = |name: &String| {
            let found = self.plans.iter().find(|plan| plan.name == name);
            found.copied().with_context(|| format!("The policy has no region of the name {name}"))
        };
        let plans = self.regions.iter().map(named).collect::<Result<Vec<_>>>()?;
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
        let settings = &self.postgres_settings;
        let founded =
            Founding { nursery: &nursery, postgres: &postgres, layout: &layout, template: &template, settings };
        let directory = async {
            let cluster = founded.cluster("directory", &progress).await?;
            let work = async { found::directory(&cluster).await.map(|()| ((), "migrated".into())) };
            progress.step("The directory's schema", work).await?;
            Ok::<_, anyhow::Error>(cluster)
        };
        let (brokers, snowflakes) = (self.brokers, self.snowflakes);
        let shared = match self.one_cluster {
            true => Some(Arc::new(founded.cluster("regions", &progress).await?)),
            false => None,
        };
        let regions = try_join_all(plans.iter().map(|plan| {
            let (founded, progress, shared) = (&founded, &progress, shared.clone());
            async move {
                let ((cluster, database), broker, snowflake) = tokio::try_join!(
                    founded.region(*plan, shared, progress),
                    founded.broker(plan.name, brokers, progress),
                    founded.snowflake(plan.name, snowflakes),
                )?;
                Ok::<_, anyhow::Error>(RegionWorld { plan: *plan, database, cluster, broker, snowflake })
            }
        }));
        let (directory, regions) = tokio::try_join!(directory, regions)?;
        let keys = found::keys(&layout, &directory).await.context("The API keys could not be made")?;

        let gateways = self.gateways(&nursery, &layout, &directory, &regions)?;
        let world = World { gateways, regions, directory, keys, nursery, layout };
        let snowflakes = world.regions.iter().filter_map(|region| region.snowflake.as_ref()).map(|snowflake| {
            let note = format!("{}, {}", snowflake.url(), snowflake.in_words());
            let work = async { snowflake.ready().await.map(|()| ((), note)) };
            progress.step(format!("The Snowflake of {}", snowflake.region()), work)
        });
        let gateways = world.gateways.iter().filter(|_| self.start_gateways).map(|gateway| {
            let work = async { gateway.start_again().await.map(|()| ((), gateway.url().to_owned())) };
            progress.step(format!("The gateway {}", gateway.name()), work)
        });
        tokio::try_join!(try_join_all(gateways), try_join_all(snowflakes))?;
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
        for plan in &plans {
            let own = self.gateway_settings.iter().filter(|(gateway, _, _)| *gateway == plan.name);
            let own = own.map(|(_, path, value)| (path.clone(), value.clone()));
            let settings: Vec<_> = self.settings.iter().cloned().chain(own).collect();
            let around = Around { directory, plans: &self.plans, regions, gateways: &plans, settings: &settings };
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
                roles: self.roles.get(&plan.name).cloned(),
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
    settings: &'a [(String, String)],
}

impl Founding<'_> {
    async fn cluster(&self, name: &str, progress: &Progress) -> Result<Cluster> {
        let (home, log) = (self.layout.folder("postgres", name)?, self.layout.log(&format!("postgres-{name}")));
        let work = async {
            let (nursery, postgres) = (self.nursery, self.postgres);
            let cluster = Cluster::start(nursery, postgres, name, &home, &log, self.template, self.settings).await?;
            let note = format!("PostgreSQL {}, socket {}", self.postgres.version_major(), cluster.number());
            Ok((cluster, note))
        };
        progress.step(format!("The cluster of {name}"), work).await
    }

    /// Its cluster, its own or the shared one, and its database there.
    async fn region(
        &self,
        plan: RegionPlan,
        shared: Option<Arc<Cluster>>,
        progress: &Progress,
    ) -> Result<(Arc<Cluster>, String)> {
        let (cluster, database) = match shared {
            Some(cluster) => (cluster, plan.name.to_owned()),
            None => (Arc::new(self.cluster(plan.name, progress).await?), REGION_DATABASE.to_owned()),
        };
        let work =
            async { found::region(&cluster, &database, plan).await.map(|()| ((), "migrated and founded".into())) };
        progress.step(format!("The schema of {}", plan.name), work).await?;
        Ok((cluster, database))
    }

    async fn broker(&self, name: &str, choice: Choice, progress: &Progress) -> Result<Option<Broker>> {
        let work = async {
            let broker = match choice {
                Choice::Absent => return Ok((None, "none".into())),
                Choice::Simplest => Broker::in_process(name)?,
                Choice::BestInstalled | Choice::InMemory => {
                    let (log, folder) =
                        (self.layout.log(&format!("broker-{name}")), self.layout.folder("brokers", name)?);
                    let storage = if choice == Choice::InMemory { Storage::Memory } else { Storage::File };
                    Broker::start(self.nursery, name, &folder, &log, storage).await?
                }
            };
            let note = format!("{}, {}", broker.addresses(), broker.in_words());
            Ok((Some(broker), note))
        };
        progress.step(format!("The broker of {name}"), work).await
    }

    /// Launches it without waiting: it takes longest, and whoever forwards to it tries again until it is there.
    async fn snowflake(&self, name: &str, choice: Choice) -> Result<Option<Snowflake>> {
        let folder = self.layout.folder("snowflake", name)?;
        match choice {
            Choice::Absent => Ok(None),
            Choice::Simplest => Ok(Some(Snowflake::in_folder(name, &folder))),
            Choice::BestInstalled | Choice::InMemory => {
                let log = self.layout.log(&format!("snowflake-{name}"));
                Snowflake::start(self.nursery, name, &folder, &log).await.map(Some)
            }
        }
    }
}
