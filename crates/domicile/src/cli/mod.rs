//! The command line. Its help teaches: what each command is for, an example of each, what the exit
//! codes mean.

mod audit;
mod backup;
mod config;
mod drill;
mod init;
mod keys;
mod ops;
mod policy;
mod registers;
mod serve;
mod streams;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use self::audit::*;
pub(crate) use self::backup::*;
pub(crate) use self::config::*;
pub(crate) use self::drill::*;
pub(crate) use self::init::*;
pub(crate) use self::keys::*;
pub(crate) use self::ops::*;
pub(crate) use self::policy::*;
pub(crate) use self::registers::*;
pub(crate) use self::serve::*;
pub(crate) use self::streams::*;
use crate::config::DEFAULT_PATH;

/// Keeps people's data in the region where it is at home, and proves it.
#[derive(Debug, Parser)]
#[command(name = "domicile", version, max_term_width = 110, arg_required_else_help = true, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Begin here:
  domicile demo                                 see it work, on throw-away databases
  domicile config check                         every mistake of config/domicile.toml at once
  domicile migrate                              bring the databases up to date
  domicile keys create billing --scopes records:read,records:write
  domicile serve                                run gateway, relays, forwarders and signers
  domicile audit verify pack.zip --key …        hold a log, or a part of one, against its public key

Exit codes:
  0  done, or nothing wrong
  1  a check found something wrong, or the deed failed
  2  the command line or the configuration is wrong; nothing was tried";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// See it work on this machine: throw-away databases, brokers and a gateway, then a tour
    Demo(crate::demo::Args),
    /// Run the gateway, the relays and the forwarders of the regions served here
    #[command(after_help = serve::SERVE_HELP)]
    Serve(Serve),
    /// Found a Compose cell in this folder: .env and secrets; what is there stays
    #[command(after_help = init::INIT_HELP)]
    Init(Init),
    /// Bring the databases up to date: the directory's and each served region's
    #[command(after_help = serve::MIGRATE_HELP)]
    Migrate(Migrate),
    /// The region logs as proof: keys, verification, receipts
    #[command(subcommand, after_help = audit::AUDIT_HELP)]
    Audit(Audit),
    /// Run a witness: remember the largest tree of each log, and cosign only what continues it
    #[command(after_help = audit::WITNESS_HELP)]
    Witness(Witness),
    /// API keys of callers: create, list, revoke
    #[command(subcommand, after_help = keys::KEYS_HELP)]
    Keys(Keys),
    /// The configuration: check it, show it, print its JSON Schema
    #[command(subcommand)]
    Config(Config),
    /// The residency policy: prove it, ask it
    #[command(subcommand)]
    Policy(Policy),
    /// The relays (region log -> Redpanda): how they are doing; send a part of a log again
    #[command(subcommand, after_help = streams::RELAY_HELP)]
    Relay(Stream),
    /// The forwarders (region log -> Snowflake): how they are doing; hand over a part of a log again
    #[command(subcommand, after_help = streams::FORWARDER_HELP)]
    Forwarder(Stream),
    /// The regions' Snowflake accounts: database, tables, roles and grants
    #[command(subcommand)]
    Snowflake(Snowflake),
    /// Ask a running process whether it is well: for container health checks
    #[command(after_help = HEALTH_HELP)]
    Health(Health),
    /// Prove that a gateway works: a synthetic subject per region, written, read, and in its region only
    #[command(after_help = ops::SMOKE_HELP)]
    Smoke(Smoke),
    /// Deploy, roll back, and look after a cell: what deploy.sh calls
    #[command(subcommand, after_help = ops::OPS_HELP)]
    Ops(Ops),
    /// Which program this is, and which schema it knows
    Version(Version),
}

/// Where the configuration is.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConfigFile {
    /// The configuration file; the environment (DOMICILE__GATEWAY__LISTEN=…) lies over it
    #[arg(long = "config", value_name = "FILE", env = "DOMICILE_CONFIG", default_value = DEFAULT_PATH)]
    pub path: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Health {
    #[command(flatten)]
    pub config: ConfigFile,
    /// The admin listener to ask, e.g. 127.0.0.1:9090; the configuration's by default
    #[arg(long, value_name = "HOST:PORT")]
    pub admin: Option<String>,
    /// Ask whether it is ready for requests, not only alive
    #[arg(long)]
    pub ready: bool,
    /// Print what another path of the admin listener answers: its status in a line, then the body
    #[arg(long, value_name = "PATH", conflicts_with = "ready")]
    pub get: Option<String>,
}

/// `domicile version`.
#[derive(Debug, Args)]
pub(crate) struct Version {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

const HEALTH_HELP: &str = "\
Exit code 0 when the process answers 200 within two seconds, 1 otherwise. With --get: 0 whenever it
answers, within 30 seconds; the first line is the status.

Example of a health check in a compose file:
  test: [\"CMD\", \"domicile\", \"health\"]";

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_says_what_it_is_for_and_the_help_names_the_exit_codes() {
        fn walk(command: &clap::Command) {
            for inner in command.get_subcommands().filter(|c| c.get_name() != "help") {
                assert!(inner.get_about().is_some(), "{} says what it is for", inner.get_name());
                for argument in inner.get_arguments().filter(|a| !["help", "version"].contains(&a.get_id().as_str())) {
                    let said = argument.get_help().is_some();
                    assert!(said, "{} of {} says what it is for", argument.get_id(), inner.get_name());
                }
                walk(inner);
            }
        }
        let mut command = Cli::command();
        walk(&command);
        let help = command.render_long_help().to_string();
        for word in ["serve", "migrate", "keys", "config", "policy", "health", "Exit codes:", "domicile demo"] {
            assert!(help.contains(word), "{word} is in the help:\n{help}");
        }
    }

    #[test]
    fn roles_are_given_with_commas_and_default_to_all() {
        let roles = |words: &[&str]| match Cli::try_parse_from(words).expect("accepted").command {
            Command::Serve(serve) => serve.roles,
            other => panic!("serve, not {other:?}"),
        };
        assert_eq!(roles(&["domicile", "serve"]), [Role::All]);
        assert_eq!(roles(&["domicile", "serve", "--role", "relay,forwarder"]), [Role::Relay, Role::Forwarder]);
        assert!(Cli::try_parse_from(["domicile", "serve", "--role", "everything"]).is_err());
    }

    #[test]
    fn whoever_prunes_must_say_whether_in_earnest_and_is_told_both_ways() {
        let prune = |how: &[&str]| {
            Cli::try_parse_from([&["domicile", "audit", "prune", "--region", "eu-central"], how].concat())
        };
        let said = prune(&[]).expect_err("neither way").to_string();
        assert!(said.contains("--dry-run") && said.contains("--apply"), "{said}");
        assert!(prune(&["--dry-run", "--apply"]).is_err());
        assert!(prune(&["--dry-run"]).is_ok() && prune(&["--apply"]).is_ok());
    }
}
