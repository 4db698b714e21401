//! An image of what was built already, for a rehearsal that has no half hour for `docker build`: the runtime stage of the
//! shipped Dockerfile, as it stands there, with the tests' own binary in the place of what the build stage makes. So user,
//! packages, health check, entry point and what is copied from `config` are those that are shipped.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::run::{self, Cargo, CommandLine};

/// The image's name.
pub(super) const IMAGE: &str = "domicile-rehearsal/ready";
/// How the runtime stage begins.
const RUNTIME: &str = "FROM ${RUNTIME_IMAGE} AS runtime";
/// How it gets the binary.
const COPIES: &str = "COPY --from=build /out/domicile /usr/local/bin/domicile";
/// The binary's name in the context.
const BINARY: &str = "domicile";

/// Makes it of the files of `clone` and the binary of this very target folder.
pub(super) fn make(cargo: &Cargo, clone: &Path) -> Result<()> {
    run::step("Building the binary, as the tests do", cargo.command(["build", "--bin", "domicile"]))?;
    // Cargo puts it beside us, wherever the target folder is.
    let own = std::env::current_exe().context("nobody says where this program lies")?;
    let built = own.with_file_name(BINARY);
    let context = clone.join("target-ready");
    fs::create_dir_all(&context)?;
    let shipped = fs::read_to_string(clone.join("Dockerfile")).context("the clone has no Dockerfile")?;
    fs::write(context.join("Dockerfile"), runtime_only(&shipped)?)?;
    let config = CommandLine::new("cp").arg("-r").arg(clone.join("config")).arg(context.join("config"));
    run::step("Copying what the image has of the repository", config)?;
    let strip = CommandLine::new("strip").arg("-o").arg(context.join(BINARY)).arg(&built);
    run::step("Stripping the binary", strip)?;
    let build = CommandLine::new("docker").args(["build", "-t", IMAGE, "--label", "domicile.rehearsal=debug build"]);
    run::step("docker build, from the runtime stage on", build.arg(&context))
}

/// The Dockerfile from its runtime stage on, with a binary that lies in the context.
fn runtime_only(shipped: &str) -> Result<String> {
    let arguments =
        shipped.lines().take_while(|line| !line.starts_with("FROM ")).filter(|line| line.starts_with("ARG "));
    let mut text: String = arguments.map(|line| format!("{line}\n")).collect();
    let Some(at) = shipped.find(RUNTIME) else { bail!("the Dockerfile has no stage `{RUNTIME}`") };
    let stage = &shipped[at..];
    if stage.matches(COPIES).count() != 1 {
        bail!("the runtime stage of the Dockerfile does not copy the binary by `{COPIES}`");
    }
    text.push_str(&stage.replace(COPIES, &format!("COPY {BINARY} /usr/local/bin/domicile")));
    if text.contains("--from=") || text.matches("FROM ").count() != 1 {
        bail!("the runtime stage of the Dockerfile takes more from other stages than the binary");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_runtime_stage_is_kept_word_for_word_but_for_the_binary() {
        let shipped = include_str!("../../../../Dockerfile");
        let ready = runtime_only(shipped).expect("it can be cut");
        assert!(ready.starts_with("ARG RUST_IMAGE=") && ready.contains("\nARG RUNTIME_IMAGE="), "{ready}");
        let stage = &shipped[shipped.find(RUNTIME).expect("a stage")..];
        let kept: Vec<&str> = ready.lines().filter(|line| stage.lines().any(|shipped| shipped == *line)).collect();
        assert_eq!(kept.len() + 1, stage.lines().count(), "one line differs: the one that copies the binary");
        for line in
            ["USER 65532:65532", "ENTRYPOINT [\"/usr/local/bin/domicile\"]", "COPY domicile /usr/local/bin/domicile"]
        {
            assert!(ready.lines().any(|one| one == line), "{line} is missing in {ready}");
        }
        assert!(ready.contains("HEALTHCHECK") && !ready.contains("cargo build"));
    }

    #[test]
    fn a_stage_that_takes_something_else_from_another_one_is_not_cut() {
        let with = |line: &str| format!("ARG RUNTIME_IMAGE=x\nFROM y AS build\n{RUNTIME}\n{COPIES}\n{line}\n");
        assert!(runtime_only(&with("USER 1")).is_ok());
        assert!(runtime_only(&with("COPY --from=build /a /a")).is_err());
        assert!(runtime_only(&with("FROM z")).is_err());
        assert!(runtime_only("FROM y\n").is_err());
    }
}
