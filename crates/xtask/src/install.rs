//! Installing what is missing: system packages with apt, everything else into our own cache folder.

use crate::machine::{self, POSTGRES_MAJOR_MIN};
use crate::run::{self, CommandLine, succeeds};
use anyhow::{Result, bail};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

const NISSHI_VERSION: &str = "0.8.1";
const FAKESNOW_VERSION: &str = "0.12.1";
/// The Kafka client of the example in Python.
const CONFLUENT_KAFKA_VERSION: &str = "2.12.2";
const CARGO_DENY_VERSION: &str = "0.20.2";
const CARGO_FUZZ_VERSION: &str = "0.13.2";

/// Everything that the demo and the tests can use.
pub(crate) fn everything() -> Result<()> {
    for_the_build()?;
    postgres()?;
    deploying();
    python()?;
    fakesnow_if_python();
    kafka_for_python();
    nisshi();
    Ok(())
}

/// A C compiler and OpenSSL's headers: librdkafka is compiled from source.
pub(crate) fn for_the_build() -> Result<()> {
    let mut missing = Vec::new();
    for (program, package) in [("gcc", "gcc"), ("make", "make"), ("pkg-config", "pkg-config")] {
        let replaced = program == "gcc" && machine::on_path("cc").is_some();
        if machine::on_path(program).is_none() && !replaced {
            missing.push(package);
        }
    }
    if !has_openssl_headers() {
        missing.push("libssl-dev");
    }
    if missing.is_empty() {
        return Ok(());
    }
    // libc6-dev comes with gcc only as a recommendation.
    if missing.contains(&"gcc") {
        missing.push("libc6-dev");
    }
    packages("what the build needs", &missing, "brew install openssl@3 pkg-config")
}

fn has_openssl_headers() -> bool {
    succeeds("pkg-config", ["--exists", "openssl"])
        || env::var_os("OPENSSL_DIR").is_some()
        || Path::new("/usr/include/openssl/ssl.h").exists()
        || Path::new("/opt/homebrew/opt/openssl@3/include/openssl/ssl.h").exists()
}

/// PostgreSQL's server programs.
pub(crate) fn postgres() -> Result<()> {
    if machine::postgres_major().is_some_and(|major| major >= POSTGRES_MAJOR_MIN) {
        return Ok(());
    }
    if env::var_os("PG_BIN").is_some() {
        bail!("PG_BIN must name a folder with the programs of PostgreSQL {POSTGRES_MAJOR_MIN} or newer");
    }
    packages("PostgreSQL", &["postgresql"], "brew install postgresql@17")?;
    match machine::postgres_major() {
        Some(major) if major >= POSTGRES_MAJOR_MIN => Ok(()),
        found => bail!(
            "PostgreSQL {POSTGRES_MAJOR_MIN} or newer is needed, and this system's package brings {}. Take it from \
             https://www.postgresql.org/download/, then name its programs' folder in PG_BIN",
            found.map_or("none".into(), |major| format!("version {major}"))
        ),
    }
}

/// The edge of a cell without containers, and the reader of deploy.sh. Only the tests of deploying need them, and say so.
pub(crate) fn deploying() {
    let missing: Vec<&str> =
        ["haproxy", "shellcheck"].into_iter().filter(|program| machine::on_path(program).is_none()).collect();
    if missing.is_empty() {
        return;
    }
    if let Err(error) = packages("what the tests of deploying use", &missing, "brew install haproxy shellcheck") {
        eprintln!("  {error:#}");
    }
}

/// The load generator of the benches.
pub(crate) fn wrk() -> Result<()> {
    if machine::on_path("wrk").is_some() {
        return Ok(());
    }
    packages("the load generator wrk", &["wrk"], "brew install wrk")
}

/// The profiler.
pub(crate) fn perf() -> Result<()> {
    if machine::on_path("perf").is_some() {
        return Ok(());
    }
    if !machine::is_debian_like() {
        bail!(
            "The profiler perf, which is Linux's own, is missing: install it from the system's packages, then run this again"
        );
    }
    packages("the profiler perf", &["linux-perf"], "")
}

