//! Releases as containers under Compose, by its command line: `docker-compose` 1.29 or `docker compose` 2.
//!
//! What was learnt about both: version 1 must never recreate (on a newer engine that fails half-way and leaves the
//! service down), never scale down (it removes the newest), and needs `COMPOSE_API_VERSION`; containers are found by
//! labels, since each version names them differently; one that has ended must be gone before the next `up`, which would
//! start it again instead of making a new one.

mod attendants;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::files::{compose_api, condition, services, with_variable};
pub use super::files::{project_of, variables};
use super::{Attendant, Condition, Held, Image, Ran, Runtime, Service, child};
use crate::deploy::{Abilities, Instance, rewrite_whole};
use crate::exit::{Exit, Trouble};

/// How long a Docker command may take that only looks.
const LOOK_MAX: Duration = Duration::from_secs(60);
/// How long containers may take to be made.
const MAKE_MAX: Duration = Duration::from_secs(600);
/// Where the program lies in the image.
const PROGRAM: &str = "/usr/local/bin/domicile";
/// The ports of a gateway in its container.
const PORT: u16 = 8080;
const ADMIN_PORT: u16 = 9090;
/// The least free space, in MiB: an image and a backup.
const FREE_MIB_MIN: u64 = 1024;

/// Which Compose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// `docker-compose` 1.29, in Python.
    V1,
    /// `docker compose`, in Go.
    V2,
}

/// A cell under Compose.
#[derive(Debug, Clone)]
pub struct ComposeRuntime {
    folder: PathBuf,
    env_file: PathBuf,
    variables: BTreeMap<String, String>,
    flavour: Flavour,
    version: String,
    engine: String,
    api: String,
}

impl ComposeRuntime {
    /// Finds out what is installed. `made_by` is what made the containers that run, which is then preferred.
    ///
    /// # Errors
    /// [`Exit::Unreachable`] when there is no engine or no Compose.
    pub fn open(folder: &Path, env_file: &Path, made_by: Option<&str>) -> Result<Self, Trouble> {
        let variables = variables(&fs::read_to_string(env_file).unwrap_or_default());
        let engine = docker(&["version", "--format", "{{.Server.Version}} {{.Server.APIVersion}}"], LOOK_MAX)
            .map_err(|trouble| Trouble::of(Exit::Unreachable, format!("no Docker engine: {}", trouble.what)))?;
        let (engine, api) = engine.trim().split_once(' ').unwrap_or((engine.trim(), "1.41"));
        let v2 = || docker(&["compose", "version", "--short"], LOOK_MAX).ok().map(|v| (Flavour::V2, v));
        let v1 = || {
            let mut command = Command::new("docker-compose");
            command.args(["version", "--short"]);
            let ran = child::run(command, LOOK_MAX).ok().filter(|ran| ran.code == 0)?;
            let flavour = if ran.stdout.trim().starts_with("1.") { Flavour::V1 } else { Flavour::V2 };
            Some((flavour, ran.stdout))
        };
        let wished = std::env::var("DOMICILE_COMPOSE").ok();
        let found = match wished.as_deref().or(made_by.and_then(|name| name.strip_prefix("compose "))) {
            Some("v1") => v1(),
            Some("v2") => v2(),
            _ => v2().or_else(v1),
        };
        let Some((flavour, version)) = found else {
            let what =
                "neither `docker compose` nor `docker-compose` is installed (or not the one that made what runs)";
            return Err(Trouble::of(Exit::Unreachable, what));
        };
        Ok(Self {
            folder: folder.to_owned(),
            env_file: env_file.to_owned(),
            variables,
            flavour,
            version: version.trim().to_owned(),
            engine: engine.to_owned(),
            api: compose_api(api),
        })
    }

    fn project(&self) -> String {
        project_of(&self.variables)
    }

    fn compose(&self, tag: Option<&str>, args: &[&str]) -> Command {
        let mut command = match self.flavour {
            Flavour::V1 => Command::new("docker-compose"),
            Flavour::V2 => {
                let mut command = Command::new("docker");
                command.arg("compose");
                command
            }
        };
        if self.flavour == Flavour::V1 {
            command.env("COMPOSE_API_VERSION", &self.api);
        }
        if self.env_file.is_file() {
            command.arg("--env-file").arg(&self.env_file);
        }
        command.arg("-p").arg(self.project()).arg("-f").arg(self.folder.join("docker-compose.yml"));
        command.arg("--project-directory").arg(&self.folder).args(args).current_dir(&self.folder);
        if let Some(profiles) = self.variables.get("COMPOSE_PROFILES") {
            command.env("COMPOSE_PROFILES", profiles);
        }
        if let Some(tag) = tag {
            command.env("DOMICILE_IMAGE", tag);
        }
        command
    }

