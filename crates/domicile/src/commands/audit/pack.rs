//! `domicile audit pack`.

use std::fs::OpenOptions;
use std::process::ExitCode;

use anyhow::Context as _;
use audit::pack::{Packed, Wanted, write_pack};
use leaf::Fact;
use serde_json::json;
use tlog::{Checkpoint, Note};

use super::{ACTOR, bar, bound, open_region, read, tell};
use crate::commands::Failure;
use crate::{cli, print, rooms};

/// Makes a pack from the region's own database.
pub(super) async fn run(args: &cli::AuditPack) -> Result<ExitCode, Failure> {
    let store = open_region(&args.config, &args.region)?;
    let log = store.log();
    let since = args.since.as_deref().map(read).transpose()?.map(|text| size_of(&text)).transpose()?;
    let from = bound(&log, args.from.as_deref(), 0).await?;
    let to = bound(&log, args.to.as_deref(), u64::MAX).await?;
    let wanted = Wanted { range: from..to.max(from), since, recipients: args.recipients.clone() };
    let new = OpenOptions::new().write(true).create_new(true).open(&args.out);
    let file = new.with_context(|| format!("{} cannot be made", args.out.display()))?;
    let bar = bar("packed");
    let progress = |done, of| {
        bar.set_length(of);
        bar.set_position(done);
    };
    let packed = Box::pin(write_pack(&log, &wanted, std::io::BufWriter::new(file), progress)).await;
    bar.finish_and_clear();
    // The log knows of the pack before anybody has it.
    let made = match packed {
        Ok(packed) => tell(&store, made(&packed, args.recipients.len()))
            .await
            .context("the log could not be told of the pack")
            .map(|()| packed),
        Err(error) => Err(anyhow::Error::from(error)),
    };
    store.shutdown().await;
    let packed = match made {
        Ok(packed) => packed,
        Err(error) => {
            drop(std::fs::remove_file(&args.out)); // half a pack would only mislead
            return Err(error.context("no pack was made").into());
        }
    };
    if args.json {
        print::json(&json!({
            "file": args.out, "origin": packed.origin, "size": packed.size,
            "from": packed.range.start, "to": packed.range.end, "denials": packed.denials,
            "transfers": packed.transfers, "violations": packed.violations, "recipients": args.recipients.len(),
            "bytes": packed.bytes, "sha256": hex::encode(packed.sha256),
        }))?;
    } else {
        let (from, to) = (packed.range.start, packed.range.end);
        print::line(format!(
            "{} holds the entries {from} to {} of {}, under its checkpoint of {} leaves; {} of them are denials, {} speak of transfers, and {} violations \
             are about them. SHA-256 {}.",
            args.out.display(),
            to.saturating_sub(1),
            packed.origin,
            packed.size,
            packed.denials,
            packed.transfers,
            packed.violations,
            hex::encode(packed.sha256),
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn size_of(checkpoint: &str) -> anyhow::Result<u64> {
    let note: Note = checkpoint.parse().context("the older checkpoint cannot be read")?;
    let checkpoint: Checkpoint = note.text().parse().context("the older checkpoint cannot be read")?;
    Ok(checkpoint.size)
}

/// What the log says of a pack.
fn made(packed: &Packed, recipients: usize) -> Fact {
    Fact::export_make(
        rooms::now_us(),
        &leaf::Export {
            actor: ACTOR.to_owned(),
            format: "pack",
            at: packed.range.clone(),
            rows: packed.range.end - packed.range.start,
            bytes: packed.bytes,
            sha256: packed.sha256,
            filter: Vec::new(),
            subject: None,
            recipients: (recipients > 0).then_some(recipients as u64),
        },
    )
}
