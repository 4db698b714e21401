//! Releases as plain processes on this machine, behind a HAProxy of our own: the same pipeline without containers.
//!
//! A release is a copy of a program. What runs is remembered in files: see `kept`.

mod ask;
mod kept;

use std::fs;
use std::net::TcpListener;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rand::Rng as _;
use rustix::process::Signal;
use sha2::{Digest as _, Sha256};

use self::ask::get;
use self::kept::Kept;
use super::{Attendant, Condition, Held, Image, Ran, Runtime, Service, child};
use crate::deploy::{Abilities, Instance, write_whole};
use crate::edge::HaProxy;
use crate::exit::{Exit, Trouble};

const HOST: &str = "127.0.0.1";
/// Below those that Linux gives to outgoing connections, so that none of these takes a port before its program listens.
const PORTS: Range<u16> = 20_000..32_000;
const PORT_TRIES_MAX: usize = 200;
const POLL: Duration = Duration::from_millis(10);
/// How long an admin listener may take to answer; deep readiness asks every store.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// How the processes of a cell are run.
#[derive(Debug, Clone)]
pub struct ProcessRuntime {
    /// The cell's folder.
    pub root: PathBuf,
    /// The configuration of every process.
    pub config: PathBuf,
    /// Where callers come in.
    pub edge_listen: String,
    /// HAProxy's configuration.
    pub edge_config: PathBuf,
    /// The roles that run beside the gateway.
    pub roles: Vec<Service>,
}

impl ProcessRuntime {
    fn folder(&self, name: &str) -> Result<PathBuf, Trouble> {
        let folder = self.root.join(name);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Where the program of a tag lies: pinned, or where its name says.
    fn program(&self, tag: &str) -> PathBuf {
        let pinned = self.pinned(tag);
        if pinned.is_file() { pinned } else { PathBuf::from(tag) }
    }

    fn pinned(&self, tag: &str) -> PathBuf {
        let name = tag.rsplit('/').next().unwrap_or(tag).replace(':', "-");
        self.root.join("images").join(name)
    }

    fn command(&self, tag: &str, args: &[&str]) -> Command {
        let mut command = Command::new(self.program(tag));
        command.args(args).env("DOMICILE_CONFIG", &self.config);
        command
    }

    /// The program of an instance, as it serves.
    fn serving(&self, service: &str, instance: &Instance) -> Command {
        let role = if service == Service::Web.name() { "gateway" } else { service };
        let mut command = self.command(&instance.tag, &["serve", "--role", role]);
        command
            .env("DOMICILE__GATEWAY__INSTANCE", &instance.id)
            .env("DOMICILE__GATEWAY__LISTEN", format!("{HOST}:{}", instance.port))
            .env("DOMICILE__GATEWAY__ADMIN_LISTEN", format!("{HOST}:{}", instance.admin_port));
        command
    }
}

impl Runtime for ProcessRuntime {
    fn name(&self) -> String {
        "process".into()
    }

    fn in_words(&self) -> String {
        "processes on this machine, HAProxy as the edge".into()
    }

    fn obstacles(&self) -> Result<Vec<String>, Trouble> {
        let mut obstacles = Vec::new();
        if !self.config.is_file() {
            obstacles.push(format!("there is no configuration {}", self.config.display()));
        }
        if !self.edge_config.is_file() {
            obstacles.push(format!("there is no {}; name it with --edge-config", self.edge_config.display()));
        }
        let mut version = Command::new("haproxy");
        version.arg("-v");
        if child::run(version, ANSWER_MAX).is_err() {
            obstacles.push("haproxy is not installed (Debian, Ubuntu: apt-get install haproxy)".into());
        }
        Ok(obstacles)
    }

