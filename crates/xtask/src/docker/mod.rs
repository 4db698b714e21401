//! What needs a Docker engine: base images where no registry is, and the owner's runbook played word for word.

mod images;
mod ready;
mod rehearsal;

use std::process::Command;

pub(crate) use images::{Needs, make as images};
pub(crate) use rehearsal::{Image, Unprepared, run as rehearse};

/// Whether a Docker engine answers here.
pub(crate) fn answers() -> bool {
    let said = Command::new("docker").args(["version", "--format", "{{.Server.Version}}"]).output();
    said.is_ok_and(|said| said.status.success())
}
