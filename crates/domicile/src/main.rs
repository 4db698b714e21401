//! The domicile binary: reads the configuration, wires the rooms, runs a role or a command, shuts down.

mod cli;
mod commands;
mod config;
mod demo;
mod print;
mod rooms;
mod serve;
mod telemetry;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command};
use crate::commands::Failure;

/// Fewer and smaller pages than the system's allocator under many threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before anything makes a TLS connection: rustls panics when it has to choose by itself.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        print::note("The TLS provider was installed before; it stays.");
    }
    let cli = Cli::parse();
    if !matches!(cli.command, Command::Serve(_)) {
        telemetry::start_for_commands();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            print::note(format!("error: no threads could be started: {error}"));
            return ExitCode::from(commands::FAILED);
        }
    };
    let outcome = runtime.block_on(run(cli.command));
    runtime.shutdown_background(); // whatever still blocks there has had its chance
    outcome.unwrap_or_else(|failure| failure.report())
}

async fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Serve(args) => Box::pin(serve::run(&args)).await,
        Command::Init(args) => commands::init::run(&args),
        Command::Migrate(args) => commands::migrate::run(&args).await,
        Command::Audit(command) => Box::pin(commands::audit::run(command)).await,
        Command::Witness(args) => commands::witness::run(&args).await,
        Command::Keys(command) => commands::keys::run(&command).await,
        Command::Config(command) => commands::config::run(&command),
        Command::Policy(command) => commands::policy::run(&command),
        Command::Snowflake(command) => commands::snowflake::run(&command).await,
        Command::Relay(command) => commands::streams::run(commands::streams::Kind::Relay, &command).await,
        Command::Forwarder(command) => commands::streams::run(commands::streams::Kind::Forwarder, &command).await,
        Command::Demo(args) => Ok(Box::pin(demo::run(args)).await?),
        Command::Health(args) => commands::health::run(&args).await,
        Command::Smoke(args) => commands::smoke::run(&args).await,
        Command::Ops(command) => Box::pin(commands::ops::run(command)).await,
        Command::Version(args) => commands::version::run(&args),
    }
}
