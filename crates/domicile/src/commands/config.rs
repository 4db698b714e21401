//! `domicile config`: check, show, schema.

use std::process::ExitCode;

use serde_json::json;

use super::{FAILED, Failure};
use crate::cli;
use crate::config::{self, Gravity, Mistakes};
use crate::print;

/// Runs one of them.
pub(crate) fn run(command: &cli::Config) -> Result<ExitCode, Failure> {
    match command {
        cli::Config::Check(args) => check(args),
        cli::Config::Show(args) => show(args),
        cli::Config::Schema => {
            print::json(&config::json_schema())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn check(args: &cli::ConfigCheck) -> Result<ExitCode, Failure> {
    let loaded = config::load(&args.config.path);
    let (sound, mistakes) = match &loaded {
        Ok(config) => (true, &config.warnings),
        Err(mistakes) => (false, mistakes),
    };
    if args.json {
        print::json(&json!({ "file": args.config.path, "sound": sound, "mistakes": mistakes.0 }))?;
    } else {
        for mistake in &mistakes.0 {
            print::line(format!("{mistake}\n"));
        }
        print::line(summary(&args.config.path.display().to_string(), &loaded, mistakes));
    }
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn summary(file: &str, loaded: &Result<config::Config, Mistakes>, mistakes: &Mistakes) -> String {
    let count = |gravity: Gravity, word: &str| {
        let count = mistakes.0.iter().filter(|m| m.gravity == gravity).count();
        format!("{count} {word}{}", if count == 1 { "" } else { "s" })
    };
    let found = format!("{}, {}", count(Gravity::Error, "error"), count(Gravity::Warning, "warning"));
    match loaded {
        Ok(config) => {
            let served: Vec<_> = config.served.keys().map(ToString::to_string).collect();
            let policy = config.policy.version();
            format!("{file} is sound ({found}): serves {} under policy {policy}.", served.join(", "))
        }
        Err(_) => format!("{file} has mistakes: {found}."),
    }
}

fn show(args: &cli::ConfigShow) -> Result<ExitCode, Failure> {
    let mut settings = config::effective(&args.config.path)?;
    config::redact(&mut settings);
    if args.json {
        print::json(&settings)?;
    } else {
        let text = toml::to_string(&settings).map_err(|error| anyhow::anyhow!("not writable as TOML: {error}"))?;
        print::line(text.trim_end());
    }
    Ok(ExitCode::SUCCESS)
}
