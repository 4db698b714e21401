//! `cargo xtask images`: stand-ins for the images of others, made of Debian's packages and this machine's tools, for hosts
//! from which no registry can be reached. Their Dockerfiles are in `infrastructure/base-images`.

use crate::install;
use crate::machine;
use crate::run::{self, Cargo, CommandLine};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const DEBIAN: &str = "debian:bookworm-slim";
const RUST: &str = "rust:1.95-bookworm";
const SUITE: &str = "bookworm";
const MIRROR: &str = "http://deb.debian.org/debian";
/// What a stand-in is for, as `.env` names it.
const STAND_INS: [(&str, &str); 4] = [
    ("POSTGRES_IMAGE", "domicile-stand-in/postgres"),
    ("REDPANDA_IMAGE", "domicile-stand-in/redpanda"),
    ("HAPROXY_IMAGE", "domicile-stand-in/haproxy"),
    ("PROMETHEUS_IMAGE", "domicile-stand-in/prometheus"),
];

/// What the stand-ins are for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// `docker build` of domicile, and a cell.
    Everything,
    /// A cell whose image is there: nothing is compiled in a container.
    NoCompiler,
}

/// Makes what is missing, and names the stand-ins in `.env` of `cell`, which is made from the example when it is missing.
pub(crate) fn make(cargo: &Cargo, cell: &Path, needs: Needs) -> Result<()> {
    if !super::answers() {
        bail!("No Docker engine answers: start one (on Debian: `apt-get install docker.io`), then run this again");
    }
    let recipes = cargo.root().join("infrastructure/base-images");
    if has(DEBIAN) {
        eprintln!("» {DEBIAN} is here");
    } else {
        debian()?;
    }
    if needs == Needs::NoCompiler {
        eprintln!("» {RUST} is not needed");
    } else if has(RUST) {
        eprintln!("» {RUST} is here");
    } else {
        rust(&recipes)?;
    }
    for name in ["postgres", "haproxy", "prometheus"] {
        // No-one else's tag is touched, and Docker's own cache knows whether there is anything to do.
        let build = docker().args(["build", "-q", "-t"]).arg(format!("domicile-stand-in/{name}"));
        run::step(&format!("Making the stand-in for {name}"), build.arg(recipes.join(name)))?;
    }
    let nisshi = install::nisshi_path()
        .or_else(install::compiled_nisshi)
        .context("The broker nisshi, which stands in for Redpanda, could not be had: `cargo xtask tools` says why")?;
    piped_build(
        "domicile-stand-in/redpanda",
        &[(&nisshi, "nisshi"), (&recipes.join("redpanda"), "Dockerfile entrypoint.sh rpk")],
    )?;
    name_them(cell)
}

/// The whole of Debian's smallest system, as the official image has it.
fn debian() -> Result<()> {
    install::debootstrap()?;
    let folder = machine::tools_dir().join("images");
    fs::create_dir_all(&folder)?;
    let archive = folder.join(format!("{SUITE}.tar"));
    let Some(prefix) = machine::root_prefix() else {
        bail!("Making {DEBIAN} takes root: run this as root, or pull the image from a registry");
    };
    let as_root = |program: &str| {
        let words: Vec<&str> = [prefix, &[program]].concat();
        CommandLine::new(words[0]).args(&words[1..])
    };
    if !archive.is_file() {
        let (system, part) = (folder.join(format!("{SUITE}.part")), folder.join(format!("{SUITE}.tar.part")));
        run::step("Removing what an earlier run left", as_root("rm").arg("-rf").arg(&system))?;
        let strap = as_root("debootstrap").args(["--variant=minbase", "--include=ca-certificates", SUITE]);
        run::step("Making a Debian system (a minute)", strap.arg(&system).arg(MIRROR))?;
        let pack = as_root("tar")
            .arg("-C")
            .arg(&system)
            .args(["--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*"]);
        run::step("Packing it", pack.args(["-c", "-f"]).arg(&part).arg("."))?;
        run::step("Removing the folder", as_root("rm").arg("-rf").arg(&system))?;
        fs::rename(&part, &archive)?;
    }
    let import = docker().args(["import", "--change", "CMD [\"bash\"]"]).arg(&archive).arg(DEBIAN);
    run::step(&format!("Making {DEBIAN} of it"), import)
}

/// Debian with a compiler, this machine's toolchain and the certificates that this machine trusts.
fn rust(recipes: &Path) -> Result<()> {
    let said = Command::new("rustc").args(["--print", "sysroot"]).output().context("rustc does not run")?;
    let sysroot = PathBuf::from(String::from_utf8(said.stdout)?.trim());
    let certificates = Path::new("/etc/ssl/certs/ca-certificates.crt");
    piped_build(
        RUST,
        &[(&sysroot, "bin lib"), (certificates, "ca-certificates.crt"), (&recipes.join("rust"), "Dockerfile")],
    )
}

/// Builds an image from a context that is put together of several places: a file, or some names in a folder, each.
fn piped_build(tag: &str, pieces: &[(&Path, &str)]) -> Result<()> {
    eprintln!("» Making {tag}: tar … | docker build -t {tag} -");
    let mut tar = Command::new("tar");
    tar.arg("-c");
    for (path, names) in pieces {
        let folder = if path.is_dir() { path } else { path.parent().context("a file lies in a folder")? };
        tar.arg("-C").arg(folder).args(names.split(' '));
    }
    let mut packed = tar.stdout(Stdio::piped()).spawn().context("tar does not run")?;
    let context = packed.stdout.take().context("tar has an output")?;
    let built = Command::new("docker").args(["build", "-q", "-t", tag, "-"]).stdin(context).status()?;
    if !packed.wait()?.success() || !built.success() {
        bail!("{tag} could not be made");
    }
    Ok(())
}

/// Writes the stand-ins' names into `.env`; a name that is set already stays.
fn name_them(cell: &Path) -> Result<()> {
    let path = cell.join(".env");
    let mut text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(_) => fs::read_to_string(cell.join(".env.example")).context("there is no .env.example")?,
    };
    for (variable, image) in STAND_INS {
        if !text.lines().any(|line| line.starts_with(&format!("{variable}="))) {
            text.push_str(&format!("{variable}={image}\n"));
        }
    }
    fs::write(&path, text)?;
    eprintln!("» {} names the stand-ins", path.display());
    Ok(())
}

fn has(image: &str) -> bool {
    let said =
        Command::new("docker").args(["image", "inspect", image]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    said.is_ok_and(|status| status.success())
}

fn docker() -> CommandLine {
    CommandLine::new("docker")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stand_ins_are_named_once_and_an_operators_choice_stays() {
        let folder = std::env::temp_dir().join(format!("domicile-env-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(".env.example"), "COMPOSE_PROJECT_NAME=domicile\n#POSTGRES_IMAGE=postgres\n")
            .expect("a file");
        fs::write(folder.join(".env"), "HAPROXY_IMAGE=ours/haproxy\n").expect("a file");
        name_them(&folder).expect("named");
        name_them(&folder).expect("named again");
        let text = fs::read_to_string(folder.join(".env")).expect("there");
        assert_eq!(text.matches("POSTGRES_IMAGE=").count(), 1, "{text}");
        assert!(
            text.starts_with("HAPROXY_IMAGE=ours/haproxy\n") && text.matches("HAPROXY_IMAGE").count() == 1,
            "{text}"
        );
        fs::remove_dir_all(&folder).expect("removed");
    }
}
