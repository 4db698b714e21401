//! API keys of callers: `keys`.

use clap::{Args, Subcommand};

use super::ConfigFile;

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Create a key; its token is printed once and stored only as a hash
    Create(KeysCreate),
    /// List the keys
    List(KeysList),
    /// Revoke a key; every gateway forgets it within two seconds
    Revoke(KeysRevoke),
}

pub(super) const KEYS_HELP: &str = "\
Examples:
  domicile keys create billing --scopes records:read,records:write,classify
  domicile keys create shop --scopes records:write --tenant acme
  domicile keys list
  domicile keys revoke 3f9a51c02b7e";

#[derive(Debug, Args)]
pub(crate) struct KeysCreate {
    /// Who will use it, e.g. the service's name
    pub name: String,
    /// What it may do, with commas: classify, subjects:read, subjects:write, subjects:erase, subjects:any, records:read,
    /// records:write, events:write, zero-party:read, zero-party:write, audit:read, audit:acknowledge, audit:details,
    /// console:read, evidence:client-address, evidence:tenant
    #[arg(long, value_delimiter = ',', required = true)]
    pub scopes: Vec<String>,
    /// The tenant the caller belongs to
    #[arg(long)]
    pub tenant: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct KeysList {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct KeysRevoke {
    /// The key's id, as `keys list` shows it
    pub id: String,
    #[command(flatten)]
    pub config: ConfigFile,
}
