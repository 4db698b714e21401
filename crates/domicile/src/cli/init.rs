//! `domicile init`: what a Compose cell needs before its first start.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The cell: a folder below config/cells
    #[arg(long, default_value = "single")]
    pub cell: String,
    /// Where docker-compose.yml is
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub(super) const INIT_HELP: &str = "\
Makes .env from .env.example, and in secrets/ the passwords, the directory's pepper and the keys that the region logs are
signed with. What is there already stays as it is. The folder is closed to others; whoever may read what is inside is decided
by docker-compose.yml, which mounts it service by service.

The pepper and the log keys cannot be made again: keep copies of them where the backups are not. The keys that open the
backups (secrets/offline) are mounted nowhere: keep the one for emergencies somewhere else altogether.

Examples:
  domicile init                                 all regions on this host
  domicile init --cell eu-central               one region; its configuration is config/cells/eu-central
  docker run --rm -u \"$(id -u):$(id -g)\" -v \"$PWD:/cell\" myapp:prod init --dir /cell";
