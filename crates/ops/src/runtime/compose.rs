//! Releases as containers under Compose, by its command line: `docker-compose` 1.29 or `docker compose` 2.
//!
//! What was learnt about both: version 1 must never recreate (on a newer engine that fails half-way and leaves the
//! service down), never scale down (it removes the newest), and needs `COMPOSE_API_VERSION`; containers are found by
//! labels, since each version names them differently; one that has ended must be gone before the next `up`, which would
//! start it again instead of making a new one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Condition, Held, Image, Ran, Runtime, Service, child};
use crate::deploy::{Abilities, Instance, write_whole};
use crate::exit::{Exit, Trouble};

/// How long a Docker command may take that only looks.
const LOOK_MAX: Duration = Duration::from_secs(60);
/// How long containers may take to be made.
const MAKE_MAX: Duration = Duration::from_secs(600);
/// The newest API version that docker-compose 1.29 can live with.
const API_MAX: (u32, u32) = (1, 44);
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

/// The variables of an `.env` file.
#[must_use]
pub fn variables(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().trim_matches(['"', '\'']).to_owned()))
        .collect()
}

/// The name of a cell by its variables.
#[must_use]
pub fn project_of(variables: &BTreeMap<String, String>) -> String {
    variables.get("COMPOSE_PROJECT_NAME").filter(|name| !name.is_empty()).cloned().unwrap_or_else(|| "domicile".into())
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
        let id = docker(&["image", "inspect", "--format", "{{.Id}}", reference], LOOK_MAX).map_err(|_| {
            Trouble::of(Exit::NotFound, format!("there is no image {reference}: docker build -t {reference} ."))
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
            for store in &names {
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

    fn make_default(&self, tag: &str) -> Result<(), Trouble> {
        let text = match fs::read_to_string(&self.env_file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error.into()),
        };
        let changed = with_variable(&text, "DOMICILE_IMAGE", tag);
        if changed != text {
            write_whole(&self.env_file, changed.as_bytes())?;
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

fn condition(container: &Value) -> Condition {
    let state = &container["State"];
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if state["Running"] != Value::Bool(true) || state["Restarting"] == Value::Bool(true) {
        let status = word(&state["Status"]);
        return Condition::Ended(format!("{status}, exit code {}", state["ExitCode"]));
    }
    match state["Health"]["Status"].as_str() {
        None | Some("healthy" | "none") => Condition::Healthy,
        Some("starting") if container["RestartCount"].as_u64().unwrap_or(0) > 0 => {
            Condition::Ended(format!("it was started again {} times", container["RestartCount"]))
        }
        Some("starting") => Condition::Starting,
        Some(_) => {
            let last = state["Health"]["Log"].as_array().and_then(|log| log.last());
            Condition::Unhealthy(last.map(|one| word(&one["Output"])).unwrap_or_default().trim().to_owned())
        }
    }
}

/// The API version that docker-compose 1.29 is told to speak: the engine's, but not above what it can live with.
fn compose_api(engine: &str) -> String {
    let parse = |text: &str| {
        let (major, minor) = text.split_once('.')?;
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    };
    let (major, minor) = parse(engine).map_or(API_MAX, |api| api.min(API_MAX));
    format!("{major}.{minor}")
}

/// The services of a compose file that have no profile, or one that is on. Reads the plain form that ours has: a service
/// by its name at two spaces, its profiles in one line.
fn services(text: &str, enabled: &[&str]) -> Vec<String> {
    let mut found: Vec<(String, bool)> = Vec::new();
    let mut within = false;
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty()) {
        if !line.starts_with(' ') {
            within = line.trim_end() == "services:";
        } else if let Some(name) = line.strip_prefix("  ").filter(|rest| within && !rest.starts_with(' ')) {
            found.push((name.trim_end().trim_end_matches(':').to_owned(), true));
        } else if let (true, Some(list)) = (within, line.trim().strip_prefix("profiles:")) {
            let mut profiles = list
                .split(['[', ']', ','])
                .map(|one| one.trim().trim_matches(['"', '\'']))
                .filter(|one| !one.is_empty());
            if let Some(last) = found.last_mut() {
                last.1 = profiles.any(|profile| enabled.contains(&profile));
            }
        }
    }
    found.into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect()
}

/// The text of an `.env` file with a variable set, every other line as it was.
fn with_variable(text: &str, name: &str, value: &str) -> String {
    let assignment = format!("{name}=");
    let mut set = false;
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with(&assignment) {
            if !set {
                lines.push(format!("{assignment}{value}"));
            }
            set = true;
        } else {
            lines.push(line.to_owned());
        }
    }
    if !set {
        lines.push(format!("{assignment}{value}"));
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn docker_compose_v1_is_told_an_api_version_that_it_can_live_with() {
        assert_eq!(compose_api("1.41"), "1.41");
        assert_eq!(compose_api("1.52"), "1.44");
        assert_eq!(compose_api("?"), "1.44");
    }

    #[test]
    fn a_variable_is_set_once_and_everything_else_stays() {
        let text = "# ours\nCOMPOSE_PROJECT_NAME=domicile\nDOMICILE_IMAGE=a\nDOMICILE_IMAGE=b\n";
        let changed = with_variable(text, "DOMICILE_IMAGE", "myapp:rel-1-x");
        assert_eq!(changed, "# ours\nCOMPOSE_PROJECT_NAME=domicile\nDOMICILE_IMAGE=myapp:rel-1-x\n");
        assert_eq!(with_variable("", "A", "b"), "A=b\n");
        assert_eq!(variables(&changed)["DOMICILE_IMAGE"], "myapp:rel-1-x");
        assert_eq!(project_of(&variables("COMPOSE_PROJECT_NAME=\"eu\"")), "eu");
    }

    #[test]
    fn services_of_other_profiles_are_not_started() {
        let text = "x-a: &a\n  image: x\nservices:\n  # edge\n  edge:\n    image: h\n  db:\n    profiles: [single, directory]\n  \
                    otel:\n    profiles: [observability]\nvolumes:\n  db:\n";
        assert_eq!(services(text, &["single"]), ["edge", "db"]);
        assert_eq!(services(text, &[""]), ["edge"]);
    }

    #[test]
    fn a_container_says_how_it_is() {
        let container = |state: Value, restarts: u32| json!({ "State": state, "RestartCount": restarts });
        let running = |health: &str| json!({ "Running": true, "Restarting": false, "Health": { "Status": health } });
        assert_eq!(condition(&container(running("healthy"), 0)), Condition::Healthy);
        assert_eq!(condition(&container(running("starting"), 0)), Condition::Starting);
        assert!(matches!(condition(&container(running("starting"), 2)), Condition::Ended(_)));
        assert!(matches!(condition(&container(running("unhealthy"), 0)), Condition::Unhealthy(_)));
        let ended = json!({ "Running": false, "Status": "exited", "ExitCode": 137 });
        assert_eq!(condition(&container(ended, 0)), Condition::Ended("exited, exit code 137".into()));
    }
}
