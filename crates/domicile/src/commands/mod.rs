//! Every command but `serve` and `demo`: each does one thing and says how it went.

pub(crate) mod audit;
pub(crate) mod config;
pub(crate) mod health;
pub(crate) mod init;
pub(crate) mod keys;
pub(crate) mod migrate;
pub(crate) mod ops;
pub(crate) mod policy;
pub(crate) mod smoke;
pub(crate) mod snowflake;
pub(crate) mod streams;
pub(crate) mod version;
pub(crate) mod witness;

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use residency::Region;

use crate::cli::ConfigFile;
use crate::config::{Config, Mistakes};

/// A check found something wrong, or the deed failed.
pub(crate) const FAILED: u8 = 1;
/// The command line or the configuration is wrong.
pub(crate) const MISUSED: u8 = 2;

/// Why a command did not do its deed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The configuration is wrong.
    #[error("the configuration has mistakes")]
    Config(#[from] Mistakes),
    /// The deed failed.
    #[error(transparent)]
    Deed(#[from] anyhow::Error),
}

impl Failure {
    /// Says it on standard error, and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            Self::Config(mistakes) => {
                let errors = mistakes.errors().count();
                let noun = if errors == 1 { "mistake" } else { "mistakes" };
                crate::print::note(format!("{mistakes}\nThe configuration has {errors} {noun}; nothing was started."));
                ExitCode::from(MISUSED)
            }
            Self::Deed(error) => {
                crate::print::note(format!("error: {error:#}"));
                ExitCode::from(FAILED)
            }
        }
    }
}

/// The region that is meant, which must be served here.
pub(crate) fn which(config: &Config, named: Option<&str>) -> anyhow::Result<Region> {
    let served = || config.served.keys().map(Region::as_str).collect::<Vec<_>>().join(", ");
    match named {
        Some(name) => {
            let found = config.served.keys().find(|region| region.as_str() == name);
            found.cloned().with_context(|| format!("the region {name} is not served here; served are {}", served()))
        }
        None if config.served.len() == 1 => config.served.keys().next().cloned().context("no region is served here"),
        None => bail!("name the region with --region; served here are {}", served()),
    }
}

/// The checked configuration of a command.
pub(crate) fn load(file: &ConfigFile) -> Result<Config, Failure> {
    Ok(crate::config::load(&file.path)?)
}
