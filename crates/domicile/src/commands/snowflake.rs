//! `domicile snowflake setup`: what the forwarder needs in a region's account, said first and then done.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use forwarder::{Credentials, SnowflakeSink, Step};
use secrecy::SecretString;
use serde_json::json;

use super::{FAILED, Failure, load, which};
use crate::config::{Config, Destination};
use crate::{cli, print, rooms};

/// Prints the statements with their reasons, or runs them.
pub(crate) async fn run(command: &cli::Snowflake) -> Result<ExitCode, Failure> {
    let cli::Snowflake::Setup(args) = command;
    let config = load(&args.config)?;
    Ok(setup(args, &config).await?)
}

async fn setup(args: &cli::SnowflakeSetup, config: &Config) -> anyhow::Result<ExitCode> {
    let region = which(config, args.region.as_deref())?;
    let snowflake = config.served.get(&region).and_then(|served| served.snowflake.as_ref());
    let account = match snowflake.map(|snowflake| &snowflake.destination) {
        Some(Destination::Account(account)) => account,
        Some(_) => bail!("{region} forwards to files: there is nothing to set up"),
        None => bail!("{region} has no Snowflake in the configuration"),
    };
    let service = rooms::snowflake_settings(account);
    // The grants are for the forwarder, whoever makes them.
    let steps = SnowflakeSink::new(&service, region.clone())?.setup_steps()?;
    if args.dry_run {
        say(args.json, &steps, None)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut settings = service;
    if let Some(user) = &args.admin_user {
        settings.user.clone_from(user);
        settings.credentials = credentials(args)?;
        settings.role = None;
    }
    if args.admin_role.is_some() {
        settings.role.clone_from(&args.admin_role);
    }
    // Before the schema exists, a session cannot begin in it.
    settings.create = true;
    let admin = SnowflakeSink::new(&settings, region.clone())?;
    admin.check_location().await.with_context(|| format!("nothing was done in the Snowflake of {region}"))?;
    for (done, step) in steps.iter().enumerate() {
        if let Err(error) = admin.run_step(step).await {
            say(args.json, &steps, Some(done))?;
            print::note(format!("Ended at: {}\n  {error}", step.sql));
            return Ok(ExitCode::from(FAILED));
        }
    }
    say(args.json, &steps, Some(steps.len()))?;
    Ok(ExitCode::SUCCESS)
}

fn credentials(args: &cli::SnowflakeSetup) -> anyhow::Result<Credentials> {
    if let Some(path) = &args.admin_key {
        let key = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
        return Ok(Credentials::KeyPair(SecretString::from(key)));
    }
    let variable = args.admin_password.as_deref().context("the admin user has nothing to prove itself with")?;
    let password = std::env::var(variable).with_context(|| format!("the variable {variable} is not set"))?;
    Ok(Credentials::Password(SecretString::from(password)))
}

/// The statements; `done` says how many were run, if any were to be.
fn say(json: bool, steps: &[Step], done: Option<usize>) -> anyhow::Result<()> {
    if json {
        let told = steps.iter().enumerate().map(
            |(index, step)| json!({"why": step.why, "sql": step.sql, "done": done.is_some_and(|done| index < done)}),
        );
        return print::json(&told.collect::<Vec<_>>());
    }
    // SQL that can be run as it is: the reasons are comments.
    for (index, step) in steps.iter().enumerate() {
        let mark = match done {
            Some(done) if index < done => "done: ",
            Some(_) => "not done: ",
            None => "",
        };
        print::line(format!("-- {mark}{}\n{};\n", step.why, step.sql));
    }
    Ok(())
}
