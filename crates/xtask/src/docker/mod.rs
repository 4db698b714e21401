//! What needs a Docker engine: base images where no registry is, and the owner's runbook played word for word.

mod images;
mod rehearsal;

use std::process::Command;

pub(crate) use images::make as images;
pub(crate) use rehearsal::run as rehearse;

/// Whether a Docker engine answers here.
pub(crate) fn answers() -> bool {
    let said = Command::new("docker").args(["version", "--format", "{{.Server.Version}}"]).output();
    said.is_ok_and(|said| said.status.success())
}

/// Says, so that nobody overlooks it, that the Docker test was left out, and why.
pub(crate) fn not_run(why: &str) {
    let line = "=".repeat(100);
    eprintln!("{line}\nNOT RUN: the Docker test (image, cell, deploy, rollback). {why}");
    eprintln!("Run `cargo xtask test --docker` where a Docker engine answers.\n{line}");
}
