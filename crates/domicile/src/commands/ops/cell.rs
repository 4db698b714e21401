//! From the arguments to a cell: its folder, its runtime, its edge.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use ops::deploy::{Deployer, Holder, Pace as _, Store, SystemPace};
use ops::edge::HaProxy;
use ops::runtime::compose::{self, ComposeRuntime};
use ops::runtime::process::ProcessRuntime;
use ops::runtime::{Runtime, Service};
use ops::{Exit, Trouble};

use super::Speaker;
use crate::cli;
use crate::commands::init;

/// A cell, ready to be worked on.
pub(super) struct Opened {
    pub(super) project: String,
    pub(super) store: Store,
    pub(super) json: bool,
    pub(super) compose: Option<ComposeRuntime>,
    process: Option<ProcessRuntime>,
    url: String,
    edge: HaProxy,
    speaker: Speaker,
    pace: SystemPace,
}

/// What a cell has to have before its first deployment, for a folder that is a fresh clone: `.env` and secrets. What is there
/// stays. Cells that are named by their files have been founded by hand.
pub(super) fn found(cell: &cli::Cell) -> Result<(), Trouble> {
    let bundled = matches!(cell.runtime, cli::RuntimeKind::Compose) && named(cell).next().is_none();
    if !bundled || !cell.folder.join("config/cells").is_dir() {
        return Ok(());
    }
    let text = std::fs::read_to_string(cell.folder.join(".env")).unwrap_or_default();
    let named = compose::variables(&text).remove("DOMICILE_CELL").filter(|name| !name.is_empty());
    let founded = init::found(&cell.folder, named.as_deref().unwrap_or("single")).map_err(|failure| {
        Trouble::of(Exit::Unchanged, format!("the cell could not be founded: {}", init::in_words(&failure)))
    })?;
    if !cell.json {
        init::tell(&founded);
    }
    Ok(())
}

/// The variables' files: those that are named, or the cell folder's own.
pub(super) fn env_files(cell: &cli::Cell) -> Vec<PathBuf> {
    let named: Vec<PathBuf> = named(cell).cloned().collect();
    if named.is_empty() { vec![cell.folder.join(".env")] } else { named }
}

/// Those that are named: a variable that is set to nothing names none.
fn named(cell: &cli::Cell) -> impl Iterator<Item = &PathBuf> {
    cell.env_files.iter().filter(|file| !file.as_os_str().is_empty())
}

impl Opened {
    pub(super) fn open(cell: &cli::Cell, env_file: &Path) -> Result<Self, Trouble> {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let (folder, env_file) = (absolute(&cell.folder), absolute(env_file));
        let text = std::fs::read_to_string(&env_file).unwrap_or_default();
        let variables = compose::variables(&text);
        let project = compose::project_of(&variables);
        let store = Store::open(folder.join(".domicile").join(&project))?;
        let (mut compose, mut process) = (None, None);
        match cell.runtime {
            cli::RuntimeKind::Compose => {
                let made_by = store.state()?.runtime;
                compose = Some(ComposeRuntime::open(&folder, &env_file, made_by.as_deref())?);
            }
            cli::RuntimeKind::Process => {
                let what = "--runtime process needs --config, the configuration of every process";
                let config = cell.config.as_deref().ok_or_else(|| Trouble::of(Exit::Usage, what))?;
                process = Some(ProcessRuntime {
                    root: store.root().to_owned(),
                    config: absolute(config),
                    edge_listen: cell.edge_listen.clone(),
                    edge_config: absolute(&cell.edge_config),
                    roles: cell.roles.iter().filter_map(service).collect(),
                });
            }
        }
        let edge = HaProxy::in_folder(store.root().join("edge"));
        let (json, pace) = (cell.json, SystemPace::start());
        let url = match cell.runtime {
            cli::RuntimeKind::Compose => {
                let of = |name: &str| variables.get(name).map(String::as_str).filter(|value| !value.is_empty());
                let address = of("DOMICILE_ADDRESS").filter(|address| *address != "0.0.0.0").unwrap_or("127.0.0.1");
                format!("http://{address}:{}", of("DOMICILE_PORT").unwrap_or("8080"))
            }
            cli::RuntimeKind::Process => format!("http://{}", cell.edge_listen),
        };
        Ok(Self { project, store, json, compose, process, url, edge, speaker: Speaker { json }, pace })
    }

    /// The deployer of this cell, at work for `command`.
    pub(super) fn deployer<'a>(&'a self, interrupted: &'a AtomicBool, command: &str) -> Deployer<'a> {
        Deployer {
            project: &self.project,
            runtime: self.runtime(),
            edge: &self.edge,
            store: &self.store,
            teller: &self.speaker,
            pace: &self.pace,
            interrupted,
            holder: Holder::this_process(command, self.pace.wall()),
        }
    }

    /// Where callers come in, from this host.
    pub(super) fn url(&self) -> String {
        self.url.clone()
    }

    /// Where its releases run.
    pub(super) fn runtime(&self) -> &dyn Runtime {
        match (&self.compose, &self.process) {
            (Some(compose), _) => compose,
            (None, Some(process)) => process,
            (None, None) => unreachable!("a cell is opened with a runtime"),
        }
    }
}

/// The gateway is there in any case.
fn service(role: &cli::Role) -> Option<Service> {
    match role {
        cli::Role::Relay => Some(Service::Relay),
        cli::Role::Forwarder => Some(Service::Forwarder),
        cli::Role::Signer => Some(Service::Signer),
        cli::Role::All | cli::Role::Gateway => None,
    }
}
