//! `domicile version`: which program this is, and which schema it knows. The deployer asks an image by it.

use std::process::ExitCode;

use serde_json::json;
use storage::admin::Set;

use super::Failure;
use crate::{cli, print};

/// Says it.
pub(crate) fn run(args: &cli::Version) -> Result<ExitCode, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let (directory, region) = (Set::Directory.level(), Set::Region.level());
    if args.json {
        print::json(&json!({ "version": version, "levels": { "directory": directory, "region": region } }))?;
    } else {
        print::line(format!("domicile {version}, schema level {directory} (directory), {region} (region)"));
    }
    Ok(ExitCode::SUCCESS)
}
