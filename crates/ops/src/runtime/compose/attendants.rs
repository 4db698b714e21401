//! The services of a cell that read their settings from files of its folder: when they last did, and how they are
//! brought to do it again.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::files::{block, bound_files, condition, mentioned};
use super::super::{Attendant, Condition, TakesUp};
use super::{ComposeRuntime, MAKE_MAX, docker};
use crate::edge::HaProxy;
use crate::exit::{Exit, Trouble};

/// What only looks on: no deployment waits for it.
pub(super) const LOOKING_ON: [&str; 3] = ["otel", "prometheus", "grafana"];
/// The edge: whoever restarts it keeps callers out, and whoever reloads it closes their idle connections.
const EDGE: &str = "edge";
/// The door to the directory: the same for the connections of other cells' gateways.
const DOOR: &str = "directory-door";
/// How long one may take to stop.
const STOP_S_MAX: &str = "10";
/// The most files that one service reads.
const FILES_MAX: usize = 1_000;
/// How often it is looked whether a restarted one is well.
const LOOK_EVERY: Duration = Duration::from_millis(500);

impl ComposeRuntime {
    /// Those that run.
    pub(super) fn attendants_now(&self) -> Result<Vec<Attendant>, Trouble> {
        let compose_file = self.folder.join("docker-compose.yml");
        let text = fs::read_to_string(&compose_file)?;
        let defined_at = changed_at(&compose_file).max(changed_at(&self.env_file));
        let mut attendants = Vec::new();
        for service in self.stores()? {
            let Some(defined) = block(&text, &service) else { continue };
            let paths: Vec<PathBuf> = bound_files(&defined).into_iter().map(|path| self.folder.join(path)).collect();
            if paths.is_empty() {
                continue;
            }
            let containers = self.containers(&service)?;
            let running = containers.iter().find(|one| one["State"]["Running"] == Value::Bool(true));
            let Some(container) = running else { continue };
            let (files, files_changed_at) = digest_of(&self.folder, &paths)?;
            let definition = definition_of(&defined, |name| self.variables.get(name).map_or("", String::as_str));
            let began_at = match service.as_str() {
                // A reload by hand is a new process in the same container.
                EDGE => self.edge_began_at().or_else(|| moment(&container["State"]["StartedAt"])),
                _ => moment(&container["State"]["StartedAt"]),
            };
            let read_last = began_at > Some(files_changed_at);
            let made_last = moment(&container["Created"]) > Some(defined_at);
            let takes_up = match service.as_str() {
                EDGE | DOOR => {
                    TakesUp::ByHand { reload: reload_command(container), remake: self.remake_command(&service) }
                }
                _ => TakesUp::Restarted,
            };
            attendants.push(Attendant { service, files, definition, read_last, made_last, takes_up });
        }
        Ok(attendants)
    }

