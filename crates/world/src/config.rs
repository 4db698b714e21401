//! What a gateway of a world is told: its configuration, its secrets, its callers' keys.

use crate::cluster::Cluster;
use crate::found::{log_key_name, log_origin};
use crate::layout::{Layout, write_private};
use crate::snowflake::{LOGIN, PASSWORD, account};
use crate::world::RegionWorld;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

/// The database of every region in its own cluster.
pub(crate) const REGION_DATABASE: &str = "domicile";
/// The database of the directory in its own cluster.
pub(crate) const DIRECTORY_DATABASE: &str = "directory";
/// The login of a gateway: a member of the least-privilege roles and nothing more.
pub(crate) const GATEWAY_LOGIN: &str = "gateway";

/// The secret that the directory's digests are made with, and its number.
pub(crate) const PEPPER: &str = "directory-pepper-1";
pub(crate) const PEPPER_KEY_ID: u16 = 1;

/// A region that the shipped policy has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegionPlan {
    /// Its name, e.g. `eu-central`.
    pub name: &'static str,
    /// Its jurisdiction, e.g. `eu`.
    pub jurisdiction: &'static str,
    /// A residence that the policy places in it, e.g. `DE`.
    pub residence: &'static str,
}

impl RegionPlan {
    /// The regions of `config/residency.toml`.
    pub const ALL: [Self; 3] = [
        Self { name: "eu-central", jurisdiction: "eu", residence: "DE" },
        Self { name: "uk-south", jurisdiction: "uk", residence: "GB" },
        Self { name: "us-east", jurisdiction: "us", residence: "US" },
    ];

    /// The one of this name.
    ///
    /// # Errors
    /// When the policy has none of this name.
    pub fn named(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|plan| plan.name == name);
        found.with_context(|| format!("The shipped policy has no region of the name {name}"))
    }
}

/// The API keys of a world, as tokens.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    /// An application service: everything about subjects, and believed about client addresses.
    pub service: String,
    /// A compliance team: decisions and the console.
    pub compliance: String,
    /// An operator: metrics, decisions, where a subject is at home.
    pub operator: String,
}

/// One of the keys that every world has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleKey {
    /// See [`Keys::service`].
    Service,
    /// See [`Keys::compliance`].
    Compliance,
    /// See [`Keys::operator`].
    Operator,
}

impl RoleKey {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Service, Self::Compliance, Self::Operator];

    /// The key's name in the audit log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Service => "demo-service",
            Self::Compliance => "demo-compliance",
            Self::Operator => "demo-operator",
        }
    }

    /// What it may do.
    #[must_use]
    pub fn scopes(self) -> &'static [&'static str] {
        match self {
            Self::Service => &[
                "classify",
                "subjects:read",
                "subjects:write",
                "subjects:erase",
                "records:read",
                "records:write",
                "events:write",
                "zero-party:read",
                "zero-party:write",
                "evidence:client-address",
                "evidence:tenant",
            ],
            Self::Compliance => &["classify", "subjects:read", "audit:read", "console:read"],
            Self::Operator => &["classify", "subjects:read", "audit:read"],
        }
    }
}

/// What one gateway is to be.
#[derive(Debug, Clone)]
pub(crate) struct GatewayPlan {
    pub(crate) name: String,
    pub(crate) serves: Vec<String>,
    pub(crate) port: u16,
    pub(crate) admin_port: u16,
}

/// What a gateway is surrounded by.
pub(crate) struct Around<'a> {
    pub(crate) directory: &'a Cluster,
    /// The regions of the policy.
    pub(crate) plans: &'a [RegionPlan],
    pub(crate) regions: &'a [RegionWorld],
    pub(crate) gateways: &'a [GatewayPlan],
    pub(crate) settings: &'a [(String, Value)],
}

