//! `cargo xtask test --docker`: the owner's runbook from a clean clone, on real containers. What is static about the
//! bundle is checked first (Compose's own check, shellcheck, promtool); the scenes themselves are played by the program
//! `runbook` of the system tests. With `--ready` the image is the one of [`super::ready`].

use super::Needs;
use crate::install;
use crate::machine;
use crate::run::{self, Cargo, CommandLine};
use anyhow::{Context, Result, anyhow, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// Which image is deployed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Image {
    /// The one that `docker build` makes, half an hour's work.
    Built,
    /// The runtime stage with the binary that the tests use.
    Ready,
}

/// This machine lacks something that the rehearsal needs, so that it says nothing about domicile.
#[derive(Debug)]
pub(crate) struct Unprepared;

impl std::fmt::Display for Unprepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("this machine is not prepared for the rehearsal")
    }
}

/// Plays it, and removes what it made.
///
/// # Errors
/// With [`Unprepared`] as its context where the rehearsal could not begin.
pub(crate) fn run(cargo: &Cargo, image: Image) -> Result<()> {
    if !super::answers() {
        return Err(anyhow!("no Docker engine answers (docker version)").context(Unprepared));
    }
    if machine::on_path("docker-compose").is_none() {
        return Err(anyhow!("docker-compose is not installed, and the runbook types it").context(Unprepared));
    }
    if machine::on_path("script").is_none() {
        return Err(anyhow!("`script`, of util-linux, is not installed").context(Unprepared));
    }
    install::shellcheck().context(Unprepared)?;
    run::step(
        "Building the runbook's player",
        cargo.command(["build", "--package", "system-tests", "--bin", "runbook"]),
    )?;
    let clone = std::env::temp_dir().join(format!("domicile-runbook-{}", std::process::id()));
    if clone.exists() {
        fs::remove_dir_all(&clone)?;
    }
    let outcome = rehearse(cargo, &clone, image);
    if outcome.is_err() && std::env::var_os("DOMICILE_KEEP").is_some() {
        eprintln!("  Kept for a look: {}", clone.display());
        return outcome;
    }
    // The edge and the containers write as other users: their files are removed as root where we are not.
    if fs::remove_dir_all(&clone).is_err() {
        let mount = format!("{}:/clone", clone.display());
        let rm = CommandLine::new("docker").args(["run", "--rm", "-u", "0", "--entrypoint", "rm", "-v", &mount]);
        drop(run::step("Removing the clone", rm.args(["debian:bookworm-slim", "-rf", "/clone/.domicile"])));
        drop(fs::remove_dir_all(&clone));
    }
    outcome
}

fn rehearse(cargo: &Cargo, clone: &Path, image: Image) -> Result<()> {
    let git = CommandLine::new("git").args(["clone", "--quiet", "--no-hardlinks"]).arg(cargo.root()).arg(clone);
    run::step("A clean clone of what is committed", git)?;
    let needs = if image == Image::Ready { Needs::NoCompiler } else { Needs::Everything };
    super::images(cargo, clone, needs).context(Unprepared)?;
    checks(clone)?;
    let player = ["run", "--quiet", "--package", "system-tests", "--bin", "runbook", "--"];
    let mut player = cargo.command(player).arg(clone);
    if image == Image::Ready {
        super::ready::make(cargo, clone)?;
        player = player.env("DOMICILE_RUNBOOK_IMAGE", super::ready::IMAGE);
    }
    run::step("The runbook", player)
}

/// What needs no container to run.
fn checks(clone: &Path) -> Result<()> {
    let here = |program: &str| CommandLine::new(program).folder(clone);
    let scripts = scripts(&clone.join("infrastructure"))?;
    run::step("Checking the scripts", here("shellcheck").args(scripts))?;
    let mut flavours = 0;
    for project in ["single", "directory,directory-door", "single,observability,ops", ""] {
        if machine::on_path("docker-compose").is_some() {
            flavours |= 1;
            let check = here("docker-compose").args(["config", "-q"]).env("COMPOSE_PROFILES", project);
            run::step(&format!("docker-compose takes the file, profiles {project}"), check)?;
        }
        if run::within(PLUGIN_MAX, "Is there a docker compose?", here("docker").args(["compose", "version"])) {
            flavours |= 2;
            let check = here("docker").args(["compose", "config", "-q"]).env("COMPOSE_PROFILES", project);
            run::step(&format!("docker compose takes the file, profiles {project}"), check)?;
        }
    }
    match flavours {
        0 => bail!("There is no Compose here: install docker-compose, or the plugin of docker compose"),
        1 => eprintln!("NOT RUN: the check by `docker compose` 2, which is not installed here"),
        2 => eprintln!("NOT RUN: the check by `docker-compose` 1.29, which is not installed here"),
        _ => {}
    }
    let promtool = |args: &[&str]| {
        let mount = |from: &str, to: &str| format!("{}:{to}:ro", clone.join(from).display());
        let alerts = mount("config/alerts", "/etc/prometheus/alerts");
        let config = mount("infrastructure/observability/prometheus.yml", "/etc/prometheus/prometheus.yml");
        let run = CommandLine::new("docker").args(["run", "--rm", "--network", "none", "-v", &alerts, "-v", &config]);
        run.args(["--entrypoint", "promtool", "-w", "/etc/prometheus/alerts", "domicile-stand-in/prometheus"])
            .args(args)
    };
    run::step(
        "Checking Prometheus's configuration and its rules",
        promtool(&["check", "config", "/etc/prometheus/prometheus.yml"]),
    )?;
    run::step(
        "Testing the alerts",
        promtool(&["test", "rules", "tests/streams.yml", "tests/cell.yml", "tests/backups.yml"]),
    )
}

/// How long Docker may take to say whether it has the plugin.
const PLUGIN_MAX: std::time::Duration = std::time::Duration::from_secs(20);

/// Every file below that begins as a shell script does.
fn scripts(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(scripts(&path)?);
        } else if fs::read(&path)?.starts_with(b"#!/bin/") {
            found.push(path);
        }
    }
    Ok(found)
}
