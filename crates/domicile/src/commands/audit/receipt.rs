//! `domicile audit receipt check`.

use std::process::ExitCode;

use anyhow::Context as _;
use audit::Receipt;
use serde_json::json;
use tlog::{EntryProof, VerifierKey};

use super::read;
use crate::commands::Failure;
use crate::{cli, print};

/// Checks a receipt against a proof and the log's key; asks nobody.
pub(super) fn check(args: &cli::AuditReceiptCheck) -> Result<ExitCode, Failure> {
    let receipt: Receipt = args.receipt.trim().parse().map_err(anyhow::Error::from)?;
    let key: VerifierKey = args.key.parse().with_context(|| format!("{} is no public key", args.key))?;
    let proof: EntryProof = read(&args.proof)?.parse().map_err(anyhow::Error::from)?;
    let entry = args
        .entry
        .as_ref()
        .map(|path| std::fs::read(path).with_context(|| format!("{} cannot be read", path.display())));
    let mut entry = entry.transpose()?;
    if let Some(bytes) = &mut entry
        && bytes.last() == Some(&b'\n')
    {
        bytes.pop(); // an editor's line break is no part of the leaf
    }
    let outcome = receipt.check(&proof, &key, entry.as_deref());
    if args.json {
        print::json(&match &outcome {
            Ok(size) => json!({ "holds": true, "log": receipt.origin(), "seq": receipt.seq(), "size": size }),
            Err(broken) => json!({ "holds": false, "rule": broken.name(), "says": broken.to_string() }),
        })?;
    } else {
        print::line(match &outcome {
            Ok(size) => format!("The leaf is number {} of the {size} that {} signed.", receipt.seq(), receipt.origin()),
            Err(broken) => format!("The receipt does not hold ({}): {broken}.", broken.name()),
        });
    }
    Ok(outcome.map_or_else(|broken| ExitCode::from(broken.exit_code()), |_| ExitCode::SUCCESS))
}
