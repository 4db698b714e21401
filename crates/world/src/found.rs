//! Founding: databases, schemas, logins and keys, with the product's own hands.

use crate::cluster::Cluster;
use crate::config::{DIRECTORY_DATABASE, GATEWAY_LOGIN, Keys, REGION_DATABASE, RegionPlan, RoleKey};
use crate::layout::{Layout, write_private};
use anyhow::{Context, Result};
use residency::{Jurisdiction, Region, Tenant};
use secrecy::ExposeSecret;
use storage::admin::{self, LoginName, Membership};
use storage::{ApiKeys, Directory, DirectorySettings, Limits, Pepper, Peppers};
use tlog::{KeyKind, SigningKey};

/// Creates the directory's database, unless it is there, and brings it up to date.
///
/// # Errors
/// When PostgreSQL refuses.
pub(crate) async fn directory(cluster: &Cluster) -> Result<()> {
    admin::create_database_if_absent(&cluster.superuser_dsn("postgres").into(), DIRECTORY_DATABASE).await?;
    let owner = cluster.superuser_dsn(DIRECTORY_DATABASE).into();
    admin::migrate_directory(&owner, &|_| {}).await?;
    admin::create_login_role(&owner, &login()?, None, &[Membership::Directory]).await?;
    Ok(())
}

/// Creates a region's database, unless it is there, brings it up to date and founds the region in it.
///
/// # Errors
/// When PostgreSQL refuses, or the database is another region's.
pub(crate) async fn region(cluster: &Cluster, plan: RegionPlan) -> Result<()> {
    admin::create_database_if_absent(&cluster.superuser_dsn("postgres").into(), REGION_DATABASE).await?;
    let owner = cluster.superuser_dsn(REGION_DATABASE).into();
    let (region, jurisdiction) = (Region::new(plan.name)?, Jurisdiction::new(plan.jurisdiction)?);
    admin::migrate_region(&owner, &region, &jurisdiction, &log_origin(plan.name), &|_| {}).await?;
    admin::create_login_role(&owner, &login()?, None, &[Membership::Gateway]).await?;
    Ok(())
}

/// The name of a region's audit log.
pub(crate) fn log_origin(region: &str) -> String {
    format!("{region}.log.world.test")
}

/// The secret that holds the private key of a region's log.
pub(crate) fn log_key_name(region: &str) -> String {
    format!("{region}-log-key")
}

/// The key that a region's log is signed with: that of an earlier start, or a new one.
///
/// # Errors
/// When its file cannot be written or is damaged.
pub(crate) fn log_key(layout: &Layout, region: &str) -> Result<SigningKey> {
    let kept = layout.secret(&log_key_name(region));
    if let Ok(text) = std::fs::read_to_string(&kept) {
        return text.parse().with_context(|| format!("{} is damaged", kept.display()));
    }
    let key = SigningKey::new(&log_origin(region), KeyKind::Log, &rand::random())?;
    write_private(&kept, key.to_secret_text().as_bytes())?;
    Ok(key)
}

/// The keys every world has: those of an earlier start when the folder has them, new ones otherwise.
///
/// # Errors
/// When the directory cannot be written to.
pub(crate) async fn keys(layout: &Layout, directory: &Cluster) -> Result<Keys> {
    let kept = layout.secret("keys.json");
    if let Ok(text) = std::fs::read(&kept) {
        return serde_json::from_slice(&text).with_context(|| format!("{} is damaged", kept.display()));
    }
    let api_keys = api_keys(directory)?;
    // A start that was interrupted may have left keys whose tokens nobody knows.
    for left in api_keys.list().await? {
        if left.revoked_at_us.is_none() && RoleKey::ALL.iter().any(|role| role.name() == left.name) {
            api_keys.revoke(&left.id).await?;
        }
    }
    let of = async |role: RoleKey| create_key(&api_keys, role.name(), role.scopes(), None).await;
    let keys = Keys {
        service: of(RoleKey::Service).await?,
        compliance: of(RoleKey::Compliance).await?,
        operator: of(RoleKey::Operator).await?,
    };
    write_private(&kept, &serde_json::to_vec_pretty(&keys)?)?;
    Ok(keys)
}

/// The directory's keys, with the right to make them.
pub(crate) fn api_keys(directory: &Cluster) -> Result<ApiKeys> {
    // No pin is looked up through this handle, so any pepper will do.
    let pepper = Pepper::new(1, &rand::random::<[u8; 32]>()).map_err(anyhow::Error::msg)?;
    let settings = DirectorySettings {
        dsn: directory.superuser_dsn(DIRECTORY_DATABASE).into(),
        peppers: Peppers::new(pepper, Vec::new()),
        cache_pins_max: 0,
        limits: Limits::default(),
    };
    Ok(Directory::open(settings).keys())
}

/// Makes a key and gives its token.
pub(crate) async fn create_key(keys: &ApiKeys, name: &str, scopes: &[&str], tenant: Option<&str>) -> Result<String> {
    let tenant = tenant.map(Tenant::new).transpose()?;
    Ok(keys.create(name, scopes, tenant.as_ref()).await?.token.expose_secret().to_owned())
}

fn login() -> Result<LoginName> {
    LoginName::new(GATEWAY_LOGIN).context("The gateway's login has a wrong name")
}