    fn do_compose(&self, tag: Option<&str>, args: &[&str], patience: Duration) -> Result<String, Trouble> {
        let ran = child::run(self.compose(tag, args), patience)?;
        match ran.code {
            0 => Ok(ran.stdout),
            _ => Err(Trouble::new(format!("compose {} failed:\n{}", args.first().unwrap_or(&""), ran.last_words()))),
        }
    }

    /// What Docker knows about the containers of a service, those that have ended included.
    fn containers(&self, service: &str) -> Result<Vec<Value>, Trouble> {
        let project = format!("label=com.docker.compose.project={}", self.project());
        let service = format!("label=com.docker.compose.service={service}");
        let filters = ["--filter", &project, "--filter", &service, "--filter", "label=com.docker.compose.oneoff=False"];
        let listed = docker(&both(&["ps", "-a", "-q", "--no-trunc"], &filters), LOOK_MAX)?;
        let ids: Vec<&str> = listed.split_whitespace().collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let told = docker(&both(&["inspect"], &ids), LOOK_MAX)?;
        Ok(serde_json::from_str(&told)?)
    }

    fn inspected(&self, id: &str) -> Result<Option<Value>, Trouble> {
        match docker(&["inspect", id], LOOK_MAX) {
            Ok(told) => Ok(serde_json::from_str::<Vec<Value>>(&told)?.pop()),
            Err(trouble) if trouble.what.contains("No such") => Ok(None),
            Err(trouble) => Err(trouble),
        }
    }

    /// The services of the compose file that this cell has and that no release replaces.
    fn stores(&self) -> Result<Vec<String>, Trouble> {
        let text = fs::read_to_string(self.folder.join("docker-compose.yml"))?;
        let profiles = self.variables.get("COMPOSE_PROFILES").map_or("", String::as_str);
        let enabled: Vec<&str> = profiles.split(',').map(str::trim).collect();
        let released = ["web", "relay", "forwarder", "signer", "migrate"];
        let mut services = services(&text, &enabled);
        services.retain(|service| !released.contains(&service.as_str()));
        Ok(services)
    }

    fn instance(&self, container: &Value) -> Option<Instance> {
        let networks = container["NetworkSettings"]["Networks"].as_object();
        // The edge reaches a gateway on the network `front`; roles are on `data` alone.
        let front = networks.and_then(|networks| {
            let wanted = |name: &str| networks.iter().find(|(network, _)| network.ends_with(name)).map(|(_, one)| one);
            wanted("_front").or_else(|| wanted("_data")).or_else(|| networks.values().next())
        });
        Some(Instance {
            id: container["Id"].as_str()?.get(..12)?.to_owned(),
            tag: container["Config"]["Image"].as_str()?.to_owned(),
            address: front.and_then(|one| one["IPAddress"].as_str()).unwrap_or_default().to_owned(),
            port: PORT,
            admin_port: ADMIN_PORT,
        })
    }
}

impl Runtime for ComposeRuntime {
    fn name(&self) -> String {
        match self.flavour {
            Flavour::V1 => "compose v1".into(),
            Flavour::V2 => "compose v2".into(),
        }
    }

    fn in_words(&self) -> String {
        let pinned = if self.flavour == Flavour::V1 { format!(", API {}", self.api) } else { String::new() };
        format!("compose {} (engine {}{pinned})", self.version, self.engine)
    }

    fn obstacles(&self) -> Result<Vec<String>, Trouble> {
        let mut obstacles = Vec::new();
        if let Err(trouble) = self.do_compose(None, &["config", "-q"], LOOK_MAX) {
            obstacles.push(format!("the compose file is not valid: {trouble}"));
        }
        let mut df = Command::new("df");
        df.args(["-Pk"]).arg(&self.folder);
        let free_mib = child::run(df, LOOK_MAX).ok().and_then(|ran| {
            let row = ran.stdout.lines().nth(1)?.split_whitespace().nth(3)?.parse::<u64>().ok()?;
            Some(row / 1024)
        });
        if let Some(free_mib) = free_mib.filter(|free| *free < FREE_MIB_MIN) {
            obstacles.push(format!("only {free_mib} MiB are free here, and {FREE_MIB_MIN} are needed"));
        }
        Ok(obstacles)
    }