    fn image(&self, reference: &str) -> Result<Image, Trouble> {
        let program = self.program(reference);
        let bytes = fs::read(&program).map_err(|e| {
            Trouble::of(Exit::NotFound, format!("the program {} cannot be read: {e}", program.display()))
        })?;
        let id = format!("sha256:{}", hex::encode(Sha256::digest(&bytes)));
        let ran = child::run(self.command(reference, &["version", "--json"]), ANSWER_MAX)?;
        let abilities: Abilities = serde_json::from_str(&ran.stdout)
            .map_err(|_| Trouble::new(format!("{reference} does not say which version it is: {}", ran.last_words())))?;
        Ok(Image { id, abilities })
    }

    fn pin(&self, reference: &str, image_id: &str, tag: &str) -> Result<(), Trouble> {
        let images = self.folder("images")?;
        let bytes = fs::read(self.program(reference))?;
        if format!("sha256:{}", hex::encode(Sha256::digest(&bytes))) != image_id {
            return Err(Trouble::of(Exit::Unchanged, format!("{reference} has changed since the plan was made")));
        }
        let scratch = images.join(".part");
        // Renamed into place, so that nobody runs half of it.
        fs::write(&scratch, &bytes)?;
        fs::set_permissions(&scratch, fs::Permissions::from_mode(0o755))?;
        Ok(fs::rename(scratch, self.pinned(tag))?)
    }