/// What looks shell scripts over.
pub(crate) fn shellcheck() -> Result<()> {
    if machine::on_path("shellcheck").is_some() {
        return Ok(());
    }
    packages("shellcheck", &["shellcheck"], "brew install shellcheck")
}

/// What makes a Debian system in a folder.
pub(crate) fn debootstrap() -> Result<()> {
    if machine::on_path("debootstrap").is_some() || Path::new("/usr/sbin/debootstrap").is_file() {
        return Ok(());
    }
    packages("debootstrap", &["debootstrap"], "pull the images from a registry instead")
}

/// The broker, compiled now where it is not here yet.
pub(crate) fn compiled_nisshi() -> Option<PathBuf> {
    nisshi();
    nisshi_path()
}

/// Python with the means to make a virtual environment.
fn python() -> Result<()> {
    if fakesnow_path().is_some() || fakesnow_unwanted() || python_can() {
        return Ok(());
    }
    packages("Python, for the Snowflake stand-in", &["python3", "python3-venv"], "brew install python")
}

fn python_can() -> bool {
    succeeds("python3", ["-c", "import venv, ensurepip"])
}

/// The Snowflake stand-in. The demo and the tests work without it, so trouble here is told and not fatal.
pub(crate) fn fakesnow_if_python() {
    if fakesnow_path().is_some() || fakesnow_unwanted() {
        return;
    }
    if machine::on_path("python3").is_none() {
        eprintln!("» There is no Python here: zero-party data will go to files instead of a Snowflake stand-in");
        return;
    }
    if let Err(error) = fakesnow() {
        eprintln!("  The Snowflake stand-in could not be installed ({error:#}); files will take its place");
    }
}

fn fakesnow() -> Result<()> {
    if !python_can() {
        packages("virtual environments for Python", &["python3-venv"], "brew install python")?;
    }
    let folder = machine::tools_dir().join(format!("fakesnow-{FAKESNOW_VERSION}"));
    // A virtual environment cannot be moved, so one that was not finished is begun again.
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(machine::tools_dir())?;
    run::step("Making a virtual environment", CommandLine::new("python3").args(["-m", "venv"]).arg(&folder))?;
    let server = format!("fakesnow[server]=={FAKESNOW_VERSION}");
    let wanted = ["install", "--quiet", "--disable-pip-version-check", &server, "snowflake-connector-python<5"];
    let installed = run::step(
        "Installing the Snowflake stand-in, fakesnow (about 330 MB, once)",
        CommandLine::new(folder.join("bin/pip")).args(wanted),
    );
    if installed.is_err() {
        let _ = fs::remove_dir_all(&folder);
    }
    installed
}

/// What the example consumer in Python needs, beside the stand-in. Without it that example is not run, so trouble here is
/// told and not fatal.
fn kafka_for_python() {
    let Some(bin) = fakesnow_path() else { return };
    if succeeds(&bin.join("python").to_string_lossy(), ["-c", "import confluent_kafka"]) {
        return;
    }
    let client = format!("confluent-kafka=={CONFLUENT_KAFKA_VERSION}");
    let wanted = ["install", "--quiet", "--disable-pip-version-check", &client];
    let installed = run::step("Installing a Kafka client for Python", CommandLine::new(bin.join("pip")).args(wanted));
    if let Err(error) = installed {
        eprintln!(
            "  The Kafka client for Python could not be installed ({error:#}); the example in Python will not be run"
        );
    }
}

fn fakesnow_unwanted() -> bool {
    env::var_os("DOMICILE_FAKESNOW").is_some()
}

fn fakesnow_path() -> Option<PathBuf> {
    let bin = machine::tools_dir().join(format!("fakesnow-{FAKESNOW_VERSION}/bin"));
    (bin.join("fakesnow").is_file() && bin.join("uvicorn").is_file()).then_some(bin)
}

/// Where the broker is, if it is.
pub(crate) fn nisshi_path() -> Option<PathBuf> {
    let cached = machine::tools_dir().join(format!("nisshi-{NISSHI_VERSION}/bin/nisshi"));
    let named = env::var_os("DOMICILE_NISSHI").map(PathBuf::from).filter(|path| path.is_file());
    named.or_else(|| cached.is_file().then_some(cached)).or_else(|| machine::on_path("nisshi"))
}

