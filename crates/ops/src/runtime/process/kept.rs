//! The processes of a cell: what runs is remembered in a file for each, with its number and the time it started, so that
//! a number that was given to somebody else since is not mistaken for ours.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::ProcessRuntime;
use crate::deploy::{Instance, write_whole};
use crate::exit::Trouble;

/// `processes/<id>.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) service: String,
    pub(super) instance: Instance,
    pid: i32,
    /// Field 22 of `/proc/<pid>/stat`.
    pub(super) started: u64,
}

impl Kept {
    pub(super) fn is_alive(&self) -> bool {
        started(self.pid) == Some(self.started)
    }

    pub(super) fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.is_alive()) {
            let _ = kill_process(pid, signal);
        }
    }
}

/// When a process started, in the kernel's ticks; `None` when it has ended, even if nobody has buried it yet.
fn started(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.nth(18)?.parse().ok() }
}

impl ProcessRuntime {
    pub(super) fn kept(&self) -> Result<Vec<Kept>, Trouble> {
        let mut kept: Vec<Kept> = Vec::new();
        for entry in fs::read_dir(self.folder("processes")?)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                kept.push(serde_json::from_slice(&fs::read(path)?)?);
            }
        }
        kept.sort_by(|a, b| a.instance.id.cmp(&b.instance.id));
        Ok(kept)
    }

    pub(super) fn one(&self, id: &str) -> Result<Option<Kept>, Trouble> {
        Ok(self.kept()?.into_iter().find(|kept| kept.instance.id == id))
    }

    pub(super) fn file(&self, id: &str) -> PathBuf {
        self.root.join("processes").join(format!("{id}.json"))
    }

    pub(super) fn log(&self, id: &str) -> PathBuf {
        self.root.join("logs").join(format!("{id}.log"))
    }

    /// Starts a program that goes on when we end. It waits for a word before it begins, as the very process that is written
    /// down meanwhile: whoever dies here leaves none behind that nobody knows of.
    pub(super) fn launch(&self, program: &Command, service: &str, instance: &Instance) -> Result<(), Trouble> {
        self.folder("logs")?;
        let log = OpenOptions::new().create(true).append(true).open(self.log(&instance.id))?;
        let mut command = Command::new("sh");
        command.args(["-c", r#"read -r go && exec "$@" </dev/null"#, "sh"]);
        command.arg(program.get_program()).args(program.get_args());
        command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let cannot = |e: std::io::Error| Trouble::new(format!("{} cannot be started: {e}", instance.tag));
        let mut child = command.spawn().map_err(cannot)?;
        let pid = i32::try_from(child.id()).unwrap_or(0);
        let started = started(pid).unwrap_or(0);
        let file = self.file(&instance.id);
        let kept = Kept { service: service.to_owned(), instance: instance.clone(), pid, started };
        write_whole(&file, &serde_json::to_vec_pretty(&kept)?)?;
        let told = child.stdin.take().map(|mut word| word.write_all(b"go\n"));
        told.unwrap_or(Ok(())).map_err(cannot)
    }

    pub(super) fn next_id(&self, service: &str) -> Result<String, Trouble> {
        let taken = self.kept()?;
        let number = (1..).find(|n| {
            let id = format!("{service}-{n}");
            !taken.iter().any(|kept| kept.instance.id == id) && !self.log(&id).exists()
        });
        Ok(format!("{service}-{}", number.unwrap_or(1)))
    }
}
