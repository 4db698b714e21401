//! `cargo xtask test --docker`: the owner's runbook, word for word, in a clean clone.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Plays the runbook in a clone that has stand-ins or registries for its images.
#[derive(Parser)]
struct Args {
    /// The clone, with an .env.
    clone: PathBuf,
}

#[tokio::main]
#[expect(clippy::print_stderr, reason = "a command speaks to its terminal")]
async fn main() -> ExitCode {
    match system_tests::runbook::play(&Args::parse().clone).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("did not hold: {error:#}");
            ExitCode::FAILURE
        }
    }
}