    fn image(&self, reference: &str) -> Result<Image, Trouble> {
        let none = || format!("there is no image {reference}: docker build -t {reference} .");
        let inspected = docker(&["image", "inspect", "--format", "{{.Id}}", reference], LOOK_MAX);
        // Only an engine that answers knows that there is none.
        let id = inspected.map_err(|trouble| match trouble.what.contains("No such") {
            true => Trouble::of(Exit::NotFound, none()),
            false => trouble,
        })?;
        let id = id.trim().to_owned();
        let told = docker(
            &["run", "--rm", "--network", "none", "--entrypoint", PROGRAM, &id, "version", "--json"],
            LOOK_MAX * 2,
        )?;
        let abilities: Abilities = serde_json::from_str(&told)
            .map_err(|_| Trouble::new(format!("{reference} does not say which version it is")))?;
        Ok(Image { id, abilities })
    }

    fn pin(&self, reference: &str, image_id: &str, tag: &str) -> Result<(), Trouble> {
        let known = docker(&["image", "inspect", "--format", "{{.Id}}", image_id], LOOK_MAX);
        known.map_err(|_| Trouble::of(Exit::NotFound, format!("the image of {reference} is gone: {image_id}")))?;
        docker(&["tag", image_id, tag], LOOK_MAX).map(drop)
    }

    fn unpin(&self, tag: &str) -> Result<(), Trouble> {
        match docker(&["rmi", tag], MAKE_MAX) {
            Err(trouble) if !trouble.what.contains("No such") => Err(trouble),
            _ => Ok(()),
        }
    }

    fn ensure_stores(&self, tag: &str, patience: Duration) -> Result<(), Trouble> {
        let stores = self.stores()?;
        let names: Vec<&str> = stores.iter().map(String::as_str).collect();
        // No dependencies: they are all named, and `web` must not come up by itself.
        self.do_compose(Some(tag), &both(&["up", "-d", "--no-recreate", "--no-deps"], &names), MAKE_MAX)?;
        let begun = Instant::now();
        loop {
            let mut waiting = None;
            for store in names.iter().filter(|store| !attendants::LOOKING_ON.contains(store)) {
                for container in self.containers(store)? {
                    match condition(&container) {
                        Condition::Healthy => {}
                        Condition::Starting => waiting = Some(format!("{store} is starting")),
                        Condition::Unhealthy(why) => waiting = Some(format!("{store}: {why}")),
                        Condition::Ended(how) => waiting = Some(format!("{store} has ended: {how}")),
                    }
                }
            }
            match waiting {
                None => return Ok(()),
                Some(reason) if begun.elapsed() > patience => return Err(Trouble::of(Exit::Unreachable, reason)),
                Some(_) => std::thread::sleep(Duration::from_millis(500)),
            }
        }
    }

    fn attendants(&self) -> Result<Vec<Attendant>, Trouble> {
        self.attendants_now()
    }

    fn restart(&self, attendant: &str, patience: Duration) -> Result<(), Trouble> {
        self.restart_attendant(attendant, patience)
    }

    fn instances(&self, service: Service) -> Result<Vec<Instance>, Trouble> {
        Ok(self.containers(service.name())?.iter().filter_map(|container| self.instance(container)).collect())
    }

    fn roles(&self) -> Vec<Service> {
        Service::ROLES.to_vec()
    }

    fn start(&self, service: Service, tag: &str, count: u32) -> Result<(), Trouble> {
        let mut running = 0;
        for container in self.containers(service.name())? {
            if container["State"]["Running"] == Value::Bool(true) {
                running += 1;
            } else if let Some(id) = container["Id"].as_str() {
                docker(&["rm", "-f", id], MAKE_MAX)?;
            }
        }
        let scale = format!("{}={}", service.name(), running + count);
        let args = ["up", "-d", "--no-deps", "--no-recreate", "--scale", &scale, service.name()];
        self.do_compose(Some(tag), &args, MAKE_MAX).map(drop)
    }

