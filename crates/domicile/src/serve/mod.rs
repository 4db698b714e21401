//! `domicile serve`: wires the rooms, runs the roles, shuts down in order.
//!
//! The order of a shutdown is the order of promises: first nobody new is let in and whoever is inside
//! gets an answer, then relays and forwarders store their cursors and give their leases back, then the stores, on
//! which all of these stand, finish what was accepted, and last the telemetry of all that is sent.

mod admin;
mod face;
mod heart;
mod panics;
mod policy;
mod signals;
mod tasks;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use geoip::GeoIp;
use routing::{Parts, Routing, SystemClock};
use storage::{Directory, RegionStore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::policy::Policies;
pub(crate) use self::signals::stop_token;

use crate::cli::{self, Role};
use crate::commands::{FAILED, Failure, load};
use crate::config::{Config, Database};
use crate::rooms;
use crate::telemetry::{self, Telemetry};

/// How long relays and forwarders may take to store their cursors.
const CARRIERS_STOP_MAX: Duration = Duration::from_secs(15);
/// How long the last telemetry may take to be sent.
const FLUSH_MAX: Duration = Duration::from_secs(6);

/// Runs until it is told to end.
pub(crate) async fn run(args: &cli::Serve) -> Result<ExitCode, Failure> {
    small_pages();
    let config = Arc::new(load(&args.config)?);
    let telemetry = telemetry::start(&config)?;
    panics::tell_only_where();
    for warning in config.warnings.warnings() {
        warn!(key = %warning.key, at = %warning.at, fix = %warning.fix, "{}", warning.message);
    }
    let outcome = serve(&config, args, &telemetry).await;
    if let Err(error) = &outcome {
        error!("The process ends: {error:#}");
    }
    let flushed = tokio::task::spawn_blocking(move || telemetry.flush());
    if timeout(FLUSH_MAX, flushed).await.is_err() {
        crate::print::note("The last telemetry could not be sent in time.");
    }
    Ok(if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// Asks the system for memory in small pages. The allocator would take huge ones of 2 MiB each, and a gateway that holds
/// some 30 MiB fills them sparsely: it took a quarter more memory and was no faster (measured).
fn small_pages() {
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true); // where it cannot be, it is as it was before
}

async fn serve(config: &Arc<Config>, args: &cli::Serve, telemetry: &Telemetry) -> anyhow::Result<()> {
    let does = |role: Role| args.roles.contains(&Role::All) || args.roles.contains(&role);
    let gateway = rooms::gateway_id(config)?;
    let stop = signals::stop_token()?;
    // In every role, so that none is ended by one.
    let hangups = signals::hangups()?;
    // Behind a gateway, whose callers are answered first, the others stop when it has. By themselves they stop at once: nobody who
    // asks for metrics holds them up.
    let carriers_stop = if does(Role::Gateway) { CancellationToken::new() } else { stop.child_token() };

    let stores = config
        .served
        .keys()
        .map(|region| Ok(RegionStore::open(rooms::region(config, region, &gateway)?)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    relay::describe_metrics();
    forwarder::describe_metrics();
    // In every role, and from the beginning: an alert sees only what it saw lower before.
    metrics::counter!("domicile_panics_total").increment(0);
    let mut tasks = tasks::Tasks::new(carriers_stop.clone());
    tasks.upkeep(telemetry.metrics.clone());
    tasks.proofs(config);
    if does(Role::Relay) {
        tasks.relays(config, &stores);
    }
    if does(Role::Forwarder) {
        tasks.forwarders(config, &stores)?;
    }
    if does(Role::Signer) {
        tasks.signers(config, &stores, &gateway);
        tasks.scrubbers(config, &stores, &gateway);
        tasks.registrars(&stores, &gateway);
    }
    if does(Role::Signer) || does(Role::Gateway) {
        tasks.reconcilers(&stores);
    }
    if does(Role::Gateway) {
        let geoip = load_geoip(config).await?;
        let policies = Arc::new(Policies::new(config, stores.iter().map(RegionStore::region)));
        let routing = Routing::new(Parts {
            policy: Arc::clone(policies.current()),
            geoip: geoip.clone(),
            directory: Directory::open(rooms::directory(config)?),
            regions: stores.clone(),
            homes: config.home_urls.clone(),
            own_region: config.gateway.region.clone(),
            details: config.gateway.audit_details.clone(),
            clock: Arc::new(SystemClock),
        })?;
        tasks.geoip(config, geoip);
        tasks.hearts(config, policies.current(), &stores);
        tasks.tellers(config, &stores, &gateway);
        tasks.erasures(&routing, &stores);
        tasks.keepers(&policies, &stores);
        tasks.policy(args.config.path.clone(), policies, hangups);
        let face = face::bind(config, routing, telemetry.metrics.clone()).await?;
        announce(config, args, &gateway);
        face.serve(stop.cancelled_owned()).await;
        tasks.hush();
        heart::stop(&stores).await;
    } else {
        announce(config, args, &gateway);
        admin::run(config.gateway.admin_listen, telemetry.metrics.clone(), &stores, stop).await?;
    }

    info!("Nobody new is let in; what was accepted is being finished");
    carriers_stop.cancel();
    if timeout(CARRIERS_STOP_MAX, tasks.join()).await.is_err() {
        warn!("Relays or forwarders did not end in time; what they had not acknowledged is carried again");
    }
    for store in &stores {
        store.shutdown().await;
    }
    info!("The process ends");
    Ok(())
}

/// Reads the country database in a thread of its own: unpacking takes a second and some memory, which
/// the allocator gives back when the thread ends.
async fn load_geoip(config: &Arc<Config>) -> anyhow::Result<GeoIp> {
    let config = Arc::clone(config);
    let (done, loaded) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("geoip".into())
        .spawn(move || drop(done.send(rooms::geoip(&config))))
        .context("no thread for the GeoIP database could be started")?;
    loaded.await.context("reading the GeoIP database panicked")?
}

/// One calm line about what runs.
fn announce(config: &Config, args: &cli::Serve, gateway: &leaf::GatewayId) {
    let list = |names: Vec<String>| names.join(",");
    let regions = list(config.served.keys().map(ToString::to_string).collect());
    let roles = list(args.roles.iter().map(|role| format!("{role:?}").to_lowercase()).collect());
    let geoip = match config.geoip.as_ref().map(|geoip| &geoip.database) {
        None => "none",
        Some(Database::Demo) => "demo, not for production",
        Some(Database::File(_)) => "file",
    };
    info!(
        %gateway,
        roles,
        regions,
        listen = %config.gateway.listen,
        admin = %config.gateway.admin_listen,
        policy = config.policy.version(),
        policy_sha256 = config.policy.hash_hex(),
        geoip,
        "domicile {} serves {regions} under policy {}",
        env!("CARGO_PKG_VERSION"),
        config.policy.version(),
    );
}