/// Writes the file of one gateway and the secrets it refers to.
///
/// # Errors
/// When a file cannot be written, or a setting's path leads through something that is no table.
pub(crate) fn write(layout: &Layout, plan: &GatewayPlan, around: &Around<'_>) -> Result<()> {
    let mut root = Table::new();
    let mut set = |path: &str, value: Value| put(&mut root, path, value);
    let first = plan.serves.first().context("A gateway serves at least one region")?;
    set("gateway.instance", plan.name.as_str().into())?;
    set("gateway.region", first.as_str().into())?;
    set("gateway.listen", format!("127.0.0.1:{}", plan.port).into())?;
    set("gateway.admin_listen", format!("127.0.0.1:{}", plan.admin_port).into())?;
    set("geoip.path", "demo".into())?;
    set("telemetry.format", "json".into())?;
    set("telemetry.filter", "info".into())?;
    let dsn = around.directory.dsn(GATEWAY_LOGIN, DIRECTORY_DATABASE);
    set("directory.postgres", secret(layout, "directory-postgres", &dsn)?)?;
    set("directory.postgres_owner", {
        secret(layout, "directory-owner", &around.directory.superuser_dsn(DIRECTORY_DATABASE))?
    })?;
    let pepper = layout.secret(PEPPER);
    if !pepper.exists() {
        write_private(&pepper, hex::encode(rand::random::<[u8; 32]>()).as_bytes())?;
    }
    let mut peppers = Table::new();
    peppers.insert("key_id".into(), i64::from(PEPPER_KEY_ID).into());
    peppers.insert("secret".into(), reference(layout, PEPPER).into());
    set("directory.peppers", Value::Array(vec![Value::Table(peppers)]))?;
    // A region of the policy that this world does not have is one that is served elsewhere.
    for region in around.plans {
        let at = |key: &str| format!("regions.{}.{key}", region.name);
        let served = plan.serves.iter().any(|name| name == region.name);
        let home = around.gateways.iter().find(|gateway| gateway.serves.iter().any(|name| name == region.name));
        let home = home.map_or_else(|| "http://127.0.0.1:9".into(), |home| format!("http://127.0.0.1:{}", home.port));
        set(&at("home_url"), home.into())?;
        set(&at("served"), served.into())?;
        let stores = around.regions.iter().find(|world| world.name() == region.name);
        let (true, Some(RegionWorld { cluster, database, broker, snowflake, .. })) = (served, stores) else { continue };
        let dsn = cluster.dsn(GATEWAY_LOGIN, database);
        set(&at("postgres"), secret(layout, &format!("{}-postgres", region.name), &dsn)?)?;
        let owner = cluster.superuser_dsn(database);
        set(&at("postgres_owner"), secret(layout, &format!("{}-owner", region.name), &owner)?)?;
        set(&at("log_origin"), log_origin(region.name).into())?;
        crate::found::log_key(layout, region.name)?;
        set(&at("signer.key"), reference(layout, &log_key_name(region.name)).into())?;
        // Each process remembers for itself; whoever takes over goes on from what was published.
        let memory = layout.folder("signed", &plan.name)?.join(region.name);
        set(&at("signer.memory_file"), memory.to_string_lossy().as_ref().into())?;
        if let Some(broker) = broker {
            set(&at("redpanda.brokers"), Value::Array(vec![broker.addresses().into()]))?;
            set(&at("redpanda.security"), "plaintext".into())?;
            set(&at("redpanda.topic_partitions"), 3.into())?;
            if broker.mock().is_some() {
                // librdkafka's broker knows no request that creates a topic; it makes those that are mentioned.
                set(&at("redpanda.missing_topics"), "leave-to-brokers".into())?;
                // Nor one that asks how long a topic keeps what it holds.
                set(&at("redpanda.topics_forget_hours_max"), 0.into())?;
            }
            set(&at("redpanda.topic_replicas"), 1.into())?;
        }
        match snowflake.as_ref().map(|snowflake| (snowflake, snowflake.folder())) {
            Some((_, Some(folder))) => set(&at("snowflake.folder"), folder.to_string_lossy().as_ref().into())?,
            Some((snowflake, None)) => {
                set(&at("snowflake.account"), account(region.name).into())?;
                set(&at("snowflake.base_url"), snowflake.url().into())?;
                set(&at("snowflake.user"), LOGIN.into())?;
                set(&at("snowflake.password"), secret(layout, &format!("{}-snowflake", region.name), PASSWORD)?)?;
                set(&at("snowflake.warehouse"), LOGIN.into())?;
                set(&at("snowflake.database"), LOGIN.into())?;
            }
            None => {}
        }
    }
    for (path, value) in around.settings {
        set(path, value.clone())?;
    }
    write_private(&layout.config(&plan.name), toml::to_string_pretty(&root)?.as_bytes())
}

/// Writes a secret and gives the reference to it.
fn secret(layout: &Layout, name: &str, content: &str) -> Result<Value> {
    write_private(&layout.secret(name), content.as_bytes())?;
    Ok(reference(layout, name).into())
}

fn reference(layout: &Layout, name: &str) -> String {
    format!("file:{}", layout.secret(name).display())
}

/// Sets `a.b.c` in a table of tables.
fn put(root: &mut Table, path: &str, value: Value) -> Result<()> {
    match path.split_once('.') {
        None => {
            root.insert(path.to_owned(), value);
            Ok(())
        }
        Some((head, rest)) => {
            let inner = root.entry(head).or_insert_with(|| Value::Table(Table::new()));
            let Value::Table(inner) = inner else { bail!("The setting {head} is no table") };
            put(inner, rest, value)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_put_into_the_table_its_path_names() {
        let mut root = Table::new();
        put(&mut root, "gateway.limits.request_ms_max", 500.into()).expect("new tables");
        put(&mut root, "gateway.instance", "one".into()).expect("an old table");
        assert_eq!(root["gateway"]["limits"]["request_ms_max"].as_integer(), Some(500));
        assert!(put(&mut root, "gateway.instance.deeper", 1.into()).is_err());
    }

    #[test]
    fn the_regions_are_those_of_the_shipped_policy() {
        let policy: Table = toml::from_str(include_str!("../../../config/residency.toml")).expect("the policy is TOML");
        let regions = policy["regions"].as_table().expect("it has regions");
        assert_eq!(regions.len(), RegionPlan::ALL.len());
        for plan in RegionPlan::ALL {
            let jurisdiction = regions.get(plan.name).and_then(|region| region.get("jurisdiction"));
            assert_eq!(jurisdiction.and_then(Value::as_str), Some(plan.jurisdiction), "{}", plan.name);
        }
    }
}