    /// Makes the container anew, and waits until it is well. Version 1 of Compose must not recreate: it is removed first.
    pub(super) fn restart_attendant(&self, service: &str, patience: Duration) -> Result<(), Trouble> {
        if matches!(service, EDGE | DOOR) {
            let what = format!("{service} is not restarted: what goes through it would be cut off");
            return Err(Trouble::of(Exit::Unchanged, what));
        }
        for container in self.containers(service)? {
            if let Some(id) = container["Id"].as_str() {
                docker(&["stop", "-t", STOP_S_MAX, id], MAKE_MAX)?;
                docker(&["rm", "-f", id], MAKE_MAX)?;
            }
        }
        self.do_compose(None, &["up", "-d", "--no-deps", "--no-recreate", service], MAKE_MAX)?;
        let begun = std::time::Instant::now();
        loop {
            let not_yet = match self.containers(service)?.first().map(condition) {
                Some(Condition::Healthy) => return Ok(()),
                Some(Condition::Starting) => "it is starting".to_owned(),
                Some(Condition::Unhealthy(why)) => why,
                Some(Condition::Ended(how)) => how,
                None => "it is not there".to_owned(),
            };
            if begun.elapsed() >= patience {
                let what = format!("{service} is not well {} s after it was started: {not_yet}", patience.as_secs());
                return Err(Trouble::of(Exit::Unreachable, what));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn edge_began_at(&self) -> Option<OffsetDateTime> {
        let edge = HaProxy::in_folder(self.folder.join(".domicile").join(self.project()).join(EDGE));
        let info = edge.say("show info").ok()?;
        // Whole seconds, rounded down: it may have begun almost a second later than this says.
        let began_s: i64 = info.lines().find_map(|line| line.strip_prefix("Start_time_sec: "))?.trim().parse().ok()?;
        OffsetDateTime::from_unix_timestamp(began_s).ok()
    }

    fn remake_command(&self, service: &str) -> String {
        let compose = if self.flavour == super::Flavour::V1 { "docker-compose" } else { "docker compose" };
        let with = format!("{compose} --env-file {}", self.env_file.display());
        format!("{with} rm -s -f {service} && {with} up -d --no-deps {service}")
    }
}

fn reload_command(container: &Value) -> String {
    let id = container["Id"].as_str().and_then(|id| id.get(..12)).unwrap_or("<its container>");
    format!("docker kill -s USR2 {id}")
}

fn moment(told: &Value) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(told.as_str()?, &Rfc3339).ok()
}

/// When a file was last written, replaced or renamed; the time of its content can be set by whoever copies it, this
/// one cannot. The beginning of time when there is none.
fn changed_at(path: &Path) -> OffsetDateTime {
    let told = fs::metadata(path).ok().and_then(|meta| {
        let at = OffsetDateTime::from_unix_timestamp(meta.ctime()).ok()?;
        Some(at + time::Duration::nanoseconds(meta.ctime_nsec()))
    });
    told.unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// SHA-256 over names (as seen from a folder) and contents below some paths, and when any of it, folders included, last changed.
fn digest_of(folder: &Path, paths: &[PathBuf]) -> Result<(String, OffsetDateTime), Trouble> {
    let (mut hash, mut newest, mut seen) = (Sha256::new(), OffsetDateTime::UNIX_EPOCH, 0);
    let mut waiting: Vec<PathBuf> = paths.to_vec();
    waiting.sort_by(|a, b| b.cmp(a));
    while let Some(path) = waiting.pop() {
        seen += 1;
        if seen > FILES_MAX {
            return Err(Trouble::new(format!(
                "{} and what is beside it are more than {FILES_MAX} files",
                path.display()
            )));
        }
        newest = newest.max(changed_at(&path));
        if path.is_dir() {
            let mut below = Vec::new();
            for entry in fs::read_dir(&path)? {
                below.push(entry?.path());
            }
            below.sort_by(|a, b| b.cmp(a));
            waiting.extend(below);
        } else if path.exists() {
            hash.update(path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().as_bytes());
            hash.update([0]);
            hash.update(Sha256::digest(fs::read(&path)?));
        }
    }
    Ok((hex::encode(hash.finalize()), newest))
}

/// SHA-256 over a service's part of the compose file and the values of the variables that it names.
fn definition_of<'a>(defined: &str, value: impl Fn(&str) -> &'a str) -> String {
    let mut hash = Sha256::new();
    hash.update(defined.as_bytes());
    for name in mentioned(defined) {
        hash.update(format!("\0{name}={}", value(&name)).as_bytes());
    }
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_a_file_of_its_name_or_of_a_folder_is_seen() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("rules.yml");
        fs::write(&file, "a").expect("written");
        let paths = [folder.path().to_owned()];
        let (first, at) = digest_of(folder.path(), &paths).expect("read");
        assert_eq!(digest_of(folder.path(), &paths).expect("read"), (first.clone(), at), "nothing changed");
        fs::write(&file, "b").expect("written");
        let (second, later) = digest_of(folder.path(), &paths).expect("read");
        assert!(second != first && later >= at);
        fs::rename(&file, folder.path().join("other.yml")).expect("renamed");
        let (third, _) = digest_of(folder.path(), &paths).expect("read");
        assert!(third != second && third != first);
        // What was only touched is the same, whatever its time.
        fs::write(folder.path().join("other.yml"), "b").expect("written");
        assert_eq!(digest_of(folder.path(), &paths).expect("read").0, third);
    }

    #[test]
    fn a_definition_changes_with_its_variables_and_with_no_others() {
        let defined = "  otel:\n    image: ${OTEL_IMAGE:-otel}\n";
        let with = |image: &'static str, other: &'static str| {
            definition_of(defined, |name| if name == "OTEL_IMAGE" { image } else { other })
        };
        assert_eq!(with("a", "x"), with("a", "y"));
        assert_ne!(with("a", "x"), with("b", "x"));
    }

    #[test]
    fn docker_tells_moments_with_nanoseconds() {
        let told = moment(&Value::from("2026-11-29T14:55:34.123456789Z")).expect("a moment");
        assert_eq!(told.nanosecond(), 123_456_789);
        assert_eq!(moment(&Value::Null), None);
    }
}