    fn unpin(&self, tag: &str) -> Result<(), Trouble> {
        match fs::remove_file(self.pinned(tag)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn ensure_stores(&self, _tag: &str, patience: Duration) -> Result<(), Trouble> {
        let edge = HaProxy::in_folder(self.root.join("edge"));
        let runs = self.one("edge")?.is_some_and(|kept| kept.is_alive());
        if !runs {
            let state = self.root.join("edge/server-state");
            if !state.exists() {
                fs::write(&state, "")?;
            }
            let mut command = Command::new("haproxy");
            command.args(["-W", "-db", "-f"]).arg(&self.edge_config);
            command.env("EDGE_LISTEN", &self.edge_listen).env("EDGE_DIR", self.root.join("edge"));
            let instance =
                Instance { id: "edge".into(), tag: "haproxy".into(), address: HOST.into(), port: 0, admin_port: 0 };
            self.launch(&command, "edge", &instance)?;
        }
        let begun = Instant::now();
        while edge.say("show info").is_err() {
            if begun.elapsed() > patience {
                let log = fs::read_to_string(self.log("edge")).unwrap_or_default();
                return Err(Trouble::of(Exit::Unreachable, format!("the edge does not come up:\n{}", end(&log))));
            }
            sleep(POLL * 5);
        }
        Ok(())
    }

    /// The one there could be is the edge, which whoever changes its file reloads (`kill -USR2`) when it suits.
    fn attendants(&self) -> Result<Vec<Attendant>, Trouble> {
        Ok(Vec::new())
    }

    fn restart(&self, attendant: &str, _patience: Duration) -> Result<(), Trouble> {
        Err(Trouble::of(Exit::NotFound, format!("{attendant} does not run here")))
    }

    fn instances(&self, service: Service) -> Result<Vec<Instance>, Trouble> {
        let kept = self.kept()?.into_iter().filter(|kept| kept.service == service.name());
        Ok(kept.map(|kept| kept.instance).collect())
    }

    fn roles(&self) -> Vec<Service> {
        self.roles.clone()
    }

    fn start(&self, service: Service, tag: &str, count: u32) -> Result<(), Trouble> {
        for _ in 0..count {
            let id = self.next_id(service.name())?;
            let (port, admin_port) = free_ports()?;
            let instance = Instance { id, tag: tag.to_owned(), address: HOST.into(), port, admin_port };
            self.launch(&self.serving(service.name(), &instance), service.name(), &instance)?;
        }
        Ok(())
    }

    fn stop(&self, instance: &Instance, grace: Duration) -> Result<(), Trouble> {
        let Some(kept) = self.one(&instance.id)? else { return Ok(()) };
        kept.signal(Signal::TERM);
        let begun = Instant::now();
        while kept.is_alive() {
            if begun.elapsed() > grace {
                kept.signal(Signal::KILL);
            }
            sleep(POLL);
        }
        Ok(fs::remove_file(self.file(&instance.id))?)
    }

    fn condition(&self, instance: &Instance) -> Result<Condition, Trouble> {
        let alive = self.one(&instance.id)?.is_some_and(|kept| kept.is_alive());
        if !alive {
            return Ok(Condition::Ended("its process is gone".into()));
        }
        Ok(match self.ask(instance, "/readyz") {
            Ok((200, _)) => Condition::Healthy,
            Ok((status, body)) => Condition::Unhealthy(format!("{status} {}", body.trim())),
            Err(_) => Condition::Starting,
        })
    }

    fn last_lines(&self, instance: &Instance) -> String {
        end(&fs::read_to_string(self.log(&instance.id)).unwrap_or_default())
    }

    fn ask(&self, instance: &Instance, path: &str) -> Result<(u16, String), Trouble> {
        get(&instance.address, instance.admin_port, path)
            .map_err(|e| Trouble::of(Exit::Unreachable, format!("{} does not answer {path}: {e}", instance.id)))
    }

    fn run(&self, tag: &str, args: &[&str], patience: Duration) -> Result<Ran, Trouble> {
        child::run(self.command(tag, args), patience)
    }

    fn hold_lease(&self, tag: &str, holder: &str) -> Result<Box<dyn Held>, Trouble> {
        child::hold(self.command(tag, &["ops", "lease", "--holder", holder]))
    }

    fn crash(&self, service: &str) -> Result<(), Trouble> {
        // The edge is started in a way of its own.
        let of_service =
            self.kept()?.into_iter().filter(|kept| kept.service == service && service != "edge" && kept.is_alive());
        let running: Vec<Kept> = of_service.collect();
        if running.is_empty() {
            return Err(Trouble::of(Exit::NotFound, format!("no process of a service {service} is ours here")));
        }
        running.iter().for_each(|kept| kept.signal(Signal::KILL));
        while running.iter().any(Kept::is_alive) {
            sleep(POLL);
        }
        Ok(())
    }

    fn revive(&self, service: &str) -> Result<(), Trouble> {
        for kept in self.kept()?.into_iter().filter(|kept| kept.service == service && !kept.is_alive()) {
            self.launch(&self.serving(&kept.service, &kept.instance), service, &kept.instance)?;
        }
        Ok(())
    }

    fn make_default(&self, tag: &str) -> Result<(), Trouble> {
        Ok(write_whole(&self.root.join("default"), tag.as_bytes())?)
    }
}

/// Two ports on which nobody listens: both are held until both are known, so that they are two.
fn free_ports() -> Result<(u16, u16), Trouble> {
    let mut rng = rand::rng();
    let free = || TcpListener::bind((HOST, rng.random_range(PORTS))).ok();
    let mut held = std::iter::repeat_with(free).take(PORT_TRIES_MAX).flatten();
    let (Some(one), Some(other)) = (held.next(), held.next()) else {
        let (from, to) = (PORTS.start, PORTS.end);
        return Err(Trouble::new(format!("there are no two free ports on {HOST} between {from} and {to}")));
    };
    Ok((one.local_addr()?.port(), other.local_addr()?.port()))
}

/// The last lines of a log.
pub(super) fn end(log: &str) -> String {
    const LINES_MAX: usize = 50;
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LINES_MAX)..].join("\n")
}

/// Ends every process of a cell, the edge last. For a cell that is given up; nothing else stops the edge.
///
/// # Errors
/// When the folder cannot be read.
pub fn end_all(root: &Path) -> Result<(), Trouble> {
    let runtime = ProcessRuntime {
        root: root.to_owned(),
        config: PathBuf::new(),
        edge_listen: String::new(),
        edge_config: PathBuf::new(),
        roles: Vec::new(),
    };
    let mut kept = runtime.kept()?;
    kept.sort_by_key(|kept| kept.service == "edge");
    for one in &kept {
        runtime.stop(&one.instance, Duration::from_secs(5))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime(root: &Path) -> ProcessRuntime {
        ProcessRuntime {
            root: root.to_owned(),
            config: root.join("domicile.toml"),
            edge_listen: "127.0.0.1:0".into(),
            edge_config: root.join("haproxy.cfg"),
            roles: Vec::new(),
        }
    }

    /// A child writes it: of a descriptor of ours, whatever another thread starts would have a copy for a moment, and
    /// nobody may run what is open for writing.
    fn program(folder: &Path, script: &str) -> String {
        let path = folder.join("program");
        let mut sh = Command::new("sh");
        sh.args(["-c", r##"printf '#!/bin/sh\n%s\n' "$2" >"$1" && chmod 755 "$1""##, "sh"]).arg(&path).arg(script);
        let ran = child::run(sh, Duration::from_secs(60)).expect("sh runs");
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        path.to_string_lossy().into_owned()
    }

    #[test]
    fn a_release_is_a_copy_that_outlives_its_original() {
        let folder = tempfile::tempdir().expect("a folder");
        let runtime = runtime(folder.path());
        let reference = program(folder.path(), r#"echo '{"version":"7","levels":{"region":9}}'"#);
        let image = runtime.image(&reference).expect("an image");
        assert_eq!(image.abilities.levels["region"], 9);
        let tag = crate::deploy::tag_of("eu", &reference, crate::deploy::ReleaseId(1), &image.id);
        runtime.pin(&reference, &image.id, &tag).expect("pinned");
        program(folder.path(), "exit 1");
        assert_eq!(runtime.image(&tag).expect("it is kept"), image);
        assert!(runtime.pin(&reference, &image.id, &tag).is_err(), "the original is another one by now");
        runtime.unpin(&tag).expect("let go");
        runtime.unpin(&tag).expect("twice is fine");
    }

    #[test]
    fn whoever_cannot_write_down_what_is_started_starts_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let runtime = runtime(folder.path());
        let ran = folder.path().join("ran");
        let tag = program(folder.path(), &format!("touch {}", ran.display()));
        let instance = Instance { id: "web-1".into(), tag: tag.clone(), address: HOST.into(), port: 0, admin_port: 0 };
        let folder_is_missing = runtime.launch(&Command::new(&tag), "web", &instance);
        assert!(folder_is_missing.is_err());
        sleep(Duration::from_millis(200));
        assert!(!ran.exists(), "it heard no word");
        runtime.folder("processes").expect("made");
        runtime.launch(&Command::new(&tag), "web", &instance).expect("started");
        let begun = Instant::now();
        while !ran.exists() && begun.elapsed() < Duration::from_secs(60) {
            sleep(POLL);
        }
        assert!(ran.exists(), "it is written down, and runs");
    }

    #[test]
    fn a_process_is_started_found_and_ended_and_its_number_is_not_trusted_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let runtime = runtime(folder.path());
        let tag = program(folder.path(), "exec sleep 600");
        runtime.start(Service::Web, &tag, 2).expect("started");
        let instances = runtime.instances(Service::Web).expect("found");
        assert_eq!(instances.len(), 2);
        assert!(matches!(runtime.condition(&instances[0]), Ok(Condition::Starting)), "it runs and does not answer");
        let mut kept = runtime.one(&instances[0].id).expect("read").expect("kept");
        assert!(kept.is_alive());
        kept.started += 1;
        assert!(!kept.is_alive(), "somebody else has the number now");
        runtime.crash("web").expect("killed");
        assert!(matches!(runtime.condition(&instances[0]), Ok(Condition::Ended(_))));
        assert!(runtime.crash("web").is_err(), "nothing runs any more");
        assert!(runtime.crash("db").is_err(), "no database is ours");
        runtime.revive("web").expect("started again");
        runtime.revive("web").expect("twice is fine");
        assert!(instances.iter().all(|one| matches!(runtime.condition(one), Ok(Condition::Starting))));
        for instance in &instances {
            runtime.stop(instance, Duration::from_secs(60)).expect("ended");
            runtime.stop(instance, Duration::from_secs(60)).expect("twice is fine");
        }
        assert!(runtime.instances(Service::Web).expect("found").is_empty());
    }
}