    fn stop(&self, instance: &Instance, grace: Duration) -> Result<(), Trouble> {
        let gone = |outcome: Result<String, Trouble>| match outcome {
            Err(trouble) if !trouble.what.contains("No such") => Err(trouble),
            _ => Ok(()),
        };
        let seconds = grace.as_secs().to_string();
        gone(docker(&["stop", "-t", &seconds, &instance.id], grace + LOOK_MAX))?;
        gone(docker(&["rm", "-f", &instance.id], LOOK_MAX))
    }

    fn condition(&self, instance: &Instance) -> Result<Condition, Trouble> {
        Ok(match self.inspected(&instance.id)? {
            Some(container) => condition(&container),
            None => Condition::Ended("its container is gone".into()),
        })
    }

    fn last_lines(&self, instance: &Instance) -> String {
        let mut command = Command::new("docker");
        command.args(["logs", "--tail", "50", &instance.id]);
        let ran = child::run(command, LOOK_MAX);
        ran.map(|ran| format!("{}{}", ran.stdout, ran.stderr)).unwrap_or_default()
    }

    fn ask(&self, instance: &Instance, path: &str) -> Result<(u16, String), Trouble> {
        let answer = docker(&["exec", &instance.id, PROGRAM, "health", "--get", path], LOOK_MAX)?;
        let (status, body) = answer.split_once('\n').unwrap_or((&answer, ""));
        let status = status.trim().parse().map_err(|_| Trouble::new(format!("{} answered in riddles", instance.id)))?;
        Ok((status, body.to_owned()))
    }

    fn run(&self, tag: &str, args: &[&str], patience: Duration) -> Result<Ran, Trouble> {
        child::run(self.compose(Some(tag), &both(&["run", "--rm", "-T", "--no-deps", "migrate"], args)), patience)
    }

    fn hold_lease(&self, tag: &str, holder: &str) -> Result<Box<dyn Held>, Trouble> {
        let args = ["run", "--rm", "-T", "--no-deps", "migrate", "ops", "lease", "--holder", holder];
        child::hold(self.compose(Some(tag), &args))
    }

    fn crash(&self, service: &str) -> Result<(), Trouble> {
        let containers = self.containers(service)?;
        let running = containers.iter().filter(|container| container["State"]["Running"] == Value::Bool(true));
        let ids: Vec<&str> = running.filter_map(|container| container["Id"].as_str()).collect();
        if ids.is_empty() {
            return Err(Trouble::of(Exit::NotFound, format!("no container of a service {service} runs here")));
        }
        // Whoever was killed by hand is not restarted by the engine, whatever the restart policy.
        docker(&both(&["kill", "-s", "KILL"], &ids), LOOK_MAX).map(drop)
    }

    fn revive(&self, service: &str) -> Result<(), Trouble> {
        for container in self.containers(service)? {
            if container["State"]["Running"] != Value::Bool(true)
                && let Some(id) = container["Id"].as_str()
            {
                docker(&["start", id], MAKE_MAX)?;
            }
        }
        Ok(())
    }

    fn make_default(&self, tag: &str) -> Result<(), Trouble> {
        let text = match fs::read_to_string(&self.env_file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error.into()),
        };
        let changed = with_variable(&text, "DOMICILE_IMAGE", tag);
        if changed != text {
            rewrite_whole(&self.env_file, changed.as_bytes())?;
        }
        Ok(())
    }
}

/// The last lines of a service's log.
///
/// # Errors
/// When Compose does not give them.
pub fn logs(runtime: &ComposeRuntime, service: &str, lines: u32) -> Result<String, Trouble> {
    runtime.do_compose(None, &["logs", "--no-color", "--tail", &lines.to_string(), service], LOOK_MAX)
}

/// Words, and further words.
fn both<'a>(first: &[&'a str], then: &[&'a str]) -> Vec<&'a str> {
    [first, then].concat()
}

fn docker(args: &[&str], patience: Duration) -> Result<String, Trouble> {
    let mut command = Command::new("docker");
    command.args(args);
    let ran = child::run(command, patience)?;
    match ran.code {
        0 => Ok(ran.stdout),
        _ => Err(Trouble::new(format!("docker {} failed: {}", args.first().unwrap_or(&""), ran.last_words()))),
    }
}