/// The broker. The demo and the tests work without it, so trouble here is told and not fatal.
fn nisshi() {
    if nisshi_path().is_some() || env::var_os("DOMICILE_NISSHI").is_some() {
        return;
    }
    if let Err(error) = compile_nisshi() {
        eprintln!("  The broker could not be installed ({error:#}); the one inside the process will take its place");
    }
}

fn compile_nisshi() -> Result<()> {
    let told = "Compiling the broker, nisshi (once; about 20 minutes on two cores)";
    let features = ["--ignore-rust-version", "--no-default-features", "--features", "postgres,dynostore,libsql"];
    compile(told, "nisshi", NISSHI_VERSION, &features)
}

/// What checks the walls of `deny.toml`; `None` where it cannot be had, which is told and not fatal.
pub(crate) fn cargo_deny() -> Option<PathBuf> {
    let cached = machine::tools_dir().join(format!("cargo-deny-{CARGO_DENY_VERSION}/bin/cargo-deny"));
    if cached.is_file() {
        return Some(cached);
    }
    let told = "Compiling cargo-deny (once; about 2 minutes on two cores)";
    if let Err(error) = compile(told, "cargo-deny", CARGO_DENY_VERSION, &[]) {
        eprintln!("  cargo-deny could not be installed ({error:#})");
        return machine::on_path("cargo-deny");
    }
    Some(cached)
}

/// What drives the readers with libFuzzer; `None` where it, or a nightly toolchain, cannot be had, which is told and not fatal.
pub(crate) fn cargo_fuzz() -> Option<PathBuf> {
    if !succeeds("rustup", ["run", "nightly", "rustc", "--version"]) {
        eprintln!("» There is no nightly toolchain here (rustup toolchain install nightly)");
        return None;
    }
    let cached = machine::tools_dir().join(format!("cargo-fuzz-{CARGO_FUZZ_VERSION}/bin/cargo-fuzz"));
    if cached.is_file() {
        return Some(cached);
    }
    let told = "Compiling cargo-fuzz (once; about 1 minute on two cores)";
    if let Err(error) = compile(told, "cargo-fuzz", CARGO_FUZZ_VERSION, &[]) {
        eprintln!("  cargo-fuzz could not be installed ({error:#})");
        return machine::on_path("cargo-fuzz");
    }
    Some(cached)
}

/// Compiles a program from the registry into our cache folder.
fn compile(told: &str, program: &str, version: &str, features: &[&str]) -> Result<()> {
    let root = machine::tools_dir().join(format!("{program}-{version}"));
    // Outside the repository, since it would otherwise be built with this workspace's settings and fill its target.
    let scratch = env::temp_dir().join(format!("domicile-{program}-{}", std::process::id()));
    fs::create_dir_all(&root)?;
    fs::create_dir_all(&scratch)?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let install = CommandLine::new(cargo)
        .args(["install", program, "--version", version, "--locked", "--quiet"])
        .args(features)
        .arg("--root")
        .arg(&root)
        .env("CARGO_TARGET_DIR", scratch.join("target"))
        .folder(&scratch);
    let installed = run::step(told, install);
    let _ = fs::remove_dir_all(&scratch);
    installed
}

/// Installs packages with apt, or says exactly what to install.
fn packages(what: &str, names: &[&str], elsewhere: &str) -> Result<()> {
    let listed = names.join(" ");
    if !machine::is_debian_like() {
        bail!(
            "This machine lacks {what}. On Debian and Ubuntu: `apt-get install {listed}`; with Homebrew: `{elsewhere}`; \
             elsewhere: the packages of the same purpose. Then run this again"
        );
    }
    let Some(prefix) = machine::root_prefix() else {
        bail!(
            "This machine lacks {what}, and installing it takes root: run `apt-get install {listed}` and then this again"
        );
    };
    let apt = |args: &[&str]| {
        // `env` within sudo, which would drop a variable set outside.
        let words: Vec<&str> =
            [prefix, &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y"], args].concat();
        CommandLine::new(words[0]).args(&words[1..])
    };
    run::step("Looking for packages", apt(&["update"]))?;
    run::step(&format!("Installing {what}"), apt(&[&["install", "--no-install-recommends"], names].concat()))
}
