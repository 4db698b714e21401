//! The configuration: `config`.

use clap::{Args, Subcommand};

use super::ConfigFile;

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Name every mistake at once, with file, key and fix; exit 1 if there is one
    Check(ConfigCheck),
    /// Print the effective settings, defaults and environment included; secrets stay references
    Show(ConfigShow),
    /// Print the JSON Schema, for editors: `domicile config schema > domicile.schema.json`
    Schema,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigCheck {
    #[command(flatten)]
    pub config: ConfigFile,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigShow {
    #[command(flatten)]
    pub config: ConfigFile,
    /// Print JSON instead of TOML
    #[arg(long)]
    pub json: bool,
}
