//! `domicile demo`: the product on this machine, with nothing to configure: a throw-away world, a tour that shows where
//! people's data goes and proves that it is nowhere else, and then the world to play with.

mod people;
mod table;
mod terminal;
mod tour;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use world::World;

use crate::print;

const REGIONS: [&str; 3] = ["eu-central", "uk-south", "us-east"];

/// See it work on this machine: throw-away databases, brokers and a gateway, then a tour
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// Stop after the tour; exit 0 only if everything held
    #[arg(long)]
    pub once: bool,
    /// Keep everything in this folder, and go on with what is in it next time
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Print what the tour saw as JSON
    #[arg(long)]
    pub json: bool,
}

const HELP: &str = "\
Starts one PostgreSQL cluster per region and one for the directory, a Kafka-protocol broker and a Snowflake stand-in
per region, and a gateway: on this machine only, on loopback and unix sockets. People from several countries, seen from
real addresses, are classified, write, publish and declare; a table shows where each trace of them is, and every
database, topic, Snowflake row, log file and metric is searched for it elsewhere.

Needs PostgreSQL 15 or newer (PG_BIN names its programs' folder). Uses nisshi and fakesnow where they are installed
(`cargo xtask tools`), simpler stand-ins otherwise, and says which. <DIR>/demo.json holds every URL, DSN and key.

Examples:
  domicile demo                                 the tour, then play with it until Ctrl-C
  domicile demo --once                          the tour only
  domicile demo --data-dir /tmp/domicile        keep logs, configuration and databases";

/// Runs the demonstration to its end.
///
/// # Errors
/// When something is missing on this machine or does not start; the sentence says what to do.
pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let mut end = End::listen()?;
    let began = Instant::now();
    let end_of_it = match &args.data_dir {
        Some(folder) => format!("Everything is kept in {}.", folder.display()),
        None => "Everything is thrown away at the end.".to_owned(),
    };
    print::note(format!("Starting a world of three regions on this machine. {end_of_it}"));
    let mut builder = World::with_regions(REGIONS).progress(terminal::progress());
    if let Some(folder) = &args.data_dir {
        builder = builder.data_dir(folder);
    }
    let world = tokio::select! {
        world = builder.start() => world?,
        () = end.wanted() => return Ok(stopped()),
    };
    print::note(format!("Ready after {:.1} s: {}", began.elapsed().as_secs_f64(), in_words(&world)));
    world.write_description().await?;

    print::note("The tour: people come by, and what they leave is looked for everywhere.");
    let seen = tokio::select! {
        seen = tour::take(&world) => seen,
        () = end.wanted() => {
            world.shutdown().await;
            return Ok(stopped());
        }
    };
    let seen = match seen {
        Ok(seen) => seen,
        Err(error) => {
            world.shutdown().await;
            return Err(error.context("The tour could not be finished"));
        }
    };
    if args.json {
        print::json(&table::json(&seen))?;
    } else {
        print::line(table::visits(&seen));
        print::line(table::proof(&seen));
    }
    let description = world.write_description().await?;
    if !args.once {
        print::line(invitation(&world, &description));
        end.wanted().await;
        print::note("Stopping.");
    }
    let folder = world.root().to_owned();
    let kept = !world.is_temporary();
    world.shutdown().await;
    if kept {
        print::note(format!("Nothing is running any more; {} is kept.", folder.display()));
    } else {
        print::note("Nothing is running any more, and nothing is left on disk.");
    }
    Ok(if seen.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The signals that end the demonstration: Ctrl-C, a service manager's, the closing of the terminal.
struct End([Signal; 3]);

impl End {
    fn listen() -> Result<Self> {
        let on = |kind| signal(kind).context("Signals cannot be listened to");
        Ok(Self([on(SignalKind::interrupt())?, on(SignalKind::terminate())?, on(SignalKind::hangup())?]))
    }

    async fn wanted(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

fn stopped() -> ExitCode {
    print::note("Stopped before the tour was over; nothing is running any more.");
    // As shells have it: 128 and the number of SIGINT.
    ExitCode::from(130)
}

/// Which stand-ins are at work.
fn in_words(world: &World) -> String {
    let first = &world.regions()[0];
    let broker = first.broker.as_ref().map_or("no broker", |broker| broker.in_words());
    let snowflake = first.snowflake.as_ref().map_or("no Snowflake", |snowflake| snowflake.in_words());
    format!("per region one PostgreSQL cluster; {broker}; {snowflake}.")
}

/// What one can do now.
fn invitation(world: &World, description: &std::path::Path) -> String {
    let gateway = &world.gateways()[0];
    let (url, keys) = (gateway.url(), world.keys());
    let auth = format!("-H 'Authorization: Bearer {}'", keys.service);
    format!(
        "
It keeps running until Ctrl-C.

  API       {url}/v1
  Docs      {url}/docs, {url}/openapi.json (with a key, as below)
  Console   {url}/console (log in with the compliance key)
  Admin     {admin}/metrics, /healthz, /readyz
  Keys      service     {service}
            compliance  {compliance}
            operator    {operator}
  Logs      {logs}
  All this  {description}

Paste one of these:

  curl -s {url}/v1/classify {auth} -H 'Content-Type: application/json' \\
    -d '{{\"subject\": \"me\", \"client_address\": \"102.35.0.1\"}}'
  curl -si -X PUT {url}/v1/subjects/me/records/profile/contact {auth} -H 'Domicile-Residence: FR' \\
    -H 'Content-Type: application/json' -d '{{\"city\": \"Lyon\"}}'
  curl -si {url}/v1/subjects/me/records/profile/contact {auth}
  curl -si -X PUT {url}/v1/subjects/you/records/profile/contact {auth} -H 'Domicile-Residence: CN' \\
    -H 'Content-Type: application/json' -d '{{\"city\": \"Beijing\"}}'
  curl -s '{url}/v1/audit/decisions?limit=5' -H 'Authorization: Bearer {compliance}'
  curl -s {url}/docs {auth} > docs.html
  psql \"{dsn}\" -c 'SELECT region, subject, key, version FROM domicile.records'
",
        admin = gateway.admin_url(),
        service = keys.service,
        compliance = keys.compliance,
        operator = keys.operator,
        logs = world.root().join("logs").display(),
        description = description.display(),
        dsn = world.regions()[0].superuser_dsn(),
    )
}
